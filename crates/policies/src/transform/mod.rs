//! `transform`: an ordered list of changes to requests and answers: headers, query, path, and bodies of JSON, XML or forms. Knows no user
//! code: only steps, and templates within bounds.

mod body;
mod config;
mod json;
mod pairs;
mod path;
mod program;
mod target;
mod template;
#[cfg(test)]
mod tests;
mod trouble;
mod xml;

use daemun_pipeline::{
    Bodies, BodyNeed, BuildContext, Exchange, Explanation, Fault, FieldId, Flow, Method, Phase, Policy, PolicyConfig,
    Reason, Stop, Verdict,
};

pub use config::{Literal, OnOther, StatusMatch, StepConfig, TemplateConfig, TransformConfig, TransformSettings};
pub use target::{BodyPath, Target};

use crate::representation;
use body::Kind;
use program::{OnTrouble, Program, describe};

impl PolicyConfig for TransformConfig {
    const NAME: &'static str = "transform";

    fn build(self, ctx: &mut BuildContext<'_>) -> Option<Vec<(Phase, Box<dyn Policy>)>> {
        let settings = self.0;
        let max_body = settings.max_body.0;
        let sides = [("request", &settings.request), ("answer", &settings.response)];
        let sides = sides.iter().filter(|(_, steps)| !steps.is_empty());
        let said: Vec<String> = sides.map(|(side, steps)| format!("{side}: {}", describe(steps))).collect();
        let request = Program::new(settings.request, max_body, "request", ctx);
        let response = Program::new(settings.response, max_body, "response", ctx);
        let transform = Transform {
            request: request?,
            response: response?,
            statuses: settings.statuses.map(|statuses| statuses.0.into()),
            max_body,
            on_other_body: settings.on_other_body,
            on_bad_answer: settings.on_bad_answer,
            said: said.join("; ").into(),
        };
        Some(vec![(Phase::Transform, Box::new(transform))])
    }
}

struct Transform {
    request: Program,
    response: Program,
    statuses: Option<Box<[StatusMatch]>>,
    max_body: u64,
    on_other_body: OnOther,
    on_bad_answer: OnOther,
    /// What it does, in words.
    said: Box<str>,
}

impl Transform {
    /// Asks for an answer that steps can read: not coded, and whole.
    fn prepare(&self, exchange: &mut Exchange) {
        if self.response.needs_body {
            let head = &mut exchange.request.head;
            head.set("accept-encoding", b"identity");
            head.remove("range");
            head.remove("if-range");
        }
    }

    /// Refuses a request whose body steps would have to read, but cannot.
    fn check_request(&self, exchange: &Exchange, has_body: bool) -> Result<(), Fault> {
        let request = &exchange.request;
        let other = request.grpc || (has_body && Kind::of(&request.head).is_none());
        if self.request.needs_body && other && self.on_other_body == OnOther::Refuse {
            return Err(Fault::new(
                Reason::UnsupportedMediaType,
                "the request body is of a type that is not taken here",
            ));
        }
        Ok(())
    }

    fn is_for(&self, status: u16) -> bool {
        let within = |known: &StatusMatch| (known.from..=known.to).contains(&status);
        self.statuses.as_ref().is_none_or(|statuses| statuses.iter().any(within))
    }

    /// Whether steps can read an answer's body, or leave it be; refuses it where neither is so.
    fn check_answer(&self, exchange: &Exchange) -> Result<(), Fault> {
        let response = &exchange.response;
        let refuse = match &response.body {
            // there is none
            Some(body) if body.is_empty() => false,
            None if exchange.request.method == Method::Head || matches!(response.status, 204 | 304) => false,
            _ if Kind::of(&response.head).is_none() || response.status == 206 => self.on_other_body == OnOther::Refuse,
            Some(_) => false,
            // larger than may be held, or without an end
            None => self.on_bad_answer == OnOther::Refuse,
        };
        if refuse {
            let cause = "its body is of another type, coded, a part, or too large";
            return Err(Fault::new(Reason::BadResponse, "the backend's answer cannot be changed").cause(cause));
        }
        Ok(())
    }
}

impl Policy for Transform {
    fn on_request<'a>(&'a self, exchange: &'a mut Exchange) -> Flow<'a> {
        let has_body = exchange.request.body.as_ref().is_some_and(|body| !body.is_empty());
        if let Err(fault) = self.check_request(exchange, has_body) {
            return Flow::Now(Err(fault.into()));
        }
        self.prepare(exchange);
        Flow::Now(self.request.on_request(exchange).map_err(|trouble| trouble.of_request().into()))
    }

    fn on_response(&self, exchange: &mut Exchange) -> Verdict {
        let status = exchange.response.status;
        if status == 304 && self.response.writes_body {
            representation::weaken_as_asked(&exchange.request.head, &mut exchange.response.head);
        }
        if self.response.is_empty() || !self.is_for(status) {
            return Ok(());
        }
        let own = exchange.response.own;
        if self.response.needs_body && status >= 200 && !own {
            self.check_answer(exchange)?;
        }
        let on_trouble = if own || self.on_bad_answer == OnOther::Pass { OnTrouble::Leave } else { OnTrouble::Stop };
        self.response.on_response(exchange, on_trouble).map_err(|trouble| trouble.of_answer().into())
    }

    fn sees_answers(&self) -> bool {
        !self.response.is_empty()
    }

    fn bodies(&self) -> Bodies {
        Bodies { request: self.request.needs_body, response: self.response.needs_body, coded: false }
    }

    fn request_body(&self, exchange: &Exchange) -> BodyNeed {
        let request = &exchange.request;
        if !self.request.needs_body || request.grpc {
            return BodyNeed::Untouched;
        }
        // one of another type is held too where it would be refused: whether there is one at all is not known before
        if self.on_other_body == OnOther::Pass && Kind::of(&request.head).is_none() {
            return BodyNeed::Untouched;
        }
        BodyNeed::Whole { max: self.max_body }
    }

    fn response_body(&self, exchange: &Exchange) -> BodyNeed {
        let response = &exchange.response;
        let reads = self.response.needs_body && self.is_for(response.status) && response.status != 206;
        if reads && Kind::of(&response.head).is_some() {
            BodyNeed::Whole { max: self.max_body }
        } else {
            BodyNeed::Untouched
        }
    }

    fn removed_from_requests(&self) -> &[Box<str>] {
        &self.request.removed
    }

    fn removed_from_answers(&self) -> &[Box<str>] {
        &self.response.removed
    }

    fn protects(&self) -> bool {
        false
    }

    fn explain(&self, exchange: &mut Exchange) -> Explanation {
        let head = &exchange.request.head;
        let held = exchange.request.body.as_ref().is_some_and(|body| !body.is_empty());
        let length = head.get_id(FieldId::ContentLength).is_some_and(|length| length != b"0");
        let has_body = held || length || head.get_id(FieldId::TransferEncoding).is_some();
        let checked = self.check_request(exchange, has_body).and_then(|()| {
            self.prepare(exchange);
            self.request.explain(exchange).map_err(trouble::Trouble::of_request)
        });
        match checked {
            Ok(()) => Explanation::pass(&*self.said),
            Err(fault) => {
                let detail = fault.detail.to_string();
                Explanation::stop(&Stop::Fault(fault), detail)
            }
        }
    }
}
