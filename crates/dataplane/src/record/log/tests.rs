//! Lines and their way to the writer.

use std::path::PathBuf;
use std::rc::Rc;

use daemun_config::model::{LogFormat, LogTarget, Spanned};
use daemun_config::tree::At;
use daemun_pipeline::{Fault, Reason};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::tests::{WALL, exchange, finished, metrics, sample};
use super::super::writer::tests::{Gated, gated};
use super::super::{BadHead, Called, Finished, Metrics, Recorder};
use super::*;
use crate::clock::Clock;

const BOUND: Duration = Duration::from_secs(30);

/// A folder that goes with the test.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("daemun-record-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open(metrics: &Metrics, format: LogFormat, path: PathBuf, previous: Option<&AccessLog>) -> AccessLog {
    let events = Events::to(Clock::manual(), io::sink()).unwrap();
    let config = model::AccessLog { format, fields: Vec::new(), to: LogTarget::File(path) };
    AccessLog::open(&config, previous, metrics.log_counters(), &events).unwrap()
}

/// What one recorder wrote in this format.
fn logged(format: LogFormat, name: &str, record: impl FnOnce(&Recorder)) -> String {
    let folder = Folder::new(name);
    let path = folder.0.join("access.log");
    let (metrics, recorders) = metrics(1);
    let log = open(&metrics, format, path.clone(), None);
    recorders[0].use_log(Some(log.clone()));
    record(&recorders[0]);
    recorders[0].close();
    assert!(log.close(BOUND));
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_json_line_tells_everything_but_secrets() {
    let text = logged(LogFormat::Json, "json", |recorder| {
        let (route, target) = (recorder.metrics().route("r"), recorder.metrics().target("catalog", "http://10.0.0.11"));
        let fault = Fault::new(Reason::BodyBroken, "broke off").cause("connection reset");
        recorder.finish(&Finished {
            route: Some((&route, "get-item")),
            target: Some(Called { metrics: &target, upstream: "catalog", url: "http://10.0.0.11", status: 200 }),
            fault: Some(&fault),
            ..finished(&exchange("0af3"), 200)
        });
    });
    assert!(!text.contains("secret"));
    assert_eq!(text.lines().count(), 1);
    assert_eq!(
        serde_json::from_str::<Value>(&text).unwrap(),
        json!({
            "time": "2026-01-01T00:00:00.123Z", "id": "0af3", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "client_ip": "192.0.2.1", "method": "GET",
            "host": "api.example.com", "path": "/items/7", "protocol": "HTTP/1.1", "scheme": "http", "status": 200,
            "route": "get-item", "upstream": "catalog", "target": "http://10.0.0.11", "reason": "body_broken",
            "cause": "connection reset", "duration_ms": 12.5, "policies_ms": 0.1, "connect_ms": 0.5, "wait_ms": 11.4,
            "transfer_ms": 0.5, "bytes_in": 10, "bytes_out": 200, "consumer": "shop-app",
            "user_agent": "curl/8 \"quoted\"", "attempts": 1, "reused": true,
        })
    );
}

#[test]
fn a_request_that_never_became_an_exchange_has_a_line_too() {
    let text = logged(LogFormat::Json, "bad", |recorder| {
        let fault = Fault::new(Reason::BadRequest, "malformed").cause("bare CR");
        let ip = Some("2001:db8::1".parse().unwrap());
        recorder.bad_head(&BadHead { wall: WALL, id: b"", client_ip: ip, tls: true, fault: &fault, status: Some(400) });
    });
    let expected = r#"{"time":"2026-01-01T00:00:00.123Z","client_ip":"2001:db8::1","scheme":"https","status":400,"reason":"bad_request","cause":"bare CR","bytes_in":0,"bytes_out":0}"#;
    assert_eq!(text.trim_end(), expected);
}

#[test]
fn a_template_writes_what_it_names_and_a_dash_for_what_there_is_not() {
    let template = "${client_ip} \"${method} ${path}\" ${status} ${route} \"${user_agent}\" ${duration_ms} $$";
    let text = logged(template_of(template), "template", |recorder| {
        recorder.finish(&finished(&exchange("a"), 404));
    });
    assert_eq!(text, "192.0.2.1 \"GET /items/7\" 404 - \"curl/8 \\x22quoted\\x22\" 12.500 $\n");
}

#[test]
fn a_new_configuration_keeps_the_writer_of_the_same_file_and_no_line_is_lost_in_between() {
    let folder = Folder::new("switch");
    let (metrics, recorders) = metrics(1);
    let first = open(&metrics, template_of("1 ${id}"), folder.0.join("a"), None);
    let second = open(&metrics, template_of("2 ${id}"), folder.0.join("a"), Some(&first));
    let third = open(&metrics, template_of("3 ${id}"), folder.0.join("b"), Some(&second));
    assert!(Arc::ptr_eq(&first.writer, &second.writer) && !Arc::ptr_eq(&second.writer, &third.writer));
    for log in [&first, &second, &third] {
        recorders[0].use_log(Some(log.clone()));
        recorders[0].finish(&finished(&exchange("x"), 200));
    }
    recorders[0].close();
    recorders[0].finish(&finished(&exchange("unlogged"), 200));
    assert!(first.close(BOUND) && third.close(BOUND));
    assert_eq!(std::fs::read_to_string(folder.0.join("a")).unwrap(), "1 x\n2 x\n");
    assert_eq!(std::fs::read_to_string(folder.0.join("b")).unwrap(), "3 x\n");
}

#[test]
fn lines_a_blocked_writer_cannot_take_are_lost_whole_and_counted_and_nobody_waits() {
    let (metrics, recorders) = metrics(1);
    let (gate, out) = gated();
    let log = log_to(&metrics, LogFormat::Json, &out);
    recorders[0].use_log(Some(log.clone()));
    const LINES: u64 = 20_000;
    for n in 0..LINES {
        recorders[0].finish(&finished(&exchange(&n.to_string()), 200));
    }
    gate.open();
    recorders[0].close();
    assert!(log.close(BOUND));
    let text = out.text();
    let lost = sample(&metrics.render(), "daemun_access_log_lost_lines_total").unwrap();
    assert!(lost > 0);
    assert_eq!(text.lines().count() as u64 + lost, LINES);
    text.lines().for_each(|line| drop(serde_json::from_str::<Value>(line).unwrap()));
}

/// A log whose writer writes to `out`.
fn log_to(metrics: &Metrics, format: LogFormat, out: &Gated) -> AccessLog {
    let folder = Folder::new("replaced");
    let mut log = open(metrics, format, folder.0.join("unused"), None);
    let events = Events::to(Clock::manual(), io::sink()).unwrap();
    log.writer = Arc::new(LogWriter::start(Box::new(out.clone()), None, metrics.log_counters(), events).unwrap());
    log
}

/// Lets every other task run until it waits.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

fn held(recorder: &Recorder) -> u32 {
    recorder.log.borrow().as_ref().unwrap().lines
}

#[tokio::test(flavor = "current_thread")]
async fn a_line_is_handed_over_within_a_moment() {
    let test = async {
        let (gate, out) = gated();
        gate.open();
        let (metrics, mut recorders) = metrics(1);
        let log = log_to(&metrics, template_of("${id}"), &out);
        let recorder = Rc::new(recorders.remove(0));
        recorder.use_log(Some(log.clone()));
        let clock = Clock::manual();
        tokio::task::spawn_local(Rc::clone(&recorder).flusher(clock.clone()));
        for round in 0..3 {
            recorder.finish(&finished(&exchange("x"), 200));
            recorder.finish(&finished(&exchange("y"), 200));
            settle().await;
            clock.advance(Duration::from_millis(99));
            settle().await;
            assert_eq!(held(&recorder), 2, "round {round}");
            clock.advance(Duration::from_millis(1));
            settle().await;
            assert_eq!(held(&recorder), 0, "round {round}");
        }
        recorder.close();
        assert!(log.close(BOUND));
        assert_eq!(out.text(), "x\ny\nx\ny\nx\ny\n");
    };
    tokio::task::LocalSet::new().run_until(test).await;
}

#[tokio::test(flavor = "current_thread")]
async fn lines_held_for_a_blocked_writer_follow_once_it_takes_them_without_another_request() {
    let test = async {
        let (gate, out) = gated();
        let (metrics, mut recorders) = metrics(1);
        let log = log_to(&metrics, LogFormat::Json, &out);
        let recorder = Rc::new(recorders.remove(0));
        recorder.use_log(Some(log.clone()));
        let clock = Clock::manual();
        tokio::task::spawn_local(Rc::clone(&recorder).flusher(clock.clone()));
        while metrics.log.lost_lines.load(Relaxed) == 0 {
            recorder.finish(&finished(&exchange("x"), 200));
        }
        settle().await;
        clock.advance(Duration::from_millis(100));
        settle().await;
        assert!(held(&recorder) > 0);
        gate.open();
        while out.text().len() < 2 * FULL {
            std::thread::yield_now();
        }
        clock.advance(Duration::from_millis(100));
        settle().await;
        assert_eq!(held(&recorder), 0);
        assert!(log.close(BOUND));
    };
    tokio::task::LocalSet::new().run_until(test).await;
}

proptest! {
    #[test]
    fn every_line_parses_as_json_and_is_one_line(
        id in proptest::collection::vec(any::<u8>(), 0..80),
        path in proptest::collection::vec(any::<u8>(), 0..200),
        agent in proptest::collection::vec(any::<u8>(), 0..80),
        cause in "\\PC{0,40}",
        times in any::<[u64; 5]>(),
        status in any::<u16>(),
        wall in any::<u64>(),
    ) {
        let mut exchange = exchange("");
        exchange.id = id;
        exchange.wall = wall;
        exchange.request.path = exchange.request.head.store(&path);
        exchange.request.head.set("user-agent", &agent);
        let [start, decided, connected, answered, end] = times;
        exchange.times = daemun_pipeline::Times { start, decided, again: 0, connected, answered, end };
        let fault = Fault::new(Reason::Internal, "x").cause(&cause);
        let mut out = Vec::new();
        write_json(&mut out, &Line::of(&Finished { fault: Some(&fault), ..finished(&exchange, status) }), &mut Kept::default(), &LogFields::default());
        prop_assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        let value: Value = serde_json::from_slice(&out).unwrap();
        prop_assert_eq!(value["path"].as_str().unwrap_or_default(), String::from_utf8_lossy(&path));
        prop_assert_eq!(value["cause"].as_str().unwrap_or_default(), cause);
    }
}

#[test]
fn the_manual_tells_of_each_field() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/access-log.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(rows, super::super::log_fields());
}

fn template_of(text: &str) -> LogFormat {
    LogFormat::Template(Spanned { value: text.to_owned(), at: At::default() })
}
