//! The demo: a gateway, two sample backends and keys in one process, and the calls to try on it.

pub(crate) mod backend;
mod calls;

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use daemun_config::{Environment, System};
use daemun_dataplane::Clock;
use daemun_dataplane::record::Events;
use daemun_sys::Inherited;

use crate::code::{Code, Failure};
use crate::output::Output;
use crate::run::process::{Process, Start};
use crate::run::source::Embedded;
use crate::run::{Role, block_on, serve};

/// The configuration, as it is shown among the examples.
const CONFIGURATION: &str = include_str!("../../../../examples/demo.yaml");
/// What it is called in findings.
const NAME: &str = "examples/demo.yaml";

/// Serves until told to stop.
pub(crate) fn run(output: &mut Output<'_>) -> Result<Code, Failure> {
    let clock = Clock::system();
    let events = Events::stderr(clock.clone())
        .map_err(|error| Failure::unavailable(format!("no thread for the log: {error}")))?;
    block_on(async {
        let catalog = start_backend("catalog", 9001).await?;
        let orders = start_backend("orders", 9002).await?;
        let variables = vec![
            ("DEMO_LISTENER", free(8080)),
            ("DEMO_STATUS", free(9901)),
            ("DEMO_ADMIN", free(9900)),
            ("DEMO_CATALOG", catalog),
            ("DEMO_ORDERS", orders),
        ];
        let source = Arc::new(Embedded::new(PathBuf::from(NAME), Variables(variables)));
        let start = Start { clock, events, inherited: Inherited::default(), invocation: None };
        serve(source, start, output, &mut show).await
    })?
}

/// Prints the calls to try.
fn show(process: &Process, output: &mut Output<'_>) -> Result<(), Failure> {
    let url = |role| process.url(role).unwrap_or_default();
    let calls = calls::calls(&url(Role::Listener), &url(Role::Status), &url(Role::Admin));
    output
        .line(format!("\n# a gateway before two sample backends, as {NAME} says; calls to try in another terminal:"))?;
    for call in calls {
        output.line(call.to_string())?;
    }
    output.line("\n# Ctrl-C ends it")?;
    Ok(())
}

/// Starts a backend and gives its URL.
async fn start_backend(name: &'static str, port: u16) -> Result<String, Failure> {
    let (listener, address) = backend::bind(port)
        .await
        .map_err(|error| Failure::unavailable(format!("no port for the backend `{name}`: {error}")))?;
    drop(tokio::spawn(backend::serve(name, listener)));
    Ok(format!("http://{address}"))
}

/// An address on loopback: the usual port, or any when that is taken.
fn free(usual: u16) -> String {
    let port = if TcpListener::bind(("127.0.0.1", usual)).is_ok() { usual } else { 0 };
    format!("127.0.0.1:{port}")
}

/// The demo's variables over the process's own environment; the one file there is.
struct Variables(Vec<(&'static str, String)>);

impl Environment for Variables {
    fn variable(&self, name: &str) -> Option<String> {
        let own = self.0.iter().find(|(variable, _)| *variable == name).map(|(_, value)| value.clone());
        own.or_else(|| System.variable(name))
    }

    fn read(&self, path: &Path, _: u64) -> io::Result<Vec<u8>> {
        if path == Path::new(NAME) {
            Ok(CONFIGURATION.as_bytes().to_vec())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn list(&self, path: &Path) -> io::Result<Option<Vec<PathBuf>>> {
        if path == Path::new(NAME) { Ok(None) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}
