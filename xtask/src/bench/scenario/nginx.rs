//! nginx: the peer that ratios are taken against, and the origin behind every proxy.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Bench, CONSUMERS, Certificate, LIMIT_PER_SECOND, Place, Scenario, key};

/// The answer of the origin: 63 bytes.
const ANSWER: &str = "{\"id\":\"0a1b2c3d\",\"state\":\"ready\",\"name\":\"an answer, 63 bytes.\"}";

/// Connections that are never closed for their age or their number of requests.
const FOREVER: &str = "keepalive_requests 1000000000; keepalive_timeout 3600s;";

pub(super) fn configure(bench: &Bench, scenario: Scenario, place: Place, folder: &Path) -> Result<Command> {
    let mut http = String::new();
    let Place { listen, origin, .. } = place;
    writeln!(http, "  upstream origin {{ server {origin}; keepalive 256; {FOREVER} }}")?;
    if scenario.access_log {
        // The stricter peer: lines are gathered before they are written, as Daemun's are.
        writeln!(http, "  access_log {} combined buffer=64k flush=1s;", folder.join("access.log").display())?;
    } else {
        writeln!(http, "  access_log off;")?;
    }
    let mut location = "proxy_pass http://origin; proxy_http_version 1.1; proxy_max_temp_file_size 0; ".to_owned();
    if scenario.keys {
        let mut map = String::new();
        for index in 0..CONSUMERS {
            writeln!(map, "\"{}\" consumer-{index};", key(index))?;
        }
        std::fs::write(folder.join("keys.map"), map)?;
        writeln!(http, "  map_hash_max_size 65536; map_hash_bucket_size 128;")?;
        writeln!(http, "  map $http_x_api_key $consumer {{ default \"\"; include keys.map; }}")?;
        writeln!(http, "  limit_req_zone $consumer zone=consumers:16m rate={LIMIT_PER_SECOND}r/s;")?;
        write!(
            location,
            "if ($consumer = \"\") {{ return 401; }} limit_req zone=consumers burst={LIMIT_PER_SECOND} nodelay; "
        )?;
    }
    if scenario.websocket {
        location +=
            "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\"; proxy_read_timeout 1h; ";
    } else {
        location += "proxy_set_header Connection \"\"; ";
    }
    let mut server = format!("listen {listen} backlog=4096");
    if scenario.h2c {
        server += " http2";
    }
    if let Some(kind) = scenario.tls {
        let Certificate { cert, key, .. } = Certificate::of(bench, kind)?;
        write!(
            server,
            " ssl; ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.2 TLSv1.3",
            cert.display(),
            key.display()
        )?;
    }
    writeln!(http, "  server {{ {server}; location / {{ {location} }} }}")?;
    command(folder, &http)
}

/// The command of the origin on `listen`: 63 bytes for every path, and files of 1 KiB, 64 KiB and 10 MiB.
pub(crate) fn origin(listen: SocketAddr, folder: &Path) -> Result<Command> {
    std::fs::create_dir_all(folder.join("files"))?;
    let mut http = String::new();
    writeln!(http, "  access_log off; sendfile on; open_file_cache max=10;")?;
    write!(
        http,
        "  server {{ listen {listen} backlog=4096; default_type application/json; location / {{ return 200 '{ANSWER}'; }} "
    )?;
    for (name, size) in [("1KiB", 1 << 10), ("64KiB", 64 << 10), ("10MiB", 10 << 20)] {
        let file = folder.join("files").join(name);
        if file.metadata().map_or(0, |file| file.len()) != size {
            std::fs::write(file, vec![b'x'; usize::try_from(size)?])?;
        }
        write!(http, "location = /{name} {{ root files; }} ")?;
    }
    writeln!(http, "}}")?;
    command(folder, &http)
}

/// The command of an origin on `listen` that answers 500 to everything.
pub(crate) fn failing_origin(listen: SocketAddr, folder: &Path) -> Result<Command> {
    std::fs::create_dir_all(folder)?;
    command(
        folder,
        &format!("  access_log off;\n  server {{ listen {listen} backlog=4096; location / {{ return 500 'no'; }} }}\n"),
    )
}

fn command(folder: &Path, http: &str) -> Result<Command> {
    // Started by root, the worker would become someone who may not read the target folder.
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    let text = format!(
        "{user}daemon off;\nworker_processes 1;\nworker_rlimit_nofile 20000;\npid nginx.pid;\nerror_log stderr error;\n\
         events {{ worker_connections 16384; }}\nhttp {{\n  {FOREVER}\n  client_body_temp_path tmp; proxy_temp_path tmp; \
         fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;\n{http}}}\n"
    );
    std::fs::write(folder.join("nginx.conf"), text)?;
    let mut command = Command::new(crate::shell::need("nginx")?);
    command.arg("-p").arg(folder).args(["-c", "nginx.conf", "-e", "stderr"]);
    Ok(command)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_answer_has_63_bytes() {
        assert_eq!(super::ANSWER.len(), 63);
    }
}
