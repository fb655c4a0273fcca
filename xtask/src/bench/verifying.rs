//! What the first look at a signed token costs beside what the library of signatures alone takes to verify it, measured in an optimized
//! build of this program, since the one that runs the benchmark is none.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use aws_lc_rs::signature::ParsedPublicKey;
use daemun_pipeline::{Exchange, Flow, Policy};
use data_encoding::BASE64URL_NOPAD;

use super::shaping::built;
use super::signer::{ACCEPTED, Signer};

/// Tokens of a round, none of which was seen before.
const EACH: usize = 2_000;
/// What the policy remembers, which is what it remembers where nothing is said.
const REMEMBERED: usize = 4_096;
/// Others that the policy has seen, twice as many as it remembers: a gateway's memory of them is full but for its first minutes.
const OTHERS: usize = 2 * REMEMBERED;

/// When they are looked at: nanoseconds since the Unix epoch, between when they were issued and when they end.
const NOW: u64 = 1_800_000_000_000_000_000;

/// Prints the algorithm and the ratio of each round, one a line.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let [rounds] = arguments else { bail!("`verify` is for the benchmark") };
    let rounds: usize = rounds.parse()?;
    for signer in [Signer::es256()?, Signer::rs256()?] {
        let file = signer.key_file()?;
        let key = signer.public()?;
        let all = (0..EACH + OTHERS).map(|number| signer.token(number)).collect::<Result<Vec<_>>>()?;
        let (tokens, others) = all.split_at(EACH);
        // the first round fills the processor's caches
        for round in 0..=rounds {
            let policy = policy(&file)?;
            walked(others, |exchange| looked_at(&*policy, exchange))?;
            // in turns, so that neither finds more of the tokens in the processor's caches
            let before = if round % 2 == 0 { Some(bare(&key, tokens)?) } else { None };
            let (idle, ours) = (walked(tokens, |_| Ok(()))?, walked(tokens, |exchange| looked_at(&*policy, exchange))?);
            let bare = before.map_or_else(|| bare(&key, tokens), Ok)?;
            if round > 0 {
                println!("{} {:.4}", signer.algorithm(), (ours - idle).as_secs_f64() / bare.as_secs_f64());
            }
        }
    }
    Ok(())
}

/// How long the signatures alone take.
fn bare(key: &ParsedPublicKey, tokens: &[String]) -> Result<Duration> {
    let mut split = Vec::with_capacity(tokens.len());
    for token in tokens {
        let (signed, signature) = token.rsplit_once('.').context("no signature")?;
        // copied, as a request is
        split.push((signed.to_owned(), BASE64URL_NOPAD.decode(signature.as_bytes())?));
    }
    let since = Instant::now();
    for (signed, signature) in &split {
        ensure!(key.verify_sig(signed.as_bytes(), signature).is_ok(), "a signature is wrong");
    }
    Ok(since.elapsed())
}

/// How long it takes to make a request of each token and to do something with it.
fn walked(tokens: &[String], act: impl Fn(&mut Exchange) -> Result<()>) -> Result<Duration> {
    let mut exchange = Exchange::default();
    let values: Vec<String> = tokens.iter().map(|token| format!("Bearer {token}")).collect();
    let since = Instant::now();
    for value in &values {
        exchange.reset();
        exchange.wall = NOW;
        exchange.request.head.append("Host", b"bench.example");
        exchange.request.head.append("Authorization", value.as_bytes());
        act(black_box(&mut exchange))?;
    }
    Ok(since.elapsed())
}

fn looked_at(policy: &dyn Policy, exchange: &mut Exchange) -> Result<()> {
    match policy.on_request(exchange) {
        Flow::Now(Ok(())) => Ok(()),
        Flow::Now(Err(_)) | Flow::Later(_) => bail!("the policy refuses the token"),
    }
}

/// A policy that remembers nothing yet.
fn policy(key: &str) -> Result<Box<dyn Policy>> {
    let file = std::env::temp_dir().join(format!("daemun-bench-{}.key", std::process::id()));
    std::fs::write(&file, key)?;
    let settings = format!("{{ {ACCEPTED}, cache: {REMEMBERED}, keys: {{ file: {} }} }}", file.display());
    let built = built("jwt", &settings);
    std::fs::remove_file(&file)?;
    built
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_is_taken_and_what_is_changed_is_not() {
        for signer in [Signer::es256().unwrap(), Signer::rs256().unwrap()] {
            let policy = policy(&signer.key_file().unwrap()).unwrap();
            let token = signer.token(1).unwrap();
            let changed = token.replacen('.', ".e", 1);
            assert!(walked(&[token], |exchange| looked_at(&*policy, exchange)).is_ok());
            assert!(walked(&[changed], |exchange| looked_at(&*policy, exchange)).is_err());
        }
    }
}
