//! Cases of raw bytes: what is sent, what may be answered, and what the upstream may have received. Each is judged for itself;
//! a family reports all its failures at once.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::client::{Client, Response, shown};
use crate::lane::Lane;
use crate::origin::{Log, Request};
use crate::wire::Broken;

/// How long an answer may take before a case counts as hung.
const LIMIT: Duration = Duration::from_secs(6);
/// Gateways that judge the cases of one family side by side.
const LANES: usize = 4;

/// What must hold for a request the upstream received; the error says what does not.
pub type Check = Arc<dyn Fn(&Request) -> Result<(), String> + Send + Sync>;

/// What becomes of the connection after the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The gateway closes it, without a further byte.
    Closed,
    /// Another request on it is answered.
    Open,
    /// Either.
    Any,
}

/// One way a case may come out.
#[derive(Clone)]
struct Outcome {
    answers: Vec<Vec<u16>>,
    after: After,
    upstream: Vec<Check>,
    partial: bool,
}

/// Bytes and what may become of them.
#[derive(Clone)]
pub struct Case {
    /// Name, unique in its family.
    pub name: String,
    pieces: Vec<Vec<u8>>,
    fin: bool,
    method: String,
    outcomes: Vec<Outcome>,
    interim: bool,
    split: bool,
}

/// A case that sends `bytes` in one write.
pub fn case(name: impl Into<String>, bytes: impl AsRef<[u8]>) -> Case {
    let bytes = bytes.as_ref().to_vec();
    let method = String::from_utf8_lossy(bytes.split(|&byte| byte == b' ').next().unwrap_or_default()).into_owned();
    let pieces = vec![bytes];
    Case { name: name.into(), pieces, fin: false, method, outcomes: Vec::new(), interim: false, split: false }
}

impl Case {
    /// Sends `bytes` in a further write, once the gateway has read the one before.
    #[must_use]
    pub fn then(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.pieces.push(bytes.as_ref().to_vec());
        self
    }

    /// Says after the last byte that no more will come.
    #[must_use]
    pub fn then_fin(mut self) -> Self {
        self.fin = true;
        self
    }

    /// Runs the case once more for each position at which its bytes can be split in two writes.
    #[must_use]
    pub fn split_everywhere(mut self) -> Self {
        self.split = true;
        self
    }

    /// May come out so: one refusal with one of `statuses`, the connection closed, and nothing sent upstream.
    #[must_use]
    pub fn refused(self, statuses: &[u16]) -> Self {
        self.answered(&[statuses], After::Closed, Vec::new())
    }

    /// Like [`Case::refused`], but a request that breaks off may have reached the upstream, since its head was in order.
    #[must_use]
    pub fn refused_midway(mut self, statuses: &[u16]) -> Self {
        self = self.refused(statuses);
        self.allow_partial()
    }

    /// May come out so: one answer 200, one request upstream, the connection kept.
    #[must_use]
    pub fn passes(self) -> Self {
        self.passes_as(|_| Ok(()))
    }

    /// May come out so: one answer 200, one request upstream for which `check` holds, the connection kept.
    #[must_use]
    pub fn passes_as(self, check: impl Fn(&Request) -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.answered(&[&[200]], After::Open, vec![Arc::new(check)])
    }

    /// May come out so: these answers in order, then `after`, and exactly these requests upstream.
    #[must_use]
    pub fn answered(mut self, answers: &[&[u16]], after: After, upstream: Vec<Check>) -> Self {
        let answers = answers.iter().map(|statuses| statuses.to_vec()).collect();
        self.outcomes.push(Outcome { answers, after, upstream, partial: false });
        self
    }

    /// In the last outcome named, a request that breaks off may have reached the upstream.
    #[must_use]
    pub fn allow_partial(mut self) -> Self {
        self.outcomes.last_mut().expect("an outcome").partial = true;
        self
    }

    /// Interim answers may come before the final ones.
    #[must_use]
    pub fn allow_interim(mut self) -> Self {
        self.interim = true;
        self
    }

    fn variants(&self) -> Vec<Self> {
        let mut all = vec![self.clone()];
        if self.split {
            let whole = self.pieces.concat();
            for at in 1..whole.len() {
                let name = format!("{}, split at {at}", self.name);
                let pieces = vec![whole[..at].to_vec(), whole[at..].to_vec()];
                all.push(Self { name, pieces, ..self.clone() });
            }
        }
        all
    }
}

/// A check for a request's target and body.
pub fn seen(target: &'static str, body: &'static [u8]) -> Check {
    Arc::new(move |request| {
        if request.target != target {
            return Err(format!("target `{}` instead of `{target}`", request.target));
        }
        if request.body != body {
            return Err(format!("body `{}` instead of `{}`", shown(&request.body), shown(body)));
        }
        Ok(())
    })
}

/// A check that always holds.
pub fn anything() -> Check {
    Arc::new(|_| Ok(()))
}

/// Runs the cases against gateways with the configuration `yaml`, whose `{origin}` stands for the upstream.
///
/// # Panics
/// When a case fails; the message lists all that do.
pub fn run_cases(yaml: &str, cases: Vec<Case>) {
    let named: std::collections::BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(named.len(), cases.len(), "two cases have one name");
    let cases: Vec<Case> = cases.iter().flat_map(Case::variants).collect();
    run_each(
        cases.len(),
        || Lane::start(yaml),
        |lane, index| {
            let case = &cases[index];
            judge(lane, case).map_err(|why| {
                let sent: Vec<String> = case.pieces.iter().map(|piece| format!("`{}`", shown(piece))).collect();
                format!("{}\n    {why}\n    sent {}", case.name, sent.join(" then "))
            })
        },
    );
}

/// Runs `count` cases side by side, each worker with a lane of its own, which is made anew after a failure.
///
/// # Panics
/// When a case fails; the message lists all that do.
pub fn run_each<L>(count: usize, make: impl Fn() -> L + Sync, judge: impl Fn(&L, usize) -> Result<(), String> + Sync) {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..LANES.min(count) {
            scope.spawn(|| {
                let mut lane = make();
                loop {
                    let index = next.fetch_add(1, Ordering::SeqCst);
                    if index >= count {
                        return;
                    }
                    if let Err(why) = judge(&lane, index) {
                        failures.lock().unwrap_or_else(PoisonError::into_inner).push((index, why));
                        lane = make();
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    failures.sort();
    let mut text = String::new();
    for (_, why) in &failures {
        let _ = write!(text, "\n  - {why}");
    }
    assert!(failures.is_empty(), "{} of {count} cases failed:{text}\n", failures.len());
}

/// What happened to a case.
struct Observed {
    answers: Vec<Response>,
    end: String,
    after: Option<After>,
}

fn judge(lane: &Lane, case: &Case) -> Result<(), String> {
    let observed = play(lane, case);
    let log = lane.settle().map_err(|why| format!("{why}; {}", observed.shown()))?;
    if !log.faults.is_empty() {
        return Err(format!("the upstream received {}; {}", log.faults.join(" and "), observed.shown()));
    }
    let mut reasons = Vec::new();
    for outcome in &case.outcomes {
        match matches(case, outcome, &observed, &log) {
            Ok(()) => return Ok(()),
            Err(why) => reasons.push(why),
        }
    }
    Err(format!("{}; {}; {}", reasons.join(", and "), observed.shown(), shown_log(&log)))
}

fn play(lane: &Lane, case: &Case) -> Observed {
    let mut client = match Client::try_connect(lane.gateway.address()) {
        Ok(client) => client,
        Err(error) => return Observed { answers: Vec::new(), end: format!("connecting: {error}"), after: None },
    };
    client.set_timeout(LIMIT);
    let (last, before) = case.pieces.split_last().expect("bytes");
    for piece in before {
        client.send_apart(piece);
    }
    client.send(last);
    if case.fin {
        client.finish();
    }
    let most = case.outcomes.iter().map(|outcome| outcome.answers.len()).max().unwrap_or(0);
    let mut answers: Vec<Response> = Vec::new();
    while answers.len() < most && case.outcomes.iter().any(|outcome| outcome.goes_on(&answers)) {
        match client.response_to(&case.method) {
            Ok(answer) if answer.broken.is_none() => answers.push(answer),
            Ok(answer) => return Observed { end: format!("a broken answer {answer:?}"), answers, after: None },
            Err(Broken::Closed) => return Observed { answers, end: "closed".to_owned(), after: Some(After::Closed) },
            Err(broken) => return Observed { answers, end: broken.to_string(), after: None },
        }
    }
    end(&mut client, case, answers)
}

impl Outcome {
    fn holds(&self, answers: &[Response]) -> bool {
        let pairs = self.answers.iter().zip(answers);
        self.answers.len() >= answers.len() && pairs.into_iter().all(|(some, answer)| some.contains(&answer.status))
    }

    fn goes_on(&self, answers: &[Response]) -> bool {
        self.holds(answers) && self.answers.len() > answers.len()
    }
}

fn end(client: &mut Client, case: &Case, answers: Vec<Response>) -> Observed {
    let fitting =
        case.outcomes.iter().filter(|outcome| outcome.holds(&answers) && outcome.answers.len() == answers.len());
    let fitting: Vec<After> = fitting.map(|outcome| outcome.after).collect();
    if fitting.is_empty() {
        return Observed { answers, end: "not looked at".to_owned(), after: None };
    }
    if fitting.iter().any(|after| *after != After::Closed) && !case.fin {
        client.send("GET /after HTTP/1.1\r\nHost: e2e.test\r\n\r\n");
        return match client.response() {
            Ok(answer) if answer.status == 200 && answer.body == b"/after" => {
                Observed { answers, end: "open".to_owned(), after: Some(After::Open) }
            }
            Ok(answer) => Observed { answers, end: format!("a request after it got {answer:?}"), after: None },
            Err(Broken::Closed | Broken::Reset) => {
                Observed { answers, end: "closed".to_owned(), after: Some(After::Closed) }
            }
            Err(broken) => Observed { answers, end: format!("a request after it: {broken}"), after: None },
        };
    }
    match client.rest() {
        Ok(rest) if rest.is_empty() => Observed { answers, end: "closed".to_owned(), after: Some(After::Closed) },
        Ok(rest) => Observed { answers, end: format!("further bytes `{}`", shown(&rest)), after: None },
        Err(Broken::Reset) => Observed { answers, end: "reset".to_owned(), after: Some(After::Closed) },
        Err(broken) => Observed { answers, end: format!("not closed: {broken}"), after: Some(After::Open) },
    }
}

fn matches(case: &Case, outcome: &Outcome, observed: &Observed, log: &Log) -> Result<(), String> {
    let statuses = observed.answers.iter().map(|answer| answer.status).collect::<Vec<_>>();
    if statuses.len() != outcome.answers.len() || !outcome.holds(&observed.answers) {
        return Err(format!("answers {statuses:?} instead of {:?}", outcome.answers));
    }
    if !case.interim && observed.answers.iter().any(|answer| !answer.interim.is_empty()) {
        return Err("an interim answer that was not asked for".to_owned());
    }
    let after = observed.after.ok_or_else(|| format!("at the end {}", observed.end))?;
    if outcome.after != After::Any && outcome.after != after && !(case.fin && after == After::Closed) {
        return Err(format!("the connection is {after:?} instead of {:?}", outcome.after));
    }
    let requests: Vec<&Request> = log.requests.iter().filter(|request| request.target != "/after").collect();
    if requests.len() != outcome.upstream.len() {
        return Err(format!("{} requests upstream instead of {}", requests.len(), outcome.upstream.len()));
    }
    for (request, check) in requests.iter().zip(&outcome.upstream) {
        check(request)?;
    }
    if !outcome.partial && !log.partial.is_empty() {
        return Err("a request that broke off reached the upstream".to_owned());
    }
    Ok(())
}

impl Observed {
    fn shown(&self) -> String {
        let answers: Vec<String> = self
            .answers
            .iter()
            .map(|answer| {
                let interim = answer.interim.iter().map(|head| format!("{} then ", head.start)).collect::<String>();
                format!("{interim}{} `{}`", answer.status, shown(&answer.body))
            })
            .collect();
        format!("answers: [{}], at the end: {}", answers.join(", "), self.end)
    }
}

fn shown_log(log: &Log) -> String {
    let requests: Vec<String> = log.requests.iter().map(Request::shown).collect();
    let partial: Vec<String> = log.partial.iter().map(Request::shown).collect();
    format!("upstream: [{}], broken off: [{}]", requests.join(", "), partial.join(", "))
}
