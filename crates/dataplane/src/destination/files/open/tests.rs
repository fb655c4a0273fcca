use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::super::names::name;
use super::*;

/// A folder `root` with files, beside a secret, which goes when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let path = std::env::temp_dir();
        let path = path.join(format!("daemun-files-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst)));
        for folder in ["site/sub", "site/empty", "outside"] {
            fs::create_dir_all(path.join(folder)).unwrap();
        }
        for file in [
            "secret",
            "outside/secret",
            "site/index.html",
            "site/a.txt",
            "site/a.txt.br",
            "site/a.txt.gz",
            "site/sub/index.html",
        ] {
            fs::write(path.join(file), file).unwrap();
        }
        Folder(path)
    }

    fn root(&self) -> PathBuf {
        self.0.join("site")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn search<'a>(root: &'a Path, name: &'a Name) -> Search<'a> {
    Search {
        root,
        name,
        index: Some("index.html"),
        fallback: None,
        codings: &[],
        follow_symlinks: false,
        at_hand: false,
    }
}

/// What is found, at hand or on the disk, which must be the same.
fn found(search: &mut Search<'_>) -> Result<Option<Vec<u8>>, Miss> {
    let text = |found: Found| match found {
        Found::Folder => None,
        Found::File(opened) => {
            let mut buf = vec![0; 4096];
            let n = rustix::io::pread(&opened.file, &mut buf, 0).unwrap();
            assert_eq!(n as u64, opened.size);
            buf.truncate(n);
            Some(buf)
        }
    };
    search.at_hand = true;
    let at_hand = find(search).map(text);
    search.at_hand = false;
    let on_disk = find(search).map(text);
    if at_hand != Err(Miss::NotAtHand) {
        assert_eq!(at_hand.is_ok(), on_disk.is_ok());
        assert_eq!(at_hand.clone().ok(), on_disk.clone().ok());
    }
    on_disk
}

fn get(folder: &Folder, path: &str) -> Result<Option<Vec<u8>>, Miss> {
    found(&mut search(&folder.root(), &name(path.as_bytes(), true).unwrap()))
}

#[test]
fn a_file_an_index_and_a_folder_are_found() {
    let folder = Folder::new();
    for (path, text) in [("/", "site/index.html"), ("/a.txt", "site/a.txt"), ("/sub/", "site/sub/index.html")] {
        assert_eq!(get(&folder, path), Ok(Some(text.as_bytes().to_vec())), "{path}");
    }
    assert_eq!(get(&folder, "/sub"), Ok(None));
    for (path, error) in [
        ("/none", Errno::NOENT),
        ("/empty/", Errno::NOENT),
        ("/a.txt/", Errno::NOTDIR),
        ("/a.txt/b", Errno::NOTDIR),
        (&format!("/{}", "x".repeat(300)), Errno::NAMETOOLONG),
    ] {
        assert_eq!(get(&folder, path), Err(Miss::Gone(error)), "{path}");
    }
    fs::remove_dir_all(folder.root()).unwrap();
    assert_eq!(get(&folder, "/a.txt"), Err(Miss::Gone(Errno::NOENT)));
}

#[test]
fn the_first_coding_that_is_there_is_taken_and_the_fallback_stands_for_what_is_not() {
    let folder = Folder::new();
    let (root, name, none) = (folder.root(), name(b"/a.txt", false).unwrap(), name(b"/none", false).unwrap());
    for (codings, text) in [
        (&[FileCoding::Zstandard, FileCoding::Gzip, FileCoding::Brotli][..], "site/a.txt.gz"),
        (&[FileCoding::Brotli], "site/a.txt.br"),
        (&[FileCoding::Zstandard], "site/a.txt"),
    ] {
        assert_eq!(found(&mut Search { codings, ..search(&root, &name) }), Ok(Some(text.as_bytes().to_vec())));
    }
    let mut with_fallback = Search { fallback: Some("sub/index.html"), ..search(&root, &none) };
    assert_eq!(found(&mut with_fallback), Ok(Some(b"site/sub/index.html".to_vec())));
    with_fallback.fallback = Some("nothing");
    assert_eq!(found(&mut with_fallback), Err(Miss::Gone(Errno::NOENT)));
}

#[test]
fn links_lead_nowhere_or_stay_within() {
    let folder = Folder::new();
    let root = folder.root();
    for (at, to) in [
        ("out", "../secret"),
        ("far", "/etc/passwd"),
        ("up", ".."),
        ("folder", "../outside"),
        ("self", "self"),
        ("proc", "/proc/self/root"),
        ("in", "a.txt"),
        ("sub/back", "../a.txt"),
        ("round", "sub/../../site/a.txt"),
    ] {
        symlink(to, root.join(at)).unwrap();
    }
    for path in ["/out", "/far", "/up/secret", "/folder/secret", "/self", "/proc/etc/passwd", "/round"] {
        for follow_symlinks in [false, true] {
            let name = name(path.as_bytes(), false).unwrap();
            let found = found(&mut Search { follow_symlinks, ..search(&root, &name) });
            assert!(matches!(found, Err(Miss::Gone(_))), "{path} {follow_symlinks} {found:?}");
        }
    }
    for path in ["/in", "/sub/back"] {
        let name = name(path.as_bytes(), false).unwrap();
        assert!(found(&mut search(&root, &name)).is_err(), "{path}");
        let within = found(&mut Search { follow_symlinks: true, ..search(&root, &name) });
        assert_eq!(within, Ok(Some(b"site/a.txt".to_vec())), "{path}");
    }
}

#[test]
fn the_folder_itself_may_be_a_link_that_is_changed() {
    let folder = Folder::new();
    let current = folder.0.join("current");
    symlink("site", &current).unwrap();
    let name = name(b"/secret", false).unwrap();
    assert!(found(&mut search(&current, &name)).is_err());
    fs::remove_file(&current).unwrap();
    symlink("outside", &current).unwrap();
    assert_eq!(found(&mut search(&current, &name)), Ok(Some(b"outside/secret".to_vec())));
}

#[test]
fn what_is_no_file_is_not_opened_for_long() {
    let folder = Folder::new();
    let pipe = folder.root().join("pipe");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.root().join("socket")).unwrap();
    for path in ["/pipe", "/socket"] {
        assert!(matches!(get(&folder, path), Err(Miss::Gone(_))), "{path}");
    }
}

#[test]
fn step_by_step_finds_the_same_and_follows_no_link() {
    let folder = Folder::new();
    symlink("sub", folder.root().join("link")).unwrap();
    symlink("../secret", folder.root().join("out")).unwrap();
    let root = openat(CWD, folder.root(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    for path in ["a.txt", "sub/index.html", "sub"] {
        assert!(step_by_step(&root, path.as_bytes()).is_ok(), "{path}");
    }
    for path in [
        "",
        "..",
        "../secret",
        "sub/../a.txt",
        "./a.txt",
        "sub//index.html",
        "link/index.html",
        "out",
        "a.txt/b",
        "none",
    ] {
        assert!(step_by_step(&root, path.as_bytes()).is_err(), "{path}");
    }
}

#[test]
fn a_folder_that_becomes_a_link_while_it_is_looked_into_leads_nowhere() {
    let folder = Folder::new();
    let root = folder.root();
    fs::create_dir(root.join("turn")).unwrap();
    fs::write(root.join("turn/secret"), "inside").unwrap();
    symlink("../outside", root.join("link")).unwrap();
    let done = AtomicBool::new(false);
    let exchange = |from: &str, to: &str| {
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        let _ = rustix::fs::renameat_with(CWD, root.join(from), CWD, root.join(to), flags);
    };
    let handle = openat(CWD, &root, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                exchange("turn", "link");
            }
        });
        let name = name(b"/turn/secret", false).unwrap();
        for follow_symlinks in [false, true] {
            for at_hand in [false, true] {
                for _ in 0..500 {
                    let search = Search { follow_symlinks, at_hand, ..search(&root, &name) };
                    if let Ok(Found::File(opened)) = find(&search) {
                        assert_eq!(opened.size, 6, "the file outside was opened");
                    }
                }
            }
        }
        for _ in 0..500 {
            if let Ok(file) = step_by_step(&handle, b"turn/secret") {
                assert_eq!(fstat(&file).unwrap().st_size, 6, "the file outside was opened");
            }
        }
        done.store(true, Ordering::SeqCst);
    });
}

#[test]
fn names_that_are_no_text_are_found() {
    let folder = Folder::new();
    fs::write(folder.root().join(OsStr::from_bytes(b"\xff\xfe")), "odd").unwrap();
    assert_eq!(get(&folder, "/%FF%FE"), Ok(Some(b"odd".to_vec())));
}
