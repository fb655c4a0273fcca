//! Finds targets while the gateway runs: one task for each upstream that says where, from the publishing of its configuration until one
//! without it is published. What is found goes into the upstream's set of targets and nowhere else; nothing is compiled.

mod consul;
mod dns;
mod feed;
mod file;
mod http;
mod kubernetes;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use daemun_config::model::{Discover, Source};
use daemun_dataplane::record::Events;
use daemun_dataplane::{Clock, FoundTarget, Upstream};

use super::ask::Held;
use super::lookup::Lookup;
use super::names::Names;
use feed::Feed;

/// Targets of one upstream that are found at most; of more, the first.
pub(super) const MOST_TARGETS: usize = 1_000;
/// Shortest and longest time between two questions that fail.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long a server may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Bytes of an answer or a file.
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// The targets that a file lists now.
///
/// # Errors
/// Why it cannot be read.
pub(crate) fn in_file(path: &Path) -> Result<Vec<FoundTarget>, String> {
    Ok(file::read(path)?.targets.into_iter().map(feed::listed).collect())
}

/// What those who find targets need of the world.
#[derive(Clone)]
pub(super) struct World {
    pub(super) clock: Clock,
    pub(super) events: Events,
    pub(super) lookup: Arc<Lookup>,
    pub(super) names: Arc<Names>,
}

/// Finds the targets of one upstream until it is let go.
pub(super) struct Finder {
    settings: Discover,
    feed: Arc<Feed>,
    _task: Held,
}

impl Finder {
    /// Begins to find targets.
    pub(super) fn start(settings: &Discover, upstream: Arc<Upstream>, world: &World) -> Self {
        let feed = Arc::new(Feed::new(settings, upstream, world));
        let (source, tls, own, world) = (settings.source.clone(), settings.tls, Arc::clone(&feed), world.clone());
        let task = tokio::spawn(async move {
            match source {
                Source::Dns(source) => dns::run(source, tls, &own, &world).await,
                Source::File(path) => file::run(path, &own, &world).await,
                Source::Http(source) => http::run(source, &own, &world).await,
                Source::Consul(source) => consul::run(source, tls, &own, &world).await,
                Source::Kubernetes(source) => kubernetes::run(source, tls, &own, &world).await,
            }
        });
        Self { settings: settings.clone(), feed, _task: Held::new(task) }
    }

    /// Whether it finds what these settings ask for.
    pub(super) fn is(&self, settings: &Discover) -> bool {
        self.settings == *settings
    }

    /// Gives what was found to an upstream of another configuration as well, which is about to be published.
    pub(super) fn prepare(&self, upstream: &Upstream) {
        self.feed.fill(upstream);
    }

    /// Gives what is found to this upstream from now on.
    pub(super) fn follow(&self, upstream: Arc<Upstream>) {
        self.feed.follow(upstream);
    }

    /// Waits until the source has answered once, or failed to.
    pub(super) async fn answered(&self) {
        self.feed.answered().await;
    }
}
