//! WebSocket load: connections that send a message, wait for its echo, and send the next.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::poller::Poller;
use super::{Options, connect};

/// The key and its acceptance from RFC 6455, section 1.3. The load is no browser and needs no secrecy of them.
pub(super) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(super) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const PATIENCE: Duration = Duration::from_secs(20);

/// Sends `--count` messages of 64 bytes over `--connections`, and closes each connection with a closing handshake.
pub(super) fn run(options: &Options) -> Result<()> {
    let (address, count) = (options.address()?, options.number("count", 1_000)?);
    let mut poller = Poller::new()?;
    let mut sessions = Vec::new();
    for token in 0..options.number("connections", 64)? {
        let stream = upgraded(options)?;
        poller.add(&stream, token)?;
        sessions.push(Session { stream, received: Vec::new(), open: true });
    }
    let start = Instant::now();
    let payload: Vec<u8> = (0..64).collect();
    let (message, echo) = (masked(BINARY, &payload), [&[BINARY, 64], &payload[..]].concat());
    let (mut sent, mut echoed) = (0_u64, 0_u64);
    for session in &mut sessions {
        sent += session.send_next(&message, sent < count)?;
    }
    let (mut ready, mut buffer) = (Vec::new(), vec![0; 16 * 1024]);
    while sessions.iter().any(|session| session.open) {
        poller.wait(PATIENCE, &mut ready)?;
        if ready.is_empty() {
            bail!("{address} does not echo: {sent} messages sent, {echoed} came back");
        }
        for token in &ready {
            let Some(session) = sessions.get_mut(*token) else { continue };
            session.receive(&mut buffer)?;
            while session.received.len() >= echo.len() {
                if !session.received.starts_with(&echo) {
                    bail!("a message came back changed");
                }
                session.received.drain(..echo.len());
                echoed += 1;
                sent += session.send_next(&message, sent < count)?;
            }
        }
    }
    let failed = sent - echoed;
    println!("{}", json!({ "completed": echoed, "failed": failed, "seconds": start.elapsed().as_secs_f64() }));
    Ok(())
}

/// One connection after its upgrade.
struct Session {
    stream: TcpStream,
    received: Vec<u8>,
    open: bool,
}

impl Session {
    /// Sends `message`, or where there is no more to send, a closing frame. Returns the number of messages sent.
    fn send_next(&mut self, message: &[u8], more: bool) -> Result<u64> {
        // A frame is smaller than any socket buffer, and one is under way at most.
        if more {
            self.stream.write_all(message)?;
        } else {
            self.stream.write_all(&masked(CLOSE, &1000_u16.to_be_bytes()))?;
        }
        Ok(u64::from(more))
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<()> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => {
                    self.open = false;
                    return Ok(());
                }
                Ok(read) => self.received.extend_from_slice(buffer.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("an upgraded connection broke"),
            }
        }
    }
}

/// A frame as a client sends it.
fn masked(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap_or(125).min(125);
    let mut frame = vec![kind, 0x80 | length];
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A connection whose upgrade was accepted; does not block.
fn upgraded(options: &Options) -> Result<TcpStream> {
    let mut stream = connect(options.address()?)?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!(
        "GET /socket HTTP/1.1\r\nHost: bench.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 || head.len() > 16 * 1024 {
            bail!("the upgrade was not answered: {}", String::from_utf8_lossy(&head));
        }
        head.extend_from_slice(&byte);
    }
    let head = String::from_utf8_lossy(&head);
    if !head.starts_with("HTTP/1.1 101") || !head.contains(ACCEPT) {
        bail!("the upgrade was refused: {head}");
    }
    stream.set_nonblocking(true)?;
    Ok(stream)
}
