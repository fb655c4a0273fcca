//! Files of a folder: which one a request means, whether its conditions hold, and what is told of it. Reading and sending are elsewhere.

mod conditions;
mod names;
mod open;
mod ranges;
pub(super) mod send;

use std::os::fd::OwnedFd;
use std::sync::Arc;

use daemun_config::model::{FileCoding, Files};
use daemun_pipeline::{Answer, Exchange, Fault, Method, Reason, Stop};

use crate::destination::upstream::head;
use crate::serve::{Ask, Trail};
use conditions::{Outcome, Validators};
use names::Name;
use open::{Found, Miss, Opened, Search};
use ranges::{Part, Wanted};

/// Methods that files answer.
const ALLOW: &str = "GET, HEAD, OPTIONS";

/// A body out of a file: pieces of it, and text between them.
struct Body {
    file: Arc<OwnedFd>,
    /// Text that comes before a piece, and the piece.
    pieces: Vec<(Vec<u8>, Part)>,
    /// Text behind the last of them.
    end: Vec<u8>,
}

impl Body {
    fn length(&self) -> u64 {
        let pieces = self.pieces.iter().map(|(before, part)| before.len() as u64 + part.length);
        pieces.sum::<u64>() + self.end.len() as u64
    }
}

/// Answers with a file, or stops.
pub(crate) async fn send(
    ask: &mut Ask<'_, '_>,
    exchange: &mut Exchange,
    files: &Arc<Files>,
    trail: &mut Trail,
) -> Result<(), Stop> {
    match exchange.request.method {
        Method::Get | Method::Head => {}
        Method::Options => {
            let fields = vec![("allow".to_owned(), ALLOW.to_owned())];
            return Err(Stop::Answer(Box::new(Answer { status: 204, fields, ..Answer::default() })));
        }
        Method::Post
        | Method::Put
        | Method::Delete
        | Method::Connect
        | Method::Trace
        | Method::Patch
        | Method::Other => {
            let fault = Fault::new(Reason::MethodNotAllowed, "files are only read");
            return Err(fault.field("allow", ALLOW).into());
        }
    }
    let name = name(ask, exchange, files)?;
    let codings = codings(exchange, files);
    let opened = match find(ask, exchange, files, &name, codings).await? {
        Found::File(opened) => *opened,
        Found::Folder => return Err(Stop::Answer(Box::new(to_folder(exchange)))),
    };
    let validators = validators(&opened);
    match conditions::judge(&exchange.request.head, &validators) {
        Outcome::Failed => {
            return Err(Fault::new(Reason::PreconditionFailed, "the file is not as the request wants it").into());
        }
        Outcome::NotModified => {
            describe(exchange, files, &opened, &validators);
            exchange.response.status = 304;
            return send::head(ask, exchange, trail).await;
        }
        Outcome::Wanted => {}
    }
    let wanted = match exchange.request.head.get("range") {
        // a range is defined for GET only (RFC 9110, section 14.2)
        Some(range)
            if exchange.request.method == Method::Get
                && conditions::ranges_hold(&exchange.request.head, &validators) =>
        {
            ranges::wanted(range, opened.size)
        }
        Some(_) | None => Wanted::Whole,
    };
    if wanted == Wanted::Nothing {
        let fault = Fault::new(Reason::RangeNotSatisfiable, "the file has nothing there");
        return Err(fault.field("content-range", format!("bytes */{}", opened.size)).into());
    }
    describe(exchange, files, &opened, &validators);
    let body = body(exchange, opened, wanted);
    send::body(ask, exchange, &body, trail).await
}

/// The file that the path means, after the route's rewrite.
fn name(ask: &Ask<'_, '_>, exchange: &Exchange, files: &Files) -> Result<Name, Fault> {
    let rewrite = ask.route.own.rewrite.as_ref();
    head::check_path(exchange, rewrite)?;
    let name = match rewrite {
        None => names::name(exchange.request.head.bytes(exchange.request.path), files.serve_hidden),
        Some(rewrite) => {
            let mut path = Vec::new();
            head::push_rewritten(exchange, rewrite, &mut path);
            names::name(&path, files.serve_hidden)
        }
    };
    let mut name = name.ok_or_else(|| not_found("the path cannot be the name of a file"))?;
    // by the caller's own path it would be sent to the same place again
    name.folder |= exchange.request.path_text().ends_with('/');
    Ok(name)
}

fn not_found(cause: impl std::fmt::Display) -> Fault {
    Fault::new(Reason::NoFile, "there is no such file").cause(cause)
}

/// Those of the codings that the caller takes.
fn codings(exchange: &Exchange, files: &Files) -> Vec<FileCoding> {
    let takes =
        |coding: FileCoding| names::takes(exchange.request.head.values("accept-encoding"), names::of_coding(coding).0);
    files.precompressed.iter().copied().filter(|coding| takes(*coding)).collect()
}

/// Looks for the file: first among what the kernel has at hand, then on a thread that may wait for a disk.
async fn find(
    ask: &Ask<'_, '_>,
    exchange: &Exchange,
    files: &Arc<Files>,
    name: &Name,
    codings: Vec<FileCoding>,
) -> Result<Found, Fault> {
    let routed = !name.last().contains(&b'.') || names::wants_page(exchange.request.head.values("accept"));
    let search = move |files: &Files, name: &Name, codings: &[FileCoding], at_hand: bool| {
        let fallback = files.fallback.as_deref().filter(|_| routed);
        let (index, follow_symlinks) = (files.index.as_deref(), files.follow_symlinks);
        open::find(&Search { root: &files.root.value, name, index, fallback, codings, follow_symlinks, at_hand })
    };
    let mut found = search(files, name, &codings, true);
    if matches!(found, Err(Miss::NoDescriptor(_))) {
        // those that rest in pools serve nobody now
        ask.worker.shed_pools();
        found = Err(Miss::NotAtHand);
    }
    if matches!(found, Err(Miss::NotAtHand)) {
        let (files, name) = (Arc::clone(files), name.clone());
        found = send::on_disk(ask, move || search(&files, &name, &codings, false)).await?;
    }
    found.map_err(|miss| match miss {
        Miss::Gone(error) => not_found(error),
        Miss::NotAtHand => not_found("the disk was asked and did not say"),
        Miss::NoDescriptor(error) => {
            let fault = Fault::new(Reason::TooManyCalls, "the gateway cannot open a file now");
            fault.cause(error).field("retry-after", "1")
        }
    })
}

/// Sends the caller to a folder by its name with a slash. Relative to where he is, so that no path can lead to another host.
fn to_folder(exchange: &Exchange) -> Answer {
    let request = &exchange.request;
    let last = request.path_text().rsplit('/').next().unwrap_or_default();
    let query = request.query_text().map(|query| format!("?{query}")).unwrap_or_default();
    let fields = vec![("location".to_owned(), format!("./{last}/{query}"))];
    Answer { status: 308, fields, ..Answer::default() }
}

fn validators(opened: &Opened) -> Validators {
    let coding = opened.coding.map(|coding| format!("-{}", names::of_coding(coding).0)).unwrap_or_default();
    let etag = format!("\"{:x}-{:x}{coding}\"", opened.modified, opened.size);
    Validators { etag, modified: u64::try_from(opened.modified / 1_000_000_000).unwrap_or(u64::MAX) }
}

/// Writes what is told of a file whatever of it is sent.
fn describe(exchange: &mut Exchange, files: &Files, opened: &Opened, validators: &Validators) {
    let response = &mut exchange.response;
    response.head.clear();
    response.status = 200;
    let head = &mut response.head;
    head.append("content-type", names::content_type(&opened.name).as_bytes());
    head.append("x-content-type-options", b"nosniff");
    if let Some(coding) = opened.coding {
        head.append("content-encoding", names::of_coding(coding).0.as_bytes());
    }
    if !files.precompressed.is_empty() {
        head.append("vary", b"accept-encoding");
    }
    head.append("etag", validators.etag.as_bytes());
    head.append("last-modified", conditions::text(validators.modified).as_bytes());
    head.append("accept-ranges", b"bytes");
    if let Some(value) = &files.cache_control {
        head.append("cache-control", value.as_bytes());
    }
}

/// The body of an answer, and what its head says of the parts.
fn body(exchange: &mut Exchange, opened: Opened, wanted: Wanted) -> Body {
    let (size, file) = (opened.size, Arc::new(opened.file));
    let said = |part: &Part| format!("bytes {}-{}/{size}", part.at, part.at + part.length - 1);
    let parts = match wanted {
        Wanted::Whole | Wanted::Nothing => {
            return Body { file, pieces: vec![(Vec::new(), Part { at: 0, length: size })], end: Vec::new() };
        }
        Wanted::Parts(parts) => parts,
    };
    exchange.response.status = 206;
    if let [part] = parts.as_slice() {
        exchange.response.head.append("content-range", said(part).as_bytes());
        return Body { file, pieces: vec![(Vec::new(), *part)], end: Vec::new() };
    }
    // drawn anew for each answer: no file can be made to hold it
    let boundary = format!("{:016x}{:016x}", exchange.draw(1), exchange.draw(2));
    let of = names::content_type(&opened.name);
    let before = |part: &Part| {
        let said = said(part);
        format!("\r\n--{boundary}\r\ncontent-type: {of}\r\ncontent-range: {said}\r\n\r\n").into_bytes()
    };
    let pieces = parts.iter().map(|part| (before(part), *part)).collect();
    let end = format!("\r\n--{boundary}--\r\n").into_bytes();
    exchange.response.head.set("content-type", format!("multipart/byteranges; boundary={boundary}").as_bytes());
    Body { file, pieces, end }
}
