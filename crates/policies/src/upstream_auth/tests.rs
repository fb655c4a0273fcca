//! What `upstream_auth` holds beyond its page.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use daemun_pipeline::world::Busy;
use daemun_pipeline::{
    Credentials, Exchange, Flow, Later, Nowhere, OutAnswer, OutCall, OutError, Outcome, Outgoing, World,
};

use super::sigv4::{Payload, Signer};
use super::{AwsPayload, AwsSigV4, AwsWord, SecretText};
use crate::testing::{Bench, Chain, SECOND, sent_lines, status, upstream_lines, wait};

const CLIENT: &str = "upstream_auth: { client_credentials: { token_url: 'https://id.example.com/token?t=1', client_id: 'gate:way', client_secret: open sesame, scope: [a, b], audience: shop";

/// A world whose token endpoint answers from a list, when it is let.
struct Endpoint {
    answers: Mutex<VecDeque<Result<OutAnswer, OutError>>>,
    calls: Mutex<Vec<OutCall>>,
    work: Mutex<Vec<Later<()>>>,
    now: AtomicU64,
    told: Mutex<Vec<String>>,
}

impl Endpoint {
    fn new(answers: impl IntoIterator<Item = (u16, &'static str)>) -> Arc<Endpoint> {
        let answer = |(status, body): (u16, &'static str)| {
            Ok(OutAnswer { status, fields: Vec::new(), body: Bytes::from_static(body.as_bytes()) })
        };
        Arc::new(Endpoint {
            answers: Mutex::new(answers.into_iter().map(answer).collect()),
            calls: Mutex::default(),
            work: Mutex::default(),
            now: AtomicU64::new(1_000 * SECOND),
            told: Mutex::default(),
        })
    }

    /// Does what was given to be done; how much that was.
    fn work(&self) -> usize {
        let work = std::mem::take(&mut *self.work.lock().unwrap());
        let count = work.len();
        work.into_iter().for_each(wait);
        count
    }

    fn at(&self, second: u64) -> u64 {
        self.now.store(second * SECOND, Ordering::SeqCst);
        second
    }

    fn asked(&self) -> usize {
        self.calls.lock().unwrap().len()
    }
}

impl World for Endpoint {
    fn call(&self, call: OutCall) -> Later<Result<OutAnswer, OutError>> {
        self.calls.lock().unwrap().push(call);
        let refused = OutError::away("nobody is there");
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or(Err(refused));
        Box::pin(std::future::ready(answer))
    }

    fn spawn(&self, work: Later<()>) {
        self.work.lock().unwrap().push(work);
    }

    fn compute(&self, job: Box<dyn FnOnce() + Send>) -> Later<Result<(), Busy>> {
        Nowhere.compute(job)
    }

    fn wait(&self, how_long: Duration) -> Later<()> {
        Nowhere.wait(how_long)
    }

    fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    fn tell(&self, subject: &'static str, text: String) {
        self.told.lock().unwrap().push(format!("{subject}: {text}"));
    }
}

fn chain(endpoint: &Arc<Endpoint>, rest: &str) -> Chain {
    let world: Arc<dyn World> = Arc::clone(endpoint) as Arc<dyn World>;
    let bench = Bench { world, ..Bench::new(Vec::new()) };
    bench.build(&format!("{CLIENT}{rest} }} }}")).unwrap()
}

fn asked(chain: &Chain, second: u64) -> Exchange {
    let mut exchange = chain.exchange("GET /x HTTP/1.1\nHost: h\nAuthorization: Bearer own");
    exchange.wall = second * SECOND;
    exchange
}

/// What the upstream is shown at a second; `Err` when the request is refused or waits with nothing being done for it.
fn shown(chain: &Chain, endpoint: &Endpoint, second: u64) -> Result<String, u16> {
    let mut exchange = asked(chain, endpoint.at(second));
    let verdict = match chain.steps[0].1.on_request(&mut exchange) {
        Flow::Now(verdict) => verdict,
        Flow::Later(mut work) => {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            match work.as_mut().poll(&mut context) {
                std::task::Poll::Ready(verdict) => verdict,
                std::task::Poll::Pending => {
                    endpoint.work();
                    wait(work)
                }
            }
        }
    };
    verdict.map_err(|stop| status(&stop))?;
    let lines = sent_lines(&exchange);
    assert_eq!(lines[..2], ["GET /x HTTP/1.1", "Host: h"], "the caller's own does not go on");
    Ok(lines[2].clone())
}

const FIRST: (u16, &str) = (200, r#"{"access_token":"one","token_type":"bearer","expires_in":100}"#);
const SECOND_ONE: (u16, &str) = (200, r#"{"access_token":"two","token_type":"Bearer","expires_in":"100"}"#);

fn token(name: &str) -> Result<String, u16> {
    Ok(format!("authorization: Bearer {name}"))
}

#[test]
fn a_token_is_fetched_once_and_shown_until_shortly_before_its_end() {
    let endpoint = Endpoint::new([FIRST, SECOND_ONE]);
    let chain = chain(&endpoint, "");
    assert_eq!(shown(&chain, &endpoint, 1_000), token("one"));
    assert_eq!(shown(&chain, &endpoint, 1_069), token("one"));
    assert_eq!(endpoint.asked(), 1);
    let call = endpoint.calls.lock().unwrap()[0].clone();
    assert_eq!((call.method, call.target.as_str(), call.server.tls), ("POST", "/token?t=1", true));
    assert_eq!(call.body, "grant_type=client_credentials&scope=a+b&audience=shop");
    let field = |name: &str| call.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    // `gate%3Away:open+sesame`
    assert_eq!(field("authorization").unwrap(), b"Basic Z2F0ZSUzQXdheTpvcGVuK3Nlc2FtZQ==");
    assert_eq!(field("content-type").unwrap(), b"application/x-www-form-urlencoded");
    // in its last part another is fetched, and nobody waits for it
    assert_eq!(shown(&chain, &endpoint, 1_070), token("one"));
    assert_eq!(shown(&chain, &endpoint, 1_071), token("one"));
    assert_eq!(endpoint.asked(), 2);
    assert_eq!(endpoint.work(), 1);
    assert_eq!(shown(&chain, &endpoint, 1_072), token("two"));
}

#[test]
fn the_secret_may_go_in_the_body() {
    let endpoint = Endpoint::new([FIRST]);
    let chain = chain(&endpoint, ", authentication: body");
    assert_eq!(shown(&chain, &endpoint, 1_000), token("one"));
    let call = endpoint.calls.lock().unwrap()[0].clone();
    assert!(call.body.ends_with(b"&client_id=gate%3Away&client_secret=open+sesame"), "{:?}", call.body);
    assert!(call.fields.iter().all(|(name, _)| name != "authorization"));
}

#[test]
fn a_token_that_has_ended_is_waited_for_anew() {
    let endpoint = Endpoint::new([FIRST, SECOND_ONE]);
    let chain = chain(&endpoint, "");
    assert_eq!(shown(&chain, &endpoint, 1_000), token("one"));
    assert_eq!(shown(&chain, &endpoint, 1_096), token("two"));
}

#[test]
fn all_who_wait_are_given_the_one_that_was_fetched() {
    let endpoint = Endpoint::new([FIRST]);
    let chain = chain(&endpoint, "");
    let mut exchanges: Vec<Exchange> = (0..50).map(|_| asked(&chain, 1_000)).collect();
    let policy = &chain.steps[0].1;
    let mut waiting: Vec<_> = exchanges
        .iter_mut()
        .map(|exchange| match policy.on_request(exchange) {
            Flow::Later(work) => work,
            Flow::Now(verdict) => panic!("{verdict:?}"),
        })
        .collect();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(waiting.iter_mut().all(|work| work.as_mut().poll(&mut context).is_pending()));
    assert_eq!((endpoint.asked(), endpoint.work()), (1, 1));
    for work in waiting {
        assert!(wait(work).is_ok());
    }
    assert!(exchanges.iter().all(|exchange| sent_lines(exchange)[2] == "authorization: Bearer one"));
    assert_eq!(endpoint.asked(), 1);
}

#[test]
fn without_a_token_nothing_is_sent_and_the_endpoint_is_left_alone_for_a_while() {
    let endpoint = Endpoint::new([
        (401, r#"{"error":"invalid_client","error_description":"open sesame is wrong"}"#),
        (500, "<html>open sesame</html>"),
        FIRST,
    ]);
    let chain = chain(&endpoint, "");
    assert_eq!(shown(&chain, &endpoint, 1_000), Err(503));
    assert_eq!(shown(&chain, &endpoint, 1_000), Err(503));
    assert_eq!(endpoint.asked(), 1, "not again within the second");
    assert_eq!(shown(&chain, &endpoint, 1_001), Err(503));
    assert_eq!(shown(&chain, &endpoint, 1_002), Err(503));
    assert_eq!(endpoint.asked(), 2, "the next pause is twice as long");
    assert_eq!(shown(&chain, &endpoint, 1_003), token("one"));
    let told = endpoint.told.lock().unwrap().clone();
    assert_eq!(
        told,
        ["upstream_auth: no token from id.example.com: the token endpoint answered 401 (`invalid_client`)"]
    );
    // one that works is not given up because another cannot be had
    assert_eq!(shown(&chain, &endpoint, 1_080), token("one"));
    assert_eq!(endpoint.work(), 1);
    assert_eq!(shown(&chain, &endpoint, 1_090), token("one"));
    endpoint.work();
    assert_eq!(shown(&chain, &endpoint, 1_099), Err(503));
    let refused = format!("{:?}", chain.inward(&mut asked(&chain, 1_099)).1);
    assert!(refused.contains("NoCredentials") && refused.contains("nobody is there"), "{refused}");
    assert!(!refused.contains("sesame"), "{refused}");
}

#[test]
fn what_is_no_token_is_refused() {
    for answer in [
        r#"{}"#,
        "",
        "[]",
        r#"{"access_token":"","token_type":"bearer"}"#,
        r#"{"access_token":"a b","token_type":"bearer"}"#,
        r#"{"access_token":"a\r\nX: y","token_type":"bearer"}"#,
        r#"{"access_token":"a"}"#,
        r#"{"access_token":"a","token_type":"mac"}"#,
        r#"{"access_token":"a","token_type":"bearer","expires_in":-1}"#,
        r#"{"access_token":"a","token_type":"bearer","expires_in":"soon"}"#,
        r#"{"access_token":"a","token_type":"bearer","expires_in":0}"#,
    ] {
        let endpoint = Endpoint::new([(200, answer)]);
        assert_eq!(shown(&chain(&endpoint, ""), &endpoint, 1_000), Err(503), "{answer}");
    }
    for (answer, until) in [
        (r#"{"access_token":"one","token_type":"BEARER"}"#, 1_290),
        (r#"{"access_token":"one","token_type":"bearer","expires_in":null}"#, 1_290),
        (r#"{"access_token":"one","token_type":"bearer","expires_in":9007199254740991}"#, 80_000),
        (r#"{"access_token":"one","token_type":"bearer","expires_in":1}"#, 1_000),
    ] {
        let endpoint = Endpoint::new([(200, answer)]);
        let chain = chain(&endpoint, "");
        assert_eq!(shown(&chain, &endpoint, 1_000), token("one"), "{answer}");
        assert_eq!(shown(&chain, &endpoint, until), token("one"), "{answer}");
    }
}

/// An answer of the upstream, or of the gateway, to a call that was shown a token.
fn refuse(chain: &Chain, endpoint: &Endpoint, second: u64, own: bool) {
    let mut exchange = asked(chain, endpoint.at(second));
    assert!(matches!(chain.steps[0].1.on_request(&mut exchange), Flow::Now(Ok(()))));
    (exchange.response.status, exchange.response.own) = (401, own);
    assert!(chain.outward(1, &mut exchange).is_ok());
}

#[test]
fn a_token_that_the_upstream_refuses_is_renewed_but_not_while_it_is_young() {
    let endpoint = Endpoint::new([FIRST, SECOND_ONE]);
    let chain = chain(&endpoint, "");
    assert_eq!(shown(&chain, &endpoint, 1_000), token("one"));
    refuse(&chain, &endpoint, 1_005, false);
    refuse(&chain, &endpoint, 1_020, true);
    assert_eq!(shown(&chain, &endpoint, 1_020), token("one"));
    assert_eq!(endpoint.work(), 0);
    refuse(&chain, &endpoint, 1_020, false);
    assert_eq!(shown(&chain, &endpoint, 1_021), token("one"));
    assert_eq!((endpoint.work(), endpoint.asked()), (1, 2));
    assert_eq!(shown(&chain, &endpoint, 1_021), token("two"));
}

#[test]
fn a_token_that_was_refused_once_is_shown_while_no_other_can_be_had() {
    let endpoint = Endpoint::new([FIRST, (503, "")]);
    let chain = chain(&endpoint, "");
    assert_eq!(shown(&chain, &endpoint, 1_000), token("one"));
    refuse(&chain, &endpoint, 1_020, false);
    for second in 1_021..1_095 {
        assert_eq!(shown(&chain, &endpoint, second), token("one"), "{second}");
        endpoint.work();
    }
    assert!((3..10).contains(&endpoint.asked()), "the endpoint is left alone between tries: {}", endpoint.asked());
    assert_eq!(shown(&chain, &endpoint, 1_099), Err(503), "it has ended");
}

#[test]
fn what_a_back_end_may_read_as_the_gateways_own_does_not_go_on() {
    let chain = Bench::new(Vec::new()).build("upstream_auth: { api_key: { header: X-Api-Key, key: own } }").unwrap();
    let mut exchange =
        chain.exchange("GET / HTTP/1.1\nHost: h\nX_Api_Key: a\nx-api.key: b\nX-API-KEY: c\nX-Api-Keys: d");
    assert_eq!(chain.status(&mut exchange), 0);
    assert_eq!(sent_lines(&exchange), ["GET / HTTP/1.1", "Host: h", "X-Api-Keys: d", "x-api-key: own"]);
}

#[test]
fn work_that_is_dropped_lets_nobody_wait() {
    let bench = Bench::new(Vec::new());
    let chain = bench.build(&format!("{CLIENT} }} }}")).unwrap();
    assert_eq!(chain.status(&mut asked(&chain, 1_000)), 503);
}

#[test]
fn explain_fetches_nothing_and_shows_no_secret() {
    let endpoint = Endpoint::new([FIRST]);
    let chain = chain(&endpoint, "");
    let mut exchange = asked(&chain, 1_000);
    let (outcome, detail) = chain.explain(&mut exchange);
    assert_eq!(outcome, Outcome::Pass);
    assert!(detail.contains("a token of `id.example.com` for the client `gate:way`"), "{detail}");
    assert_eq!(sent_lines(&exchange)[2], "authorization: Bearer (hidden)");
    assert_eq!(endpoint.asked(), 0);
    for settings in [
        "{ basic: { username: a, password: open sesame } }",
        "{ api_key: { header: X-Key, key: open sesame } }",
        "{ api_key: { query: k, key: open sesame } }",
        "{ aws_sigv4: { service: s3, region: r, access_key_id: A, secret_access_key: open sesame } }",
    ] {
        let chain = Bench::new(Vec::new()).build(&format!("upstream_auth: {settings}")).unwrap();
        let mut exchange = asked(&chain, 1_000);
        let (_, detail) = chain.explain(&mut exchange);
        let told = format!("{detail} {:?} {:?}", sent_lines(&exchange), exchange.credentials);
        assert!(told.contains("idden") && !told.contains("sesame"), "{told}");
        assert!(chain.inward_with(&mut exchange, b"").1.is_ok());
        let told = format!("{:?}", exchange);
        assert!(!told.contains("open sesame") && !told.contains("open%20sesame"), "{told}");
    }
}

#[test]
fn nothing_of_it_is_part_of_the_request_that_others_see() {
    let chain = Bench::new(Vec::new()).build("upstream_auth: { api_key: { query: k, key: a&b } }").unwrap();
    let mut exchange = chain.exchange("GET /x?k=1&%6b=2&kk=3 HTTP/1.1");
    assert_eq!(chain.status(&mut exchange), 0);
    assert_eq!(upstream_lines(&exchange.request), ["GET /x?kk=3 HTTP/1.1"]);
    assert_eq!(sent_lines(&exchange), ["GET /x?kk=3&k=a%26b HTTP/1.1"]);
    let mut exchange = chain.exchange("GET /x?k=1 HTTP/1.1");
    assert_eq!(chain.status(&mut exchange), 0);
    assert_eq!(sent_lines(&exchange), ["GET /x?k=a%26b HTTP/1.1"]);
}

#[test]
fn wrong_settings_are_found_without_the_secret() {
    let bench = Bench::new(Vec::new());
    for (settings, code) in [
        ("{}", "missing_key"),
        ("{ basic: { username: a, password: b }, api_key: { header: k, key: b } }", "conflicting_keys"),
        ("{ basic: { username: 'a:b', password: b } }", "bad_value"),
        ("{ basic: { username: a, password: '' } }", "bad_value"),
        ("{ api_key: { key: open sesame } }", "missing_key"),
        ("{ api_key: { header: Host, key: open sesame } }", "bad_value"),
        ("{ api_key: { header: X-Key, key: ' open sesame' } }", "bad_value"),
        ("{ api_key: { query: 'a=b', key: open sesame } }", "bad_value"),
        ("{ client_credentials: { token_url: 'ftp://x', client_id: a, client_secret: open sesame } }", "bad_value"),
        ("{ client_credentials: { token_url: 'https://x', client_id: '', client_secret: open sesame } }", "bad_value"),
        (
            "{ client_credentials: { token_url: 'https://x', client_id: a, client_secret: open sesame, scope: ['a b'] } }",
            "bad_value",
        ),
        ("{ aws_sigv4: { service: 'a/b', region: r, access_key_id: A, secret_access_key: open sesame } }", "bad_value"),
    ] {
        let errors = bench.errors(&format!("upstream_auth: {settings}"));
        assert!(errors.len() == 1 && errors[0].starts_with(code), "{settings}: {errors:?}");
        assert!(!errors[0].contains("sesame"), "{errors:?}");
    }
    let plain =
        "upstream_auth: { client_credentials: { token_url: 'http://x/', client_id: a, client_secret: open sesame } }";
    let lines = bench.build(plain).unwrap().findings.lines();
    assert!(
        lines[0].starts_with("insecure routes.items.policies.upstream_auth.client_credentials.token_url"),
        "{lines:?}"
    );
}

/// A signer of the examples that AWS has published.
fn signer(service: &str, key: &str, secret: &str, token: Option<&str>) -> Arc<Signer> {
    Arc::new(Signer::new(AwsSigV4 {
        service: AwsWord(service.into()),
        region: AwsWord("us-east-1".into()),
        access_key_id: AwsWord(key.into()),
        secret_access_key: SecretText(secret.into()),
        session_token: token.map(|token| SecretText(token.into())),
        payload: AwsPayload::Signed,
        max_body: daemun_config::decode::Size(1024),
    }))
}

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// From <https://github.com/awslabs/aws-c-auth>, `tests/aws-signing-test-suite/v4`.
#[test]
fn the_published_test_suite_passes() {
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const UNRESERVED: &str = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const TOKEN: &str = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
    let host: (&str, &[u8]) = ("host", b"example.amazonaws.com");
    let date: (&str, &[u8]) = ("x-amz-date", b"20150830T123600Z");
    let plain = &[host, date][..];
    let form = "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e";
    let form_fields: &[(&str, &[u8])] = &[
        ("content-length", b"13"),
        ("content-type", b"application/x-www-form-urlencoded"),
        host,
        ("x-amz-content-sha256", form.as_bytes()),
        date,
    ];
    let trimmed: &[(&str, &[u8])] = &[host, ("my-header1", b" value1"), ("my-header2", b" \"a   b   c\""), date];
    let with_token: &[(&str, &[u8])] = &[host, date, ("x-amz-security-token", TOKEN.as_bytes())];
    let signer = signer("service", "AKIDEXAMPLE", SECRET, None);
    for (method, target, fields, payload, signature) in [
        ("GET", "/", plain, EMPTY, "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "/", plain, EMPTY, "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            "GET",
            "/?Param2=value2&Param1=value1",
            plain,
            EMPTY,
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        ("GET", "/ሴ", plain, EMPTY, "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
        ("GET", "/example space/", plain, EMPTY, "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"),
        ("GET", "/?ሴ=bar", plain, EMPTY, "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04"),
        (
            "GET",
            "/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1",
            plain,
            EMPTY,
            "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
        ),
        (
            "GET",
            &format!("/?{UNRESERVED}={UNRESERVED}"),
            plain,
            EMPTY,
            "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
        ),
        (
            "GET",
            &format!("/{UNRESERVED}"),
            plain,
            EMPTY,
            "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
        ),
        ("GET", "/", trimmed, EMPTY, "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"),
        ("GET", "/", with_token, EMPTY, "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8"),
        ("POST", "/", form_fields, form, "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b"),
    ] {
        let call = Outgoing {
            method: method.as_bytes(),
            authority: host.1,
            target: target.as_bytes(),
            wall: 1_440_938_160 * SECOND,
        };
        let signed = String::from_utf8(signer.sign(&call, fields, payload.as_bytes())).unwrap();
        assert!(signed.ends_with(&format!("Signature={signature}")), "{method} {target}: {signed}");
        assert!(signed.starts_with(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders="
        ));
    }
}

/// From the Amazon S3 API reference, "Signature Calculations for the Authorization Header".
#[test]
fn the_examples_of_the_s3_manual_pass() {
    let signer = signer("s3", "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", None);
    let wall = 1_369_353_600 * SECOND;
    for (target, signature) in [
        ("/?lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        ("/?max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ] {
        let payload = Payload::Signed(EMPTY.as_bytes().try_into().unwrap());
        let shown: Arc<dyn Credentials> = signer.with(payload);
        let authority = b"examplebucket.s3.amazonaws.com";
        let call = Outgoing { method: b"GET", authority, target: target.as_bytes(), wall };
        let mut fields = Vec::new();
        shown.fields(&call, &mut |name, value| {
            fields.push((String::from_utf8_lossy(name).into_owned(), String::from_utf8_lossy(value).into_owned()))
        });
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["x-amz-content-sha256", "x-amz-date", "authorization"]);
        assert_eq!(fields[1].1, "20130524T000000Z");
        assert!(fields[2].1.ends_with(&format!("Signature={signature}")), "{target}: {fields:?}");
    }
    let body = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
    let fields: &[(&str, &[u8])] = &[
        ("date", b"Fri, 24 May 2013 00:00:00 GMT"),
        ("host", b"examplebucket.s3.amazonaws.com"),
        ("x-amz-content-sha256", body.as_bytes()),
        ("x-amz-date", b"20130524T000000Z"),
        ("x-amz-storage-class", b"REDUCED_REDUNDANCY"),
    ];
    for target in ["/test%24file.text", "/test$file.text"] {
        let call = Outgoing { method: b"PUT", authority: b"", target: target.as_bytes(), wall };
        let signed = String::from_utf8(signer.sign(&call, fields, body.as_bytes())).unwrap();
        let signature = "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd";
        assert!(signed.ends_with(&format!("Signature={signature}")), "{signed}");
    }
}

#[test]
fn s3_is_sent_no_field_of_aws_that_the_caller_has_chosen() {
    let sent = |service: &str| {
        let settings = format!(
            "{{ service: {service}, region: r, access_key_id: A, secret_access_key: B, session_token: C, payload: unsigned }}"
        );
        let chain = Bench::new(Vec::new()).build(&format!("upstream_auth: {{ aws_sigv4: {settings} }}")).unwrap();
        let fields = "X-Amz-Copy-Source: /other/secret\nx_amz_acl: public-read\nX-AMZ-Meta-A: b\nX-Amz: a\nX-Amzn-B: c";
        let mut exchange = chain.exchange(&format!("PUT /x HTTP/1.1\nHost: h\n{fields}"));
        assert_eq!(chain.status(&mut exchange), 0);
        let names = sent_lines(&exchange).into_iter().skip(2).map(|line| line.split(':').next().unwrap().to_owned());
        names.collect::<Vec<_>>().join(" ")
    };
    let own = "x-amz-content-sha256 x-amz-date x-amz-security-token authorization";
    assert_eq!(sent("s3"), format!("X-Amz X-Amzn-B {own}"));
    assert_eq!(sent("dynamodb"), format!("X-Amz-Copy-Source x_amz_acl X-AMZ-Meta-A X-Amz X-Amzn-B {own}"));
}

#[test]
fn a_body_is_signed_or_said_not_to_be() {
    let of = |payload: &str, body: &[u8]| {
        let settings = format!(
            "{{ service: s3, region: r, access_key_id: A, secret_access_key: B, session_token: C, payload: {payload}, max_body: 10B }}"
        );
        let chain = Bench::new(Vec::new()).build(&format!("upstream_auth: {{ aws_sigv4: {settings} }}")).unwrap();
        let mut exchange =
            chain.exchange("PUT /x HTTP/1.1\nHost: h\nx-amz-content-sha256: own\nx-amz-security-token: own");
        let verdict = chain.inward_with(&mut exchange, body).1;
        verdict.map(|()| sent_lines(&exchange)).map_err(|stop| status(&stop))
    };
    let lines = of("signed", b"abc").unwrap();
    assert_eq!(lines[2], "x-amz-content-sha256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!(lines[4], "x-amz-security-token: C");
    assert!(lines[5].contains("SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token"));
    assert_eq!(of("signed", b"more than ten bytes"), Err(413));
    let lines = of("unsigned", b"more than ten bytes").unwrap();
    assert_eq!(lines[2], "x-amz-content-sha256: UNSIGNED-PAYLOAD");
}
