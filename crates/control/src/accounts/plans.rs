//! Plans of the store over HTTP, who is on which, and what was used. Plans of the configuration are shown and left as they are.

use std::collections::BTreeMap;

use daemun_accounts::plan::day_of;
use daemun_accounts::{MOST_PLANS, Plan, Trouble, Used};
use daemun_config::{MOST_PLANS as MOST_OF_ONE, read_plan};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Asked, Stop, created, shown};
use crate::answer::Answer;

fn told(plan: &Plan, declared: bool) -> Value {
    json!({ "name": plan.name, "limit": plan.limit.to_string(), "burst": plan.burst(), "declared": declared })
}

/// A day as it is written (ISO 8601), of days since the Unix epoch, in the Gregorian calendar. Years are counted from March, so that
/// the day that leap years have is the last.
fn date(day: u32) -> String {
    let day = u64::from(day) + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{of_month:02}", era * 400 + year + next)
}

impl Asked<'_> {
    pub(super) fn plans(&self) -> Result<Answer, Stop> {
        if *self.method != Method::GET {
            return Err(Stop::Method("GET lists plans; PUT /plans/NAME makes one", "GET"));
        }
        let all: Vec<Value> = self.accounts.plans().iter().map(|(plan, declared)| told(plan, *declared)).collect();
        Ok(shown(&json!({ "plans": all })))
    }

    pub(super) async fn plan(&self, name: &str) -> Result<Answer, Stop> {
        let none = (StatusCode::NOT_FOUND, "there is no plan of this name");
        let declared = self.accounts.declares_plan(name);
        match *self.method {
            Method::GET => match self.accounts.plan(name) {
                Some(plan) => Ok(shown(&told(&plan, declared))),
                None => Err(none.into()),
            },
            Method::PUT | Method::DELETE if declared => {
                Err((StatusCode::CONFLICT, "the plan is the configuration's, and is changed there").into())
            }
            Method::PUT => self.put_plan(name).await,
            Method::DELETE => {
                if self.accounts.first_on(name).is_some() {
                    let detail = "consumers of the store are on this plan: put them on another one first";
                    return Err((StatusCode::CONFLICT, detail).into());
                }
                if !self.accounts.remove_plan(name).await? {
                    return Err(none.into());
                }
                self.source.audit(&format!("plan `{name}` was removed"));
                Ok(shown(&json!({ "removed": name })))
            }
            _ => Err(Stop::Method("only GET, PUT and DELETE are allowed here", "GET, PUT, DELETE")),
        }
    }

    async fn put_plan(&self, name: &str) -> Result<Answer, Stop> {
        let plan = read_plan(name, &Value::from(self.body.clone()).to_string()).map_err(Stop::Wrong)?;
        let is_new = !self.accounts.has_stored_plan(name);
        match self.accounts.put_plan(plan.clone()).await {
            Ok(()) => {}
            Err(Trouble::TooMany) => {
                const { assert!(MOST_PLANS == 10_000) };
                return Err((StatusCode::CONFLICT, "the store has 10,000 plans, and takes no more").into());
            }
            Err(trouble) => return Err(trouble.into()),
        }
        let what = if is_new { "made" } else { "changed" };
        self.source.audit(&format!("plan `{name}` was {what}: {}, at most {} at once", plan.limit, plan.burst()));
        let told = told(&plan, false);
        Ok(if is_new { created(&told) } else { shown(&told) })
    }

    /// Plans that a consumer is to be on; nothing where the body does not say.
    pub(super) fn plans_of_body(&self) -> Result<Option<Vec<String>>, Stop> {
        let Some(value) = self.body.get("plans") else { return Ok(None) };
        let wrong = || Stop::Wrong(format!("`plans` is a list of {MOST_OF_ONE} names of plans at most, each once"));
        let items = value.as_array().filter(|items| items.len() <= MOST_OF_ONE).ok_or_else(wrong)?;
        let mut plans: Vec<String> = Vec::with_capacity(items.len());
        for (item, number) in items.iter().zip(1..) {
            let name = item.as_str().filter(|name| !plans.iter().any(|known| known == name)).ok_or_else(wrong)?;
            if self.accounts.plan(name).is_none() {
                return Err(Stop::Wrong(format!(
                    "there is no plan of the name that stands at place {number} of `plans`, in the configuration or in the store; \
                     PUT /plans/NAME makes one"
                )));
            }
            plans.push(name.to_owned());
        }
        Ok(Some(plans))
    }

    /// Adds how much a consumer used today, by plan.
    pub(super) async fn tell_use(&self, name: &str, told: &mut Value) -> Result<(), Stop> {
        let today = day_of(self.source.now());
        let used = self.used(name).await?.into_iter().filter(|used| used.day == today);
        let used: BTreeMap<String, u64> = used.map(|used| (used.plan, used.calls)).collect();
        if let Some(told) = told.as_object_mut() {
            told.insert("used_today".to_owned(), json!(used));
        }
        Ok(())
    }

    async fn used(&self, name: &str) -> Result<Vec<Used>, Stop> {
        let unread = (StatusCode::SERVICE_UNAVAILABLE, "the store cannot be read just now");
        self.accounts.usage(name).await.map_err(|_| unread.into())
    }

    /// What a consumer used, by day.
    pub(super) async fn usage(&self, name: &str) -> Result<Answer, Stop> {
        if *self.method != Method::GET {
            return Err(Stop::Method("only GET is allowed here", "GET"));
        }
        if !self.source.declares(name) && self.accounts.consumer(name).is_none() {
            return Err((StatusCode::NOT_FOUND, "there is no consumer of this name").into());
        }
        let days: Vec<Value> = self
            .used(name)
            .await?
            .iter()
            .map(|used| json!({ "day": date(used.day), "plan": used.plan, "calls": used.calls }))
            .collect();
        Ok(shown(&json!({ "consumer": name, "days": days })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_written_as_dates() {
        let days = [0, 58, 59, 11_016, 11_017, 20_833, 47_540, 47_541].map(date);
        let dates = [
            "1970-01-01",
            "1970-02-28",
            "1970-03-01",
            "2000-02-29",
            "2000-03-01",
            "2027-01-15",
            "2100-02-28",
            "2100-03-01",
        ];
        assert_eq!(days, dates);
    }
}
