//! The retailer's example as its guide page goes through it: one client, the same token service and services, with nginx before them and
//! then with Daemun. What the page shows is what is run.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use daemun_e2e::gateway::Folder;
use daemun_e2e::{Gateway, poll, wait_until};
use serde_json::Value;

use crate::peers::{Script, find, is_there, port};

const PAGE: &str = include_str!("../../../../docs/guide/from-nginx-auth-request.md");
const NGINX: &str = include_str!("../../../../examples/retailer/nginx.conf");
const KEPT: &str = include_str!("../../../../examples/retailer/daemun-kept.yaml");

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
        Stage { folder, python, ports: BTreeMap::new(), running, daemun: None, clients, asked }
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
                let mut command = Command::new(&self.python);
                command.args(words.get(1..words.len() - 1).unwrap()).arg("0").current_dir(self.folder.path());
                let script = Script::of(command);
                self.ports.insert(written, u16::try_from(script.port(name)).unwrap());
                self.running.push((name.to_owned(), script));
            }
            ["nginx", "-p", ".", "-c", "nginx.conf", "-e", "stderr"] => self.start_nginx(words.get(1..).unwrap()),
            ["kill", "$(cat", "nginx.pid)"] => self.running.retain(|(name, _)| name != "nginx"),
            ["daemun", "run", "-c", "daemun-kept.yaml"] => {
                self.ports.insert("8080", 0);
                let gateway = Gateway::start(&self.placed(KEPT));
                self.ports.insert("8080", port(&gateway));
                self.daemun = Some(gateway);
            }
            ["python3", "client.py", gateway, operator] => {
                let mut command = Command::new(&self.python);
                command
                    .args(["client.py", &self.placed(gateway), &self.placed(operator)])
                    .current_dir(self.folder.path());
                let said = Script::of(command).end("client.py");
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

    let [with_nginx, with_daemun] = &*stage.clients else { panic!("the client ran {} times", stage.clients.len()) };
    assert_eq!(with_daemun, with_nginx, "the client sees the same");
    assert!(with_nginx.len() >= 20, "{with_nginx:#?}");
    for block in blocks("json") {
        for line in lines(block) {
            let shown: Value = serde_json::from_str(line).unwrap();
            assert!(with_daemun.contains(&shown), "the page shows what the client does not write: {line}");
        }
    }
    let statuses: Vec<u64> = with_daemun.iter().filter_map(|line| line["status"].as_u64()).collect();
    assert!([200, 201, 401, 403].iter().all(|status| statuses.contains(status)), "{statuses:?}");
    let [first, second] = &*stage.asked else { panic!("two rounds") };
    assert_eq!(first, second, "the services are asked the same");
    assert!(!first.is_empty() && first.iter().all(|asked| asked.contains("/v")), "{first:#?}");
}

#[test]
fn the_page_shows_the_files_of_the_example() {
    for block in blocks("nginx") {
        let sections = block.split("\n\n");
        sections.for_each(|section| assert!(holds(NGINX, section), "{section}"));
    }
    assert_eq!(blocks("nginx").len(), 1);
    let [shown] = &*blocks("yaml") else { panic!("the page shows one configuration") };
    assert!(KEPT.ends_with(shown), "{shown}");
}
