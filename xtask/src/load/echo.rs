//! The WebSocket origin of the benchmark: accepts every upgrade and sends every message back.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::Result;

use super::Options;
use super::poller::Poller;
use super::websocket::ACCEPT;

const LISTENER: usize = 0;
const CLOSE: u8 = 8;

/// Listens on `--to` until it is ended from outside.
pub(super) fn run(options: &Options) -> Result<()> {
    let listener = TcpListener::bind(options.address()?)?;
    listener.set_nonblocking(true)?;
    let mut poller = Poller::new()?;
    poller.add(&listener, LISTENER)?;
    let mut sessions: HashMap<usize, Session> = HashMap::new();
    let (mut next, mut ready, mut buffer) = (LISTENER + 1, Vec::new(), vec![0; 64 * 1024]);
    loop {
        poller.wait(Duration::from_secs(60), &mut ready)?;
        for token in &ready {
            if *token == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    poller.add(&stream, next)?;
                    sessions.insert(next, Session { stream, received: Vec::new(), upgraded: false });
                    next += 1;
                }
            } else if let Some(session) = sessions.get_mut(token)
                && !session.progress(&mut buffer)
            {
                sessions.remove(token);
            }
        }
    }
}

struct Session {
    stream: TcpStream,
    received: Vec<u8>,
    upgraded: bool,
}

impl Session {
    /// Reads what is there and answers it; whether the session goes on.
    fn progress(&mut self, buffer: &mut [u8]) -> bool {
        loop {
            let read = match self.stream.read(buffer) {
                Ok(0) => return false,
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            };
            self.received.extend_from_slice(buffer.get(..read).unwrap_or_default());
            if !self.upgraded && !self.upgrade() {
                return false;
            }
            if !self.echo() {
                return false;
            }
            if read < buffer.len() {
                return true;
            }
        }
    }

    /// Answers the upgrade once its head is complete; false when it cannot be.
    fn upgrade(&mut self) -> bool {
        let Some(end) = self.received.windows(4).position(|end| end == b"\r\n\r\n") else { return true };
        self.received.drain(..end + 4);
        self.upgraded = true;
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
        );
        self.stream.write_all(answer.as_bytes()).is_ok()
    }

    /// Sends back every complete message; false after a closing one.
    fn echo(&mut self) -> bool {
        while self.upgraded {
            let [kind, length, m0, m1, m2, m3, rest @ ..] = self.received.as_slice() else { return true };
            let length = usize::from(length & 0x7f);
            let Some(payload) = rest.get(..length) else { return true };
            let mask = [*m0, *m1, *m2, *m3];
            let mut frame = vec![*kind, length as u8];
            frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
            let closes = kind & 0x0f == CLOSE;
            self.received.drain(..length + 6);
            if self.stream.write_all(&frame).is_err() || closes {
                return false;
            }
        }
        true
    }
}
