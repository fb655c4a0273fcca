//! One upstream and one gateway before it, for cases that are judged one after another by what the upstream received.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::client::{Client, shown};
use crate::gateway::Gateway;
use crate::origin::{Log, Origin, echo};

/// A configuration that forwards everything: `{origin}` stands for the upstream's address.
pub const FORWARD_ALL: &str = "\
workers: 1
access_log: off
listeners:
  - bind: 127.0.0.1:0
upstreams:
  origin:
    targets: [\"{origin}\"]
routes:
  - name: all
    match: { prefix: / }
    upstream: origin
";

/// An upstream that echoes, and a gateway before it.
pub struct Lane {
    /// The upstream.
    pub origin: Origin,
    /// The gateway.
    pub gateway: Gateway,
}

impl Lane {
    /// Starts both; `{origin}` in `yaml` is replaced by the upstream's address.
    #[must_use]
    pub fn start(yaml: &str) -> Self {
        Self::with(yaml, Origin::serve(echo))
    }

    /// Starts a gateway before `origin`.
    #[must_use]
    pub fn with(yaml: &str, origin: Origin) -> Self {
        let gateway = Gateway::start(&yaml.replace("{origin}", &origin.url()));
        Self { origin, gateway }
    }

    /// Connects to the gateway.
    #[must_use]
    pub fn connect(&self) -> Client {
        self.gateway.connect()
    }

    /// Sends a request of its own through the gateway and returns what the upstream has seen since the last time, without
    /// it. A request left over on a pooled connection, or an answer that is not its own, shows here.
    ///
    /// # Errors
    /// What was wrong with its answer.
    pub fn settle(&self) -> Result<Log, String> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let target = format!("/settle/{}", COUNT.fetch_add(1, Ordering::SeqCst));
        if let Some(status) = self.gateway.exited() {
            return Err(format!("the gateway died: {status}; {}", self.gateway.stderr()));
        }
        let mut client = Client::try_connect(self.gateway.address()).map_err(|error| format!("afterwards: {error}"))?;
        client.send(format!("GET {target} HTTP/1.1\r\nHost: e2e.test\r\n\r\n"));
        let answer = client.response().map_err(|broken| format!("the next client's request: {broken}"))?;
        if answer.status != 200 || answer.text() != target {
            let body = shown(&answer.body);
            return Err(format!("the next client's request for {target} was answered {} `{body}`", answer.status));
        }
        self.origin.quiet();
        let mut log = self.origin.take();
        log.requests.retain(|request| request.target != target);
        Ok(log)
    }
}
