//! Targets by a file that lists them. Watched as the configuration is; what cannot be read leaves the last targets as they are.

use std::path::{Path, PathBuf};
use std::time::Duration;

use daemun_config::{TargetList, read_file, read_targets};

use super::super::names::nanos;
use super::super::watch::Watcher;
use super::feed::{Feed, listed};
use super::{MOST_BYTES, MOST_TARGETS, World};

/// How often a file is read that cannot be watched.
const UNWATCHED: Duration = Duration::from_secs(10);

pub(super) async fn run(path: PathBuf, feed: &Feed, world: &World) {
    let mut watcher = Watcher::new(world.clock.clone()).inspect_err(|error| not_watched(&path, error, world)).ok();
    loop {
        // before it is read, so that no change is missed, and each time, since links may lead elsewhere now
        if let Some(watcher) = &mut watcher
            && let Err(error) = watcher.watch(std::slice::from_ref(&path))
        {
            not_watched(&path, &error, world);
        }
        let file = path.clone();
        match tokio::task::spawn_blocking(move || read(&file)).await {
            Ok(Ok(list)) => feed.found(list.targets.into_iter().map(listed).collect(), list.left_out),
            Ok(Err(why)) => feed.failed(&format!("`{}`: {why}", path.display())),
            Err(error) => feed.failed(&error.to_string()),
        }
        let settled = match &mut watcher {
            Some(watcher) => watcher.settled().await,
            None => {
                world.clock.wait(world.clock.now().saturating_add(nanos(UNWATCHED))).await;
                Ok(())
            }
        };
        if let Err(error) = settled {
            not_watched(&path, &error, world);
            watcher = None;
        }
    }
}

fn not_watched(path: &Path, error: &std::io::Error, world: &World) {
    let path = path.display();
    world.events.warning("watch", format_args!("`{path}` is read every {UNWATCHED:?}: {error}"));
}

pub(super) fn read(path: &Path) -> Result<TargetList, String> {
    let most = u64::try_from(MOST_BYTES).unwrap_or(u64::MAX);
    let bytes = read_file(path, most).map_err(|error| daemun_config::why(&error))?;
    if bytes.len() > MOST_BYTES {
        return Err(format!("it is larger than {} MiB", MOST_BYTES >> 20));
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
    read_targets(&text, daemun_config::Format::of(path), MOST_TARGETS)
}
