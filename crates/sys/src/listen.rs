//! Listening sockets, opened so that a port in use is an error and no queued connection is ever lost.
//!
//! It does not accept, and knows nothing of what is spoken on the connections.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr, set_socket_reuseport};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};

/// Connections the system may queue per socket, unless `net.core.somaxconn` (4,096 by default) says less.
pub const BACKLOG: i32 = 4096;

/// Opens one listening socket: non-blocking, closed on exec, with `SO_REUSEADDR`, so that a restart need not wait for old
/// connections to expire.
///
/// With `reuse_port` other sockets of the same user may listen beside it if they ask for it too. An IPv6 address means IPv6
/// only, whatever the system's default: `[::]` leaves `0.0.0.0` free, and a client's address is never an IPv4 one in
/// disguise.
///
/// # Errors
/// `AddrInUse`, `AddrNotAvailable`, `PermissionDenied` and what else the system says to `socket`, `bind` and `listen`.
pub fn bind_tcp(address: SocketAddr, reuse_port: bool, backlog: i32) -> io::Result<TcpListener> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = open(family)?;
    set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, true)?;
    }
    if reuse_port {
        set_socket_reuseport(&socket, true)?;
    }
    bind(&socket, &address)?;
    listen(&socket, backlog)?;
    Ok(TcpListener::from(socket))
}

/// Opens `workers` listening sockets on one address, for the system to spread connections over; each as of [`bind_tcp`].
///
/// The first listens alone before it admits the others, so that a port anybody else listens on is an error, even where
/// they, too, set `SO_REUSEPORT`. No socket that listened is closed again: what is queued meanwhile is accepted later. Port
/// 0 takes one free port for all.
///
/// # Errors
/// As [`bind_tcp`]; `InvalidInput` when `workers` is 0.
pub fn bind_workers(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    if workers == 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "an address needs at least one worker to listen on it",
        ));
    }
    let first = bind_tcp(address, false, BACKLOG)?;
    if workers > 1 {
        set_socket_reuseport(&first, true)?;
    }
    let resolved = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..workers {
        listeners.push(bind_tcp(resolved, true, BACKLOG)?);
    }
    Ok(listeners)
}

/// Opens a listening Unix socket at `path`, its file with the permissions `mode` (`0o660`) from its first moment on.
///
/// Non-blocking and closed on exec. Such a socket cannot be opened once per worker; share it by `try_clone`. A socket file
/// left behind is removed, but only when nobody answers on it. Closing the listener leaves the file in place, since a
/// successor may be listening on the same socket.
///
/// # Errors
/// `AddrInUse` when somebody listens there or the file is not a socket, `InvalidInput` when the path is too long (over 107
/// bytes) or `mode` has more than permission bits, and what else the system says.
pub fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    if mode & !0o777 != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{mode:o}` is not a file mode up to 777")));
    }
    let address = SocketAddrUnix::new(path).map_err(|_| {
        let text = format!("`{}` is not a socket path: 1 to 107 bytes, none of them zero", path.display());
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })?;
    let socket = open(AddressFamily::UNIX)?;
    // The file takes the socket's mode less the umask; the umask's part is added once it is there.
    fchmod(&socket, Mode::from_raw_mode(mode))?;
    if let Err(error) = bind(&socket, &address) {
        if error != Errno::ADDRINUSE {
            return Err(error.into());
        }
        remove_stale(path, &address)?;
        bind(&socket, &address)?;
    }
    let opened = std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .and_then(|()| Ok(listen(&socket, BACKLOG)?));
    match opened {
        Ok(()) => Ok(UnixListener::from(socket)),
        Err(error) => {
            // Best effort: the file is ours and useless, and what went wrong is the error to tell.
            let _ = std::fs::remove_file(path);
            Err(error)
        }
    }
}

fn open(family: AddressFamily) -> io::Result<OwnedFd> {
    Ok(socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?)
}

/// Removes the socket file at `path` if a connection to it is refused, which says that no process listens there.
fn remove_stale(path: &Path, address: &SocketAddrUnix) -> io::Result<()> {
    let in_use = |why: &str| Err(io::Error::new(io::ErrorKind::AddrInUse, format!("`{}` {why}", path.display())));
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return in_use("exists and is not a socket");
    }
    // Non-blocking: a listener with a full queue says so (`EAGAIN`) instead of holding this process up.
    match connect(open(AddressFamily::UNIX)?, address) {
        Err(Errno::CONNREFUSED) => {}
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ACCESS) => return in_use("exists, and may not be asked whether it is in use"),
        Ok(()) | Err(_) => return in_use("is in use by another process"),
    }
    // Somebody else may have found the same stale file and be further on: theirs is another file.
    let same = std::fs::symlink_metadata(path).is_ok_and(|now| now.dev() == found.dev() && now.ino() == found.ino());
    if same { std::fs::remove_file(path) } else { in_use("was taken by another process") }
}

#[cfg(test)]
mod tests;
