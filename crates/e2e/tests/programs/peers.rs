//! The programs of other makers: where they are, how they are started, what they say.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemun_e2e::gateway::Folder;
use daemun_e2e::wire::Address;
use daemun_e2e::{Gateway, wait_until};
use serde_json::Value;

/// How long a program may take; a browser's first start on a busy machine is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Whether every one of these programs and Node packages is there, as [`is_there`] tells it.
pub(crate) fn all_there(programs: &[&str], packages: &[&str]) -> bool {
    let installed = |package: &&&str| package_folder(package).join("package.json").is_file();
    let missing: Vec<&str> = programs
        .iter()
        .filter(|program| find(program).is_none())
        .chain(packages.iter().filter(|package| !installed(package)))
        .copied()
        .collect();
    is_there(&missing)
}

/// Where a Node package is.
pub(crate) fn package_folder(package: &str) -> PathBuf {
    folder().join("node_modules").join(package)
}

/// Whether nothing is missing. What is missing is told where the run collects what it skipped; without such a place it fails the test.
pub(crate) fn is_there(missing: &[&str]) -> bool {
    if missing.is_empty() {
        return true;
    }
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("{test}: {} not installed\n", missing.join(", "));
    let notes = std::env::var_os("DAEMUN_SKIPPED").unwrap_or_else(|| panic!("{line}"));
    let mut notes = std::fs::OpenOptions::new().append(true).create(true).open(notes).unwrap();
    notes.write_all(line.as_bytes()).unwrap();
    false
}

/// Where on `PATH` a program is.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/node")
}

/// A running program, mostly a Node script, that writes JSON lines. Dropping it kills it.
pub(crate) struct Script {
    child: Child,
    stdout: Arc<Mutex<Vec<String>>>,
    stderr: Arc<Mutex<Vec<String>>>,
}

impl Script {
    /// Starts a script of the peers' folder.
    pub(crate) fn start(name: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new("node");
        command.arg(folder().join(name)).args(arguments).current_dir(folder());
        Self::of(command)
    }

    /// Starts a program.
    pub(crate) fn of(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = collect(child.stdout.take().unwrap());
        let stderr = collect(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// Starts a server and waits for the port that its first line tells.
    pub(crate) fn serve(name: &str) -> (Self, u64) {
        Self::serve_with(name, &[])
    }

    /// The same of one that takes arguments.
    pub(crate) fn serve_with(name: &str, arguments: &[&str]) -> (Self, u64) {
        let script = Self::start(name, arguments);
        let port = script.port(name);
        (script, port)
    }

    /// The port that a server tells.
    pub(crate) fn port(&self, name: &str) -> u64 {
        let first = self.wait_for(&format!("{name} told its port"), |line| line.get("port").is_some());
        first["port"].as_u64().unwrap()
    }

    /// Runs a client to its end and returns what it wrote.
    pub(crate) fn run(name: &str, arguments: &[&str]) -> Vec<Value> {
        Self::start(name, arguments).end(name)
    }

    /// Lets a program run to its end and returns what it wrote.
    pub(crate) fn end(self, name: &str) -> Vec<Value> {
        let mut script = self;
        let status: ExitStatus =
            wait_until(&format!("{name} ended"), PATIENCE, || script.child.try_wait().ok().flatten());
        // A pipe may still hold what the program wrote last; its reader lets go of the list at the pipe's end.
        wait_until("its output was read", PATIENCE, || (Arc::strong_count(&script.stdout) == 1).then_some(()));
        let said = script.said();
        assert!(status.success(), "{name} {status}, wrote {said:#?} and {:#?}", locked(&script.stderr));
        said
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// The lines it has written so far.
    pub(crate) fn said(&self) -> Vec<Value> {
        locked(&self.stdout).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits for a line.
    pub(crate) fn wait_for(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        daemun_e2e::poll(PATIENCE, || self.said().into_iter().find(&wanted)).unwrap_or_else(|| {
            panic!("waited in vain until {what}: {:#?} {:#?}", self.said(), locked(&self.stderr));
        })
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The line of a client for one of its cases.
pub(crate) fn of_case<'a>(said: &'a [Value], case: &str) -> &'a Value {
    said.iter().find(|line| line["case"] == case).unwrap_or_else(|| panic!("no line for {case}: {said:#?}"))
}

/// The access-log lines that are `wanted`, once there are `count`; more than that is an error.
pub(crate) fn logged(gateway: &Gateway, count: usize, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    let chosen = || gateway.access_log().into_iter().filter(|line| wanted(line)).collect::<Vec<_>>();
    let lines = daemun_e2e::poll(Duration::from_secs(20), || Some(chosen()).filter(|lines| lines.len() >= count));
    let lines = lines.unwrap_or_else(|| panic!("fewer than {count} lines: {:#?}", gateway.access_log()));
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines
}

/// The port of the gateway's first listener.
pub(crate) fn port(gateway: &Gateway) -> u16 {
    let Address::Tcp(address) = gateway.address() else { panic!("not a TCP listener") };
    address.port()
}

/// A folder with a certificate for `localhost` and `127.0.0.1`, its key, and the authority that signed it: `server.crt`,
/// `server.key`, `ca.crt`.
pub(crate) fn certificates() -> Folder {
    let folder = Folder::new();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    openssl(&folder, &format!("req -x509 {key} -keyout ca.key -out ca.crt -subj /CN=test-authority"));
    openssl(
        &folder,
        &format!(
            "req -x509 -CA ca.crt -CAkey ca.key {key} -keyout server.key -out server.crt -subj /CN=localhost \
             -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
        ),
    );
    folder
}

fn openssl(folder: &Folder, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split_ascii_whitespace())
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn collect(pipe: impl Read + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let own = Arc::clone(&lines);
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            locked(&own).push(line);
        }
    });
    lines
}

fn locked(lines: &Mutex<Vec<String>>) -> std::sync::MutexGuard<'_, Vec<String>> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}
