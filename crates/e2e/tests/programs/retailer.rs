//! The retailer's example as its guide page goes through it: one client and the same services, with nginx and a token service before them,
//! then with Daemun and that service, then with Daemun alone. What the page shows is what is run.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use daemun_e2e::gateway::Folder;
use daemun_e2e::wire::Address;
use daemun_e2e::{Gateway, poll, wait_until};
use serde_json::Value;

use crate::peers::{Script, find, is_there, port};

const PAGE: &str = include_str!("../../../../docs/guide/from-nginx-auth-request.md");
const NGINX: &str = include_str!("../../../../examples/retailer/nginx.conf");
const KEPT: &str = include_str!("../../../../examples/retailer/daemun-kept.yaml");
const OWN: &str = include_str!("../../../../examples/retailer/daemun-own.yaml");
/// What a client runs that goes through everything.
const CLIENT: &str = "python3 client.py http://127.0.0.1:8080 http://127.0.0.1:9000";

/// The blocks of the page of a kind.
fn blocks(kind: &str) -> Vec<&'static str> {
    let fence = format!("```{kind}\n");
    PAGE.split(&fence).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// Lines without what stands around them.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect()
}

/// Whether the lines stand in the text one behind the other.
fn holds(text: &str, part: &str) -> bool {
    let (text, part) = (lines(text), lines(part));
    text.windows(part.len()).any(|window| window == part)
}

/// The Python that has the token service's packages, where `cargo xtask test` put it.
fn python() -> Option<PathBuf> {
    let own = std::env::current_exe().unwrap();
    let python = own.ancestors().nth(3)?.join("retailer/bin/python3");
    python.is_file().then_some(python)
}

/// What runs the page's commands: the example in a folder of its own, and a port in place of each that is written there.
struct Stage {
    folder: Folder,
    python: PathBuf,
    ports: BTreeMap<&'static str, u16>,
    running: Vec<(String, Script)>,
    daemun: Option<Gateway>,
    /// What the client wrote, each time it ran.
    clients: Vec<Vec<Value>>,
    /// What the services were asked until the client had ended, each time.
    asked: Vec<Vec<String>>,
    /// What the token service gave out last, before it ended.
    left: Option<Value>,
}

impl Stage {
    fn new(python: PathBuf) -> Stage {
        let folder = Folder::new();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/retailer");
        for file in std::fs::read_dir(example).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file())
        {
            std::fs::copy(&file, folder.path().join(file.file_name().unwrap())).unwrap();
        }
        let (running, clients, asked) = (Vec::new(), Vec::new(), Vec::new());
        Stage { folder, python, ports: BTreeMap::new(), running, daemun: None, clients, asked, left: None }
    }

    /// A text with the ports that are known in place of the written ones.
    fn placed(&self, text: &str) -> String {
        self.ports
            .iter()
            .fold(text.to_owned(), |text, (written, port)| text.replace(&format!(":{written}"), &format!(":{port}")))
    }

    fn place(&self, file: &str) {
        let text = std::fs::read_to_string(self.folder.path().join(file)).unwrap();
        self.folder.write(file, self.placed(&text));
    }

    fn run(&mut self, line: &'static str) {
        let words: Vec<&str> = line.trim_end_matches(" &").split(' ').collect();
        match *words {
            ["python3", "backend.py", name, "--port", written]
            | [".venv/bin/python", name @ "token_service.py", "--port", written] => {
                self.place("services.json");
                self.serve(name, written, words.get(1..words.len() - 1).unwrap(), &[]);
            }
            ["python3", name @ "admin.py", "serve", "--port", written, "--admin", admin] => {
                let admin = self.placed(admin);
                self.serve(name, written, &[name, "serve", "--port"], &["--admin", &admin]);
            }
            ["python3", name @ "admin.py", "move", settings, "--admin", admin] => {
                for moved in ["moved", "there is such a credential already"] {
                    let said = self.script(&[name, "move", settings, "--admin", &self.placed(admin)]).end(name);
                    let keys: Vec<&Value> = said.iter().map(|line| &line["key"]).collect();
                    assert_eq!(keys, [moved; 2], "whoever moves twice changes nothing");
                }
            }
            ["kill", "%daemun", "%.venv/bin/python"] => {
                let (status, told) = post(self.daemun.as_ref().unwrap(), "/auth", "X-API-KEY: demo-key-of-the-kiosk");
                assert_eq!(status, 200, "{told}");
                (self.left, self.daemun) = (Some(told), None);
                self.running.retain(|(name, _)| name != "token_service.py");
            }
            ["nginx", "-p", ".", "-c", "nginx.conf", "-e", "stderr"] => self.start_nginx(words.get(1..).unwrap()),
            ["kill", "$(cat", "nginx.pid)"] => self.running.retain(|(name, _)| name != "nginx"),
            ["daemun", "run", "-c", file] => {
                self.ports.extend([("8080", 0), ("9900", 0)]);
                let written = [("daemun-kept.yaml", KEPT), ("daemun-own.yaml", OWN)];
                let (_, text) = written.iter().find(|(name, _)| *name == file).unwrap();
                let gateway = Gateway::start(&self.placed(text));
                let Address::Tcp(admin) = gateway.admin_address() else { panic!("not a TCP listener") };
                self.ports.extend([("8080", port(&gateway)), ("9900", admin.port())]);
                self.daemun = Some(gateway);
            }
            ["python3", name @ "client.py", gateway, operator] => {
                let said = self.script(&[name, &self.placed(gateway), &self.placed(operator)]).end(name);
                let before: usize = self.asked.iter().map(Vec::len).sum();
                let answered = |line: &&Value| line["body"].get("service").is_some() || line["body"] == "";
                let wanted = before + said.iter().filter(answered).count();
                wait_until("the services told what they were asked", Duration::from_secs(20), || {
                    (self.asked_so_far().len() == wanted).then_some(())
                });
                let mut asked = self.asked_so_far();
                for earlier in self.asked.iter().flatten() {
                    asked.remove(asked.iter().position(|one| one == earlier).unwrap());
                }
                asked.sort();
                self.clients.push(said);
                self.asked.push(asked);
            }
            _ => panic!("the page has a command that is not run here: `{line}`"),
        }
    }

    /// A script of the example.
    fn script(&self, arguments: &[&str]) -> Script {
        let mut command = Command::new(&self.python);
        command.args(arguments).current_dir(self.folder.path());
        Script::of(command)
    }

    /// A server of the example, on a free port in place of the written one, which stands between the arguments.
    fn serve(&mut self, name: &str, written: &'static str, before: &[&str], behind: &[&str]) {
        let script = self.script(&[before, &["0"], behind].concat());
        self.ports.insert(written, u16::try_from(script.port(name)).unwrap());
        self.running.push((name.to_owned(), script));
    }

    /// nginx on a free port; somebody else may take it in between, then it gets another.
    fn start_nginx(&mut self, arguments: &[&str]) {
        let started = (0..10).any(|_| {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
            self.ports.insert("8080", free.port());
            self.folder.write("nginx.conf", self.placed(NGINX));
            let mut command = Command::new(find("nginx").unwrap());
            command.args(arguments).current_dir(self.folder.path());
            let mut script = Script::of(command);
            let listens = poll(Duration::from_secs(20), || match TcpStream::connect(free) {
                _ if script.has_ended() => Some(false),
                Ok(_) => Some(true),
                Err(_) => None,
            });
            self.running.push(("nginx".to_owned(), script));
            listens == Some(true) || {
                self.running.pop();
                false
            }
        });
        assert!(started, "nginx does not start");
    }

    /// What the services were asked.
    fn asked_so_far(&self) -> Vec<String> {
        let of = |(name, script): &(String, Script)| {
            let asked = script.said().into_iter().filter_map(|line| line["asked"].as_str().map(str::to_owned));
            asked.map(|asked| format!("{name}: {asked}")).collect::<Vec<_>>()
        };
        self.running.iter().flat_map(of).collect()
    }
}

/// What a gateway answers a request without a body.
fn post(gateway: &Gateway, path: &str, field: &str) -> (u16, Value) {
    let answer =
        gateway.connect().call(format!("POST {path} HTTP/1.1\r\nHost: a\r\n{field}\r\nContent-Length: 0\r\n\r\n"));
    (answer.status, answer.json())
}

#[test]
fn a_client_of_the_retailer_notices_nothing_of_its_new_gateway() {
    let mut missing = Vec::new();
    if find("nginx").is_none() {
        missing.push("nginx");
    }
    let python = python();
    if python.is_none() {
        missing.push("the packages of examples/retailer/requirements.txt");
    }
    if !is_there(&missing) {
        return;
    }
    let mut stage = Stage::new(python.unwrap());
    let commands: Vec<&str> = blocks("sh").into_iter().flat_map(lines).collect();
    let made_ready = ["cd examples/retailer", "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt"];
    assert_eq!(commands.get(..2).unwrap(), made_ready);
    commands.get(2..).unwrap().iter().for_each(|line| stage.run(line));
    tokens_from_before_are_unknown(&stage);
    // it was cut off at the end, and is let in again
    stage.run(CLIENT);

    let [with_nginx, with_daemun, alone, again] = &*stage.clients else {
        panic!("the client ran {} times", stage.clients.len());
    };
    assert_eq!(with_daemun, with_nginx, "the client sees the same");
    assert_eq!(alone, with_nginx, "the client sees the same where no token service is");
    assert_eq!(again, with_nginx, "the client sees the same another time");
    assert!(with_nginx.len() >= 20, "{with_nginx:#?}");
    for block in blocks("json") {
        for line in lines(block) {
            let shown: Value = serde_json::from_str(line).unwrap();
            assert!(with_daemun.contains(&shown), "the page shows what the client does not write: {line}");
        }
    }
    let statuses: Vec<u64> = with_daemun.iter().filter_map(|line| line["status"].as_u64()).collect();
    assert!([200, 201, 401, 403].iter().all(|status| statuses.contains(status)), "{statuses:?}");
    let [first, others @ ..] = &*stage.asked else { panic!("no round") };
    assert!(others.iter().all(|other| other == first), "the services are asked the same: {:#?}", stage.asked);
    assert!(!first.is_empty() && first.iter().all(|asked| asked.contains("/v")), "{first:#?}");
}

/// The change-over ends the tokens of the token service, as its restart did, and keys go on.
fn tokens_from_before_are_unknown(stage: &Stage) {
    let (gateway, left) = (stage.daemun.as_ref().unwrap(), stage.left.as_ref().unwrap());
    let token = |name: &str| left[name].as_str().unwrap().to_owned();
    let field = format!("X-API-ACCESS-TOKEN: {}", token("access_token"));
    let (status, told) = post(gateway, "/products/1", &field);
    assert_eq!((status, &told["error"]), (401, &"the access token is missing or no longer valid".into()));
    let field = format!("X-API-REFRESH-TOKEN: {}", token("refresh_token"));
    let (status, told) = post(gateway, "/auth/refresh", &field);
    assert_eq!((status, &told["error"]), (401, &"the refresh token is not known".into()));
    assert_eq!(post(gateway, "/auth", "X-API-KEY: demo-key-of-the-kiosk").0, 200);
    // what shows nothing is no other than what shows something wrong
    for (path, error) in [("/auth", "the API key is not known"), ("/auth/refresh", "the refresh token is not known")] {
        assert_eq!(post(gateway, path, "X-Other: 1"), (401, serde_json::json!({ "error": error })), "{path}");
    }
}

#[test]
fn the_page_shows_the_files_of_the_example() {
    for block in blocks("nginx") {
        let sections = block.split("\n\n");
        sections.for_each(|section| assert!(holds(NGINX, section), "{section}"));
    }
    assert_eq!(blocks("nginx").len(), 1);
    let [kept, own] = &*blocks("yaml") else { panic!("the page shows two configurations") };
    assert!(KEPT.ends_with(kept), "{kept}");
    assert!(OWN.ends_with(own), "{own}");
}
