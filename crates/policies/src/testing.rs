//! Runs policies in memory for tests: exchanges made from text, chains built from settings, and the pages' own examples.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use daemun_config::decode::JsonValue;
use daemun_config::diagnostic::Diagnostics;
use daemun_config::model::{
    GrantType, ServiceUrls, Spanned, TokenFormat, TokenMember, TokenService, UserSource, UserSources,
};
use daemun_config::tree::{At, Node};
use daemun_config::{System, Vocabulary, decode::Decoder, parse_text};
use daemun_pipeline::{
    BasicCredential, BodyNeed, BuildContext, Carry, Consumer, Directory, Exchange, Fault, Flow, Head, Method, Nowhere,
    Outcome, Outgoing, Phase, Policy, Reason, Request, Span, Stop, TlsIdentity, Upstreams, Verdict, World,
};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::REGISTRY;
use crate::service::Service;

/// Nanoseconds in a second.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// The wall clock when a page begins: 2027-01-15, in nanoseconds.
pub(crate) const WALL: u64 = 1_800_000_000 * SECOND;

/// A consumer with keys in clear.
pub(crate) fn consumer(name: &str, roles: &[&str], keys: &[&str]) -> Consumer {
    Consumer {
        name: name.to_owned(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        groups: Vec::new(),
        tags: Vec::new(),
        scopes: Vec::new(),
        keys: keys.iter().map(|key| sha256(key)).collect(),
        ..Consumer::default()
    }
}

/// A username and a password in clear.
pub(crate) fn basic(username: &str, password: &str) -> BasicCredential {
    BasicCredential { username: username.to_owned(), password: sha256(password) }
}

fn sha256(text: &str) -> [u8; 32] {
    digest(&SHA256, text.as_bytes()).as_ref().try_into().expect("32 bytes")
}

/// A token service with the settings it has where nothing is said.
pub(crate) fn token_service(name: &str) -> TokenService {
    let minutes = |minutes: u64| std::time::Duration::from_secs(minutes * 60);
    TokenService {
        name: Spanned { value: name.to_owned(), at: At::default() },
        grants: vec![GrantType::Key, GrantType::ClientCredentials, GrantType::RefreshToken],
        users: UserSources(vec![UserSource::Embedded]),
        provider: None,
        saml: None,
        format: TokenFormat::Opaque,
        access: minutes(15),
        code: std::time::Duration::from_secs(30),
        refresh: Some(minutes(60)),
        longest: minutes(120),
        key_header: "X-Api-Key".to_owned(),
        refresh_header: None,
        issuer: None,
        urls: ServiceUrls::default(),
        answer: TokenMember::ALL.to_vec(),
        challenge: "Basic realm=\"daemun\"".to_owned(),
        most: 1000,
    }
}

/// What policies are built with.
pub(crate) struct Bench {
    pub(crate) directory: Arc<Directory>,
    pub(crate) carry: Carry,
    pub(crate) world: Arc<dyn World>,
    pub(crate) token_services: Vec<TokenService>,
    pub(crate) upstreams: Arc<dyn Upstreams>,
    pub(crate) route: Option<String>,
    pub(crate) path: String,
}

impl Bench {
    pub(crate) fn new(consumers: Vec<Consumer>) -> Bench {
        Bench {
            directory: Arc::new(Directory::new(consumers)),
            carry: Carry::default(),
            world: Nowhere::shared(),
            token_services: vec![token_service("shop")],
            upstreams: Arc::new(()),
            route: Some("items".to_owned()),
            path: "routes.items.policies".to_owned(),
        }
    }

    /// With a consumer of the store; the accounts live as long as somebody holds them.
    pub(crate) fn with_stored(&self, name: &str) -> Arc<daemun_accounts::Accounts> {
        let accounts = daemun_accounts::Accounts::of(&self.carry);
        let stored = daemun_accounts::Consumer { name: name.to_owned(), ..daemun_accounts::Consumer::default() };
        assert_eq!(wait(accounts.put_consumer(stored, 0)), Ok(()));
        accounts
    }

    /// With users of YAML, as the language reads them, whom the token services give tokens to.
    pub(crate) fn with_users(mut self, consumers: Vec<Consumer>, users: &str) -> Bench {
        let users = loaded("users", users).users;
        self.directory = Arc::new(Directory::new(consumers).with_users(users));
        self.token_services.iter_mut().for_each(|service| service.grants.push(GrantType::Password));
        self
    }

    /// Builds the policies of a YAML mapping; `Err` holds the findings when there are errors.
    pub(crate) fn build(&self, settings: &str) -> Result<Chain, Findings> {
        let mut diagnostics = Diagnostics::new();
        let node = parse_text(settings, &mut diagnostics).expect("the settings are YAML");
        let entries = node.as_map().expect("the settings are a mapping");
        let is_authenticator =
            |name: &str| REGISTRY.iter().any(|row| row.name == name && row.phase == Phase::Authenticate);
        let authenticated = entries.iter().any(|entry| is_authenticator(&entry.key));
        let always: Vec<&str> = entries.iter().map(|entry| &*entry.key).filter(|name| is_authenticator(name)).collect();
        let mut steps = Vec::new();
        for row in REGISTRY {
            let Some(settings) = node.get(row.name) else { continue };
            let path = format!("{}.{}", self.path, row.name);
            (row.check)(settings, &mut Decoder::new(&mut diagnostics, &path));
            if diagnostics.has_errors() {
                continue;
            }
            let mut ctx = BuildContext {
                diagnostics: &mut diagnostics,
                directory: &self.directory,
                carry: &self.carry,
                world: &self.world,
                token_services: &self.token_services,
                has_store: false,
                folders: &[],
                upstreams: &self.upstreams,
                route: self.route.as_deref(),
                authenticated,
                always: &always,
                body: 10 << 20,
                path,
                at: At::default(),
                param_names: &[],
            };
            steps.extend((row.build)(settings, &mut ctx).unwrap_or_default());
        }
        for entry in entries {
            assert!(REGISTRY.iter().any(|row| row.name == entry.key), "there is no policy `{}`", entry.key);
        }
        steps.sort_by_key(|(phase, _)| *phase);
        diagnostics.sort();
        if diagnostics.has_errors() {
            return Err(Findings(diagnostics));
        }
        Ok(Chain { steps, directory: Arc::clone(&self.directory), findings: Findings(diagnostics) })
    }

    /// The findings of settings that are wrong, one line each.
    pub(crate) fn errors(&self, settings: &str) -> Vec<String> {
        self.build(settings).err().map(|findings| findings.lines()).unwrap_or_default()
    }
}

/// What building found.
pub(crate) struct Findings(Diagnostics);

impl Findings {
    /// `code path: message`, sorted by place.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.iter().map(|found| format!("{} {}: {}", found.code, found.path, found.message)).collect()
    }
}

impl std::fmt::Debug for Findings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.lines()).finish()
    }
}

/// Policies in running order.
pub(crate) struct Chain {
    pub(crate) steps: Vec<(Phase, Box<dyn Policy>)>,
    directory: Arc<Directory>,
    pub(crate) findings: Findings,
}

impl Chain {
    /// An exchange that runs under this chain's directory.
    pub(crate) fn exchange(&self, text: &str) -> Exchange {
        let mut exchange = exchange(text);
        exchange.directory = Some(Arc::clone(&self.directory));
        exchange
    }

    /// Runs the way in, with no body given beside what is there; also says how many policies let the request pass.
    pub(crate) fn inward(&self, exchange: &mut Exchange) -> (usize, Verdict) {
        self.run_inward(exchange, None)
    }

    /// Runs the way in; the body is given to the policies that need it whole, as the data plane would.
    pub(crate) fn inward_with(&self, exchange: &mut Exchange, body: &[u8]) -> (usize, Verdict) {
        self.run_inward(exchange, Some(body))
    }

    fn run_inward(&self, exchange: &mut Exchange, body: Option<&[u8]>) -> (usize, Verdict) {
        for (passed, (_, policy)) in self.steps.iter().enumerate() {
            if let (BodyNeed::Whole { max }, Some(body)) = (policy.request_body(exchange), body)
                && policy.bodies().request
            {
                let held = exchange.request.body.get_or_insert_with(|| body.to_vec());
                if held.len() as u64 > max {
                    return (passed, Err(Fault::new(Reason::BodyTooLarge, "too large").into()));
                }
            }
            match policy.on_request(exchange) {
                Flow::Now(Ok(())) => {}
                Flow::Now(Err(stop)) => return (passed, Err(stop)),
                Flow::Later(work) => match wait(work) {
                    Ok(()) => {}
                    Err(stop) => return (passed, Err(stop)),
                },
            }
        }
        (self.steps.len(), Ok(()))
    }

    /// Puts the body of an answer where policies find it, if one needs it and it is not too large, or there is none.
    pub(crate) fn hold_answer(&self, exchange: &mut Exchange, body: Vec<u8>) {
        let needs = self.steps.iter().filter(|(_, policy)| policy.bodies().response);
        let needs = needs.filter_map(|(_, policy)| match policy.response_body(exchange) {
            BodyNeed::Whole { max } => Some(max),
            BodyNeed::Untouched => None,
        });
        let most = needs.max();
        exchange.response.body = most.filter(|most| body.len() as u64 <= *most).map(|_| body);
    }

    /// Runs the way out for the first `passed` policies, as long as none stops the answer.
    pub(crate) fn outward(&self, passed: usize, exchange: &mut Exchange) -> Verdict {
        self.steps.iter().take(passed).rev().try_for_each(|(_, policy)| policy.on_response(exchange))
    }

    /// Explains; gives the outcome of the first that would stop, or of the last.
    pub(crate) fn explain(&self, exchange: &mut Exchange) -> (Outcome, String) {
        let mut details = Vec::new();
        for (_, policy) in &self.steps {
            let explanation = policy.explain(exchange);
            details.push(explanation.detail);
            if explanation.outcome != Outcome::Pass {
                return (explanation.outcome, details.join("; "));
            }
        }
        (Outcome::Pass, details.join("; "))
    }

    /// Status that a request ends with on the way in; 0 when it passes.
    pub(crate) fn status(&self, exchange: &mut Exchange) -> u16 {
        match self.inward(exchange).1 {
            Ok(()) => 0,
            Err(stop) => status(&stop),
        }
    }
}

/// Status of a stop.
pub(crate) fn status(stop: &Stop) -> u16 {
    match stop {
        Stop::Answer(answer) => answer.status,
        Stop::Fault(fault) => fault.status(),
    }
}

/// Puts a stop into the exchange's response, as the data plane would.
pub(crate) fn respond(stop: &Stop, exchange: &mut Exchange) {
    exchange.response.status = status(stop);
    exchange.response.head.clear();
    exchange.response.own = true;
    exchange.response.body = match stop {
        Stop::Answer(answer) => Some(answer.body.to_vec()),
        Stop::Fault(fault) => Some(problem(fault).to_string().into_bytes()),
    };
    let head = &mut exchange.response.head;
    match stop {
        Stop::Answer(answer) => {
            for (name, value) in &answer.fields {
                assert!(head.append(name, value.as_bytes()), "`{name}` can be sent");
            }
        }
        Stop::Fault(fault) => {
            for (name, value) in &fault.fields {
                assert!(head.append(name, value.as_bytes()), "`{name}` can be sent");
            }
        }
    }
}

/// The problem document of a fault, without what only the data plane knows.
pub(crate) fn problem(fault: &Fault) -> JsonValue {
    let mut members = vec![
        ("type", format!("https://daemun.dev/problems/{}", fault.reason.code()).into()),
        ("title", fault.reason.title().into()),
        ("status", fault.status().into()),
        ("detail", fault.detail.as_ref().into()),
    ];
    members.extend(fault.members.iter().flat_map(|own| own.0.iter().cloned()));
    members.into_iter().collect()
}

/// An exchange made from the text of a request; lines may end in LF alone, and the fields end at an empty line or with the text.
pub(crate) fn exchange(text: &str) -> Exchange {
    let mut exchange = Exchange::default();
    exchange.request.version = 11;
    let mut lines = text.lines();
    let request = &mut exchange.request;
    let mut words = lines.next().expect("a request line").split(' ');
    let (method, target) = (words.next().expect("a method"), words.next().expect("a target"));
    request.method = Method::of(method.as_bytes());
    request.method_span = request.head.store(method.as_bytes());
    request.target = request.head.store(target.as_bytes());
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let start = request.target.start();
    request.path = Span::new(start, start + path.len());
    request.query = query.map(|query| Span::new(start + path.len() + 1, start + path.len() + 1 + query.len()));
    fields(&mut request.head, lines);
    if let Some(host) = request.head.get("Host").map(<[u8]>::to_vec) {
        request.authority = request.head.store(&host);
        let name = host.split(|&b| b == b':').next().unwrap_or_default().to_ascii_lowercase();
        request.host = request.head.store(&name);
    }
    exchange
}

fn fields<'a>(head: &mut Head, lines: impl Iterator<Item = &'a str>) {
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("`{line}` is a field"));
        assert!(head.append(name, value.trim().as_bytes()), "`{line}` is a field");
    }
}

/// What would be sent upstream, one line each.
pub(crate) fn upstream_lines(request: &Request) -> Vec<String> {
    let query = request.query_text().map(|query| format!("?{query}")).unwrap_or_default();
    let first = format!("{} {}{query} HTTP/1.1", request.method_text(), request.path_text());
    std::iter::once(first).chain(field_lines(&request.head)).collect()
}

/// The same with what the upstream is shown of who calls it, as the data plane adds it.
pub(crate) fn sent_lines(exchange: &Exchange) -> Vec<String> {
    let mut lines = upstream_lines(&exchange.request);
    let Some(credentials) = &exchange.credentials else { return lines };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let line = &mut lines[0];
    let mut target = line.split(' ').nth(1).expect("a target").to_owned();
    if !credentials.query().is_empty() {
        target.push(if target.contains('?') { '&' } else { '?' });
        target.push_str(&text(credentials.query()));
    }
    *line = format!("{} {target} HTTP/1.1", exchange.request.method_text());
    let call = Outgoing {
        method: exchange.request.method_text().as_bytes(),
        authority: exchange.request.head.bytes(exchange.request.authority),
        target: target.as_bytes(),
        wall: exchange.wall,
    };
    credentials.fields(&call, &mut |name, value| lines.push(format!("{}: {}", text(name), text(value))));
    lines
}

/// Fields, one line each.
pub(crate) fn field_lines(head: &Head) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    head.iter().map(|(_, name, value)| format!("{}: {}", text(name), text(value))).collect()
}

/// Runs a manual page: every `yaml settings` block builds a chain anew, every `http exchange` block runs through it. Panics with the
/// block when something is not as the page says; says how many exchanges it ran.
pub(crate) fn run_page(manual: &str) -> usize {
    let (mut consumers, mut users, mut plans) = (Vec::new(), None, String::new());
    let mut chain: Option<Chain> = None;
    let service = Arc::new(Service::default());
    let mut ran = 0;
    for (info, block) in blocks(manual) {
        match info {
            "yaml consumers" => consumers = consumers_with(&block, &plans),
            "yaml plans" => plans = block,
            "yaml users" => users = Some(block),
            "yaml settings" => {
                let world = Arc::clone(&service) as Arc<dyn World>;
                let mut bench = Bench { world, ..Bench::new(consumers.clone()) };
                if let Some(users) = &users {
                    bench = bench.with_users(consumers.clone(), users);
                }
                if !plans.is_empty() {
                    let plans = loaded("plans", &plans).plans;
                    bench.directory = Arc::new(Directory::new(consumers.clone()).with_plans(plans));
                }
                chain = Some(bench.build(&block).unwrap_or_else(|findings| panic!("{findings:#?}\n{block}")));
            }
            "http exchange" => {
                let chain = chain.as_ref().expect("settings stand before the first exchange");
                run_exchange(chain, &service, &block);
                ran += 1;
            }
            other => assert!(!other.contains(' '), "`{other}` is not a block that can be run"),
        }
    }
    ran
}

/// Fenced blocks: info string and text.
fn blocks(manual: &str) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    let mut open: Option<(&str, String)> = None;
    for line in manual.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => open = Some((info, String::new())),
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some((_, text)), None) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "every block ends");
    found
}

/// A configuration with these consumers or users, as the language reads them.
fn loaded(key: &str, block: &str) -> daemun_config::model::Config {
    loaded_with(key, block, "")
}

fn loaded_with(key: &str, block: &str, others: &str) -> daemun_config::model::Config {
    let block: String = block.lines().map(|line| format!("  {line}\n")).collect();
    let text =
        format!("listeners: [{{ bind: 127.0.0.1:0 }}]\nroutes: [{{ name: a, answer: {{}} }}]\n{others}{key}:\n{block}");
    let loaded = daemun_config::load_text("a.yaml".as_ref(), &text, &System, &Vocabulary::default());
    loaded.config.unwrap_or_else(|| panic!("{}", loaded.diagnostics.render(&loaded.sources, false)))
}

/// A consumer of YAML, as the language reads it, with nothing but its certificates and keys that sign.
pub(crate) fn consumer_of(block: &str) -> Consumer {
    consumers_of(block).pop().expect("a consumer")
}

fn consumers_of(block: &str) -> Vec<Consumer> {
    consumers_with(block, "")
}

/// Those of YAML, some of whom may be on plans of YAML.
fn consumers_with(block: &str, plans: &str) -> Vec<Consumer> {
    let plans: String = plans.lines().map(|line| format!("  {line}\n")).collect();
    let plans = if plans.is_empty() { plans } else { format!("plans:\n{plans}") };
    let proofs = loaded_with("consumers", block, &plans).consumers;
    let node = parse_text(block, &mut Diagnostics::new()).expect("the consumers are YAML");
    let texts = |node: &Node, key: &str| -> Vec<String> {
        let items = node.get(key).and_then(Node::as_seq).unwrap_or_default();
        items.iter().map(|item| item.as_str().expect("a text").to_owned()).collect()
    };
    let one = |node: &Node| {
        let roles = texts(node, "roles");
        let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
        let mut one = consumer(node.get("name").and_then(Node::as_str).expect("a name"), &roles, &[]);
        (one.groups, one.tags) = (texts(node, "groups"), texts(node, "tags"));
        let text = |node: &Node, key: &str| node.get(key).and_then(Node::as_str).expect("a text").to_owned();
        let logins = node.get("basic").and_then(Node::as_seq).unwrap_or_default();
        one.basic = logins.iter().map(|login| basic(&text(login, "username"), &text(login, "password"))).collect();
        let own = proofs.iter().find(|known| known.name.value == one.name);
        let own = own.expect("a consumer of the configuration");
        one.keys = own.keys.iter().map(|key| key.value).collect();
        one.certificates.clone_from(&own.certificates);
        one.hmac.clone_from(&own.hmac);
        one.signing_keys.clone_from(&own.signing_keys);
        one.redirect_uris.clone_from(&own.redirect_uris);
        one.plans.clone_from(&own.plans);
        one.terms = own.terms.iter().cloned().collect();
        one
    };
    node.as_seq().expect("a list of consumers").iter().map(one).collect()
}

/// What a client has proven that showed a certificate of the folder `mtls_auth/fixtures`.
pub(crate) fn certificate(name: &str) -> Rc<TlsIdentity> {
    let path = format!("{}/src/mtls_auth/fixtures/{name}.crt", env!("CARGO_MANIFEST_DIR"));
    let der = CertificateDer::from_pem_file(path).expect("a certificate").to_vec();
    let fingerprint = digest(&SHA256, &der).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Rc::new(TlsIdentity::new(fingerprint, der))
}

/// A message of an `http exchange` block: its head, and what stands behind an empty line.
#[derive(Clone, Default)]
struct Message {
    lines: Vec<String>,
    /// Lines of the body; those that are empty at its end stand between the parts of the block.
    body: Option<Vec<String>>,
}

impl Message {
    fn of(line: &str) -> Message {
        Message { lines: vec![line.to_owned()], body: None }
    }

    fn push(&mut self, line: &str) {
        match &mut self.body {
            Some(body) => body.push(line.to_owned()),
            None if line.is_empty() => self.body = (!self.lines.is_empty()).then(Vec::new),
            None => self.lines.push(line.to_owned()),
        }
    }

    /// Its body; empty when it shows none.
    fn body(&self) -> String {
        self.body.iter().flatten().map(String::as_str).collect::<Vec<_>>().join("\n").trim_end().to_owned()
    }
}

/// The parts of an `http exchange` block.
struct Script {
    request: Message,
    /// What another service is asked, and what it answers.
    asked: Option<Message>,
    told: Option<Message>,
    upstream: Option<Message>,
    answer: Message,
    caller: Option<Message>,
    at: u64,
    from: IpAddr,
    /// The connection is TLS.
    tls: bool,
    /// The peer is a trusted proxy.
    trusted: bool,
    /// The certificate that the client showed.
    certificate: Option<String>,
    /// Seconds since the Unix epoch.
    epoch: u64,
    times: usize,
}

impl Script {
    fn parse(block: &str) -> Script {
        let mut script = Script {
            request: Message::default(),
            asked: None,
            told: None,
            upstream: None,
            answer: Message::of("HTTP/1.1 200 OK"),
            caller: None,
            at: 0,
            from: IpAddr::from([192, 0, 2, 1]),
            tls: false,
            trusted: false,
            certificate: None,
            epoch: 0,
            times: 1,
        };
        let mut part = "request";
        for line in block.lines() {
            if let Some(conditions) = line.strip_prefix("# ") {
                conditions.split(", ").for_each(|condition| script.condition(condition));
                continue;
            }
            match line {
                "→ service" => script.asked = Some(Message::default()),
                "← service" => script.told = Some(Message::default()),
                "→ upstream" => script.upstream = Some(Message::default()),
                "→ upstream, unchanged" => script.upstream = Some(script.request.clone()),
                "← upstream" => script.answer = Message::default(),
                "← caller" => script.caller = Some(Message::default()),
                "" if part == "→ upstream, unchanged" => {}
                line => script.message(part).push(line),
            }
            if line.starts_with(['→', '←']) {
                part = line;
            }
        }
        script
    }

    fn message(&mut self, part: &str) -> &mut Message {
        match part {
            "→ upstream" => self.upstream.as_mut().expect("opened"),
            "← upstream" => &mut self.answer,
            "→ service" => self.asked.as_mut().expect("opened"),
            "← service" => self.told.as_mut().expect("opened"),
            "← caller" => self.caller.as_mut().expect("opened"),
            "request" => &mut self.request,
            other => panic!("nothing may follow `{other}`"),
        }
    }

    fn condition(&mut self, condition: &str) {
        let (first, last) = condition.split_once(' ').expect("two words");
        if first == "at" {
            let seconds: f64 = last.strip_suffix('s').and_then(|n| n.parse().ok()).expect("seconds");
            self.at = (seconds * 1e9) as u64;
        } else if first == "from" {
            self.from = last.parse().expect("an address");
        } else if first == "certificate" {
            self.certificate = Some(last.to_owned());
        } else if first == "epoch" {
            self.epoch = last.strip_suffix('s').and_then(|n| n.parse().ok()).expect("seconds");
        } else if condition == "over TLS" {
            self.tls = true;
        } else if condition == "through a trusted proxy" {
            self.trusted = true;
        } else {
            assert_eq!(last, "times");
            self.times = first.parse().expect("a number");
        }
    }
}

fn run_exchange(chain: &Chain, service: &Service, block: &str) {
    let script = Script::parse(block);
    let make = || {
        let mut exchange = chain.exchange(&script.request.lines.join("\n"));
        exchange.client.peer = Some(script.from);
        exchange.client.ip = script.from;
        exchange.client.peer_text = script.from.to_string().into();
        exchange.client.tls = script.tls;
        exchange.client.trusted = script.trusted;
        exchange.client.identity = script.certificate.as_deref().map(certificate);
        exchange.id = b"5f3a09c1000000000001".to_vec();
        exchange.times.start = script.at;
        exchange.wall = if script.epoch > 0 { script.epoch * SECOND } else { WALL + script.at };
        exchange
    };
    for _ in 0..script.times {
        let mut explained = make();
        explained.request.body = script.request.body.is_some().then(|| script.request.body().into_bytes());
        let (outcome, detail) = chain.explain(&mut explained);
        let mut exchange = make();
        if let Some(told) = &script.told {
            service.answer(&[&told.lines[..], &[String::new(), told.body()]].concat().join("\n"));
        }
        let (passed, verdict) = chain.inward_with(&mut exchange, script.request.body().as_bytes());
        let asked: Vec<Vec<String>> = script.asked.iter().map(|asked| asked.lines.clone()).collect();
        let really_asked = service.asked();
        if !asked.is_empty() || script.told.is_some() {
            assert_eq!(really_asked, asked, "{block}");
        }
        assert!(service.is_done(), "what the service answers was asked for\n{block}");
        // what another service decides is not known before it is asked
        let is_told = script.told.is_some();
        match &verdict {
            Ok(()) => {
                assert_eq!(outcome, Outcome::Pass, "explain agrees ({detail})\n{block}");
                // what is made of a body is not known before there is one
                if script.request.body.is_none() && !is_told {
                    assert_eq!(
                        upstream_lines(&explained.request),
                        upstream_lines(&exchange.request),
                        "explain agrees\n{block}"
                    );
                }
                let expected = script.upstream.as_ref().unwrap_or_else(|| panic!("it reaches the upstream\n{block}"));
                assert_eq!(sent_lines(&exchange), expected.lines, "{block}");
                if let Some(body) = &exchange.request.body {
                    assert_eq!(String::from_utf8_lossy(body), expected.body(), "{block}");
                }
                answer(&script, &mut exchange);
                chain.hold_answer(&mut exchange, script.answer.body().into_bytes());
            }
            Err(stop) => {
                let told = match outcome {
                    Outcome::Answer(status) | Outcome::Refuse(status, _) => status,
                    Outcome::Pass | Outcome::Skip => 0,
                };
                assert_eq!(told, if is_told { 0 } else { status(stop) }, "explain agrees ({detail})\n{block}");
                assert!(script.upstream.is_none(), "it does not reach the upstream: {stop:?}\n{block}");
                respond(stop, &mut exchange);
            }
        }
        if let Err(stop) = chain.outward(passed, &mut exchange) {
            respond(&stop, &mut exchange);
        }
        if let Some(expected) = &script.caller {
            let status = expected.lines[0].split(' ').nth(1).and_then(|status| status.parse().ok());
            assert_eq!(Some(exchange.response.status), status, "{block}");
            assert_eq!(field_lines(&exchange.response.head), expected.lines[1..], "{block}");
            if let (Some(body), true) = (&exchange.response.body, expected.body.is_some()) {
                compare_bodies(body, &expected.body(), exchange.response.own, block);
            }
        }
    }
}

/// Of an answer of the gateway's own, a page may show some members only.
fn compare_bodies(body: &[u8], shown: &str, own: bool, block: &str) {
    if !own {
        assert_eq!(String::from_utf8_lossy(body), shown, "{block}");
        return;
    }
    let shown: JsonValue = serde_json::from_str(shown).expect("a shown body is JSON");
    let body: JsonValue = serde_json::from_slice(body).expect("an own answer is JSON");
    for (key, value) in shown.as_object().expect("a shown body is an object") {
        assert_eq!(body.get(key), Some(value), "{key}\n{body:#}\n{block}");
    }
}

/// Puts the upstream's answer into the exchange.
fn answer(script: &Script, exchange: &mut Exchange) {
    let status = script.answer.lines[0].split(' ').nth(1).and_then(|status| status.parse().ok());
    exchange.response.status = status.expect("a status");
    fields(&mut exchange.response.head, script.answer.lines[1..].iter().map(String::as_str));
}

/// Waits on this thread for what is done by itself or by another thread.
pub(crate) fn wait<T>(work: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::task::Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = std::task::Context::from_waker(&waker);
    let mut work = std::pin::pin!(work);
    loop {
        match work.as_mut().poll(&mut context) {
            std::task::Poll::Ready(done) => return done,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

/// All that the caller is told of a stop, and not what the log says.
pub(crate) fn told(stop: Stop) -> String {
    match stop {
        Stop::Fault(fault) => format!("{:?}", Fault { cause: None, ..fault }),
        Stop::Answer(answer) => format!("{answer:?}"),
    }
}
