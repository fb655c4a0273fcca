//! What can go wrong on either side of a hand-over; one that goes well is in `tests/handover.rs`, as it needs a process of
//! one thread. The new program is this very test binary, started again for `the_new_process_that_is_never_ready`.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;
use crate::bind_tcp;

const LIMIT: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Waits until `descriptor` is readable or at its end; fails after a minute.
fn await_readable(descriptor: BorrowedFd<'_>) {
    let news = poll(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)], Some(&LIMIT)).unwrap();
    assert_eq!(news, 1, "nothing happened for a minute");
}

/// Starts this binary again for its test `name`.
fn start(name: &str, sockets: &[(String, BorrowedFd<'_>)]) -> Successor {
    let args: Vec<OsString> = ["--quiet", "--exact", name].map(OsString::from).into();
    spawn_successor(&env::current_exe().unwrap(), &args, sockets).unwrap()
}

fn outcome(successor: &Successor) -> Readiness {
    await_readable(successor.ready_fd());
    successor.readiness().unwrap()
}

/// In a process that was handed sockets: lives until its first socket has a connection, and is never ready.
#[test]
fn the_new_process_that_is_never_ready() {
    if env::var_os(SOCKETS_VARIABLE).is_some() {
        let inherited = inherited().unwrap();
        await_readable(inherited.sockets[0].1.as_fd());
    }
}

#[test]
fn sockets_given_to_a_new_process_are_still_closed_on_exec_here() {
    let listener = bind_tcp(loopback(), false, 16).unwrap();
    let mut successor =
        start("handover::tests::the_new_process_that_is_never_ready", &[("tcp:x".to_owned(), listener.as_fd())]);
    assert!(fcntl_getfd(&listener).unwrap().contains(FdFlags::CLOEXEC));
    assert!(fcntl_getfd(successor.ready_fd()).unwrap().contains(FdFlags::CLOEXEC));
    successor.kill().unwrap();
}

#[test]
fn a_new_process_that_ends_before_it_is_ready_has_failed() {
    let mut successor = start("no_test_of_this_name", &[]);
    assert_eq!(outcome(&successor), Readiness::Failed);
    assert!(successor.child.wait().unwrap().success());
}

#[test]
fn a_new_process_that_takes_too_long_can_be_ended_and_the_old_one_serves_on() {
    let listener = bind_tcp(loopback(), false, 16).unwrap();
    let address = listener.local_addr().unwrap();
    let sockets = [("tcp:x".to_owned(), listener.as_fd())];
    let mut successor = start("handover::tests::the_new_process_that_is_never_ready", &sockets);
    assert_eq!(successor.readiness().unwrap(), Readiness::Starting);
    assert!(!successor.kill().unwrap().success());
    assert_eq!(outcome(&successor), Readiness::Failed);
    assert!(successor.try_wait().unwrap().is_some());
    let _client = TcpStream::connect(address).unwrap();
    await_readable(listener.as_fd());
    listener.accept().unwrap();
}

#[test]
fn a_program_that_cannot_be_started_is_an_error() {
    let start = |path: &str| spawn_successor(Path::new(path), &[], &[]).unwrap_err().kind();
    assert_eq!(start("/nowhere/daemun"), ErrorKind::NotFound);
    assert_eq!(start("/etc/passwd"), ErrorKind::PermissionDenied);
}

#[test]
fn names_that_cannot_be_passed_are_refused() {
    let listener = bind_tcp(loopback(), false, 16).unwrap();
    let spawn = |name: String| {
        let exe = env::current_exe().unwrap();
        spawn_successor(&exe, &["no_test".into()], &[(name, listener.as_fd())]).unwrap_err().kind()
    };
    assert_eq!(spawn("x".repeat(MAX_DESCRIPTION)), ErrorKind::InvalidInput);
    assert_eq!(spawn("zero\0byte".to_owned()), ErrorKind::InvalidInput);
}

#[test]
fn names_survive_the_way_through_the_variable() {
    let listener = bind_tcp(loopback(), false, 16).unwrap();
    let names = ["tcp:[::1]:80", "unix:/a=b;c%d", "%3B%25%253B", "", "한글"];
    let copies: Vec<(OwnedFd, &str)> =
        names.iter().map(|name| (fcntl_dupfd_cloexec(&listener, FIRST).unwrap(), *name)).collect();
    let text = describe(&copies).unwrap();
    let parsed = parse_sockets(OsStr::new(&text)).unwrap();
    let expected: Vec<(RawFd, String)> =
        copies.iter().map(|(copy, name)| (copy.as_raw_fd(), (*name).to_owned())).collect();
    assert_eq!(parsed, expected);
}

#[test]
fn variables_that_are_not_ours_are_refused() {
    for text in ["3", "x=tcp", "=tcp", "-1=tcp", "0=tcp", "2=tcp", "99999999999=tcp", "3=a;", ";3=a"] {
        let error = parse_sockets(OsStr::new(text)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{text}");
        assert!(error.to_string().starts_with(SOCKETS_VARIABLE), "{error}");
    }
    assert!(parse_sockets(OsStr::new("")).unwrap().is_empty());
    for text in ["", "one", "1", "-7"] {
        assert_eq!(parse_number(READY_FD_VARIABLE, text).unwrap_err().kind(), ErrorKind::InvalidData, "{text}");
    }
}

/// A copy that could have come through exec. Fork in another test may carry it along, which does no harm.
fn as_if_inherited(descriptor: impl AsFd) -> OwnedFd {
    let copy = fcntl_dupfd_cloexec(descriptor, FIRST).unwrap();
    fcntl_setfd(&copy, FdFlags::empty()).unwrap();
    copy
}

#[test]
fn only_inherited_listening_sockets_pass_the_check() {
    let check = |number: RawFd| check(&[(number, "tcp:x".to_owned())], None).map_err(|error| error.kind());
    let listener = bind_tcp(loopback(), false, 16).unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert_eq!(check(as_if_inherited(&listener).as_raw_fd()), Ok(()));
    assert_eq!(check(listener.as_raw_fd()), Err(ErrorKind::InvalidData), "opened by this process");
    assert_eq!(check(as_if_inherited(&connected).as_raw_fd()), Err(ErrorKind::InvalidData), "does not listen");
    let file = File::open("/dev/null").unwrap();
    assert_eq!(check(as_if_inherited(&file).as_raw_fd()), Err(ErrorKind::InvalidData), "not a socket");
    assert_eq!(check(RawFd::MAX), Err(ErrorKind::InvalidData), "not open");
}

#[test]
fn only_an_inherited_pipe_is_a_place_to_announce() {
    let check = |number: RawFd| check(&[], Some(number)).map_err(|error| error.kind());
    let (_read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    assert_eq!(check(as_if_inherited(&write).as_raw_fd()), Ok(()));
    assert_eq!(check(write.as_raw_fd()), Err(ErrorKind::InvalidData));
    let listener = bind_tcp(loopback(), false, 16).unwrap();
    assert_eq!(check(as_if_inherited(&listener).as_raw_fd()), Err(ErrorKind::InvalidData));
}

#[test]
fn a_descriptor_named_twice_is_refused() {
    let listener = as_if_inherited(bind_tcp(loopback(), false, 16).unwrap());
    let number = listener.as_raw_fd();
    let twice = [(number, "tcp:a".to_owned()), (number, "tcp:b".to_owned())];
    assert_eq!(check(&twice, None).unwrap_err().kind(), ErrorKind::InvalidData);
    assert_eq!(check(&twice[..1], Some(number)).unwrap_err().kind(), ErrorKind::InvalidData);
}

#[test]
fn announcing_to_a_predecessor_that_is_gone_is_no_error() {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    drop(read);
    announce_ready(write).unwrap();
}
