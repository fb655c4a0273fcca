//! What the other end of a local connection has not read yet, asked of the kernel (`sock_diag(7)`), so that a test can write in
//! several pieces and know that each was read by itself.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

/// The request: its header, then the connection (`linux/netlink.h`, `linux/inet_diag.h`).
const REQUEST: usize = 72;
/// Where the answer says how many bytes wait at its socket.
const UNREAD: usize = 72;
/// Where it says what state the socket is in.
const STATE: usize = 17;
/// The state of an open connection.
const ESTABLISHED: u8 = 1;
/// The request that asks about one socket, which is the type of its answer as well.
const BY_FAMILY: u16 = 20;

/// A way to ask.
#[derive(Debug)]
pub struct Queue(OwnedFd);

impl Queue {
    /// Opens it; `None` where the kernel does not answer such questions.
    #[must_use]
    pub fn open() -> Option<Self> {
        let kind = (AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC);
        socket_with(kind.0, kind.1, kind.2, Some(netlink::SOCK_DIAG)).ok().map(Self)
    }

    /// Bytes that wait unread at the end `here` of the connection between `here` and `there`; `None` when there is none such.
    #[must_use]
    pub fn unread(&self, here: SocketAddr, there: SocketAddr) -> Option<u32> {
        let answer = self.ask(here, there)?;
        Some(u32::from_ne_bytes(answer.get(UNREAD..UNREAD + 4)?.try_into().ok()?))
    }

    /// Whether the end `here` has heard nothing yet of the other end's leaving.
    #[must_use]
    pub fn is_established(&self, here: SocketAddr, there: SocketAddr) -> bool {
        self.ask(here, there).is_some_and(|answer| answer.get(STATE) == Some(&ESTABLISHED))
    }

    fn ask(&self, here: SocketAddr, there: SocketAddr) -> Option<Vec<u8>> {
        send(&self.0, &request(here, there)?, SendFlags::empty()).ok()?;
        let mut answer = vec![0_u8; 512];
        let (_, count) = recv(&self.0, &mut answer, RecvFlags::empty()).ok()?;
        answer.truncate(count);
        let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
        (kind == BY_FAMILY).then_some(answer)
    }
}

fn request(here: SocketAddr, there: SocketAddr) -> Option<Vec<u8>> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (here.ip(), there.ip()) else { return None };
    let mut bytes = Vec::with_capacity(REQUEST);
    bytes.extend_from_slice(&u32::try_from(REQUEST).ok()?.to_ne_bytes());
    bytes.extend_from_slice(&BY_FAMILY.to_ne_bytes());
    bytes.extend_from_slice(&1_u16.to_ne_bytes()); // a request
    bytes.extend_from_slice(&[0; 8]); // sequence and sender, which the kernel only repeats
    bytes.extend_from_slice(&[2, 6, 0, 0]); // IPv4, TCP
    bytes.extend_from_slice(&u32::MAX.to_ne_bytes()); // in any state
    bytes.extend_from_slice(&here.port().to_be_bytes());
    bytes.extend_from_slice(&there.port().to_be_bytes());
    bytes.extend_from_slice(&source.octets());
    bytes.extend_from_slice(&[0; 12]);
    bytes.extend_from_slice(&destination.octets());
    bytes.extend_from_slice(&[0; 16]); // the rest of the address, and any interface
    bytes.extend_from_slice(&[0xff; 8]); // whatever its cookie
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn bytes_count_until_they_are_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let queue = Queue::open().unwrap();
        let (here, there) = (listener.local_addr().unwrap(), client.local_addr().unwrap());
        assert_eq!(queue.unread(here, there), Some(0));
        client.write_all(b"hello").unwrap();
        assert_eq!(queue.unread(here, there), Some(5));
        let (mut server, _) = listener.accept().unwrap();
        server.read_exact(&mut [0; 3]).unwrap();
        assert_eq!(queue.unread(here, there), Some(2));
        assert!(queue.is_established(here, there));
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(!queue.is_established(here, there));
        drop((client, server));
        assert_eq!(queue.unread(there, here), None);
    }
}
