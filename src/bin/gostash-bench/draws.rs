//! Which command comes next, and on which key: random draws from a seed. It knows no bytes and no clock.

use std::collections::VecDeque;

use fastrand::Rng;

use crate::options::Options;
use crate::protocol::Operation;

/// A prime above any number of keys: multiplying by it spreads neighbouring ranks, and no two ranks share a key.
const SHUFFLE: u64 = 2_654_435_761;

pub struct Draws<'a> {
    options: &'a Options,
    zipf: Option<Zipf>,
    random: Rng,
}

impl<'a> Draws<'a> {
    pub fn new(options: &'a Options) -> Self {
        Draws {
            zipf: options.distribution.map(|exponent| Zipf::new(options.keys, exponent)),
            random: Rng::with_seed(options.seed),
            options,
        }
    }

    /// The next operation of a client and its key's number, unless something is to follow from what it sent before.
    pub fn next(&mut self, client: usize, follow_ups: &mut VecDeque<(Operation, u32)>) -> (Operation, u32) {
        // One random number serves both: its low half picks the command, its high half the key.
        let (bits, keys) = (self.random.u64(..), u64::from(self.options.keys));
        let id = match &self.zipf {
            None => ((bits >> 32) * keys) >> 32,
            Some(zipf) => zipf.rank(&mut self.random) * SHUFFLE % keys,
        } as u32;
        let is_get = ((bits & 0xffff_ffff) * 100) >> 32 < u64::from(self.options.get_percent);
        let mixed = if is_get { Operation::Get } else { Operation::Set };
        // A key near this one that belongs to this client alone.
        let own = || {
            let clients = self.options.clients as u32;
            let own = id - id % clients + client as u32;
            if own < self.options.keys { own } else { own - clients }
        };
        let id = if self.options.owns_keys() { own() } else { id };
        let operation = self.options.command.unwrap_or(mixed);
        if operation == Operation::Del {
            follow_ups.push_back((operation, id));
            return (Operation::Set, id);
        }
        (operation, id)
    }
}

/// Zipf's distribution for any exponent, without a table, by rejection-inversion (Hoermann and Derflinger,
/// "Rejection-inversion to generate variates from monotone discrete distributions", 1996).
struct Zipf {
    count: f64,
    /// The exponent of x in the density's integral: 1 less the distribution's exponent.
    power: f64,
    /// The bounds of what is drawn from: the integral up to 1.5 less the density at 1, and that up to `count` + 0.5.
    low: f64,
    high: f64,
    /// A draw that rounds up by no more than this is accepted without computing the density.
    shortcut: f64,
}

impl Zipf {
    fn new(count: u32, exponent: f64) -> Self {
        // With a power of 0 the integral would be a logarithm. So close to 0 the difference does not show.
        let power = if (1.0 - exponent).abs() < 1e-6 { 1e-6 } else { 1.0 - exponent };
        let mut zipf = Zipf { count: f64::from(count), power, low: 0.0, high: 0.0, shortcut: 0.0 };
        (zipf.low, zipf.high) = (zipf.integral(1.5) - 1.0, zipf.integral(zipf.count + 0.5));
        zipf.shortcut = 2.0 - zipf.inverse(zipf.integral(2.5) - 2_f64.powf(power - 1.0));
        zipf
    }

    /// Draws a rank; 0 is the most popular.
    fn rank(&self, random: &mut Rng) -> u64 {
        loop {
            let area = self.high + random.f64() * (self.low - self.high);
            let place = self.inverse(area);
            let rank = place.round().clamp(1.0, self.count);
            if rank - place <= self.shortcut || area >= self.integral(rank + 0.5) - rank.powf(self.power - 1.0) {
                return rank as u64 - 1;
            }
        }
    }

    fn integral(&self, x: f64) -> f64 {
        x.powf(self.power) / self.power
    }

    fn inverse(&self, area: f64) -> f64 {
        (area * self.power).powf(1.0 / self.power)
    }
}
