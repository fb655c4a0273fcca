//! Counters of one route or one target: a block of cells per worker, made when that worker first needs it. Knows nothing of names,
//! nor of how counters are shown.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A counter that one thread alone writes and any may read; an addition is a plain load and a plain store.
#[derive(Debug, Default)]
pub(super) struct Cell(AtomicU64);

impl Cell {
    /// Adds; only ever called by the thread that owns the cell.
    #[inline]
    pub(super) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Reads, from any thread.
    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Statuses with a counter of their own: the registered ones (RFC 9110 and the IANA registry).
const CODES: [u16; 59] = [
    101, 200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305, 307, 308, 400, 401, 402, 403,
    404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, 423, 424, 425, 426, 428, 429,
    431, 451, 500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511,
];
/// What other statuses are counted under, by their first digit.
const CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];
/// Counters for statuses.
const STATUSES: usize = CODES.len() + CLASSES.len();
const FIRST_STATUS: u16 = 100;
const STATUS_SLOTS: [u8; 500] = status_slots();

#[allow(clippy::indexing_slicing, reason = "evaluated while compiling, where a wrong index is an error")]
const fn status_slots() -> [u8; 500] {
    let mut out = [0u8; 500];
    let mut i = 0;
    while i < 500 {
        out[i] = (CODES.len() + 1 + i / 100) as u8;
        i += 1;
    }
    let mut i = 0;
    while i < CODES.len() {
        out[(CODES[i] - FIRST_STATUS) as usize] = i as u8;
        i += 1;
    }
    out
}

/// Position of a status among the counters; never outside.
#[inline]
fn status_slot(status: u16) -> usize {
    let offset = usize::from(status.wrapping_sub(FIRST_STATUS));
    STATUS_SLOTS.get(offset).map_or(CODES.len(), |slot| usize::from(*slot))
}

/// Counters per class of an upstream's answers; `none` is for calls without an answer.
pub(super) const ANSWER_CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

#[inline]
fn answer_class(status: u16) -> usize {
    if (100..600).contains(&status) { usize::from(status / 100) } else { 0 }
}

/// Upper bounds of the duration buckets, inclusive: nanoseconds, and seconds as shown. One more bucket has no bound.
pub(super) const BOUNDS: [(u64, &str); 18] = [
    (100_000, "0.0001"),
    (250_000, "0.00025"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1"),
    (2_500_000_000, "2.5"),
    (5_000_000_000, "5"),
    (10_000_000_000, "10"),
    (30_000_000_000, "30"),
    (60_000_000_000, "60"),
];
const BUCKETS: usize = BOUNDS.len() + 1;
/// First bucket worth looking at for a number with so many significant bits.
const FIRST_BUCKETS: [u8; 65] = first_buckets();

#[allow(clippy::indexing_slicing, reason = "evaluated while compiling, where a wrong index is an error")]
const fn first_buckets() -> [u8; 65] {
    let mut out = [0u8; 65];
    let mut bits = 1;
    while bits < 65 {
        let least = 1u64 << (bits - 1);
        let mut bucket = 0;
        while bucket < BOUNDS.len() && BOUNDS[bucket].0 < least {
            bucket += 1;
        }
        out[bits] = bucket as u8;
        bits += 1;
    }
    out
}

#[inline]
fn bucket(nanos: u64) -> usize {
    let bits = 64 - nanos.leading_zeros() as usize;
    let mut at = FIRST_BUCKETS.get(bits).map_or(0, |first| usize::from(*first));
    while BOUNDS.get(at).is_some_and(|(bound, _)| nanos > *bound) {
        at += 1;
    }
    at
}

/// Durations, counted by bucket.
#[derive(Debug)]
pub(super) struct Histogram {
    buckets: [Cell; BUCKETS],
    sum: Cell,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { buckets: std::array::from_fn(|_| Cell::default()), sum: Cell::default() }
    }
}

impl Histogram {
    #[inline]
    fn observe(&self, nanos: u64) {
        if let Some(cell) = self.buckets.get(bucket(nanos)) {
            cell.add(1);
        }
        self.sum.add(nanos);
    }
}

/// A histogram summed over workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HistogramSum {
    /// Observations per bucket, not cumulative.
    pub(super) buckets: [u64; BUCKETS],
    /// Sum of all observations in nanoseconds.
    pub(super) sum: u64,
}

impl HistogramSum {
    fn fold(&mut self, histogram: &Histogram) {
        for (sum, cell) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *sum += cell.get();
        }
        self.sum = self.sum.wrapping_add(histogram.sum.get());
    }

    /// Number of observations.
    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    fn put_into(&self, histogram: &Histogram) {
        for (sum, cell) in self.buckets.iter().zip(&histogram.buckets) {
            cell.add(*sum);
        }
        histogram.sum.add(self.sum);
    }
}

/// One block of cells per worker, and one more for what is folded in under a lock.
struct PerWorker<B> {
    blocks: Box<[OnceLock<Box<B>>]>,
}

impl<B: Default> PerWorker<B> {
    fn new(workers: usize) -> PerWorker<B> {
        PerWorker { blocks: (0..=workers).map(|_| OnceLock::new()).collect() }
    }

    #[inline]
    fn of(&self, worker: usize) -> Option<&B> {
        Some(&**self.blocks.get(worker)?.get_or_init(Box::default))
    }

    fn folded(&self) -> Option<&B> {
        Some(&**self.blocks.last()?.get_or_init(Box::default))
    }

    fn iter(&self) -> impl Iterator<Item = &B> {
        self.blocks.iter().filter_map(OnceLock::get).map(|block| &**block)
    }
}

#[derive(Debug)]
#[repr(align(64))]
struct RouteBlock {
    statuses: [Cell; STATUSES],
    abandoned: Cell,
    duration: Histogram,
    bytes_in: Cell,
    bytes_out: Cell,
}

impl Default for RouteBlock {
    fn default() -> RouteBlock {
        RouteBlock {
            statuses: std::array::from_fn(|_| Cell::default()),
            abandoned: Cell::default(),
            duration: Histogram::default(),
            bytes_in: Cell::default(),
            bytes_out: Cell::default(),
        }
    }
}

/// Counters of one route, or of several that share them.
pub struct RouteCells(PerWorker<RouteBlock>);

impl fmt::Debug for RouteCells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteCells").field("sum", &self.sum()).finish()
    }
}

/// One exchange as its route counts it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Served {
    /// Status of the answer; `None` when the client left before there was one.
    pub(super) status: Option<u16>,
    /// Nanoseconds the exchange took.
    pub(super) duration: u64,
    /// Bytes of the request body.
    pub(super) bytes_in: u64,
    /// Bytes of the answer's body.
    pub(super) bytes_out: u64,
}

impl RouteCells {
    pub(super) fn new(workers: usize) -> RouteCells {
        RouteCells(PerWorker::new(workers))
    }

    /// Counts one exchange; only ever called by that worker's thread.
    #[inline]
    pub(super) fn count(&self, worker: usize, served: &Served) {
        let Some(block) = self.0.of(worker) else { return };
        match served.status {
            Some(status) => {
                if let Some(cell) = block.statuses.get(status_slot(status)) {
                    cell.add(1);
                }
                block.duration.observe(served.duration);
            }
            None => block.abandoned.add(1),
        }
        block.bytes_in.add(served.bytes_in);
        block.bytes_out.add(served.bytes_out);
    }

    /// Counts an answer to something that never became an exchange; it has no duration.
    pub(super) fn count_answer(&self, worker: usize, status: u16) {
        if let Some(cell) = self.0.of(worker).and_then(|block| block.statuses.get(status_slot(status))) {
            cell.add(1);
        }
    }

    /// Sums over all workers.
    pub(super) fn sum(&self) -> RouteSum {
        let mut sum = RouteSum::default();
        for block in self.0.iter() {
            for (sum, cell) in sum.statuses.iter_mut().zip(&block.statuses) {
                *sum += cell.get();
            }
            sum.abandoned += block.abandoned.get();
            sum.duration.fold(&block.duration);
            sum.bytes_in += block.bytes_in.get();
            sum.bytes_out += block.bytes_out.get();
        }
        sum
    }

    /// Takes over what another counted; called under the registry's lock only.
    pub(super) fn absorb(&self, other: &RouteSum) {
        let Some(block) = self.0.folded() else { return };
        for (sum, cell) in other.statuses.iter().zip(&block.statuses) {
            cell.add(*sum);
        }
        block.abandoned.add(other.abandoned);
        other.duration.put_into(&block.duration);
        block.bytes_in.add(other.bytes_in);
        block.bytes_out.add(other.bytes_out);
    }
}

/// A route's counters summed over workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RouteSum {
    statuses: [u64; STATUSES],
    /// Exchanges whose client left before an answer.
    pub(super) abandoned: u64,
    /// How long exchanges took.
    pub(super) duration: HistogramSum,
    /// Bytes of request bodies.
    pub(super) bytes_in: u64,
    /// Bytes of answers' bodies.
    pub(super) bytes_out: u64,
}

impl Default for RouteSum {
    fn default() -> RouteSum {
        RouteSum { statuses: [0; STATUSES], abandoned: 0, duration: HistogramSum::default(), bytes_in: 0, bytes_out: 0 }
    }
}

impl RouteSum {
    /// Answers per status that occurred: the status or its class, and how many.
    pub(super) fn statuses(&self) -> impl Iterator<Item = (StatusLabel, u64)> {
        let codes = CODES.iter().map(|code| StatusLabel::Code(*code));
        let classes = CLASSES.iter().map(|class| StatusLabel::Class(class));
        codes.chain(classes).zip(self.statuses).filter(|(_, count)| *count > 0)
    }
}

/// Value of the label `code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StatusLabel {
    /// A registered status.
    Code(u16),
    /// All others of a class.
    Class(&'static str),
}

impl fmt::Display for StatusLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StatusLabel::Code(code) => write!(f, "{code}"),
            StatusLabel::Class(class) => f.write_str(class),
        }
    }
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct TargetBlock {
    answers: [Cell; ANSWER_CLASSES.len()],
    connects: Cell,
    connect_failures: Cell,
    response: Histogram,
}

/// Counters of one target of an upstream, or of several that share them.
pub struct TargetMetrics(PerWorker<TargetBlock>);

impl fmt::Debug for TargetMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TargetMetrics").field("sum", &self.sum()).finish()
    }
}

impl TargetMetrics {
    pub(super) fn new(workers: usize) -> TargetMetrics {
        TargetMetrics(PerWorker::new(workers))
    }

    /// Counts one call: the status it was answered with (0: none), and how long that took.
    #[inline]
    pub(super) fn count(&self, worker: usize, status: u16, nanos: u64) {
        let Some(block) = self.0.of(worker) else { return };
        let class = answer_class(status);
        if let Some(cell) = block.answers.get(class) {
            cell.add(1);
        }
        if class > 0 {
            block.response.observe(nanos);
        }
    }

    /// Counts a connection that was made, or could not be.
    pub(super) fn count_connect(&self, worker: usize, made: bool) {
        let Some(block) = self.0.of(worker) else { return };
        if made { block.connects.add(1) } else { block.connect_failures.add(1) }
    }

    /// Sums over all workers.
    pub(super) fn sum(&self) -> TargetSum {
        let mut sum = TargetSum::default();
        for block in self.0.iter() {
            for (sum, cell) in sum.answers.iter_mut().zip(&block.answers) {
                *sum += cell.get();
            }
            sum.connects += block.connects.get();
            sum.connect_failures += block.connect_failures.get();
            sum.response.fold(&block.response);
        }
        sum
    }

    /// Takes over what another counted; called under the registry's lock only.
    pub(super) fn absorb(&self, other: &TargetSum) {
        let Some(block) = self.0.folded() else { return };
        for (sum, cell) in other.answers.iter().zip(&block.answers) {
            cell.add(*sum);
        }
        block.connects.add(other.connects);
        block.connect_failures.add(other.connect_failures);
        other.response.put_into(&block.response);
    }
}

/// A target's counters summed over workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TargetSum {
    /// Calls per class of answer, as in [`ANSWER_CLASSES`].
    pub(super) answers: [u64; ANSWER_CLASSES.len()],
    /// Connections made.
    pub(super) connects: u64,
    /// Connections that could not be made.
    pub(super) connect_failures: u64,
    /// How long answers took.
    pub(super) response: HistogramSum,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_lands_in_the_first_bucket_whose_bound_holds_it() {
        for nanos in (0..64)
            .flat_map(|bit| [1u64 << bit, (1u64 << bit) - 1, (1u64 << bit) + 1])
            .chain(BOUNDS.iter().flat_map(|b| [b.0 - 1, b.0, b.0 + 1]))
        {
            let naive = BOUNDS.iter().position(|(bound, _)| nanos <= *bound).unwrap_or(BOUNDS.len());
            assert_eq!(bucket(nanos), naive, "{nanos}");
        }
        assert_eq!(bucket(u64::MAX), BOUNDS.len());
    }

    #[test]
    fn bounds_are_shown_as_what_they_are() {
        for (nanos, shown) in BOUNDS {
            let seconds: f64 = shown.parse().unwrap();
            assert!((seconds * 1e9 - nanos as f64).abs() < 1.0, "{shown}");
        }
        assert!(BOUNDS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn every_status_has_exactly_one_counter() {
        assert!(CODES.windows(2).all(|pair| pair[0] < pair[1]));
        let label = |status| {
            let cells = RouteCells::new(1);
            cells.count_answer(0, status);
            let sum = cells.sum();
            let mut found = sum.statuses();
            let (label, count) = found.next().unwrap();
            assert!(count == 1 && found.next().is_none());
            label.to_string()
        };
        for code in CODES {
            assert_eq!(label(code), code.to_string());
        }
        assert_eq!([299, 299, 399, 499, 599, 199].map(label), ["2xx", "2xx", "3xx", "4xx", "5xx", "1xx"]);
        assert_eq!([0, 99, 600, u16::MAX].map(label), ["other"; 4]);
    }

    #[test]
    fn a_block_is_small_and_made_only_for_the_worker_that_counts() {
        assert!(size_of::<RouteBlock>() <= 768, "{}", size_of::<RouteBlock>());
        assert!(size_of::<TargetBlock>() <= 256, "{}", size_of::<TargetBlock>());
        let cells = RouteCells::new(4);
        cells.count_answer(2, 200);
        assert_eq!(cells.0.iter().count(), 1);
    }

    #[test]
    fn what_was_absorbed_is_counted_with_the_rest() {
        let (a, b) = (RouteCells::new(2), RouteCells::new(2));
        a.count(0, &Served { status: Some(200), duration: 5, bytes_in: 1, bytes_out: 2 });
        a.count(1, &Served { status: None, duration: 5, bytes_in: 3, bytes_out: 4 });
        b.absorb(&a.sum());
        assert_eq!(a.sum(), b.sum());
        b.count(0, &Served { status: Some(200), duration: 5, bytes_in: 1, bytes_out: 2 });
        let sum = b.sum();
        assert_eq!(
            (sum.statuses().next(), sum.abandoned, sum.bytes_in, sum.duration.count()),
            (Some((StatusLabel::Code(200), 2)), 1, 5, 2)
        );
    }
}
