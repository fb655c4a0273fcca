//! HAProxy in HTTP mode.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Bench, CONSUMERS, Certificate, LIMIT_PER_SECOND, Place, Scenario, key};

pub(super) fn configure(bench: &Bench, scenario: Scenario, place: Place, folder: &Path) -> Result<Command> {
    let mut bind = place.listen.to_string();
    if scenario.h2c {
        bind += " proto h2";
    }
    if let Some(kind) = scenario.tls {
        write!(bind, " ssl crt {} alpn h2,http/1.1", Certificate::of(bench, kind)?.both.display())?;
    }
    let mut frontend = String::new();
    if scenario.access_log {
        // To its stdout, which is a file here.
        writeln!(frontend, "  log stdout format raw local0\n  option httplog")?;
    }
    if scenario.keys {
        let mut map = String::new();
        for index in 0..CONSUMERS {
            writeln!(map, "{} consumer-{index}", key(index))?;
        }
        let file = folder.join("keys.map");
        std::fs::write(&file, map)?;
        writeln!(frontend, "  stick-table type string len 32 size 20k expire 60s store http_req_rate(1s)")?;
        writeln!(frontend, "  http-request set-var(txn.consumer) req.hdr(x-api-key),map_str({})", file.display())?;
        writeln!(frontend, "  http-request deny deny_status 401 unless {{ var(txn.consumer) -m found }}")?;
        writeln!(frontend, "  http-request track-sc0 var(txn.consumer)")?;
        writeln!(frontend, "  http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt {LIMIT_PER_SECOND} }}")?;
    }
    let text = format!(
        "global\n  nbthread 1\n  maxconn 9000\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n  \
         timeout tunnel 1h\n  timeout http-keep-alive 1h\n  http-reuse always\n\
         frontend in\n  bind {bind} backlog 4096\n{frontend}  default_backend origin\n\
         backend origin\n  server origin {}\n",
        place.origin
    );
    let file = folder.join("haproxy.cfg");
    std::fs::write(&file, text)?;
    let mut command = Command::new(crate::shell::need("haproxy")?);
    command.args(["-db", "-f"]).arg(file);
    Ok(command)
}
