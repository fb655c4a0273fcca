//! The watcher against real files, with a clock that stands still: what it would do, and when.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;

/// A folder that goes when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("daemun-watch-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A watcher of one file, and what it is asked.
struct Watched {
    watcher: Watcher,
    clock: Clock,
    files: Vec<PathBuf>,
}

impl Watched {
    fn new(file: PathBuf) -> Self {
        let clock = Clock::manual();
        let mut watcher = Watcher::new(clock.clone()).unwrap();
        watcher.watch(std::slice::from_ref(&file)).unwrap();
        Self { watcher, clock, files: vec![file] }
    }

    /// Whether a change is taken up within `ms`, in steps, and watches anew when it is.
    fn changed_within(&mut self, ms: u64) -> bool {
        for _ in 0..=ms / 10 {
            self.watcher.read().unwrap();
            if self.watcher.settle.take(self.clock.now()) {
                self.watcher.watch(&self.files).unwrap();
                return true;
            }
            self.clock.advance(Duration::from_millis(10));
        }
        false
    }
}

#[tokio::test]
async fn a_file_written_in_place_is_taken_up_once_closed() {
    let folder = Folder::new();
    let path = folder.path("a.yaml");
    fs::write(&path, "one").unwrap();
    let mut watched = Watched::new(path.clone());
    assert!(!watched.changed_within(2000));
    let mut writer = File::create(&path).unwrap();
    writer.write_all(b"tw").unwrap();
    assert!(!watched.changed_within(60_000), "the writer has it open");
    writer.write_all(b"o").unwrap();
    drop(writer);
    assert!(!watched.changed_within(400));
    assert!(watched.changed_within(200));
    assert!(!watched.changed_within(60_000), "once is enough");
}

#[tokio::test]
async fn the_last_of_two_real_writers_counts() {
    let folder = Folder::new();
    let path = folder.path("a.yaml");
    fs::write(&path, "one").unwrap();
    let mut watched = Watched::new(path.clone());
    let mut first = File::options().append(true).open(&path).unwrap();
    watched.watcher.read().unwrap();
    let mut second = File::options().append(true).open(&path).unwrap();
    first.write_all(b"2").unwrap();
    drop(first);
    assert!(!watched.changed_within(5000), "the second writer has it open");
    second.write_all(b"3").unwrap();
    drop(second);
    assert!(watched.changed_within(600));
}

#[tokio::test]
async fn an_editor_that_renames_is_noticed_each_time() {
    let folder = Folder::new();
    let path = folder.path("a.yaml");
    fs::write(&path, "0").unwrap();
    let mut watched = Watched::new(path.clone());
    for turn in 1..4 {
        let draft = folder.path(".a.yaml.draft");
        fs::write(&draft, turn.to_string()).unwrap();
        assert!(!watched.changed_within(2000), "the draft is not the file");
        fs::rename(&draft, &path).unwrap();
        assert!(watched.changed_within(600));
    }
}

#[tokio::test]
async fn a_swap_of_links_as_kubernetes_does_it_is_noticed_each_time() {
    let folder = Folder::new();
    fs::create_dir(folder.path("..1")).unwrap();
    fs::write(folder.path("..1/a.yaml"), "1").unwrap();
    symlink("..1", folder.path("..data")).unwrap();
    symlink("..data/a.yaml", folder.path("a.yaml")).unwrap();
    let mut watched = Watched::new(folder.path("a.yaml"));
    for turn in 2..5 {
        let name = format!("..{turn}");
        fs::create_dir(folder.path(&name)).unwrap();
        fs::write(folder.path(&name).join("a.yaml"), "2").unwrap();
        symlink(&name, folder.path("..data_tmp")).unwrap();
        assert!(!watched.changed_within(2000));
        fs::rename(folder.path("..data_tmp"), folder.path("..data")).unwrap();
        fs::remove_dir_all(folder.path(&format!("..{}", turn - 1))).unwrap();
        assert!(watched.changed_within(600));
    }
}

#[tokio::test]
async fn a_folder_on_the_way_may_be_moved_away_and_come_back() {
    let folder = Folder::new();
    fs::create_dir_all(folder.path("b/c")).unwrap();
    let path = folder.path("b/c/a.yaml");
    fs::write(&path, "1").unwrap();
    let mut watched = Watched::new(path);
    fs::rename(folder.path("b"), folder.path("gone")).unwrap();
    assert!(watched.changed_within(600));
    fs::create_dir_all(folder.path("b")).unwrap();
    assert!(watched.changed_within(600));
    fs::rename(folder.path("gone/c"), folder.path("b/c")).unwrap();
    assert!(watched.changed_within(600));
    fs::write(folder.path("b/c/a.yaml"), "2").unwrap();
    assert!(watched.changed_within(600));
}

#[tokio::test]
async fn a_new_file_in_a_folder_is_noticed_and_an_editors_leavings_are_not() {
    let folder = Folder::new();
    let mut watched = Watched::new(folder.0.clone());
    fs::write(folder.path(".b.yaml.swp"), "x").unwrap();
    fs::write(folder.path("b.yaml~"), "x").unwrap();
    assert!(!watched.changed_within(2000));
    fs::write(folder.path("b.yaml"), "x").unwrap();
    assert!(watched.changed_within(600));
    fs::remove_file(folder.path("b.yaml")).unwrap();
    assert!(watched.changed_within(600));
}

#[tokio::test]
async fn reading_the_files_is_no_change() {
    let folder = Folder::new();
    let path = folder.path("a.yaml");
    fs::write(&path, "1").unwrap();
    let mut watched = Watched::new(path.clone());
    for _ in 0..3 {
        fs::read(&path).unwrap();
        assert!(!watched.changed_within(12_000));
    }
}

#[tokio::test]
async fn a_watcher_wakes_for_a_change_and_waits_out_the_quiet() {
    let folder = Folder::new();
    let path = folder.path("a.yaml");
    fs::write(&path, "1").unwrap();
    let Watched { mut watcher, clock, .. } = Watched::new(path.clone());
    let waiting = tokio::spawn(async move { watcher.settled().await });
    tokio::task::yield_now().await;
    fs::write(&path, "2").unwrap();
    while !waiting.is_finished() {
        clock.advance(Duration::from_millis(50));
        tokio::task::yield_now().await;
    }
    waiting.await.unwrap().unwrap();
}
