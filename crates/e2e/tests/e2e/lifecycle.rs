//! Start, reload, drain, hand-over: each without one failed request.

use std::time::Duration;

use daemun_e2e::gateway::{Folder, Signal};
use daemun_e2e::lane::{FORWARD_ALL, Lane};
use daemun_e2e::load::{Connections, Load, Tally};
use daemun_e2e::{Client, Gateway, Next, Origin, wait_until};
use rustix::process::{Pid, kill_process};

/// A configuration with a constant route, and `count` answering routes of this generation.
fn generation(number: usize, count: usize) -> String {
    let mut text =
        "workers: 2\naccess_log: off\nlisteners: [{ bind: 127.0.0.1:0 }]\nstatus: { bind: 127.0.0.1:0 }\nroutes:\n  \
                    - name: constant\n    match: { path: /constant }\n    answer: { status: 200, body: constant }\n"
            .to_owned();
    for at in 0..count {
        text += &format!(
            "  - name: g{number}-{at}\n    match: {{ path: /g{number}/{at} }}\n    answer: {{ status: 200, body: g{number} }}\n"
        );
    }
    text
}

fn clean(tally: &Tally, least: usize) {
    assert_eq!(tally.failures, Vec::<String>::new(), "of {} requests", tally.good);
    assert!(tally.good >= least, "only {} requests were made", tally.good);
}

fn answers(gateway: &Gateway, target: &str) -> u16 {
    gateway.get(target).status
}

/// Routes that each reload takes away, and as many others that it brings.
const CHANGED: usize = 1000;
/// Routes that stay over all reloads.
const STAYING: usize = 200;

/// A generation of many routes, some that stay, and one that is passed on to `origin`.
fn large(number: usize, origin: &Origin) -> String {
    sized(number, CHANGED, origin)
}

/// Like [`large`], with so many routes of this generation.
fn sized(number: usize, count: usize, origin: &Origin) -> String {
    let mut text = generation(number, count);
    for at in 0..STAYING {
        text += &format!("  - name: s{at}\n    match: {{ path: /s/{at} }}\n    answer: {{ body: stays }}\n");
    }
    text += "  - name: proxied\n    match: { path: /proxied }\n    upstream: origin\n";
    text + &format!("upstreams: {{ origin: {{ targets: [\"{}\"] }} }}\n", origin.url())
}

fn proxied() -> Origin {
    Origin::serve(|peer, _| {
        peer.answer("proxied");
        Next::Keep
    })
}

/// Clients that keep their connections, clients that do not, and clients whose requests are passed on.
fn loads(gateway: &Gateway) -> [Load; 3] {
    [
        Load::start(gateway.address(), 2, Connections::Kept, "/constant", "constant"),
        Load::start(gateway.address(), 1, Connections::Fresh, "/constant", "constant"),
        Load::start(gateway.address(), 2, Connections::Kept, "/proxied", "proxied"),
    ]
}

/// Every route of this generation answers, those of the one before are gone, and those that stay are there.
fn changed(gateway: &Gateway, number: usize) {
    let mut client = gateway.connect();
    for at in 0..CHANGED {
        let new = client.get(&format!("/g{number}/{at}"));
        assert_eq!((new.status, new.text()), (200, format!("g{number}")), "route {at}");
        assert_eq!(client.get(&format!("/g{}/{at}", number - 1)).status, 404, "route {at}");
    }
    for at in 0..STAYING {
        assert_eq!(client.get(&format!("/s/{at}")).text(), "stays");
    }
}

/// Reloads several times under load in the way `apply` does it.
fn reloads(apply: impl Fn(&Gateway)) {
    let origin = proxied();
    let gateway = Gateway::start(&large(0, &origin));
    let loads = loads(&gateway);
    loads.iter().for_each(|load| load.wait_for(50));
    for number in 1..=4 {
        gateway.rewrite(&large(number, &origin));
        apply(&gateway);
        wait_until("the new configuration is there", Duration::from_secs(15), || {
            (answers(&gateway, &format!("/g{number}/0")) == 200).then_some(())
        });
        changed(&gateway, number);
        loads.iter().for_each(|load| load.wait_for(50));
    }
    for load in loads {
        let tally = load.stop();
        clean(&tally, 200);
        assert_eq!(tally.stale, 0, "a reload closed connections");
    }
    let metrics = gateway.metrics();
    assert!(metrics.sum("daemun_config_reloads_total", &["result=\"ok\""]) > 3.5);
    assert!(metrics.sum("daemun_config_reloads_total", &["result=\"failed\""]).abs() < 0.1);
}

#[test]
fn twenty_thousand_routes_are_reloaded_under_load_without_a_failed_request() {
    const COUNT: usize = 20_000;
    let origin = proxied();
    let text = |number| format!("reload: signal\n{}", sized(number, COUNT, &origin));
    let gateway = Gateway::start(&text(0));
    let loads = loads(&gateway);
    for number in 1..=2 {
        gateway.rewrite(&text(number));
        let before: Vec<usize> = loads.iter().map(Load::good).collect();
        gateway.signal(Signal::HUP);
        let last = format!("/g{number}/{}", COUNT - 1);
        wait_until("the new configuration is there", Duration::from_secs(60), || {
            (answers(&gateway, &last) == 200).then_some(())
        });
        let served = loads.iter().zip(before).all(|(load, before)| load.good() > before);
        assert!(served, "nothing was answered while the configuration was read");
        let mut client = gateway.connect();
        for at in (0..COUNT).step_by(97) {
            let new = client.get(&format!("/g{number}/{at}"));
            assert_eq!((new.status, new.text()), (200, format!("g{number}")), "route {at}");
            assert_eq!(client.get(&format!("/g{}/{at}", number - 1)).status, 404, "route {at}");
        }
    }
    for load in loads {
        let tally = load.stop();
        clean(&tally, 50);
        assert_eq!(tally.stale, 0, "a reload closed connections");
    }
    assert!(gateway.metrics().sum("daemun_config_reloads_total", &["result=\"failed\""]).abs() < 0.1);
}

#[test]
fn a_signal_reloads_under_load_without_a_failed_request() {
    reloads(|gateway| gateway.signal(Signal::HUP));
}

#[test]
fn a_changed_file_reloads_under_load_without_a_failed_request() {
    reloads(|_| ());
}

#[test]
fn a_file_may_be_written_in_place() {
    let gateway = Gateway::start(&generation(0, 1));
    std::fs::write(gateway.folder().join("daemun.yaml"), generation(1, 1)).unwrap();
    wait_until("the new configuration is there", Duration::from_secs(10), || {
        (answers(&gateway, "/g1/0") == 200).then_some(())
    });
    assert_eq!(answers(&gateway, "/g0/0"), 404);
}

#[test]
fn a_change_is_not_read_where_only_a_signal_reloads() {
    let gateway = Gateway::start(&format!("reload: signal\n{}", generation(0, 1)));
    gateway.rewrite(&format!("reload: signal\n{}", generation(1, 1)));
    let early = daemun_e2e::poll(Duration::from_secs(2), || (answers(&gateway, "/g1/0") == 200).then_some(()));
    assert!(early.is_none(), "the change was read");
    gateway.signal(Signal::HUP);
    wait_until("the signal was obeyed", Duration::from_secs(10), || (answers(&gateway, "/g1/0") == 200).then_some(()));
}

#[test]
fn a_bad_file_leaves_the_running_configuration_in_place() {
    let gateway = Gateway::start(&generation(0, 1));
    let load = Load::start(gateway.address(), 2, Connections::Kept, "/constant", "constant");
    for bad in ["listeners: [", "nonsense: true\n", "", &generation(1, 1).replace("path: /constant", "path: 7")] {
        let before = gateway.metrics().sum("daemun_config_reloads_total", &["result=\"failed\""]);
        let said = gateway.stderr().len();
        gateway.rewrite(bad);
        gateway.signal(Signal::HUP);
        wait_until("the failed reload was counted", Duration::from_secs(10), || {
            (gateway.metrics().sum("daemun_config_reloads_total", &["result=\"failed\""]) > before).then_some(())
        });
        wait_until("the failed reload was told", Duration::from_secs(5), || {
            gateway.stderr().get(said..).is_some_and(|text| text.contains("daemun.yaml")).then_some(())
        });
        assert!(gateway.metrics().sum("daemun_config_last_reload_ok", &[]).abs() < 0.1);
        assert_eq!((answers(&gateway, "/constant"), answers(&gateway, "/g0/0")), (200, 200));
        load.wait_for(50);
    }
    let tally = load.stop();
    clean(&tally, 200);
    assert_eq!(tally.stale, 0, "a refused configuration closed connections");
    gateway.rewrite(&generation(2, 1));
    wait_until("a good file is read again", Duration::from_secs(10), || {
        (answers(&gateway, "/g2/0") == 200).then_some(())
    });
    wait_until("the metric says so", Duration::from_secs(5), || {
        (gateway.metrics().sum("daemun_config_last_reload_ok", &[]) > 0.5).then_some(())
    });
}

#[test]
fn a_reload_moves_an_upstream_and_lets_running_calls_end() {
    let (go, gone) = std::sync::mpsc::sync_channel::<()>(1);
    let gone = std::sync::Mutex::new(gone);
    let old = Origin::serve(move |peer, request| {
        if request.target == "/long" {
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello");
            gone.lock().unwrap().recv().unwrap();
            peer.send(" world");
            return Next::Keep;
        }
        peer.answer("old");
        Next::Keep
    });
    let new = Origin::serve(|peer, _| {
        peer.answer("new");
        Next::Keep
    });
    let lane = Lane::with(FORWARD_ALL, old);
    let mut long = lane.connect();
    long.send("GET /long HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
    long.wire.fill().unwrap();
    let mut kept = lane.connect();
    assert_eq!(kept.get("/t").text(), "old");
    lane.gateway.rewrite(&FORWARD_ALL.replace("{origin}", &new.url()));
    lane.gateway.signal(Signal::HUP);
    wait_until("the new upstream answers", Duration::from_secs(10), || {
        (lane.gateway.get("/t").text() == "new").then_some(())
    });
    assert_eq!(kept.get("/t").text(), "new", "a kept connection follows the reload");
    go.send(()).unwrap();
    assert_eq!(long.response().unwrap().text(), "hello world");
}

#[test]
fn listeners_come_and_go_with_the_configuration() {
    let folder = Folder::new();
    let (first, second) = (folder.path().join("a.sock"), folder.path().join("b.sock"));
    let yaml = |paths: &[&std::path::Path]| {
        let binds: String = paths.iter().map(|path| format!("  - bind: \"unix:{}\"\n", path.display())).collect();
        generation(0, 1).replace("listeners: [{ bind: 127.0.0.1:0 }]\n", &format!("listeners:\n{binds}"))
    };
    let gateway = Gateway::start(&yaml(&[&first]));
    gateway.rewrite(&yaml(&[&first, &second]));
    gateway.signal(Signal::HUP);
    let reach = |path: &std::path::Path| {
        let mut client = Client::try_connect(&daemun_e2e::wire::Address::Unix(path.to_owned())).ok()?;
        client.send("GET /constant HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
        client.response().ok().filter(|answer| answer.status == 200).map(|_| ())
    };
    wait_until("the second listener serves", Duration::from_secs(10), || reach(&second));
    assert!(reach(&first).is_some());
    gateway.rewrite(&yaml(&[&second]));
    gateway.signal(Signal::HUP);
    wait_until("the first listener is gone", Duration::from_secs(10), || reach(&first).is_none().then_some(()));
    assert!(reach(&second).is_some());
}

#[test]
fn a_drain_finishes_what_runs_and_takes_nothing_new() {
    let (go, gone) = std::sync::mpsc::sync_channel::<()>(1);
    let gone = std::sync::Mutex::new(gone);
    let origin = Origin::serve(move |peer, request| {
        if request.target == "/long" {
            gone.lock().unwrap().recv().unwrap();
        }
        daemun_e2e::origin::echo(peer, request)
    });
    let yaml = format!("status: {{ bind: 127.0.0.1:0 }}\n{FORWARD_ALL}");
    let lane = Lane::with(&yaml, origin);
    let mut long = lane.connect();
    long.send("GET /long HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
    lane.origin.wait_requests(1);
    lane.gateway.signal(Signal::TERM);
    wait_until("readiness fails", Duration::from_secs(5), || {
        (lane.gateway.status("/readyz").status == 503).then_some(())
    });
    assert!(lane.gateway.exited().is_none(), "it left with a call running");
    go.send(()).unwrap();
    let answer = long.response().unwrap();
    assert_eq!(answer.text(), "/long");
    assert!(answer.closes());
    assert!(long.is_closed());
    assert_eq!(lane.gateway.wait_exit().code(), Some(0));
}

#[test]
fn a_drain_under_load_fails_no_request_that_was_taken() {
    let gateway = Gateway::start(&generation(0, 1));
    let load = Load::start(gateway.address(), 3, Connections::Kept, "/constant", "constant");
    load.wait_for(300);
    gateway.signal(Signal::TERM);
    let status = gateway.wait_exit();
    let tally = load.stop();
    let wrong: Vec<&String> =
        tally.failures.iter().filter(|why| !why.starts_with("connect:") && !why.contains("fresh")).collect();
    assert_eq!(wrong, Vec::<&String>::new(), "of {} requests", tally.good);
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_drain_ends_in_time_whoever_hangs_on() {
    let origin = Origin::serve(|peer, _| {
        peer.stall();
        Next::Close
    });
    let lane = Lane::with(&format!("timeouts: {{ drain: 500ms }}\n{FORWARD_ALL}"), origin);
    let mut idle = lane.connect();
    let mut half = lane.connect();
    half.send("GET /t HTTP/1.1\r\nHost:");
    let mut long = lane.connect();
    long.send("GET /t HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
    lane.origin.wait_requests(1);
    lane.gateway.signal(Signal::TERM);
    let status = wait_until("the gateway ended", Duration::from_secs(8), || lane.gateway.exited());
    assert!(status.code().is_some(), "{status}");
    assert!(idle.is_closed());
}

#[test]
fn a_log_is_opened_again_under_load_without_a_failed_request_or_a_lost_line() {
    let origin = proxied();
    let folder = Folder::new();
    let log = |number: usize| folder.path().join(format!("access.log.{number}"));
    let yaml = large(0, &origin).replace("access_log: off", &format!("access_log: {{ to: \"{}\" }}", log(0).display()));
    let gateway = Gateway::start(&yaml);
    let loads = loads(&gateway);
    const TIMES: usize = 5;
    for number in 1..=TIMES {
        loads.iter().for_each(|load| load.wait_for(50));
        std::fs::rename(log(0), log(number)).unwrap();
        gateway.signal(Signal::USR1);
        wait_until("the log was opened again", Duration::from_secs(10), || log(0).exists().then_some(()));
    }
    loads.iter().for_each(|load| load.wait_for(50));
    let tallies = loads.map(Load::stop);
    tallies.iter().for_each(|tally| clean(tally, 300));
    let requests: usize = tallies.iter().map(|tally| tally.good).sum();
    let lines = |number: usize| std::fs::read_to_string(log(number)).unwrap().lines().count();
    wait_until("every line was written", Duration::from_secs(10), || {
        ((0..=TIMES).map(lines).sum::<usize>() == requests).then_some(())
    });
    assert!((0..=TIMES).all(|number| lines(number) > 0), "{:?}", (0..=TIMES).map(lines).collect::<Vec<_>>());
    assert!(gateway.metrics().sum("daemun_access_log_lost_lines_total", &[]).abs() < 0.1);
}

#[test]
fn hand_overs_under_load_fail_no_request() {
    let origin = proxied();
    let gateway = Gateway::start(&large(0, &origin));
    let loads = loads(&gateway);
    let mut running = gateway.pid();
    for number in 1..=3 {
        loads.iter().for_each(|load| load.wait_for(100));
        kill_process(Pid::from_raw(running).unwrap(), Signal::USR2).unwrap();
        wait_until("the new process is ready", Duration::from_secs(15), || {
            (gateway.ready_lines() > number).then_some(())
        });
        running = wait_until("its process id is told", Duration::from_secs(5), || successor(&gateway, number));
        if number == 1 {
            assert_eq!(gateway.wait_exit().code(), Some(0));
        }
    }
    loads.iter().for_each(|load| load.wait_for(100));
    for load in loads {
        clean(&load.stop(), 400);
    }
    assert_eq!(answers(&gateway, "/g0/5"), 200);
}

/// The process id of the successor that was started `number`th.
fn successor(gateway: &Gateway, number: usize) -> Option<i32> {
    let said = gateway.stderr();
    let told = said.split("as process ").nth(number)?;
    told.split(' ').next()?.parse().ok()
}

#[test]
fn a_hand_over_to_a_binary_that_cannot_start_changes_nothing() {
    let gateway = Gateway::start(&format!("reload: signal\n{}", generation(0, 1)));
    let load = Load::start(gateway.address(), 2, Connections::Kept, "/constant", "constant");
    load.wait_for(50);
    gateway.rewrite("nonsense: [");
    gateway.signal(Signal::USR2);
    wait_until("the failure was told", Duration::from_secs(15), || gateway.stderr().contains("nonsense").then_some(()));
    load.wait_for(200);
    clean(&load.stop(), 250);
    assert!(gateway.exited().is_none());
}

#[test]
fn a_port_in_use_is_exit_69() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let yaml = generation(0, 1).replacen("127.0.0.1:0", &address.to_string(), 1);
    let refusal = Gateway::launch(Folder::new(), &yaml, &[]).err().expect("a refusal");
    assert_eq!(refusal.code, Some(69), "{refusal:?}");
    assert!(refusal.stderr.contains(&address.to_string()), "{refusal:?}");
    let folder = Folder::new();
    let other = Gateway::start(&generation(0, 1));
    let yaml = generation(0, 1).replacen("127.0.0.1:0", &other.address().to_string(), 1);
    let refusal = Gateway::launch(folder, &yaml, &[]).err().expect("a refusal, although both would share the port");
    assert_eq!(refusal.code, Some(69), "{refusal:?}");
}

#[test]
fn a_bad_configuration_is_exit_1_and_says_where() {
    let refusal =
        Gateway::launch(Folder::new(), &format!("{}nonsense: true\n", generation(0, 1)), &[]).err().expect("a refusal");
    assert_eq!(refusal.code, Some(1), "{refusal:?}");
    assert!(refusal.stderr.contains("nonsense") && refusal.stderr.contains("daemun.yaml"), "{refusal:?}");
    assert!(refusal.stdout.is_empty(), "{refusal:?}");
}

#[test]
fn the_first_request_is_served_soon_after_the_start() {
    let begun = daemun_e2e::wait::now();
    let gateway = Gateway::start(&generation(0, 1));
    assert_eq!(answers(&gateway, "/constant"), 200);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(gateway.resident_kib() < 60 * 1024, "{} KiB", gateway.resident_kib());
}

#[test]
fn a_crash_leaves_no_file_with_the_memory_of_the_gateway() {
    let gateway = Gateway::start(&generation(1, 1));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gateway.pid())).unwrap();
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert_eq!(core.split_ascii_whitespace().next(), Some("0"), "the soft limit: {limits}");
}
