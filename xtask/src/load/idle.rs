//! Connections that made one request and now wait. How many is told on stdin, one number a line, each answered with the
//! same number once that many are open; the end of stdin ends them.

use std::io::{BufRead, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::Options;
use super::response::Reader;

pub(super) fn run(options: &Options) -> Result<()> {
    let (address, requests) = (options.address()?, options.requests()?);
    let request = requests.first().context("the file of requests is empty")?;
    let mut connections = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let wanted: usize = line?.trim().parse()?;
        while connections.len() < wanted {
            connections.push(used_once(address, request)?);
        }
        connections.truncate(wanted);
        println!("{wanted}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// A connection on which one request was answered with 200.
fn used_once(address: SocketAddr, request: &[u8]) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(request)?;
    let mut reader = Reader::default();
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = stream.read(&mut buffer)?;
        match reader.feed(buffer.get(..read).unwrap_or_default())? {
            Some(done) if done.status == 200 && !done.closes => return Ok(stream),
            Some(done) => bail!("answered with {}, or the connection is not kept", done.status),
            None if read == 0 => bail!("the connection ended before the answer was complete"),
            None => {}
        }
    }
}
