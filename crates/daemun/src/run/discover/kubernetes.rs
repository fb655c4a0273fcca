//! Targets by a service of Kubernetes: its EndpointSlices are listed, then watched from there on. What they come to is for
//! [`slices`] to say.

mod slices;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use daemun_config::model::{KubernetesSource, Server, TargetAddress};
use daemun_config::read_file;

use super::super::ask::{Answer, Question, Service, encoded};
use super::super::names::nanos;
use super::super::retry::{Backoff, about, chance};
use super::super::within;
use super::feed::Feed;
use super::{ANSWER, MOST_BYTES, RETRY, World};
use slices::{Slices, Told};

/// Where a pod finds what its service account may use.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Slices in one page of a list.
const PAGE: usize = 100;
/// Pages of one list.
const MOST_PAGES: usize = 100;
/// Bytes of one event.
const MOST_EVENT: usize = 2 * 1024 * 1024;
/// How long the server is asked to keep a watch open.
const WATCH: Duration = Duration::from_secs(240);
/// How much longer than that is waited.
const GRACE: Duration = Duration::from_secs(20);
/// Shortest time between two watches.
const PACE: Duration = Duration::from_secs(1);
/// Bytes of a token or the name of a namespace.
const MOST_TOKEN: u64 = 64 * 1024;

pub(super) async fn run(source: KubernetesSource, tls: bool, feed: &Feed, world: &World) {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    loop {
        let why = match Cluster::new(&source, world, Path::new(ACCOUNT), &variable).await {
            Ok(cluster) => match follow(&cluster, &source, tls, feed, &mut backoff, world).await {
                // the server has forgotten where we were: begin again at once, but not over and over
                Ended::Expired => {
                    wait(world, about(PACE, chance())).await;
                    continue;
                }
                Ended::Failed(why) => why,
            },
            Err(why) => why,
        };
        feed.failed(&why);
        wait(world, backoff.after_failure(chance())).await;
    }
}

async fn wait(world: &World, duration: Duration) {
    world.clock.wait(world.clock.now().saturating_add(nanos(duration))).await;
}

/// Why a list and the watches that follow it came to an end.
enum Ended {
    /// The server does not have the changes since then any more.
    Expired,
    Failed(String),
}

impl From<String> for Ended {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// Lists, and watches from there on until that cannot go on.
async fn follow(
    cluster: &Cluster,
    source: &KubernetesSource,
    tls: bool,
    feed: &Feed,
    backoff: &mut Backoff,
    world: &World,
) -> Ended {
    let mut slices = match list(cluster, world).await {
        Ok(slices) => slices,
        Err(ended) => return ended,
    };
    backoff.reset();
    tell(&slices, source, tls, feed);
    let mut failures = 0;
    loop {
        let began = world.clock.now();
        let result = watch(cluster, &mut slices, world, &mut |slices| tell(slices, source, tls, feed)).await;
        match result {
            Ok(()) => {
                failures = 0;
                backoff.reset();
                feed.unchanged();
            }
            Err(Ended::Expired) => return Ended::Expired,
            Err(Ended::Failed(why)) => {
                failures += 1;
                // a connection that breaks is no reason to list everything again; a server that goes on refusing is
                if failures > 3 {
                    return Ended::Failed(why);
                }
                feed.failed(&why);
                wait(world, backoff.after_failure(chance())).await;
            }
        }
        world.clock.wait(began.saturating_add(nanos(PACE))).await;
    }
}

fn tell(slices: &Slices, source: &KubernetesSource, tls: bool, feed: &Feed) {
    match slices.targets(source.port.as_ref(), tls) {
        Ok(targets) => feed.found(targets, slices.left_out()),
        Err(why) => feed.failed(&why),
    }
}

/// Every slice there is, page by page.
async fn list(cluster: &Cluster, world: &World) -> Result<Slices, Ended> {
    let mut slices = Slices::default();
    let mut next = String::new();
    for _ in 0..MOST_PAGES {
        let target = format!("{}&limit={PAGE}{next}", cluster.target);
        let asked = async {
            let answer = cluster.ask(target, ANSWER).await?;
            refused(&answer)?;
            Ok(answer.whole(MOST_BYTES).await?)
        };
        let page: Result<Vec<u8>, Ended> = within(&world.clock, ANSWER * 2, asked)
            .await
            .unwrap_or_else(|| Err(Ended::Failed("the list does not come to its end".to_owned())));
        match slices.add_page(&page?)? {
            Some(token) => next = format!("&continue={}", encoded(&token)),
            None => return Ok(slices),
        }
    }
    Err(Ended::Failed(format!("the list has more than {MOST_PAGES} pages")))
}

/// Takes up changes until the server ends that, which it does every few minutes.
async fn watch(
    cluster: &Cluster,
    slices: &mut Slices,
    world: &World,
    changed: &mut (dyn FnMut(&Slices) + Send),
) -> Result<(), Ended> {
    let version = encoded(slices.version());
    let seconds = WATCH.as_secs();
    let target = format!(
        "{}&watch=1&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds={seconds}",
        cluster.target
    );
    let mut answer = cluster.ask(target, ANSWER).await?;
    refused(&answer)?;
    // it goes on from what is known: whatever was the trouble is over
    changed(slices);
    let until = world.clock.now().saturating_add(nanos(WATCH + GRACE));
    let mut line = Vec::new();
    loop {
        let left = Duration::from_nanos(until.saturating_sub(world.clock.now()));
        // one who says nothing for so long is gone
        let Some(piece) = within(&world.clock, left, answer.piece()).await else { return Ok(()) };
        let Some(piece) = piece? else { return Ok(()) };
        let mut any = false;
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            if line.len() + part.len() > MOST_EVENT {
                return Err(Ended::Failed(format!("an event is larger than {} MiB", MOST_EVENT >> 20)));
            }
            line.extend_from_slice(part);
            if line.ends_with(b"\n") {
                match slices.event(&line)? {
                    Told::Changed => any = true,
                    Told::Nothing => {}
                    Told::Expired => return Err(Ended::Expired),
                }
                line.clear();
            }
        }
        // what came together is taken up together
        if any {
            changed(slices);
        }
    }
}

fn refused(answer: &Answer) -> Result<(), Ended> {
    match answer.status {
        200 => Ok(()),
        410 => Err(Ended::Expired),
        401 => Err(Ended::Failed("the API server answers 401: the token is not accepted".to_owned())),
        403 => Err(Ended::Failed(
            "the API server answers 403: the account may not list and watch `endpointslices` of `discovery.k8s.io`"
                .to_owned(),
        )),
        status => Err(Ended::Failed(format!("the API server answers {status}"))),
    }
}

/// The API server, and what to ask it for.
struct Cluster {
    service: Service,
    /// Path and query without what tells a list from a watch.
    target: String,
    token_file: Option<PathBuf>,
}

impl Cluster {
    /// What is not given is that of the pod this runs in, by its `account` and the variables of its environment.
    async fn new(
        source: &KubernetesSource,
        world: &World,
        account: &Path,
        variable: &(dyn Fn(&str) -> Option<String> + Sync),
    ) -> Result<Self, String> {
        let server = match &source.server {
            Some(server) => server.clone(),
            None => own_server(source, account, variable)?,
        };
        let own = source.server.is_none();
        let token_file = source.token_file.clone().or_else(|| own.then(|| account.join("token")));
        let namespace = match &source.namespace {
            Some(namespace) => namespace.clone(),
            None => secret(account.join("namespace")).await?,
        };
        let target = format!(
            "{}/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices?labelSelector={}",
            source.base_path,
            encoded(&namespace),
            encoded(&format!("kubernetes.io/service-name={}", source.service)),
        );
        let service = Service::new(world.clock.clone(), server, Arc::clone(&world.lookup));
        Ok(Self { service, target, token_file })
    }

    async fn ask(&self, target: String, limit: Duration) -> Result<Answer, String> {
        let mut question = Question::get(target, self.service.authority()).with("accept", "application/json");
        if let Some(file) = &self.token_file {
            let token = secret(file.clone()).await?;
            question = question.with("authorization", &format!("Bearer {token}"));
        }
        self.service.ask(question, limit).await
    }
}

/// The API server of the cluster this runs in, as every pod is told.
fn own_server(
    source: &KubernetesSource,
    account: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Server, String> {
    let host = variable("KUBERNETES_SERVICE_HOST");
    let host = host.ok_or("this is no pod of a cluster: `KUBERNETES_SERVICE_HOST` is not set; give `server`")?;
    let port = variable("KUBERNETES_SERVICE_PORT").and_then(|port| port.parse().ok()).unwrap_or(443);
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let ca_file = source.ca_file.clone().unwrap_or_else(|| account.join("ca.crt"));
    Ok(Server { address: TargetAddress::Tcp { host, port }, tls: true, authority, ca_file: Some(ca_file) })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The text of a small file.
async fn secret(file: PathBuf) -> Result<String, String> {
    let shown = file.display().to_string();
    let read = tokio::task::spawn_blocking(move || read_file(&file, MOST_TOKEN)).await;
    let bytes = read.map_err(|error| error.to_string())?;
    let bytes = bytes.map_err(|error| format!("`{shown}` cannot be read: {}", daemun_config::why(&error)))?;
    let text = String::from_utf8(bytes).map_err(|_| format!("`{shown}` is not text"))?;
    let text = text.trim();
    if text.is_empty() { Err(format!("`{shown}` is empty")) } else { Ok(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use daemun_dataplane::Clock;
    use daemun_dataplane::record::Events;

    use super::super::super::lookup::Lookup;
    use super::super::super::names::Names;
    use super::*;

    fn world() -> World {
        let clock = Clock::system();
        let events = Events::to(clock.clone(), std::io::sink()).unwrap();
        let lookup = Arc::new(Lookup::system(clock.clone()));
        let names = Arc::new(Names::new(clock.clone(), events.clone(), Arc::clone(&lookup)));
        World { clock, events, lookup, names }
    }

    fn source() -> KubernetesSource {
        KubernetesSource {
            server: None,
            base_path: String::new(),
            namespace: None,
            service: "stock".into(),
            port: None,
            token_file: None,
            ca_file: None,
        }
    }

    #[tokio::test]
    async fn in_a_pod_the_service_alone_says_everything() {
        let account = std::env::temp_dir().join(format!("daemun-account-{}", std::process::id()));
        std::fs::create_dir_all(&account).unwrap();
        std::fs::write(account.join("namespace"), "shop\n").unwrap();
        let pod = |name: &str| match name {
            "KUBERNETES_SERVICE_HOST" => Some("fd00::1".to_owned()),
            "KUBERNETES_SERVICE_PORT" => Some("6443".to_owned()),
            _ => None,
        };
        let cluster = Cluster::new(&source(), &world(), &account, &pod).await.unwrap();
        assert_eq!(
            cluster.target,
            "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices\
             ?labelSelector=kubernetes.io%2Fservice-name%3Dstock"
        );
        assert_eq!(cluster.token_file, Some(account.join("token")));
        assert_eq!(cluster.service.authority(), "[fd00::1]:6443");
        let server = own_server(&source(), &account, &pod).unwrap();
        assert!(server.tls && server.ca_file == Some(account.join("ca.crt")), "{server:?}");
        std::fs::remove_dir_all(&account).unwrap();
    }

    #[tokio::test]
    async fn outside_of_a_cluster_a_server_must_be_given() {
        let refused = Cluster::new(&source(), &world(), Path::new(ACCOUNT), &|_| None).await.err().unwrap();
        assert!(refused.contains("`KUBERNETES_SERVICE_HOST` is not set; give `server`"), "{refused}");
    }
}
