//! The running process: its ready line, reloads, hand-over, and how it ends.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::Signal;

use crate::support::{Folder, Running, curl, get};

const PROGRAM: &str = env!("CARGO_BIN_EXE_daemun");

fn configuration(path: &str, more: &str) -> String {
    format!(
        "workers: 2\nlisteners: [{{ bind: \"127.0.0.1:0\" }}, {{ bind: \"unix:d.sock\" }}{more}]\nstatus: {{ bind: \"127.0.0.1:0\" }}\n\
         access_log: off\nroutes:\n  - {{ name: a, match: {{ path: {path} }}, answer: {{ status: 200, body: here }} }}\n"
    )
}

fn start(folder: &Folder, text: &str) -> (Running, String, String) {
    start_program(Path::new(PROGRAM), folder, text)
}

/// The process, its first listener's URL and its status URL.
fn start_program(program: &Path, folder: &Folder, text: &str) -> (Running, String, String) {
    folder.write("daemun.yaml", text);
    let running = Running::start(program, &folder.path(""), &["run"]);
    let ready = running.out.until("daemun ready ");
    let words: Vec<&str> = ready.split(' ').collect();
    assert!(words[3].ends_with("unix:d.sock"), "{ready}");
    let status = words.last().unwrap().strip_prefix("status=").unwrap();
    (running, words[2].to_owned(), status.to_owned())
}

#[test]
fn it_serves_on_every_address_of_its_ready_line() {
    let folder = Folder::new();
    let (mut running, url, status) = start(&folder, &configuration("/a", ""));
    assert_eq!(get(&format!("{url}/a")), (200, "here".to_owned()));
    let socket = folder.path("d.sock").display().to_string();
    assert_eq!(curl(&["--unix-socket", &socket, "http://x/a"]).0, 200);
    assert_eq!(get(&format!("{status}/readyz")).0, 200);
    running.signal(Signal::TERM);
    assert!(running.wait().success());
    assert!(!folder.path("d.sock").exists());
    assert_eq!(get(&format!("{url}/a")).0, 0);
}

#[test]
fn a_change_of_the_file_is_taken_up_and_a_bad_one_is_refused() {
    let folder = Folder::new();
    let (running, url, status) = start(&folder, &configuration("/a", ""));
    folder.write("daemun.yaml", &configuration("/b", ""));
    running.err.until("was read again after a change of its files: 1 route,");
    assert_eq!((get(&format!("{url}/a")).0, get(&format!("{url}/b")).0), (404, 200));

    folder.write("daemun.yaml", "listeners: 5\nroutess: []\n");
    running.err.until("is refused: it has 2 errors; the running configuration stays");
    running.err.until("error[wrong_type]");
    running.err.until("error[unknown_key]");
    assert_eq!(get(&format!("{url}/b")).0, 200);
    let metrics = get(&format!("{status}/metrics")).1;
    assert!(metrics.contains("daemun_config_reloads_total{result=\"failed\"} 1"), "{metrics}");

    folder.write("daemun.yaml", &configuration("/c", ""));
    running.err.until("was read again");
    assert_eq!(get(&format!("{url}/c")).0, 200);
}

#[test]
fn sighup_reloads_where_watching_is_off() {
    let folder = Folder::new();
    let (running, url, _) = start(&folder, &format!("reload: signal\n{}", configuration("/a", "")));
    folder.write("daemun.yaml", &format!("reload: signal\n{}", configuration("/b", "")));
    running.signal(Signal::HUP);
    running.err.until("was read again after SIGHUP");
    assert_eq!(get(&format!("{url}/b")).0, 200);
}

#[test]
fn a_reload_adds_and_removes_listeners_and_refuses_what_it_cannot_have() {
    let folder = Folder::new();
    let (running, url, _) = start(&folder, &configuration("/a", ""));
    folder.write("daemun.yaml", &configuration("/a", ", { bind: \"127.0.0.1:0\" }"));
    let line = running.err.until("from now on at tcp://");
    let added = line.split("tcp://").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    running.err.until("was read again");
    assert_eq!(get(&format!("http://{added}/a")).0, 200);

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    folder.write("daemun.yaml", &configuration("/b", &format!(", {{ bind: \"{taken}\" }}")));
    running.err.until(&format!("is refused: cannot listen on `{taken}`: it is in use"));
    assert_eq!(get(&format!("{url}/a")).0, 200);
    assert_eq!(get(&format!("http://{added}/a")).0, 200);

    folder.write("daemun.yaml", &configuration("/b", ""));
    running.err.until("was read again");
    assert_eq!(get(&format!("{url}/b")).0, 200);
    // Its queue is emptied first, which may take in one more.
    assert!((0..100).any(|_| get(&format!("http://{added}/b")).0 == 0));
}

#[test]
fn a_changed_number_of_workers_is_told_to_need_a_restart() {
    let folder = Folder::new();
    let (running, ..) = start(&folder, &configuration("/a", ""));
    folder.write("daemun.yaml", &configuration("/a", "").replace("workers: 2", "workers: 3"));
    running.err.until("the number of workers stays 2 until a restart");
}

#[test]
fn a_port_in_use_exits_with_69_and_a_wrong_file_with_1() {
    let folder = Folder::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = configuration("/a", &format!(", {{ bind: \"{}\" }}", taken.local_addr().unwrap()));
    folder.write("daemun.yaml", &text);
    let mut running = Running::start(Path::new(PROGRAM), &folder.path(""), &["run"]);
    running.err.until("it is in use");
    assert_eq!(running.wait().code(), Some(69));
    assert!(!folder.path("d.sock").exists());

    folder.write("daemun.yaml", "listeners: 5\n");
    let mut running = Running::start(Path::new(PROGRAM), &folder.path(""), &["run"]);
    running.err.until("error[wrong_type]");
    assert_eq!(running.wait().code(), Some(1));
}

#[test]
fn a_new_binary_takes_the_sockets_over() {
    let folder = Folder::new();
    let (mut running, url, status) = start(&folder, &configuration("/a", ""));
    folder.write("daemun.yaml", &configuration("/a", ""));
    running.err.until("was read again");
    let mut asking = TcpStream::connect(status.strip_prefix("http://").unwrap()).unwrap();
    asking.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    assert_eq!(get(&format!("{status}/readyz")).0, 200);
    running.signal(Signal::USR2);
    let line = running.err.until("to take over");
    let successor: i32 = line.split("as process ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let ready = running.out.until("daemun ready ");
    assert!(ready.contains(&url) && ready.contains(&status), "{ready}");
    running.err.until("has taken over; this one drains");
    // a call that the old process has begun to read is answered by it
    asking.write_all(b"Host: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    asking.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("ok\n"), "{answer}");
    assert!(running.wait().success());
    assert_eq!(get(&format!("{url}/a")).0, 200);
    assert_eq!(get(&format!("{status}/readyz")).0, 200);
    let socket = folder.path("d.sock").display().to_string();
    assert_eq!(curl(&["--unix-socket", &socket, "http://x/a"]).0, 200);
    rustix::process::kill_process(rustix::process::Pid::from_raw(successor).unwrap(), Signal::TERM).unwrap();
    running.err.until("stop: ended");
}

#[test]
fn a_new_binary_that_fails_leaves_the_old_one_serving() {
    let folder = Folder::new();
    let program = folder.path("daemun");
    std::fs::copy(PROGRAM, &program).unwrap();
    let (mut running, url, _) = start_program(&program, &folder, &configuration("/a", ""));
    let broken = folder.write("broken", "#!/bin/sh\nexit 3\n");
    std::fs::set_permissions(&broken, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(&broken, &program).unwrap();
    running.signal(Signal::USR2);
    running.err.until("it ended before it was ready; its own messages say why; this process serves on");
    assert_eq!(get(&format!("{url}/a")).0, 200);
    std::fs::remove_file(&program).unwrap();
    running.signal(Signal::USR2);
    running.err.until("cannot be started");
    assert_eq!(get(&format!("{url}/a")).0, 200);
    running.signal(Signal::TERM);
    assert!(running.wait().success());
}

#[test]
fn a_second_signal_does_not_wait_for_exchanges() {
    let folder = Folder::new();
    let text = configuration("/a", "").replace("answer: { status: 200, body: here }", "upstream: slow");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = silent.local_addr().unwrap();
    let (mut running, url, status) =
        start(&folder, &format!("{text}upstreams: {{ slow: {{ targets: [\"http://{target}\"] }} }}\n"));
    let mut client = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    client.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let (mut call, _) = silent.accept().unwrap();
    assert_ne!(call.read(&mut [0; 100]).unwrap(), 0);
    running.signal(Signal::TERM);
    running.err.until("draining for 30s at most");
    assert_eq!(get(&format!("{status}/readyz")).0, 503);
    running.signal(Signal::TERM);
    running.err.until("told to stop again");
    assert!(running.wait().success());
}
