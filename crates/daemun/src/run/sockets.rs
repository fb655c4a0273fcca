//! The listening sockets of the process: opened once, found again at each reload, handed over by name. What is accepted on
//! them, and by whom, it does not know.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use daemun_config::model::Bind;
use daemun_dataplane::{Socket, Sockets as Served};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_reuseport;

/// Permissions of a Unix socket's file.
const UNIX_MODE: u32 = 0o660;

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Callers.
    Listener,
    /// `/metrics`, `/healthz`, `/readyz`.
    Status,
    /// The admin API.
    Admin,
}

impl Role {
    const ALL: [Self; 3] = [Self::Listener, Self::Status, Self::Admin];

    /// In socket names and messages.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Listener => "listener",
            Self::Status => "status",
            Self::Admin => "admin",
        }
    }
}

/// What a socket is known by from one configuration to the next, and from one process to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// What it is for.
    pub(crate) role: Role,
    /// The address as configured: port 0 stays 0.
    pub(crate) bind: Bind,
    /// Which of several with the same role and address, such as two of port 0.
    pub(crate) nth: usize,
}

impl Key {
    /// The keys of addresses in their order.
    pub(crate) fn number(wanted: impl IntoIterator<Item = (Role, Bind)>) -> Vec<Self> {
        let mut keys: Vec<Self> = Vec::new();
        for (role, bind) in wanted {
            let nth = keys.iter().filter(|key| key.role == role && key.bind == bind).count();
            keys.push(Self { role, bind, nth });
        }
        keys
    }

    /// As the name of a handed-over socket: `listener/0/tcp:127.0.0.1:8080`.
    fn name(&self) -> String {
        format!("{}/{}/{}", self.role.as_str(), self.nth, shown(&self.bind))
    }

    /// As the workers know a listener: its address as configured, numbered from the second of the same on.
    fn short(&self) -> String {
        let address = match &self.bind {
            Bind::Tcp(address) => address.to_string(),
            Bind::Unix(path) => format!("unix:{}", path.display()),
        };
        if self.nth == 0 { address } else { format!("{address}#{}", self.nth) }
    }

    fn parse(name: &str) -> Option<Self> {
        let (role, rest) = name.split_once('/')?;
        let role = Role::ALL.into_iter().find(|known| known.as_str() == role)?;
        let (nth, bind) = rest.split_once('/')?;
        let bind = match bind.split_once(':')? {
            ("tcp", address) => Bind::Tcp(address.parse().ok()?),
            ("unix", path) => Bind::Unix(PathBuf::from(path)),
            _ => return None,
        };
        Some(Self { role, bind, nth: nth.parse().ok()? })
    }
}

fn shown(bind: &Bind) -> String {
    match bind {
        Bind::Tcp(address) => format!("tcp:{address}"),
        Bind::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// The sockets of one address.
#[derive(Clone, Debug)]
pub(crate) enum Sockets {
    /// One per worker at first; after a hand-over maybe more or fewer.
    Tcp(Vec<Arc<TcpListener>>),
    /// One for all.
    Unix(Arc<UnixListener>),
}

impl Sockets {
    /// Copies of those that one of so many workers serves.
    fn of(&self, worker: usize, workers: usize) -> io::Result<Vec<Socket>> {
        match self {
            // More workers than sockets share; more sockets than workers are several for some.
            Self::Tcp(all) if all.len() <= workers => {
                let shared = all.get(worker % all.len().max(1)).ok_or(io::ErrorKind::InvalidInput)?;
                Ok(vec![Socket::Tcp(shared.try_clone()?)])
            }
            Self::Tcp(all) => {
                let own = all.iter().skip(worker).step_by(workers.max(1));
                own.map(|socket| Ok(Socket::Tcp(socket.try_clone()?))).collect()
            }
            Self::Unix(socket) => Ok(vec![Socket::Unix(socket.try_clone()?)]),
        }
    }
}

/// An address that is listened on.
#[derive(Debug)]
pub(crate) struct Bound {
    /// What it is known by.
    pub(crate) key: Key,
    /// Its sockets.
    pub(crate) sockets: Sockets,
    /// Its address, port resolved.
    pub(crate) address: Bind,
    /// Device and number of a Unix socket's file, so that another's is not removed.
    file: Option<(u64, u64)>,
}

impl Bound {
    fn new(key: Key, sockets: Sockets) -> io::Result<Self> {
        let (address, file) = match &sockets {
            Sockets::Tcp(all) => {
                let first = all.first().ok_or(io::ErrorKind::InvalidInput)?;
                (Bind::Tcp(first.local_addr()?), None)
            }
            Sockets::Unix(_) => {
                let Bind::Unix(path) = &key.bind else { return Err(io::ErrorKind::InvalidInput.into()) };
                (key.bind.clone(), identity(path))
            }
        };
        Ok(Self { key, sockets, address, file })
    }

    /// The address as the ready line shows it; `scheme` is for TCP.
    pub(crate) fn url(&self, scheme: &str) -> String {
        match &self.address {
            Bind::Tcp(address) => format!("{scheme}://{address}"),
            Bind::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    /// Removes a Unix socket's file, if it still is this socket's. To be called when nobody listens on it any more.
    pub(crate) fn remove_file(&self) {
        if let (Bind::Unix(path), Some(file)) = (&self.address, self.file)
            && identity(path) == Some(file)
        {
            // What cannot be removed is found stale by the next process that binds it.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// An address that could not be had.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The address as configured.
    pub(crate) bind: Bind,
    /// Why.
    pub(crate) error: io::Error,
}

impl Refused {
    /// What to tell the operator.
    pub(crate) fn message(&self) -> String {
        let address = match &self.bind {
            Bind::Tcp(address) => address.to_string(),
            Bind::Unix(path) => format!("unix:{}", path.display()),
        };
        let why = match Errno::from_io_error(&self.error) {
            Some(Errno::ADDRINUSE) => "it is in use".to_owned(),
            Some(Errno::ADDRNOTAVAIL) => "this machine does not have that address".to_owned(),
            Some(_) | None => self.error.to_string(),
        };
        format!("cannot listen on `{address}`: {why}")
    }
}

/// Every address that is listened on.
#[derive(Debug, Default)]
pub(crate) struct Table {
    bound: Vec<Arc<Bound>>,
}

impl Table {
    /// What a predecessor left. Sockets with names it cannot read are closed; they are the second value.
    pub(crate) fn inherit(sockets: Vec<(String, OwnedFd)>) -> (Self, Vec<String>) {
        let mut groups: Vec<(Key, Vec<OwnedFd>)> = Vec::new();
        let mut unknown = Vec::new();
        for (name, socket) in sockets {
            match Key::parse(&name) {
                Some(key) => match groups.iter_mut().find(|(known, _)| *known == key) {
                    Some((_, group)) => group.push(socket),
                    None => groups.push((key, vec![socket])),
                },
                None => unknown.push(name),
            }
        }
        let mut bound = Vec::new();
        for (key, group) in groups {
            let name = key.name();
            match adopt(key, group) {
                Some(socket) => bound.push(Arc::new(socket)),
                None => unknown.push(name),
            }
        }
        (Self { bound }, unknown)
    }

    /// The sockets of these addresses, in their order: those that are open already, and new ones, `workers` for each TCP
    /// address of a listener. This table stays as it is, until the new one takes its place.
    ///
    /// # Errors
    /// Every address that cannot be had; then nothing new stays open.
    pub(crate) fn open(&self, wanted: Vec<Key>, workers: usize) -> Result<Self, Vec<Refused>> {
        let mut bound = Vec::with_capacity(wanted.len());
        let mut refused = Vec::new();
        for key in wanted {
            if let Some(open) = self.bound.iter().find(|open| open.key == key) {
                bound.push(Arc::clone(open));
                continue;
            }
            let workers = if key.role == Role::Listener { workers } else { 1 };
            let opened = self.bind(&key.bind, workers).and_then(|sockets| Bound::new(key.clone(), sockets));
            match opened {
                Ok(open) => bound.push(Arc::new(open)),
                Err(error) => refused.push(Refused { bind: key.bind, error }),
            }
        }
        if refused.is_empty() {
            return Ok(Self { bound });
        }
        for open in bound.iter().filter(|open| !self.has(open)) {
            open.remove_file();
        }
        Err(refused)
    }

    /// Adds sockets to inherited addresses that have fewer than there are workers. Those that cannot be had are done
    /// without: workers then share.
    pub(crate) fn widen(&mut self, workers: usize) {
        for slot in &mut self.bound {
            let (Sockets::Tcp(open), Role::Listener) = (&slot.sockets, slot.key.role) else { continue };
            let Bind::Tcp(address) = slot.address else { continue };
            let mut all = open.clone();
            while all.len() < workers {
                match beside(address, &all) {
                    Ok(socket) => all.push(Arc::new(socket)),
                    Err(_) => break,
                }
            }
            if all.len() > open.len()
                && let Ok(wider) = Bound::new(slot.key.clone(), Sockets::Tcp(all))
            {
                *slot = Arc::new(wider);
            }
        }
    }

    /// The addresses in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Bound>> {
        self.bound.iter()
    }

    /// Whether this very address, with these sockets, is in the table.
    pub(crate) fn has(&self, bound: &Arc<Bound>) -> bool {
        self.bound.iter().any(|open| Arc::ptr_eq(open, bound))
    }

    /// Closes this table's copies of the sockets of a role; those that others hold stay open.
    pub(crate) fn close(&mut self, role: Role) {
        self.bound.retain(|bound| bound.key.role != role);
    }

    /// What each worker serves: copies of the listeners' sockets, spread so that every socket is served. Of addresses that
    /// are in `before` as well the workers have theirs already, and get an empty list.
    ///
    /// # Errors
    /// When a socket cannot be copied, for want of descriptors.
    pub(crate) fn per_worker(&self, workers: usize, before: Option<&Self>) -> io::Result<Vec<Vec<Served>>> {
        let mut all: Vec<Vec<Served>> = (0..workers).map(|_| Vec::new()).collect();
        for bound in self.bound.iter().filter(|bound| bound.key.role == Role::Listener) {
            let known = before.is_some_and(|before| before.has(bound));
            let name: Arc<str> = Arc::from(bound.key.short());
            for (worker, served) in all.iter_mut().enumerate() {
                let sockets = if known { Vec::new() } else { bound.sockets.of(worker, workers)? };
                served.push(Served { name: Arc::clone(&name), sockets });
            }
        }
        Ok(all)
    }

    /// Every socket with its name, for a successor.
    pub(crate) fn named(&self) -> Vec<(String, BorrowedFd<'_>)> {
        let mut named = Vec::new();
        for bound in &self.bound {
            let name = bound.key.name();
            match &bound.sockets {
                Sockets::Tcp(all) => named.extend(all.iter().map(|socket| (name.clone(), socket.as_fd()))),
                Sockets::Unix(socket) => named.push((name, socket.as_fd())),
            }
        }
        named
    }

    fn bind(&self, bind: &Bind, workers: usize) -> io::Result<Sockets> {
        match bind {
            Bind::Tcp(address) => {
                let opened = match daemun_sys::bind_workers(*address, workers) {
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                        self.bind_beside(*address, workers, error)?
                    }
                    other => other?,
                };
                Ok(Sockets::Tcp(opened.into_iter().map(Arc::new).collect()))
            }
            Bind::Unix(path) => Ok(Sockets::Unix(Arc::new(daemun_sys::bind_unix(path, UNIX_MODE)?))),
        }
    }

    /// Opens an address whose port this process itself holds under another address, such as `0.0.0.0` beside `127.0.0.1`:
    /// a reload may go from one to the other without a moment in which nobody listens.
    fn bind_beside(&self, address: SocketAddr, workers: usize, error: io::Error) -> io::Result<Vec<TcpListener>> {
        let own: Vec<Arc<TcpListener>> =
            self.bound.iter().filter_map(|open| overlapping(open, address)).flatten().collect();
        if own.is_empty() {
            return Err(error);
        }
        (0..workers.max(1)).map(|_| beside(address, &own)).collect()
    }
}

/// The sockets of an address of ours that stands in the way of another one.
fn overlapping(open: &Bound, address: SocketAddr) -> Option<Vec<Arc<TcpListener>>> {
    let (Sockets::Tcp(sockets), Bind::Tcp(held)) = (&open.sockets, &open.address) else { return None };
    let overlaps = held.port() == address.port()
        && held.is_ipv6() == address.is_ipv6()
        && *held != address
        && (held.ip().is_unspecified() || address.ip().is_unspecified());
    overlaps.then(|| sockets.clone())
}

/// One more socket on a port that `own` sockets of this process hold.
fn beside(address: SocketAddr, own: &[Arc<TcpListener>]) -> io::Result<TcpListener> {
    for socket in own {
        set_socket_reuseport(socket, true)?;
    }
    daemun_sys::bind_tcp(address, true, daemun_sys::BACKLOG)
}

/// Inherited descriptors as the sockets their key says they are.
fn adopt(key: Key, group: Vec<OwnedFd>) -> Option<Bound> {
    let sockets = match &key.bind {
        Bind::Tcp(_) => {
            let all: Vec<Arc<TcpListener>> =
                group.into_iter().map(TcpListener::from).filter(|s| s.local_addr().is_ok()).map(Arc::new).collect();
            Sockets::Tcp(all)
        }
        Bind::Unix(_) => {
            let socket = UnixListener::from(group.into_iter().next()?);
            socket.local_addr().ok()?;
            Sockets::Unix(Arc::new(socket))
        }
    };
    Bound::new(key, sockets).ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn tcp(text: &str) -> Bind {
        Bind::Tcp(text.parse().unwrap())
    }

    fn keys(binds: &[Bind]) -> Vec<Key> {
        Key::number(binds.iter().map(|bind| (Role::Listener, bind.clone())))
    }

    fn port(table: &Table, index: usize) -> u16 {
        let Bind::Tcp(address) = table.bound[index].address else { panic!("not a tcp address") };
        address.port()
    }

    #[test]
    fn a_name_says_what_a_socket_is_for() {
        let wanted = [
            (Role::Listener, tcp("127.0.0.1:0")),
            (Role::Listener, tcp("127.0.0.1:0")),
            (Role::Listener, tcp("[::1]:80")),
            (Role::Status, Bind::Unix(PathBuf::from("/run/a b;%:.sock"))),
            (Role::Admin, tcp("127.0.0.1:9900")),
        ];
        let keys = Key::number(wanted);
        assert_eq!(keys[1].name(), "listener/1/tcp:127.0.0.1:0");
        assert_eq!(keys[4].name(), "admin/0/tcp:127.0.0.1:9900");
        for key in keys {
            assert_eq!(Key::parse(&key.name()), Some(key));
        }
        for name in
            ["", "listener", "listener/0", "listener/x/tcp:1.2.3.4:5", "other/0/tcp:1.2.3.4:5", "admin/0/udp:1.2.3.4:5"]
        {
            assert_eq!(Key::parse(name), None, "{name}");
        }
    }

    #[test]
    fn an_address_that_stays_keeps_its_sockets() {
        let any = tcp("127.0.0.1:0");
        let first = Table::default().open(keys(&[any.clone(), any.clone()]), 2).unwrap();
        assert_ne!(port(&first, 0), port(&first, 1));
        let second = first.open(keys(std::slice::from_ref(&any)), 2).unwrap();
        assert!(first.has(&second.bound[0]));
        let third = second.open(keys(&[any.clone(), any]), 2).unwrap();
        assert_eq!(port(&third, 0), port(&first, 0));
        assert_ne!(port(&third, 1), port(&first, 1));
    }

    #[test]
    fn every_address_that_cannot_be_had_is_named_and_nothing_stays_open() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = Bind::Tcp(other.local_addr().unwrap());
        let absent = tcp("192.0.2.1:80");
        let refused = Table::default().open(keys(&[tcp("127.0.0.1:0"), taken.clone(), absent.clone()]), 1).unwrap_err();
        let binds: Vec<&Bind> = refused.iter().map(|refused| &refused.bind).collect();
        assert_eq!(binds, [&taken, &absent]);
        assert!(refused[0].message().ends_with("it is in use"), "{}", refused[0].message());
    }

    #[test]
    fn a_port_may_change_its_address_without_being_let_go() {
        let first = Table::default().open(keys(&[tcp("127.0.0.1:0")]), 1).unwrap();
        let wide = tcp(&format!("0.0.0.0:{}", port(&first, 0)));
        let second = first.open(keys(&[wide]), 2).unwrap();
        drop(first);
        TcpStream::connect(("127.0.0.1", port(&second, 0))).unwrap();
    }

    #[test]
    fn the_same_port_of_another_process_is_not_shared() {
        let first = Table::default().open(keys(&[tcp("127.0.0.1:0")]), 1).unwrap();
        let same = tcp(&format!("127.0.0.1:{}", port(&first, 0)));
        assert!(Table::default().open(keys(&[same]), 1).is_err());
    }

    #[test]
    fn sockets_come_back_under_their_names() {
        let path = std::env::temp_dir().join(format!("daemun-sockets-{}.sock", std::process::id()));
        let binds = [tcp("127.0.0.1:0"), Bind::Unix(path.clone())];
        let first = Table::default().open(keys(&binds), 2).unwrap();
        let handed = first.named().into_iter().map(|(name, fd)| (name, fd.try_clone_to_owned().unwrap()));
        let mut handed: Vec<(String, OwnedFd)> = handed.collect();
        assert_eq!(handed.len(), 3);
        handed.push(("nonsense".to_owned(), OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap())));
        let (mut second, unknown) = Table::inherit(handed);
        assert_eq!(unknown, ["nonsense"]);
        second.widen(3);
        let third = second.open(keys(&binds), 3).unwrap();
        assert_eq!(port(&third, 0), port(&first, 0));
        assert!(matches!(&third.bound[0].sockets, Sockets::Tcp(all) if all.len() == 3));
        third.bound[1].remove_file();
        assert!(!path.exists());
    }

    #[test]
    fn the_file_of_another_socket_is_not_removed() {
        let path = std::env::temp_dir().join(format!("daemun-sockets-other-{}.sock", std::process::id()));
        let first = Table::default().open(keys(&[Bind::Unix(path.clone())]), 1).unwrap();
        std::fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        first.bound[0].remove_file();
        assert!(path.exists());
        drop(other);
        std::fs::remove_file(&path).unwrap();
    }
}
