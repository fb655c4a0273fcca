//! Folders that go away, commands in this process, and the real program with its output read line by line.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use daemun::{Code, Output};
use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take before a test calls it hung.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder that goes when it is dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("daemun-it-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes a FIFO, which nobody has opened.
    pub(crate) fn fifo(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        path
    }

    /// Writes a file at once, as an editor does that renames.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let (draft, path) = (self.path(&format!(".{name}.draft")), self.path(name));
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(draft, &path).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a command came to.
pub(crate) struct Ran {
    pub(crate) code: Code,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a command in this process.
pub(crate) fn daemun(arguments: &[&str]) -> Ran {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut output = Output { out: &mut out, err: &mut err, color: false };
    let arguments = std::iter::once("daemun").chain(arguments.iter().copied()).map(OsString::from);
    let code = daemun::run_command(arguments, &mut output);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code, out: text(out), err: text(err) }
}

/// The real program, running; it is killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) out: Lines,
    pub(crate) err: Lines,
}

impl Running {
    pub(crate) fn start(program: &Path, folder: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder).env_remove("DAEMUN_WORKERS");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (out, err) = (Lines::of(child.stdout.take().unwrap()), Lines::of(child.stderr.take().unwrap()));
        Self { child, out, err }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// How it ends, and what it says until then on standard error; waits for that, but not for ever.
    pub(crate) fn ends(&mut self) -> (ExitStatus, String) {
        let mut said = Vec::new();
        loop {
            match self.err.0.recv_timeout(PATIENCE) {
                Ok(line) => said.push(line),
                // its output ends with it
                Err(RecvTimeoutError::Disconnected) => return (self.wait(), said.join("\n")),
                Err(RecvTimeoutError::Timeout) => panic!("it does not end; it has said {said:#?}"),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process writes, line by line.
pub(crate) struct Lines(Receiver<String>);

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let (sender, lines) = sync_channel(10_000);
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self(lines)
    }

    /// The next line that holds `text`.
    pub(crate) fn until(&self, text: &str) -> String {
        let mut passed = Vec::new();
        loop {
            match self.0.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => passed.push(line),
                Err(why) => panic!("no line with `{text}`: {why}; there were {passed:#?}"),
            }
        }
    }
}

/// The status and the body that a GET gets.
pub(crate) fn get(url: &str) -> (u16, String) {
    curl(&[url])
}

/// The status and the body that curl gets with these arguments; status 0 when it cannot connect.
pub(crate) fn curl(arguments: &[&str]) -> (u16, String) {
    let output = Command::new("curl").args(["-s", "-w", "\n%{http_code}"]).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}
