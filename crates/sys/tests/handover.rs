//! A hand-over that goes well, from process to process, with this binary in both roles. It has a `main` of its own, since
//! the new process takes its sockets up as the gateway does: at the very start, with one thread.
#![allow(clippy::unwrap_used, reason = "a test outside the harness: what fails should end it")]

use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};

use daemun_sys::{
    Inherited, READY_FD_VARIABLE, Readiness, SOCKETS_VARIABLE, announce_ready, bind_tcp, bind_unix, bind_workers,
    inherited, spawn_successor,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{FdFlags, fcntl_getfd};

fn main() {
    if env::var_os(SOCKETS_VARIABLE).is_some() {
        the_new_process();
    } else {
        a_new_process_serves_what_was_queued_before_it_started();
    }
}

fn a_new_process_serves_what_was_queued_before_it_started() {
    let nothing = inherited().unwrap();
    assert!(nothing.sockets.is_empty() && nothing.ready.is_none());

    let path = env::temp_dir().join(format!("daemun-sys;50%-{}", std::process::id()));
    let unix = bind_unix(&path, 0o600).unwrap();
    let unix_name = format!("unix:{}", path.display());
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let tcp = bind_workers(loopback, 2).unwrap();
    let address = tcp.first().unwrap().local_addr().unwrap();
    let unshared = bind_tcp(loopback, false, 16).unwrap();
    // On which of the two a connection is queued is the system's choice; among 64 both get some.
    let clients: Vec<TcpStream> = (0..64).map(|_| TcpStream::connect(address).unwrap()).collect();
    let unix_client = UnixStream::connect(&path).unwrap();

    let mut sockets: Vec<(String, BorrowedFd<'_>)> =
        ["tcp:a", "tcp:b"].iter().zip(&tcp).map(|(name, socket)| ((*name).to_owned(), socket.as_fd())).collect();
    sockets.push((unix_name.clone(), unix.as_fd()));
    let args = [OsString::from(link(unshared.as_raw_fd()).unwrap())];
    let successor = spawn_successor(&env::current_exe().unwrap(), &args, &sockets).unwrap();
    assert_ne!(successor.id(), std::process::id());
    await_readable(successor.ready_fd());
    assert_eq!(successor.readiness().unwrap(), Readiness::Ready);
    // The old process lets go: from here on the new one alone keeps the queues alive.
    drop((tcp, unix));

    let facts = "closes=true forgotten=true leaked=0 again=AlreadyExists";
    let mut answers: Vec<String> = clients.into_iter().map(answer).collect();
    answers.sort();
    answers.dedup();
    assert_eq!(answers, [format!("tcp:a {facts}"), format!("tcp:b {facts}")]);
    assert_eq!(answer(unix_client), format!("{unix_name} {facts}"));
    std::fs::remove_file(path).unwrap();
}

/// Tells on each connection queued on its sockets what it found.
fn the_new_process() {
    let Inherited { sockets, ready } = inherited().unwrap();
    let again = inherited().unwrap_err().kind();
    let forgotten = env::var_os(SOCKETS_VARIABLE).is_none() && env::var_os(READY_FD_VARIABLE).is_none();
    let unshared = env::args().nth(1);
    let leaked = (0..1024).filter_map(link).filter(|name| Some(name) == unshared.as_ref()).count();
    announce_ready(ready.unwrap()).unwrap();
    for (name, socket) in sockets {
        let closes = fcntl_getfd(&socket).unwrap().contains(FdFlags::CLOEXEC);
        let report = format!("{name} closes={closes} forgotten={forgotten} leaked={leaked} again={again:?}\n");
        if name.starts_with("unix:") {
            let listener = UnixListener::from(socket);
            while let Ok((mut stream, _)) = listener.accept() {
                stream.write_all(report.as_bytes()).unwrap();
            }
        } else {
            let listener = TcpListener::from(socket);
            while let Ok((mut stream, _)) = listener.accept() {
                stream.write_all(report.as_bytes()).unwrap();
            }
        }
    }
}

/// The line that comes on `stream`, without its end.
fn answer(stream: impl Read + AsFd) -> String {
    await_readable(stream.as_fd());
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// Waits until `descriptor` is readable or at its end; fails after a minute.
fn await_readable(descriptor: BorrowedFd<'_>) {
    let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
    let news = poll(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)], Some(&limit)).unwrap();
    assert_eq!(news, 1, "nothing happened for a minute");
}

/// What is behind a descriptor, such as `socket:[4711]`: the same in every process that shares it.
fn link(number: RawFd) -> Option<String> {
    Some(std::fs::read_link(format!("/proc/self/fd/{number}")).ok()?.to_str()?.to_owned())
}
