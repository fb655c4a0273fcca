//! The origin of the benchmark that can only work on so many calls at once: what is beyond them waits in it, in the order it came.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;

use super::Options;
use crate::shell;

/// Calls that wait at most; beyond them connections are not read.
const WAITING: usize = 65_536;

/// A call that wants to be worked on, and where to say that it has been.
struct Call {
    work: Duration,
    done: SyncSender<()>,
}

/// Listens on `--to` until it is ended from outside; works on `--slots` calls at once, on each as many milliseconds as the last segment of
/// its path says.
pub(super) fn run(options: &Options) -> Result<()> {
    let listener = TcpListener::bind(options.address()?)?;
    let (calls, next) = sync_channel(WAITING);
    let next = Arc::new(Mutex::new(next));
    for _ in 0..options.number("slots", 32)? {
        let next = Arc::clone(&next);
        std::thread::spawn(move || work(&next));
    }
    loop {
        let (stream, _) = listener.accept()?;
        let calls = calls.clone();
        std::thread::spawn(move || serve(&stream, &calls));
    }
}

/// One slot.
fn work(next: &Mutex<Receiver<Call>>) {
    loop {
        let call = next.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Call { work, done }) = call else { return };
        shell::pause(work);
        // whoever asked may have left
        let _ = done.send(());
    }
}

/// One connection: each request is answered once a slot has worked on it.
fn serve(mut stream: &TcpStream, calls: &SyncSender<Call>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut lines = BufReader::new(stream);
    loop {
        let mut head = VecDeque::new();
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line == "\r\n" {
                break;
            }
            head.push_back(line);
        }
        let target = head.pop_front()?;
        let number = target.split(' ').nth(1)?.rsplit('/').next()?.parse().ok()?;
        let (done, worked) = sync_channel(1);
        calls.send(Call { work: Duration::from_millis(number), done }).ok()?;
        worked.recv().ok()?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nworks").ok()?;
    }
}
