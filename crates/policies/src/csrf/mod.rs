//! `csrf`: whether a request that changes something comes from a page of this site. A page shows that it can read a cookie of the site by
//! sending what the cookie holds a second time; the cookie is signed for its caller, so that nobody else can plant one.

mod config;
pub(crate) mod site;
mod token;
#[cfg(test)]
mod tests;

use daemun_pipeline::{
    Bodies, BodyNeed, BuildContext, Exchange, Explanation, Fault, FieldId, Flow, Method, Phase, Policy, PolicyConfig,
    Reason, Runtimes, Stop, Verdict,
};

pub use config::{CookieName, CsrfConfig, SameSite, SecretText};

use crate::cors::Origin;
use crate::set_cookie::set_cookie;
use token::{Keys, LENGTH, Owner, Token};

impl PolicyConfig for CsrfConfig {
    const NAME: &'static str = "csrf";

    fn build(self, _: &mut BuildContext<'_>) -> Option<Runtimes> {
        let cookie = self.cookie.0;
        let policy = Csrf {
            keys: Keys::new(self.secret.0.iter().map(|secret| secret.0.as_bytes())),
            secure_cookie: format!("__Host-{cookie}").into(),
            cookie: cookie.into(),
            header: self.header.0.into(),
            field: self.field.map(Into::into),
            max_form: self.max_form.0,
            session: self.session.map(|name| name.0.into()),
            origins: self.origins.0.into(),
            lasts: self.lasts.0.as_secs(),
            same_site: self.same_site,
            http_only: self.http_only,
        };
        Some(vec![(Phase::Authorize, Box::new(policy))])
    }
}

struct Csrf {
    keys: Keys,
    cookie: Box<str>,
    secure_cookie: Box<str>,
    header: Box<str>,
    field: Option<Box<str>>,
    max_form: u64,
    session: Option<Box<str>>,
    origins: Box<[Origin]>,
    /// Seconds.
    lasts: u64,
    same_site: SameSite,
    http_only: bool,
}

/// What a request does, as far as its method says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It changes nothing (RFC 9110, section 9.2.1).
    Safe,
    /// It opens a connection that can change something; no page can put a token into it.
    Opens,
    Changes,
}

impl Kind {
    fn of(exchange: &Exchange) -> Kind {
        let request = &exchange.request;
        match request.method {
            Method::Connect => Kind::Opens,
            Method::Get if request.head.get_id(FieldId::Upgrade).is_some() => Kind::Opens,
            Method::Get | Method::Head | Method::Options | Method::Trace => Kind::Safe,
            Method::Post | Method::Put | Method::Delete | Method::Patch | Method::Other => Kind::Changes,
        }
    }
}

impl Policy for Csrf {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        Flow::Now(match self.judge(exchange) {
            Ok(Kind::Safe) => self.tell(exchange, true),
            Ok(Kind::Opens | Kind::Changes) => Ok(()),
            Err(why) => Err(refusal(why)),
        })
    }

    fn on_response(&self, exchange: &mut Exchange) -> Verdict {
        if Kind::of(exchange) == Kind::Safe
            && let Some(value) = self.new_cookie(exchange)
        {
            set_cookie(&mut exchange.response.head, &value);
        }
        Ok(())
    }

    /// Behind the body, nobody's word but the caller's could stand there.
    fn removed_from_requests(&self) -> &[Box<str>] {
        std::slice::from_ref(&self.header)
    }

    fn bodies(&self) -> Bodies {
        Bodies { request: self.field.is_some(), ..Bodies::default() }
    }

    fn request_body(&self, exchange: &Exchange) -> BodyNeed {
        let request = &exchange.request;
        let in_form = self.field.is_some()
            && Kind::of(exchange) == Kind::Changes
            && request.head.get(&self.header).is_none()
            && is_form(exchange);
        if in_form { BodyNeed::Whole { max: self.max_form } } else { BodyNeed::Untouched }
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        let unseen = exchange.request.body.is_none() && self.request_body(exchange) != BodyNeed::Untouched;
        match self.judge(exchange) {
            Ok(Kind::Safe) => match self.tell(exchange, false) {
                Ok(()) if exchange.request.head.get(&self.header).is_some() => {
                    Explanation::pass("it changes nothing, and the caller has a token")
                }
                Ok(()) => Explanation::pass("it changes nothing, and the caller would be given a token"),
                Err(stop) => Explanation::stop(&stop, "there are no random numbers"),
            },
            Ok(Kind::Opens) => Explanation::pass("the page is of this site"),
            Ok(Kind::Changes) => Explanation::pass("the page has shown the caller's token"),
            Err(_) if unseen => {
                Explanation::stop(&refusal(""), "the token may be in the form, which was not looked at")
            }
            Err(why) => Explanation::stop(&refusal(why), why),
        }
    }
}

impl Csrf {
    /// Whether a request comes from a page of this site, where that matters.
    fn judge(&self, exchange: &Exchange) -> Result<Kind, &'static str> {
        let kind = Kind::of(exchange);
        if kind != Kind::Safe {
            site::judge(exchange, &self.origins)?;
        }
        if kind == Kind::Changes {
            let held = self.held(exchange).ok_or("the cookie holds no token that is good for this caller")?;
            let shown = self.shown(exchange)?;
            if !held.is_same(&shown) {
                return Err("the token that is shown is not that of the cookie");
            }
        }
        Ok(kind)
    }

    /// The token that the cookie holds.
    fn held(&self, exchange: &Exchange) -> Option<Token> {
        self.read(one_cookie(exchange, self.cookie_name(exchange))?, exchange)
    }

    /// The token that the page sends a second time.
    fn shown(&self, exchange: &Exchange) -> Result<Token, &'static str> {
        const NOT_GOOD: &str = "the token that is shown is not good for this caller";
        let mut values = exchange.request.head.values(&self.header);
        match (values.next(), values.next()) {
            (Some(text), None) => self.read(text, exchange).ok_or(NOT_GOOD),
            (Some(_), Some(_)) => Err("several tokens are shown"),
            (None, _) => {
                let (Some(field), Some(body)) = (&self.field, &exchange.request.body) else {
                    return Err("no token is shown");
                };
                if !is_form(exchange) {
                    return Err("no token is shown");
                }
                let mut values = form_urlencoded::parse(body).filter(|(name, _)| **name == **field);
                match (values.next(), values.next()) {
                    (Some((_, text)), None) => self.read(text.as_bytes(), exchange).ok_or(NOT_GOOD),
                    (Some(_), Some(_)) => Err("several tokens are shown"),
                    (None, _) => Err("no token is shown"),
                }
            }
        }
    }

    fn read(&self, text: &[u8], exchange: &Exchange) -> Option<Token> {
        self.keys.read(text, &self.owner(exchange)?, seconds(exchange), self.lasts)
    }

    /// Whose tokens are good here; nobody's where there are several sessions, of which one could be planted.
    fn owner<'a>(&self, exchange: &'a Exchange) -> Option<Owner<'a>> {
        let session = match &self.session {
            Some(name) => cookie(exchange, name).ok()?,
            None => None,
        };
        let caller = exchange.consumer_bytes().unwrap_or_default();
        Some(Owner { configured: exchange.consumer.is_some(), caller, session })
    }

    fn cookie_name(&self, exchange: &Exchange) -> &str {
        if exchange.is_https() { &self.secure_cookie } else { &self.cookie }
    }

    /// Tells the upstream the token that its page can show; `mints` one where there is none, or one that is old.
    fn tell(&self, exchange: &mut Exchange, mints: bool) -> Verdict {
        // what the caller sent there is not the gateway's word
        exchange.request.head.remove(&self.header);
        let now = seconds(exchange);
        let token = match self.held(exchange) {
            Some(token) if token.is_old(now, self.lasts) => token.renewed(now),
            Some(_) => {
                let mut text = [0; LENGTH];
                // a token that is good has this length
                let held = one_cookie(exchange, self.cookie_name(exchange)).and_then(<[u8]>::first_chunk);
                text.copy_from_slice(held.unwrap_or(&[0; LENGTH]));
                exchange.request.head.append(&self.header, &text);
                return Ok(());
            }
            None if mints => {
                let minted = self.keys.mint(now);
                minted.ok_or_else(|| {
                    Fault::new(Reason::Internal, "no token can be made").cause("there are no random numbers")
                })?
            }
            None => return Ok(()),
        };
        let text = self.owner(exchange).and_then(|owner| self.keys.text(&token, &owner));
        if let Some(text) = text {
            exchange.request.head.append(&self.header, text.as_bytes());
        }
        Ok(())
    }

    /// The cookie that the caller is given, where it does not hold the token that the upstream was told.
    fn new_cookie(&self, exchange: &Exchange) -> Option<String> {
        let head = &exchange.request.head;
        // one that a policy behind this one took out is still the caller's
        let told = head
            .fields
            .iter()
            .rev()
            .find(|field| head.bytes(field.name).eq_ignore_ascii_case(self.header.as_bytes()))?;
        let told = head.bytes(told.value);
        let name = self.cookie_name(exchange);
        if one_cookie(exchange, name) == Some(told) {
            return None;
        }
        self.read(told, exchange)?;
        let text = std::str::from_utf8(told).ok()?;
        let secure = if exchange.is_https() { "; Secure" } else { "" };
        let hidden = if self.http_only { "; HttpOnly" } else { "" };
        let (lasts, same_site) = (self.lasts, self.same_site.word());
        Some(format!("{name}={text}; Path=/; Max-Age={lasts}; SameSite={same_site}{secure}{hidden}"))
    }
}

/// The value of a cookie; `None` where there is none, or several.
fn one_cookie<'a>(exchange: &'a Exchange, name: &str) -> Option<&'a [u8]> {
    cookie(exchange, name).ok().flatten()
}

/// There are several, of which one could be planted.
struct Several;

/// The value of a cookie, where there is one.
fn cookie<'a>(exchange: &'a Exchange, name: &str) -> Result<Option<&'a [u8]>, Several> {
    let fields = exchange.request.head.values_id(FieldId::Cookie);
    let mut values = fields.flat_map(|field| field.split(|&byte| byte == b';')).filter_map(|pair| {
        let (key, value) = pair.trim_ascii().split_at_checked(name.len())?;
        if key == name.as_bytes() { value.strip_prefix(b"=") } else { None }
    });
    let first = values.next();
    if values.next().is_some() { Err(Several) } else { Ok(first) }
}

/// Whether the body is a form of names and values.
fn is_form(exchange: &Exchange) -> bool {
    let mut kinds = exchange.request.head.values_id(FieldId::ContentType);
    let (Some(kind), None) = (kinds.next(), kinds.next()) else { return false };
    let kind = kind.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    kind.eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}

/// Wall clock in seconds.
fn seconds(exchange: &Exchange) -> u64 {
    exchange.wall / 1_000_000_000
}

#[cold]
fn refusal(why: &str) -> Stop {
    let detail = "the request does not show that it comes from a page of this site";
    Fault::new(Reason::Forbidden, detail).cause(why).into()
}
