//! Which folders to watch, and for what names in them, so that no way of changing a file goes unnoticed: writing it,
//! renaming another over it, or turning a symbolic link anywhere on its path, as Kubernetes does with `..data`.
//!
//! Knows links and names only; watching is for [`super`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

/// Most links followed on the way to one file, as the system has it.
const MAX_LINKS: usize = 40;

/// What a path is, without following a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A symbolic link to this.
    Link(PathBuf),
    /// A folder.
    Folder,
    /// Anything else that exists.
    File,
    /// Nothing, or not to be seen.
    Missing,
}

/// What to look for in one folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Entries that matter: files of the configuration, links on the way to them, what is still missing.
    pub(crate) names: BTreeSet<OsString>,
    /// Whether every entry that could be part of a configuration matters.
    pub(crate) any: bool,
    /// Whether a move or removal of the folder itself matters.
    pub(crate) itself: bool,
}

impl Place {
    /// Whether what happens to the entry `name` matters.
    pub(crate) fn wants(&self, name: &OsStr) -> bool {
        self.names.contains(name) || (self.any && is_part(name))
    }

    /// Looks for what `other` looks for as well.
    pub(crate) fn add(&mut self, mut other: Self) {
        self.names.append(&mut other.names);
        self.any |= other.any;
        self.itself |= other.itself;
    }
}

/// Where to look, by folder.
pub(crate) type Places = BTreeMap<PathBuf, Place>;

/// Where to look so that every change of `files` is seen; paths are taken from the folder `here`.
pub(crate) fn places(files: &[PathBuf], here: &Path, kind: &dyn Fn(&Path) -> Kind) -> Places {
    let mut places = Places::new();
    for file in files {
        follow(&here.join(file), kind, &mut places);
    }
    places
}

/// Whether an entry of a folder can be part of the configuration, or of the policies it names: not an editor's hidden or backup file.
fn is_part(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    name == "..data" || (!name.starts_with('.') && matches!(ending, "yaml" | "yml" | "json" | "toml" | "cedar"))
}

/// Walks from the root to `path` as the system does, and notes on the way what could lead elsewhere next time.
fn follow(path: &Path, kind: &dyn Fn(&Path) -> Kind, places: &mut Places) {
    let mut rest: VecDeque<OsString> = components(path);
    let mut folder = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            folder.pop();
            continue;
        }
        let entry = folder.join(&name);
        match kind(&entry) {
            Kind::Link(target) => {
                places.entry(folder.clone()).or_default().names.insert(name);
                links += 1;
                if links > MAX_LINKS {
                    return;
                }
                if target.is_absolute() {
                    folder = PathBuf::from("/");
                }
                for part in components(&target).into_iter().rev() {
                    rest.push_front(part);
                }
            }
            Kind::Folder => {
                let last = rest.is_empty();
                let place = places.entry(entry.clone()).or_default();
                place.itself = true;
                place.any |= last;
                folder = entry;
            }
            Kind::File | Kind::Missing => {
                places.entry(folder).or_default().names.insert(name);
                return;
            }
        }
    }
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file system of links and folders, each given as `path -> target` or `path/`; the rest of what is named are files.
    fn seen(tree: &[&str], file: &str) -> Vec<String> {
        let kind = |path: &Path| {
            let path = path.to_str().unwrap();
            for line in tree {
                match line.split_once(" -> ") {
                    Some((link, target)) if link == path => return Kind::Link(PathBuf::from(target)),
                    None if line.strip_suffix('/') == Some(path) => return Kind::Folder,
                    None if *line == path => return Kind::File,
                    _ => {}
                }
            }
            Kind::Missing
        };
        let places = places(&[PathBuf::from(file)], Path::new("/here"), &kind);
        let mut lines = Vec::new();
        for (folder, place) in places {
            let names: Vec<&str> = place.names.iter().filter_map(|name| name.to_str()).collect();
            if place.any || !names.is_empty() {
                lines.push(format!("{} {}{}", folder.display(), names.join(","), if place.any { "*" } else { "" }));
            }
        }
        lines
    }

    #[test]
    fn a_plain_file_is_seen_in_its_folder() {
        assert_eq!(
            seen(&["/etc/", "/etc/daemun/", "/etc/daemun/a.yaml"], "/etc/daemun/a.yaml"),
            ["/etc/daemun a.yaml"]
        );
        assert_eq!(seen(&["/here/", "/here/a.yaml"], "a.yaml"), ["/here a.yaml"]);
        assert_eq!(seen(&["/here/", "/here/b/", "/here/a.yaml"], "b/../a.yaml"), ["/here a.yaml"]);
    }

    #[test]
    fn each_link_on_the_way_is_seen_where_it_is() {
        let mounted = [
            "/etc/",
            "/etc/d/",
            "/etc/d/..2026/",
            "/etc/d/..2026/a.yaml",
            "/etc/d/..data -> ..2026",
            "/etc/d/a.yaml -> ..data/a.yaml",
        ];
        assert_eq!(seen(&mounted, "/etc/d/a.yaml"), ["/etc/d ..data,a.yaml", "/etc/d/..2026 a.yaml"]);
        let release = ["/srv/", "/srv/now -> /opt/5", "/opt/", "/opt/5/", "/opt/5/a.yaml"];
        assert_eq!(seen(&release, "/srv/now/a.yaml"), ["/opt/5 a.yaml", "/srv now"]);
    }

    #[test]
    fn what_is_missing_is_awaited_in_the_last_folder_that_exists() {
        assert_eq!(seen(&["/etc/"], "/etc/daemun/a.yaml"), ["/etc daemun"]);
        assert_eq!(seen(&["/etc/", "/etc/a.yaml -> gone/b.yaml"], "/etc/a.yaml"), ["/etc a.yaml,gone"]);
    }

    #[test]
    fn a_circle_of_links_ends() {
        assert_eq!(seen(&["/a -> b", "/b -> a"], "/a"), ["/ a,b"]);
    }

    #[test]
    fn a_folder_is_seen_with_all_that_may_be_configuration() {
        assert_eq!(seen(&["/etc/", "/etc/d/"], "/etc/d"), ["/etc/d *"]);
        let place = Place { any: true, ..Place::default() };
        for name in ["a.yaml", "b.yml", "c.json", "d.toml", "..data"] {
            assert!(place.wants(OsStr::new(name)), "{name}");
        }
        for name in [".a.yaml.swp", "a.yaml~", "4913", "#a.yaml#", ".a.yaml", "README"] {
            assert!(!place.wants(OsStr::new(name)), "{name}");
        }
    }
}
