//! The gateway under test: the real binary in a process of its own, with its configuration in a folder of its own.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process, kill_process_group};

use crate::client::Client;
use crate::wait::{PATIENCE, poll, wait_until};
use crate::wire::Address;

/// How long the binary may take to be ready.
const START: Duration = Duration::from_secs(20);

/// A folder that goes when it is dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes a new one.
    ///
    /// # Panics
    /// When the system's folder for temporary files is not writable.
    #[must_use]
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("daemun-e2e-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder for temporary files");
        Self(path)
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file into it, all at once: under another name first, then renamed.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let (path, draft) = (self.0.join(name), self.0.join(format!(".{name}.draft")));
        std::fs::write(&draft, text).expect("a writable folder");
        std::fs::rename(&draft, &path).expect("a writable folder");
        path
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

type Lines = Arc<Mutex<Vec<String>>>;

/// A running gateway. Dropping it kills it, and whatever it handed its sockets to.
pub struct Gateway {
    child: Mutex<Child>,
    group: Pid,
    folder: Arc<Folder>,
    stdout: Lines,
    stderr: Lines,
    addresses: Vec<Address>,
    extra: usize,
}

/// A gateway that would not start.
#[derive(Debug)]
pub struct Refusal {
    /// How it ended; `None` when it neither ended nor became ready.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Gateway {
    /// Starts `daemun run` with this configuration and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready; the message holds what it said.
    #[must_use]
    pub fn start(yaml: &str) -> Self {
        Self::start_in(Folder::new(), yaml)
    }

    /// Like [`Gateway::start`], with the configuration written into `folder`, beside files it names.
    ///
    /// # Panics
    /// When it does not become ready; the message holds what it said.
    #[must_use]
    pub fn start_in(folder: Folder, yaml: &str) -> Self {
        match Self::launch(folder, yaml, &[]) {
            Ok(gateway) => gateway,
            Err(refusal) => panic!("the gateway does not start: {refusal:#?}\nwith\n{yaml}"),
        }
    }

    /// Starts the binary with environment variables; what it said when it would not start.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn launch(folder: Folder, yaml: &str, environment: &[(&str, &str)]) -> Result<Self, Box<Refusal>> {
        folder.write("daemun.yaml", yaml);
        let mut command = Command::new(binary());
        command.arg("run").arg("-c").arg(folder.path().join("daemun.yaml")).current_dir(folder.path());
        command.envs(environment.iter().copied()).env_remove("DAEMUN_WORKERS").process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the gateway's binary");
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        let group = Pid::from_child(&child);
        let ready = poll(START, || {
            if let Some(line) = locked(&stdout).iter().find(|line| is_ready(line)) {
                return Some(Ok(line.clone()));
            }
            let ended = child.try_wait().ok().flatten()?;
            Some(Err(ended.code()))
        });
        let extra = ["status:", "admin:"].iter().filter(|key| yaml.lines().any(|line| line.starts_with(**key))).count();
        match ready {
            Some(Ok(line)) => {
                let addresses = addresses_of(&line);
                let (child, folder) = (Mutex::new(child), Arc::new(folder));
                Ok(Self { child, group, folder, stdout, stderr, addresses, extra })
            }
            other => {
                let _ = kill_process_group(group, Signal::KILL);
                let _ = child.wait();
                let code = other.and_then(Result::err).flatten();
                let (stdout, stderr) = (locked(&stdout).join("\n"), locked(&stderr).join("\n"));
                Err(Box::new(Refusal { code, stdout, stderr }))
            }
        }
    }

    /// Its addresses as the ready line lists them: listeners, then status, then admin.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// The address of its first listener.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.addresses[0]
    }

    /// The address of `status`, which the configuration must have, without `admin`.
    #[must_use]
    pub fn status_address(&self) -> &Address {
        &self.addresses[self.addresses.len() - self.extra]
    }

    /// The address of `admin`, which the configuration must have.
    #[must_use]
    pub fn admin_address(&self) -> &Address {
        &self.addresses[self.addresses.len() - 1]
    }

    /// Asks the admin listener, with JSON where a body is not empty; gives the status and what the answer says.
    #[must_use]
    pub fn admin(&self, line: &str, body: &str) -> (u16, serde_json::Value) {
        ask_admin(self.admin_address(), line, body)
    }

    /// Connects to its first listener.
    #[must_use]
    pub fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// One GET on a connection of its own.
    pub fn get(&self, target: &str) -> crate::client::Response {
        self.connect().get(target)
    }

    /// One GET of the status listener.
    #[must_use]
    pub fn status(&self, target: &str) -> crate::client::Response {
        Client::connect(self.status_address()).get(target)
    }

    /// The samples of `/metrics`, by name and labels as written.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let answer = self.status("/metrics");
        assert_eq!(answer.status, 200, "{answer:?}");
        Metrics::parse(&answer.text())
    }

    /// Sends a signal to the process that was started.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.group, signal).expect("a running gateway");
    }

    /// Writes the configuration anew, as an editor does that renames.
    pub fn rewrite(&self, yaml: &str) {
        self.folder.write("daemun.yaml", yaml);
    }

    /// The folder of its configuration, in which it runs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it has written to stdout so far, line by line; access-log lines among them.
    #[must_use]
    pub fn stdout(&self) -> Vec<String> {
        locked(&self.stdout).clone()
    }

    /// The access-log lines it has written to stdout so far.
    #[must_use]
    pub fn access_log(&self) -> Vec<serde_json::Value> {
        self.stdout().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// What it has written to stderr so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        locked(&self.stderr).join("\n")
    }

    /// How many ready lines it, and whatever it handed over to, has written.
    #[must_use]
    pub fn ready_lines(&self) -> usize {
        self.stdout().iter().filter(|line| is_ready(line)).count()
    }

    /// Waits until the process that was started has ended.
    #[must_use]
    pub fn wait_exit(&self) -> ExitStatus {
        wait_until("the gateway ended", PATIENCE * 2, || self.exited())
    }

    /// How the process that was started ended; `None` while it runs.
    #[must_use]
    pub fn exited(&self) -> Option<ExitStatus> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).try_wait().ok().flatten()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.group.as_raw_nonzero().get()
    }

    /// Resident memory of the process, in KiB.
    #[must_use]
    pub fn resident_kib(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").trim().parse().unwrap_or(0)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = kill_process_group(self.group, Signal::KILL);
        let _ = self.child.lock().unwrap_or_else(PoisonError::into_inner).wait();
        if std::thread::panicking() {
            let stderr = self.stderr();
            let tail: Vec<&str> = stderr.lines().rev().take(40).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            if !tail.is_empty() {
                let text = format!("the gateway's stderr ended with\n{}\n", tail.join("\n"));
                let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
            }
        }
    }
}

/// Runs the binary with `arguments` in `folder`: exit code, stdout, stderr.
#[must_use]
pub fn run_command(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(binary()).args(arguments).current_dir(folder).stdin(Stdio::null()).output();
    let output = output.expect("the gateway's binary");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// As [`Gateway::admin`], for whoever has the address alone.
#[must_use]
pub fn ask_admin(host: &Address, line: &str, body: &str) -> (u16, serde_json::Value) {
    let length = body.len();
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let fields = format!("Host: {host}\r\n{kind}Content-Length: {length}");
    let answer = Client::connect(host).call(format!("{line} HTTP/1.1\r\n{fields}\r\n\r\n{body}"));
    (answer.status, answer.json())
}

/// Samples of a metrics page.
#[derive(Clone, Debug)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    fn parse(text: &str) -> Self {
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect())
    }

    /// The sum of all samples called `name` whose labels hold every one of `labels`, each written `key="value"`.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let rows = self.0.iter().filter(|(key, _)| key.split('{').next() == Some(name));
        rows.filter(|(key, _)| labels.iter().all(|label| key.contains(label))).map(|(_, value)| value).sum()
    }

    /// Every sample, for messages and for looking a name up.
    #[must_use]
    pub fn samples(&self) -> &BTreeMap<String, f64> {
        &self.0
    }
}

fn locked(lines: &Lines) -> std::sync::MutexGuard<'_, Vec<String>> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> Lines {
    let lines = Lines::default();
    let own = Arc::clone(&lines);
    let pipe = pipe.expect("a pipe");
    std::thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(count) if count > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            locked(&own).push(text);
            line.clear();
        }
    });
    lines
}

fn is_ready(line: &str) -> bool {
    !line.starts_with('{') && line.contains("ready") && !addresses_of(line).is_empty()
}

fn addresses_of(line: &str) -> Vec<Address> {
    line.split([' ', ',', ';']).filter_map(address_of).collect()
}

fn address_of(word: &str) -> Option<Address> {
    if let Some(at) = word.find("unix:") {
        return Some(Address::Unix(PathBuf::from(&word[at + "unix:".len()..])));
    }
    let bare = word.rsplit("//").next()?.rsplit('=').next()?;
    let bare = bare.trim_end_matches(['/', ')', '.']).trim_start_matches('(');
    bare.parse().ok().map(Address::Tcp)
}

/// The gateway's binary: `DAEMUN_BIN`, else the one beside this test, built first when the test runs under cargo.
#[must_use]
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(given) = std::env::var_os("DAEMUN_BIN") {
            return PathBuf::from(given);
        }
        let own = std::env::current_exe().expect("the test's own path");
        let profile = own.ancestors().nth(2).expect("a target folder").to_owned();
        build(&profile);
        let path = profile.join("daemun");
        assert!(path.is_file(), "there is no gateway at {}", path.display());
        path
    })
}

fn build(profile: &Path) {
    let Some(cargo) = std::env::var_os("CARGO") else { return };
    let name = match profile.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", "daemun", "--profile", name, "--manifest-path"]).arg(manifest);
    command.arg("--target-dir").arg(profile.parent().expect("a target folder"));
    let status = command.status().expect("cargo");
    assert!(status.success(), "the gateway does not build");
}
