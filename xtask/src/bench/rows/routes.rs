//! What a request costs with 1,000 and with 100,000 routes, against 10, all of one run.

use anyhow::{Context, Result};

use super::super::Bench;
use super::super::loads::{CONNECTIONS, Load, write_requests};
use super::super::peer::Peer;
use super::super::process::free_addresses;
use super::super::scenario::{Kind, Place, routes};
use super::super::stats::{Spread, median};
use super::super::table::Line;

const SIZES: [usize; 3] = [10, 1_000, 100_000];
const REQUESTS: u64 = 300_000;

pub(super) fn measure(bench: &Bench) -> Result<Vec<Line>> {
    let mut contestants = Vec::new();
    for size in SIZES {
        let [listen, status] = free_addresses()?;
        let place = Place { listen, status, origin: bench.origin };
        let name = format!("daemun-{size}-routes");
        let all = routes(bench, size, 0, place, &bench.folder.join("run").join(&name))?;
        let requests = bench.folder.join(format!("{name}.requests"));
        write_requests(&requests, &all.requests)?;
        let peer = Peer::launch(bench, Kind::Daemun, place, &all.command, &name)?;
        let load = Load::Closed { requests, connections: CONNECTIONS };
        peer.run(bench, &load, load.warm_up(bench.count(REQUESTS)))?;
        contestants.push((size, peer, load, Vec::new()));
    }
    for _ in 0..bench.rounds() {
        for (_, peer, load, samples) in &mut contestants {
            samples.push(peer.run(bench, load, bench.count(REQUESTS))?.total());
        }
    }
    let base = contestants.first().map(|(.., samples)| samples.clone()).context("no size")?;
    contestants
        .iter()
        .map(|(size, .., samples)| {
            let mut line = Line {
                what: format!("{} routes, requests over all", thousands(*size)),
                unit: "µs CPU",
                ..Line::default()
            };
            line.cell(Kind::Daemun, format!("{:.1}", median(samples).context("no round")?));
            if *size != SIZES[0] {
                let ratios: Vec<f64> = samples.iter().zip(&base).map(|(own, base)| own / base).collect();
                let most = (*size == SIZES[2]).then_some(1.10);
                line.ratio(Spread::of(&ratios).context("no round")?, "10 routes", most);
            }
            Ok(line)
        })
        .collect()
}

/// `number` with a comma before each three digits.
fn thousands(number: usize) -> String {
    match (number / 1_000, number % 1_000) {
        (0, rest) => rest.to_string(),
        (thousand, rest) => format!("{},{rest:03}", thousands(thousand)),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!(
            ["10", "1,000", "100,000"],
            [10, 1_000, 100_000].map(super::thousands).each_ref().map(String::as_str)
        );
    }
}
