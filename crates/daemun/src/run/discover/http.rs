//! Targets by a web server that lists them. Asks every so often; a list that has not changed need not be sent again.

use std::sync::Arc;

use daemun_config::model::HttpSource;
use daemun_config::{Format, TargetList, read_targets};

use super::super::ask::{Question, Service};
use super::super::names::nanos;
use super::super::retry::{Backoff, about, chance};
use super::super::within;
use super::feed::{Feed, listed};
use super::{ANSWER, MOST_BYTES, MOST_TARGETS, RETRY, World};

pub(super) async fn run(source: HttpSource, feed: &Feed, world: &World) {
    let service = Service::new(world.clock.clone(), source.server.clone(), Arc::clone(&world.lookup));
    let mut backoff = Backoff::new(source.interval.min(RETRY.1), RETRY.1.max(source.interval));
    let mut tag: Option<String> = None;
    loop {
        let asked = within(&world.clock, ANSWER * 2, ask(&service, &source, tag.as_deref())).await;
        let wait = match asked.unwrap_or_else(|| Err("the list does not come to its end".to_owned())) {
            Ok(answer) => {
                backoff.reset();
                match answer {
                    Listed::Same => feed.unchanged(),
                    Listed::New(list, next) => {
                        tag = next;
                        feed.found(list.targets.into_iter().map(listed).collect(), list.left_out);
                    }
                }
                about(source.interval, chance())
            }
            Err(why) => {
                feed.failed(&why);
                backoff.after_failure(chance())
            }
        };
        world.clock.wait(world.clock.now().saturating_add(nanos(wait))).await;
    }
}

/// What the server said.
enum Listed {
    /// The list is the one it named by its tag.
    Same,
    /// A list, and its tag.
    New(TargetList, Option<String>),
}

async fn ask(service: &Service, source: &HttpSource, tag: Option<&str>) -> Result<Listed, String> {
    let mut question = Question::get(source.target.0.clone(), service.authority()).with("accept", "application/json");
    for (name, value) in &source.headers {
        question = question.with(name, &value.0);
    }
    if let Some(tag) = tag {
        question = question.with("if-none-match", tag);
    }
    let answer = service.ask(question, ANSWER).await?;
    match answer.status {
        304 if tag.is_some() => return Ok(Listed::Same),
        200 => {}
        status => return Err(format!("the server answers {status}")),
    }
    let next = answer.field("etag").map(str::to_owned);
    let body = answer.whole(MOST_BYTES).await?;
    let text = String::from_utf8(body).map_err(|_| "the list is not UTF-8 text".to_owned())?;
    let read = tokio::task::spawn_blocking(move || read_targets(&text, Format::Json, MOST_TARGETS)).await;
    let list = read.map_err(|error| error.to_string())?.map_err(|why| format!("the list: {why}"))?;
    Ok(Listed::New(list, next))
}
