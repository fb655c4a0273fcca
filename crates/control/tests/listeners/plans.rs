//! Plans over the admin listener, who is on them, and what was used.

use daemun_accounts::Accounts;
use daemun_accounts::plan::{DAY, day_of};
use daemun_config::read_plan;
use serde_json::json;

use super::*;
use crate::accounts::send;

fn call(accounts: &Accounts, consumer: &str, day: u64) {
    let done = accounts.with_entitled(consumer, |entitled| entitled.take(0, day_of(NOW + day * DAY)).is_ok());
    assert_eq!(done, Some(true));
}

#[tokio::test]
async fn admin_makes_plans_puts_consumers_on_them_and_tells_what_they_used() {
    let source = Fake::new();
    let address = admin(&source).await;
    let made = send(address, "PUT /plans/gold", r#"{"limit": "1000/s", "burst": 2000}"#).await;
    let gold = json!({ "name": "gold", "limit": "1000/s", "burst": 2000, "declared": false });
    assert_eq!((made.status, made.json()), (201, gold.clone()));
    assert_eq!(get(address, "/plans/gold").await.json(), gold);
    assert_eq!(send(address, "PUT /plans/gold", r#"{"limit": "5/day"}"#).await.json()["burst"], 5);
    let made = send(address, "PUT /consumers/partner", r#"{"plans": ["gold"]}"#).await;
    assert_eq!((made.status, &made.json()["plans"]), (201, &json!(["gold"])));
    assert_eq!(get(address, "/consumers/partner").await.json()["used_today"], json!({}));
    for day in [1, 0, 0] {
        call(&source.accounts, "partner", day);
    }
    let told = get(address, "/consumers/partner").await.json();
    assert_eq!((&told["plans"], &told["used_today"]), (&json!(["gold"]), &json!({ "gold": 2 })));
    let days = json!([{ "day": "2027-01-16", "plan": "gold", "calls": 1 }, { "day": "2027-01-15", "plan": "gold", "calls": 2 }]);
    assert_eq!(get(address, "/consumers/partner/usage").await.json(), json!({ "consumer": "partner", "days": days }));
    let changed = send(address, "PUT /consumers/partner", r#"{"roles": ["reader"]}"#).await.json();
    assert_eq!(changed["plans"], json!(["gold"]), "what is not named stays");
    assert_eq!(ask(address, "DELETE /plans/gold", "").await.status, 409, "somebody is on it");
    assert_eq!(send(address, "PUT /consumers/partner", r#"{"plans": []}"#).await.json()["plans"], json!([]));
    assert_eq!(ask(address, "DELETE /plans/gold", "").await.status, 200);
    assert_eq!(get(address, "/plans").await.json(), json!({ "plans": [] }));
    let audit = source.audit.lock().unwrap().join("\n");
    for what in [
        "plan `gold` was made: 1000/s, at most 2000 at once",
        "plan `gold` was changed: 5/day",
        "plan `gold` was removed",
    ] {
        assert!(audit.contains(what), "{audit}");
    }
}

#[tokio::test]
async fn admin_takes_no_plan_that_the_configuration_would_not() {
    let source = Fake::new();
    let address = admin(&source).await;
    source.accounts.declare_plans([read_plan("silver", "{limit: 1/s}").unwrap()]);
    assert_eq!(get(address, "/plans/silver").await.json()["declared"], true);
    let told = get(address, "/consumers/shop-app").await.json();
    assert_eq!((&told["plans"], &told["used_today"]), (&json!(["silver"]), &json!({})));
    for (call, body, status, why) in [
        ("PUT /plans/silver", r#"{"limit": "1/s"}"#, 409, "configuration"),
        ("DELETE /plans/silver", "", 409, "configuration"),
        ("DELETE /plans/none", "", 404, "no plan"),
        ("GET /plans/none", "", 404, "no plan"),
        ("GET /plans/a/b", "", 404, "nothing here"),
        ("GET /plansx", "", 404, "nothing here"),
        ("GET /consumers/none/usage", "", 404, "no consumer"),
        ("POST /plans", r#"{"limit": "1/s"}"#, 405, "PUT /plans/NAME"),
        ("PUT /plans/a", "{}", 400, "`limit` is missing"),
        ("PUT /plans/a", r#"{"limit": "2000000000/s"}"#, 400, "faster than the fastest"),
        ("PUT /plans/a", r#"{"limit": "1/s", "burst": 0}"#, 400, "`burst`"),
        ("PUT /plans/a", r#"{"limit": "1/s", "quota": "5/day"}"#, 400, "quota"),
        ("PUT /plans/a%20b", r#"{"limit": "1/s"}"#, 400, "is not a name"),
        ("PUT /consumers/p", r#"{"plans": ["silver", "gold"]}"#, 400, "place 2 of `plans`"),
        ("PUT /consumers/p", r#"{"plans": ["silver", "silver"]}"#, 400, "each once"),
        ("PUT /consumers/p", r#"{"plans": "silver"}"#, 400, "a list of 8"),
        ("PUT /consumers/p", r#"{"plans": [1]}"#, 400, "a list of 8"),
        ("PUT /consumers/shop-app", r#"{"plans": ["silver"]}"#, 409, "configuration"),
    ] {
        let told = if call.starts_with("PUT") || call.starts_with("POST") {
            send(address, call, body).await
        } else {
            ask(address, call, body).await
        };
        assert!(
            told.status == status && told.json()["detail"].as_str().unwrap().contains(why),
            "{call} {body} {}",
            told.body
        );
    }
    assert_eq!(send(address, "PUT /consumers/p", r#"{"plans": ["silver"]}"#).await.status, 201);
    call(&source.accounts, "p", 0);
}
