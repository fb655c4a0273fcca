//! `forward_auth`: whether a call is let in, who calls and where it goes, as another service decides. Knows how to ask and what is
//! answered; who calls, only the service knows.

mod ask;
pub(crate) mod config;
mod decision;
mod kept;
mod key;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use daemun_accounts::Accounts;
use daemun_config::model::Spanned;
use daemun_pipeline::{
    BuildContext, Exchange, Explanation, Fault, Flow, OutCall, Phase, Policy, PolicyConfig, Reason, Stop, Upstreams,
    Verdict, World,
};

pub use config::ForwardAuthConfig;

use crate::caller;
use ask::Question;
use config::Unavailable;
use decision::{Decided, Decision, Grant, Reading, Refusal, Trouble};
use kept::{Asking, Digest, Found, Shared, Store};
use key::Key;

/// Sent where the service refuses a call as unauthenticated and says nothing of how to be authenticated (RFC 9110, section 11.6.1).
const CHALLENGE: &str = "Bearer realm=\"daemun\"";

/// How often one call waits for others that ask the same, and go: nobody waits without end for those who begin and leave.
const MOST_TURNS: usize = 16;

impl PolicyConfig for ForwardAuthConfig {
    const NAME: &'static str = "forward_auth";

    fn build(self, ctx: &mut BuildContext<'_>) -> Option<Vec<(Phase, Box<dyn Policy>)>> {
        let (question, choice, cache) = (Question::new(&self, ctx), Choice::new(&self, ctx), Cache::new(&self, ctx));
        let reading = Reading::new(&self);
        let removed = reading.names().map(Into::into).collect();
        let policy = ForwardAuth {
            question: question?,
            choice: choice?,
            cache: cache?,
            reading,
            removed,
            accounts: Accounts::of(ctx.carry),
            unavailable: self.unavailable,
            world: Arc::clone(ctx.world),
        };
        Some(vec![(Phase::Authenticate, Box::new(policy))])
    }
}

struct ForwardAuth {
    question: Question,
    reading: Reading,
    choice: Option<Choice>,
    cache: Option<Cache>,
    /// What of the caller's own does not go on, in lower case.
    removed: Box<[Box<str>]>,
    /// Whose names nobody else may have.
    accounts: Arc<Accounts>,
    unavailable: Unavailable,
    world: Arc<dyn World>,
}

/// Where the service may send calls.
struct Choice {
    upstreams: Arc<dyn Upstreams>,
    among: Box<[usize]>,
}

impl Choice {
    /// `None` only after an error was reported.
    #[allow(clippy::option_option, reason = "outer: an error was reported; inner: nothing can be chosen")]
    fn new(settings: &ForwardAuthConfig, ctx: &mut BuildContext<'_>) -> Option<Option<Choice>> {
        let Some(choice) = &settings.upstream else { return Some(None) };
        let upstreams = Arc::clone(ctx.upstreams);
        let names = upstreams.names();
        // one that is not there was reported when the settings were read
        let place = |name: &Spanned<String>| names.iter().position(|known| *known == name.value);
        let among = choice.among.0.iter().map(place).collect::<Option<Box<[usize]>>>()?;
        Some(Some(Choice { upstreams, among }))
    }
}

/// What decisions are kept by.
struct Cache {
    key: Key,
    store: Arc<Store>,
    granted: u64,
    refused: u64,
}

impl Cache {
    /// `None` only after an error was reported.
    #[allow(clippy::option_option, reason = "outer: an error was reported; inner: nothing is kept")]
    fn new(settings: &ForwardAuthConfig, ctx: &mut BuildContext<'_>) -> Option<Option<Cache>> {
        let Some(cache) = &settings.cache else { return Some(None) };
        let key = Key::new(cache, ctx)?;
        // a decision depends on all of the settings, which may hold secrets; where they stand does not matter
        let shape = digest(&SHA256, shape(settings).as_bytes());
        let shape: String = shape.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let most = usize::try_from(cache.max.get()).unwrap_or(usize::MAX);
        let store = ctx.carry.get_or("decisions of forward_auth", &shape, || Store::new(most));
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Some(Some(Cache { key, store, granted: nanos(cache.kept.0), refused: nanos(cache.refused_for) }))
    }

    /// How long a decision holds that is made for an exchange; `None` for not at all.
    fn until(&self, decision: &Decision, exchange: &Exchange) -> Option<u64> {
        let time = match decision {
            Decision::Grant(_) => self.granted,
            Decision::Refusal(_) => self.refused,
        };
        (time > 0).then(|| exchange.now().saturating_add(time))
    }
}

/// Settings as text, wherever they stand in the file.
fn shape(settings: &ForwardAuthConfig) -> String {
    let mut settings = settings.clone();
    for (name, value) in settings.headers.iter_mut().flat_map(|headers| &mut headers.0) {
        (name.at, value.at) = Default::default();
    }
    for name in settings.upstream.iter_mut().flat_map(|choice| &mut choice.among.0) {
        name.at = Default::default();
    }
    for part in settings.cache.iter_mut().flat_map(|cache| &mut cache.key.0) {
        part.at = Default::default();
    }
    format!("{settings:?}")
}

impl Policy for ForwardAuth {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        let Some(cache) = &self.cache else { return Flow::Later(Box::pin(self.ask_alone(exchange))) };
        match cache.key.digest(&self.question, exchange) {
            Err(fault) => Flow::Now(Err(fault.into())),
            Ok(None) => Flow::Later(Box::pin(self.ask_alone(exchange))),
            Ok(Some(digest)) => match cache.store.find(&digest, exchange.now()) {
                Some(decision) => Flow::Now(self.follow(&decision, exchange)),
                None => Flow::Later(Box::pin(self.ask_once(cache, digest, exchange))),
            },
        }
    }

    fn on_response(&self, exchange: &mut Exchange) -> Verdict {
        let Some(fields) = exchange.for_caller.clone() else { return Ok(()) };
        let head = &mut exchange.response.head;
        for name in self.reading.replaced().filter(|name| fields.get(name).is_some()) {
            head.remove(name);
        }
        for (_, name, value) in fields.iter() {
            // the name is one of the settings
            head.append(std::str::from_utf8(name).unwrap_or_default(), value);
        }
        Ok(())
    }

    fn sees_answers(&self) -> bool {
        self.reading.tells_callers()
    }

    fn removed_from_requests(&self) -> &[Box<str>] {
        &self.removed
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        if let Err(fault) = self.question.about(exchange) {
            let detail = fault.detail.to_string();
            return Explanation::stop(&fault.into(), detail);
        }
        self.remove_said(exchange);
        let mut detail = format!("would ask `{}`, and go by its answer", self.question.describe());
        if self.choice.is_some() {
            detail.push_str("; it may choose another upstream");
        }
        Explanation::pass(detail)
    }
}

impl ForwardAuth {
    /// Asks about a call that shares no decision with others.
    async fn ask_alone(&self, exchange: &mut Exchange) -> Verdict {
        let call = self.question.about(exchange)?;
        match self.ask(call).await {
            Ok((decision, _)) => self.follow(&decision, exchange),
            Err(trouble) => self.without_answer(&trouble, exchange),
        }
    }

    /// Asks unless somebody asks the same already; whoever does may go, and then it is the turn of one who waits.
    async fn ask_once(&self, cache: &Cache, digest: Digest, exchange: &mut Exchange) -> Verdict {
        for _ in 0..MOST_TURNS {
            match cache.store.ask(&digest, exchange.now()) {
                Some(Found::Kept(decision)) => return self.follow(&decision, exchange),
                Some(Found::Nothing(asking)) => {
                    let call = self.question.about(exchange)?;
                    return self.ask_for_all(cache, asking, call, exchange).await;
                }
                Some(Found::Asked(waiting)) => match waiting.await {
                    Shared::Same(Ok(decision)) => return self.follow(&decision, exchange),
                    Shared::Same(Err(trouble)) => return self.without_answer(&trouble, exchange),
                    Shared::Own => break,
                    Shared::Gone => {}
                },
                None => break,
            }
        }
        self.ask_alone(exchange).await
    }

    async fn ask_for_all(&self, cache: &Cache, asking: Asking<'_>, call: OutCall, exchange: &mut Exchange) -> Verdict {
        match self.ask(call).await {
            Ok((decision, true)) => {
                let until = cache.until(&decision, exchange);
                asking.end(Shared::Same(Ok(decision.clone())), until);
                self.follow(&decision, exchange)
            }
            Ok((decision, false)) => {
                asking.end(Shared::Own, None);
                self.follow(&decision, exchange)
            }
            Err(trouble) => {
                asking.end(Shared::Same(Err(trouble.clone())), None);
                self.without_answer(&trouble, exchange)
            }
        }
    }

    async fn ask(&self, call: OutCall) -> Result<Decided, Trouble> {
        self.reading.read(self.world.call(call).await)
    }

    fn follow(&self, decision: &Decision, exchange: &mut Exchange) -> Verdict {
        match decision {
            Decision::Grant(grant) => self.let_in(grant, exchange),
            Decision::Refusal(refusal) => Err(refuse(refusal, exchange)),
        }
    }

    /// All of what is said of the call is gone by, or it is refused.
    fn let_in(&self, grant: &Grant, exchange: &mut Exchange) -> Verdict {
        let mut elsewhere = None;
        if let (Some(choice), Some(way)) = (&self.choice, &grant.way) {
            match choice.upstreams.find(way, &choice.among) {
                Ok(found) => elsewhere = Some(Box::new(found)),
                Err(why) => {
                    let trouble = Trouble::unusable(format!("where it sends the call cannot be followed: {why}"));
                    return self.without_answer(&trouble, exchange);
                }
            }
        }
        if let Some(identity) = &grant.identity
            && !caller::note_other(exchange, identity, &self.accounts)
        {
            let fault = unauthenticated().field("WWW-Authenticate", CHALLENGE);
            let why = "the caller that the service names is no consumer, is another than the one authenticated, or as a `subject` has a consumer's \
                       name or one that no header holds";
            return Err(fault.cause(why).into());
        }
        self.remove_said(exchange);
        for (place, value) in &grant.passed {
            if let Some(name) = self.reading.pass.get(*place) {
                // the value was checked when it was read
                name.append(&mut exchange.request.head, value);
            }
        }
        exchange.elsewhere = elsewhere;
        exchange.for_caller.clone_from(&grant.for_caller);
        Ok(())
    }

    /// Takes out what only the service may say, in every spelling that a back end may read as the same.
    fn remove_said(&self, exchange: &mut Exchange) {
        for name in &self.removed {
            exchange.request.head.remove_alike(name, usize::MAX);
        }
    }

    fn without_answer(&self, trouble: &Trouble, exchange: &mut Exchange) -> Verdict {
        if self.unavailable == Unavailable::Allow && trouble.is_down {
            self.remove_said(exchange);
            exchange.remark = Some(format!("let in although the service that decides is down: {}", trouble.why).into());
            return Ok(());
        }
        let fault = Fault::new(Reason::AuthUnavailable, "whether the call may be made cannot be found out now");
        let fault = fault.cause(format!("{}: {}", self.question.describe(), trouble.why));
        Err(match self.unavailable {
            Unavailable::Refuse(status) if status != Reason::AuthUnavailable.status() => fault.with_status(status),
            Unavailable::Refuse(_) | Unavailable::Allow => fault,
        }
        .into())
    }
}

fn refuse(refusal: &Refusal, exchange: &Exchange) -> Stop {
    let with = |fault: Fault, fields: &[(Box<str>, Box<str>)]| {
        fields.iter().fold(fault, |fault, (name, value)| fault.field(name.to_string(), value.to_string()))
    };
    match refusal {
        Refusal::Unauthenticated(challenges, fields) => {
            let challenges: Vec<&str> = challenges.iter().map(AsRef::as_ref).collect();
            let challenges = if challenges.is_empty() { vec![CHALLENGE] } else { challenges };
            let fault = challenges
                .into_iter()
                .fold(unauthenticated(), |fault, challenge| fault.field("WWW-Authenticate", challenge));
            with(fault, fields).into()
        }
        Refusal::Forbidden(fields) => with(forbidden(), fields).into(),
        Refusal::Answer(answer) => match (exchange.request.grpc, answer.status) {
            // what a gRPC call is answered with are trailers
            (true, 401) => unauthenticated().into(),
            (true, 403) => forbidden().into(),
            (true, 429) => Fault::new(Reason::RateLimited, "the service that decides refuses further calls").into(),
            _ => Stop::Answer(answer.clone()),
        },
    }
}

#[cold]
fn unauthenticated() -> Fault {
    Fault::new(Reason::Unauthenticated, "the request has no credentials that are known here")
}

#[cold]
fn forbidden() -> Fault {
    Fault::new(Reason::Forbidden, "the caller may not make this call")
}
