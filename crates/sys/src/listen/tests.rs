use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{FdFlags, fcntl_getfd};

use super::*;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A folder of its own under the system's temporary one, removed at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("daemun-sys-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        Folder(folder)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("socket")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn mode_of(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_socket_listens_without_blocking_and_is_closed_on_exec() {
    let listener = bind_tcp(LOOPBACK, false, 16).unwrap();
    assert!(fcntl_getfl(&listener).unwrap().contains(OFlags::NONBLOCK));
    assert!(fcntl_getfd(&listener).unwrap().contains(FdFlags::CLOEXEC));
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut served, _) = listener.accept().unwrap();
    served.write_all(b"hello").unwrap();
    drop(served);
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    assert_eq!(said, "hello");
}

#[test]
fn a_port_is_free_again_while_its_old_connections_expire() {
    let listener = bind_tcp(LOOPBACK, false, 16).unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(address).unwrap();
    // The side that closes first is the one that waits.
    drop(listener.accept().unwrap());
    drop(listener);
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    drop(client);
    bind_tcp(address, false, 16).unwrap();
}

#[test]
fn ipv6_means_ipv6_only() {
    // somebody else may have the port over IPv4
    for _ in 0..100 {
        let Ok(six) = bind_tcp(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), false, 16) else {
            return; // a machine without IPv6
        };
        let port = six.local_addr().unwrap().port();
        let without = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        if bind_tcp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), false, 16).is_ok() {
            assert_eq!(without.unwrap_err().kind(), ErrorKind::ConnectionRefused);
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
            return;
        }
    }
    panic!("no port is free over IPv4 while it is taken over IPv6");
}

#[test]
fn workers_share_one_port_and_no_connection_is_lost() {
    const CLIENTS: usize = 200;
    let listeners = bind_workers(LOOPBACK, 4).unwrap();
    let address = listeners[0].local_addr().unwrap();
    assert_ne!(address.port(), 0);
    assert!(listeners.iter().all(|listener| listener.local_addr().unwrap() == address));
    let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| TcpStream::connect(address).unwrap()).collect();
    let accepted: Vec<usize> =
        listeners.iter().map(|listener| std::iter::from_fn(|| listener.accept().ok()).count()).collect();
    assert_eq!(accepted.iter().sum::<usize>(), clients.len(), "{accepted:?}");
    // That one of four gets none of 200 has a probability below 10^-24.
    assert!(accepted.iter().all(|count| *count > 0), "{accepted:?}");
}

#[test]
fn a_connection_that_comes_before_the_last_worker_listens_is_accepted() {
    let first = bind_tcp(LOOPBACK, false, BACKLOG).unwrap();
    let address = first.local_addr().unwrap();
    let _early = TcpStream::connect(address).unwrap();
    set_socket_reuseport(&first, true).unwrap();
    let _second = bind_tcp(address, true, BACKLOG).unwrap();
    first.accept().unwrap();
}

#[test]
fn a_port_in_use_is_an_error_however_it_is_used() {
    for reuse_port in [false, true] {
        let other = bind_tcp(LOOPBACK, reuse_port, 16).unwrap();
        let address = other.local_addr().unwrap();
        for workers in [1, 2] {
            assert_eq!(bind_workers(address, workers).unwrap_err().kind(), ErrorKind::AddrInUse);
        }
    }
    let several = bind_workers(LOOPBACK, 2).unwrap();
    let address = several[0].local_addr().unwrap();
    assert_eq!(bind_workers(address, 2).unwrap_err().kind(), ErrorKind::AddrInUse);
    assert_eq!(
        bind_workers(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())), 2).unwrap_err().kind(),
        ErrorKind::AddrInUse
    );
}

#[test]
fn a_single_worker_lets_nobody_listen_beside_it() {
    let one = bind_workers(LOOPBACK, 1).unwrap();
    let address = one[0].local_addr().unwrap();
    assert_eq!(bind_tcp(address, true, 16).unwrap_err().kind(), ErrorKind::AddrInUse);
}

#[test]
fn no_workers_and_foreign_addresses_are_refused() {
    assert_eq!(bind_workers(LOOPBACK, 0).unwrap_err().kind(), ErrorKind::InvalidInput);
    let foreign = SocketAddr::from(([192, 0, 2, 1], 0));
    assert_eq!(bind_workers(foreign, 2).unwrap_err().kind(), ErrorKind::AddrNotAvailable);
}

#[test]
fn a_unix_socket_listens_with_the_mode_asked_for() {
    let folder = Folder::new();
    for mode in [0o600, 0o660, 0o666, 0o777] {
        let path = folder.socket();
        let listener = bind_unix(&path, mode).unwrap();
        assert_eq!(mode_of(&path), mode);
        assert!(fcntl_getfd(&listener).unwrap().contains(FdFlags::CLOEXEC));
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        let _client = UnixStream::connect(&path).unwrap();
        listener.accept().unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_unix_socket_is_never_wider_than_asked_between_bind_and_chmod() {
    let folder = Folder::new();
    let socket = open(AddressFamily::UNIX).unwrap();
    fchmod(&socket, Mode::from_raw_mode(0o600)).unwrap();
    bind(&socket, &SocketAddrUnix::new(folder.socket()).unwrap()).unwrap();
    assert_eq!(mode_of(&folder.socket()), 0o600);
}

#[test]
fn a_stale_socket_file_is_replaced() {
    let folder = Folder::new();
    drop(bind_unix(&folder.socket(), 0o600).unwrap());
    assert!(folder.socket().exists());
    let listener = bind_unix(&folder.socket(), 0o600).unwrap();
    let _client = UnixStream::connect(folder.socket()).unwrap();
    listener.accept().unwrap();
}

#[test]
fn a_unix_socket_in_use_is_an_error_and_stays_in_use() {
    let folder = Folder::new();
    let first = bind_unix(&folder.socket(), 0o600).unwrap();
    assert_eq!(bind_unix(&folder.socket(), 0o600).unwrap_err().kind(), ErrorKind::AddrInUse);
    first.accept().unwrap(); // the question whether anybody listens
    let _client = UnixStream::connect(folder.socket()).unwrap();
    first.accept().unwrap();
}

#[test]
fn a_unix_socket_whose_queue_is_full_is_in_use() {
    let folder = Folder::new();
    let address = SocketAddrUnix::new(folder.socket()).unwrap();
    let busy = open(AddressFamily::UNIX).unwrap();
    bind(&busy, &address).unwrap();
    listen(&busy, 0).unwrap();
    let mut queued = Vec::new();
    loop {
        let client = open(AddressFamily::UNIX).unwrap();
        match connect(&client, &address) {
            Ok(()) => queued.push(client),
            Err(error) => break assert_eq!(error, Errno::AGAIN),
        }
    }
    assert_eq!(bind_unix(&folder.socket(), 0o600).unwrap_err().kind(), ErrorKind::AddrInUse);
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let folder = Folder::new();
    std::fs::write(folder.socket(), "precious").unwrap();
    let error = bind_unix(&folder.socket(), 0o600).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().ends_with("exists and is not a socket"), "{error}");
    assert_eq!(std::fs::read_to_string(folder.socket()).unwrap(), "precious");
    std::fs::remove_file(folder.socket()).unwrap();
    std::os::unix::fs::symlink("/nowhere", folder.socket()).unwrap();
    assert_eq!(bind_unix(&folder.socket(), 0o600).unwrap_err().kind(), ErrorKind::AddrInUse);
}

#[test]
fn unix_paths_and_modes_that_cannot_be_are_refused() {
    let long = PathBuf::from(format!("/{}", "x".repeat(108)));
    let error = bind_unix(&long, 0o600).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("107 bytes"), "{error}");
    assert_eq!(bind_unix(Path::new("/nowhere/at/all"), 0o600).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(bind_unix(Path::new("unused"), 0o1666).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_shared_unix_socket_is_accepted_from_by_either_copy() {
    let folder = Folder::new();
    let one = bind_unix(&folder.socket(), 0o600).unwrap();
    let other = one.try_clone().unwrap();
    let _clients = [UnixStream::connect(folder.socket()).unwrap(), UnixStream::connect(folder.socket()).unwrap()];
    one.accept().unwrap();
    drop(one);
    other.accept().unwrap();
}
