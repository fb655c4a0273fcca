//! Real programs as peers: scripts of `peers/node`, the certificates they are shown, and the browser.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A script that serves; it ends when this is dropped.
pub(crate) struct Peer {
    child: Child,
    /// The port it says it serves.
    pub(crate) port: u16,
}

impl Peer {
    /// Runs `node SCRIPT serve` and reads its port.
    pub(crate) fn serve(script: &str) -> Peer {
        let mut command = node(script);
        let child = command.arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("`node` must be installed; `cargo xtask test` does so");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap_or_else(|_| panic!("`{script}` said {line:?} in place of its port"));
        Peer { child, port }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a script to its end and gives what it printed.
pub(crate) fn run(script: &str, arguments: &[&str]) -> serde_json::Value {
    let child = node(script).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("`node` must be installed; `cargo xtask test` does so");
    let (mut stdout, mut stderr) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "`{script}` failed: {stderr}");
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("`{script}` printed {stdout:?}: {error}"))
}

fn node(script: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/node");
    assert!(
        folder.join("node_modules").is_dir(),
        "the packages of `peers/node` are missing; `cargo xtask test` installs them"
    );
    let mut command = Command::new("node");
    command.arg(folder.join(script)).env("NODE_NO_WARNINGS", "1");
    command
}

/// Chromium, wherever it is installed.
pub(crate) fn chromium() -> PathBuf {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&paths).flat_map(|path| names.map(|name| path.join(name))).find(|path| path.is_file());
    found.expect("`chromium` must be installed; `cargo xtask test` does so")
}

/// Writes `a.crt` and `a.key` for `localhost` and the loopback address into a folder.
pub(crate) fn certificate(folder: &Path) {
    let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout a.key -out a.crt -days 30 \
                     -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1";
    let output = Command::new("openssl").args(arguments.split_whitespace()).current_dir(folder).output();
    let output = output.expect("`openssl` must be installed; `cargo xtask test` does so");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
