//! The codings themselves, piece by piece. Knows nothing of HTTP.

use std::io::{self, Write};

use daemun_pipeline::Coder;

use super::Levels;
use super::config::Coding;

/// Bytes that brotli and zstd look back, as a power of two: what one answer may hold in memory stays under 2 MiB.
#[cfg(any(feature = "brotli", feature = "zstd"))]
const WINDOW_LOG: u32 = 18;

/// A coder; one that fails when there is no memory for it, since the head has already named the coding.
pub(super) fn coder(coding: Coding, levels: &Levels) -> Box<dyn Coder> {
    let _ = levels;
    match coding {
        #[cfg(feature = "gzip")]
        Coding::Gzip => pieces(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(levels.gzip))),
        #[cfg(feature = "brotli")]
        Coding::Br => pieces(brotli::CompressorWriter::new(Vec::new(), 4096, levels.br, WINDOW_LOG)),
        #[cfg(feature = "zstd")]
        Coding::Zstd => match zstd_encoder(levels.zstd) {
            Ok(encoder) => pieces(encoder),
            Err(_) => Box::new(Broken),
        },
        #[cfg(not(all(feature = "gzip", feature = "brotli", feature = "zstd")))]
        _ => Box::new(Broken),
    }
}

#[cfg(feature = "zstd")]
fn zstd_encoder(level: i32) -> io::Result<zstd::stream::write::Encoder<'static, Vec<u8>>> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level)?;
    encoder.window_log(WINDOW_LOG)?;
    Ok(encoder)
}

/// Breaks every answer off.
struct Broken;

impl Coder for Broken {
    fn push(&mut self, _: &[u8], _: &mut Vec<u8>) -> io::Result<()> {
        Err(io::ErrorKind::OutOfMemory.into())
    }

    fn flush(&mut self, _: &mut Vec<u8>) -> io::Result<()> {
        Err(io::ErrorKind::OutOfMemory.into())
    }

    fn finish(&mut self, _: &mut Vec<u8>) -> io::Result<()> {
        Err(io::ErrorKind::OutOfMemory.into())
    }
}

/// A writer that compresses into a buffer of its own.
trait Compressor: Write {
    /// What it wrote so far.
    fn written(&mut self) -> &mut Vec<u8>;

    /// Ends, and gives what was written since.
    fn end(self) -> io::Result<Vec<u8>>;
}

#[cfg(feature = "gzip")]
impl Compressor for flate2::write::GzEncoder<Vec<u8>> {
    fn written(&mut self) -> &mut Vec<u8> {
        self.get_mut()
    }

    fn end(self) -> io::Result<Vec<u8>> {
        self.finish()
    }
}

#[cfg(feature = "brotli")]
impl Compressor for brotli::CompressorWriter<Vec<u8>> {
    fn written(&mut self) -> &mut Vec<u8> {
        self.get_mut()
    }

    fn end(self) -> io::Result<Vec<u8>> {
        Ok(self.into_inner())
    }
}

#[cfg(feature = "zstd")]
impl Compressor for zstd::stream::write::Encoder<'static, Vec<u8>> {
    fn written(&mut self) -> &mut Vec<u8> {
        self.get_mut()
    }

    fn end(self) -> io::Result<Vec<u8>> {
        self.finish()
    }
}

/// A compressor as a coder.
struct Pieces<C> {
    /// `None` behind the end.
    compressor: Option<C>,
    /// Whether something was taken since the last flush; another would write an empty block.
    holds: bool,
}

fn pieces<C: Compressor + 'static>(compressor: C) -> Box<dyn Coder> {
    Box::new(Pieces { compressor: Some(compressor), holds: false })
}

impl<C: Compressor> Pieces<C> {
    fn with(&mut self, out: &mut Vec<u8>, act: impl FnOnce(&mut C) -> io::Result<()>) -> io::Result<()> {
        let compressor = self.compressor.as_mut().ok_or(io::ErrorKind::WriteZero)?;
        act(compressor)?;
        out.append(compressor.written());
        Ok(())
    }
}

impl<C: Compressor> Coder for Pieces<C> {
    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        self.holds = true;
        self.with(out, |compressor| compressor.write_all(piece))
    }

    fn flush(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        if !std::mem::take(&mut self.holds) {
            return Ok(());
        }
        self.with(out, Write::flush)
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let compressor = self.compressor.take().ok_or(io::ErrorKind::WriteZero)?;
        out.append(&mut compressor.end()?);
        Ok(())
    }
}
