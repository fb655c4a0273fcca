//! FIFOs, folders and devices where files are expected: nothing waits for who may never come.

use std::io::{Read, Write};
use std::path::Path;

use rustix::process::Signal;

use crate::support::{Folder, Running, get};

const PROGRAM: &str = env!("CARGO_BIN_EXE_daemun");
const ROUTES: &str = "routes: [{ name: a, match: { path: /a }, answer: { body: here } }]\n";

/// What `check` says of a configuration, and how it ends.
fn check(folder: &Folder, name: &str) -> (Option<i32>, String) {
    let mut running = Running::start(Path::new(PROGRAM), &folder.path(""), &["check", "-c", name]);
    let (status, said) = running.ends();
    (status.code(), said)
}

fn configuration(more: &str) -> String {
    format!("reload: signal\nworkers: 1\naccess_log: off\nlisteners: [{{ bind: \"127.0.0.1:0\" }}]\n{ROUTES}{more}")
}

fn run(folder: &Folder) -> Running {
    Running::start(Path::new(PROGRAM), &folder.path(""), &["run"])
}

#[test]
fn what_is_no_file_is_refused_wherever_one_is_expected() {
    let folder = Folder::new();
    folder.fifo("fifo");
    std::fs::create_dir(folder.path("folder")).unwrap();
    for (other, what) in [("fifo", "a FIFO"), ("folder", "a folder"), ("/dev/zero", "a device")] {
        let listener = "reload: signal\nlisteners: [{ bind: \"127.0.0.1:0\" }]\n";
        let secret = "consumers: [{ name: c, keys: [\"${file:OTHER}\"] }]\npolicies: { key_auth: {} }\n";
        let texts = [
            format!("{listener}{ROUTES}{secret}"),
            format!(
                "listeners: [{{ bind: \"127.0.0.1:0\", tls: {{ certificates: [{{ cert: OTHER, key: k }}] }} }}]\n{ROUTES}"
            ),
            format!(
                "listeners: [{{ bind: \"127.0.0.1:0\", tls: {{ client_ca: OTHER, certificates: [{{ cert: OTHER, key: k }}] }} }}]\n{ROUTES}"
            ),
            format!(
                "{listener}routes: [{{ name: a, upstream: u }}]\nupstreams: {{ u: {{ targets: [\"https://a\"], tls: {{ ca: OTHER }} }} }}\n"
            ),
        ];
        for text in texts {
            folder.write("daemun.yaml", &text.replace("OTHER", other));
            let (code, said) = check(&folder, "daemun.yaml");
            assert_eq!(code, Some(1), "{said}");
            assert!(said.contains(&format!("it is {what}, not a file")), "{said}");
        }
    }
    // a file of a folder, and one in a usual place, is no pipe that somebody named
    std::os::unix::fs::symlink("/dev/zero", folder.path("folder/a.yaml")).unwrap();
    folder.fifo("folder/b.yaml");
    let (code, said) = check(&folder, "folder");
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("a.yaml` cannot be read: it is a device, not a file"), "{said}");
    assert!(said.contains("b.yaml` cannot be read: it is a FIFO, not a file"), "{said}");
    std::fs::remove_file(folder.path("daemun.yaml")).unwrap();
    folder.fifo("daemun.yaml");
    let mut running = Running::start(Path::new(PROGRAM), &folder.path(""), &["check"]);
    let (status, said) = running.ends();
    assert_eq!(status.code(), Some(69), "{said}");
    assert!(said.contains("it is a FIFO, not a file"), "{said}");
    let (_, said) = check(&folder, "/dev/zero");
    assert!(said.contains("it is a device, neither a file nor a pipe"), "{said}");
}

#[test]
fn a_named_pipe_is_read_to_its_end_and_a_reload_that_waits_for_one_does_not_keep_the_process() {
    let folder = Folder::new();
    let path = folder.fifo("conf");
    let mut running = Running::start(Path::new(PROGRAM), &folder.path(""), &["run", "-c", "conf"]);
    // opening waits for the reader, as the reader waits for what is written
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().write_all(configuration("").as_bytes()).unwrap();
    let ready = running.out.until("daemun ready ");
    let url = ready.split(' ').nth(2).unwrap().to_owned();
    assert_eq!(get(&format!("{url}/a")).0, 200);

    running.signal(Signal::HUP);
    let changed = configuration("").replace("/a", "/b");
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().write_all(changed.as_bytes()).unwrap();
    running.err.until("was read again after SIGHUP");
    assert_eq!((get(&format!("{url}/a")).0, get(&format!("{url}/b")).0), (404, 200));

    running.signal(Signal::HUP);
    // once it can be opened the process reads, and what holds it open keeps the process waiting
    let writer = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    running.signal(Signal::TERM);
    running.err.until("stop: ended");
    assert!(running.ends().0.success());
    drop(writer);
}

#[test]
fn a_start_that_waits_for_a_pipe_can_be_stopped() {
    let folder = Folder::new();
    let path = folder.fifo("conf");
    let mut running = Running::start(Path::new(PROGRAM), &folder.path(""), &["run", "-c", "conf"]);
    let writer = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    running.signal(Signal::TERM);
    running.err.until("stop: ended before `conf` was read");
    assert!(running.ends().0.success());
    drop(writer);
}

#[test]
fn a_reload_refuses_a_reference_to_a_fifo_and_the_process_goes_on_and_ends() {
    let folder = Folder::new();
    folder.write("daemun.yaml", &configuration(""));
    let mut running = run(&folder);
    running.out.until("daemun ready ");
    folder.fifo("key");
    folder.write("daemun.yaml", &configuration("consumers: [{ name: c, keys: [\"${file:key}\"] }]\n"));
    running.signal(Signal::HUP);
    running.err.until("is refused: it has 1 error");
    running.err.until("the file `key` cannot be read: it is a FIFO, not a file");
    folder.write("daemun.yaml", &configuration(""));
    running.signal(Signal::HUP);
    running.err.until("was read again after SIGHUP: 1 route");
    running.signal(Signal::TERM);
    assert!(running.ends().0.success());
}

#[test]
fn an_access_log_goes_into_a_fifo_that_is_read_and_one_that_is_not_is_refused() {
    let folder = Folder::new();
    let path = folder.fifo("log");
    folder.write("daemun.yaml", &configuration("").replace("access_log: off", "access_log: { to: log }"));
    let mut running = run(&folder);
    running.err.until("the access log cannot be written to `log`: it is a FIFO that nobody reads");
    assert_eq!(running.ends().0.code(), Some(69));

    let reader =
        rustix::fs::open(&path, rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK, rustix::fs::Mode::empty());
    let reader = reader.unwrap();
    let mut running = run(&folder);
    let ready = running.out.until("daemun ready ");
    let url = ready.split(' ').nth(2).unwrap().to_owned();
    assert_eq!(get(&format!("{url}/a")).0, 200);
    rustix::fs::fcntl_setfl(&reader, rustix::fs::OFlags::empty()).unwrap();
    running.signal(Signal::TERM);
    assert!(running.ends().0.success());
    let mut written = String::new();
    std::fs::File::from(reader).read_to_string(&mut written).unwrap();
    assert!(written.contains("\"route\":\"a\""), "{written}");
}

#[test]
fn an_access_log_that_nobody_empties_does_not_keep_the_process() {
    let folder = Folder::new();
    let path = folder.fifo("log");
    folder.write("daemun.yaml", &configuration("").replace("access_log: off", "access_log: { to: log }"));
    let nonblocking = |flags| rustix::fs::open(&path, flags | rustix::fs::OFlags::NONBLOCK, rustix::fs::Mode::empty());
    let reader = nonblocking(rustix::fs::OFlags::RDONLY).unwrap();
    let mut running = run(&folder);
    let ready = running.out.until("daemun ready ");
    let url = ready.split(' ').nth(2).unwrap().to_owned();
    let filler = nonblocking(rustix::fs::OFlags::WRONLY).unwrap();
    while rustix::io::write(&filler, &[b'\n'; 4096]).is_ok() {}
    while rustix::io::write(&filler, b"\n").is_ok() {}
    assert_eq!(get(&format!("{url}/a")).0, 200);
    assert_eq!(get(&format!("{url}/a")).0, 200);
    running.signal(Signal::TERM);
    running.err.until("the last lines could not be written");
    assert!(running.ends().0.success());
    drop((reader, filler));
}

#[test]
fn an_access_log_goes_to_devices_and_to_standard_output_by_its_path() {
    for (to, expected) in [("/dev/null", false), ("/dev/stdout", true), ("/proc/self/fd/1", true)] {
        let folder = Folder::new();
        folder.write(
            "daemun.yaml",
            &configuration("").replace("access_log: off", &format!("access_log: {{ to: {to} }}")),
        );
        let mut running = run(&folder);
        let ready = running.out.until("daemun ready ");
        let url = ready.split(' ').nth(2).unwrap().to_owned();
        assert_eq!(get(&format!("{url}/a")).0, 200);
        if expected {
            running.out.until("\"route\":\"a\"");
        }
        running.signal(Signal::TERM);
        assert!(running.ends().0.success());
    }
}
