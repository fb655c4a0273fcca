//! Tells a service manager how the process is, by the datagrams of `sd_notify(3)`: systemd learns so that it is ready, and which
//! process is the main one after a hand-over. Without `NOTIFY_SOCKET` in the environment it does nothing.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// This process serves, and is the main one.
///
/// # Errors
/// When the service manager cannot be told.
pub(crate) fn ready() -> io::Result<()> {
    tell(env::var_os("NOTIFY_SOCKET").as_deref(), &format!("READY=1\nMAINPID={}", std::process::id()))
}

/// This process ends, and nobody takes its place.
///
/// # Errors
/// When the service manager cannot be told.
pub(crate) fn stopping() -> io::Result<()> {
    tell(env::var_os("NOTIFY_SOCKET").as_deref(), "STOPPING=1")
}

fn tell(socket: Option<&OsStr>, state: &str) -> io::Result<()> {
    let Some(socket) = socket.map(OsStr::as_bytes).filter(|socket| !socket.is_empty()) else { return Ok(()) };
    let address = match socket.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(OsStr::from_bytes(socket))?,
    };
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    sender.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(receiver: &UnixDatagram) -> String {
        let mut bytes = [0; 100];
        let length = receiver.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn a_service_manager_is_told_at_a_path_or_an_abstract_name() {
        let path = env::temp_dir().join(format!("daemun-notify-{}", std::process::id()));
        let receiver = UnixDatagram::bind(&path).unwrap();
        tell(Some(path.as_os_str()), "READY=1").unwrap();
        assert_eq!(received(&receiver), "READY=1");
        std::fs::remove_file(path).unwrap();

        let name = format!("daemun-notify-{}", std::process::id());
        let receiver = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        tell(Some(OsStr::new(&format!("@{name}"))), "STOPPING=1").unwrap();
        assert_eq!(received(&receiver), "STOPPING=1");
    }

    #[test]
    fn without_a_service_manager_nothing_is_told() {
        tell(None, "READY=1").unwrap();
        tell(Some(OsStr::new("")), "READY=1").unwrap();
        assert!(tell(Some(OsStr::new("/nowhere/at/all")), "READY=1").is_err());
    }
}
