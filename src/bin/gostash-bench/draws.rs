//! Which command comes next, and on which key: random draws, the same in each run. It knows no bytes and no clock.

use std::collections::VecDeque;

use fastrand::Rng;

use crate::options::Options;
use crate::protocol::Operation;

/// A prime above any number of keys: multiplying by it spreads neighbouring ranks, and no two ranks share a key.
const SHUFFLE: u64 = 2_654_435_761;

/// A function that draws a client's next operation and its key's number, and notes what is to follow from it.
pub fn draws(options: &Options) -> impl FnMut(usize, &mut VecDeque<(Operation, u32)>) -> (Operation, u32) + use<> {
    let Options { keys, get_percent, command, .. } = *options;
    let (clients, owns_keys) = (options.clients as u32, options.owns_keys());
    let zipf = options.distribution.map(|exponent| zipf(keys, exponent));
    let mut random = Rng::with_seed(1);
    move |client, follow_ups| {
        // One random number serves both: its low half picks the command, its high half a key of a uniform distribution.
        let bits = random.u64(..);
        let mut id = match &zipf {
            None => ((bits >> 32) * u64::from(keys)) >> 32,
            Some(rank) => rank(&mut random) * SHUFFLE % u64::from(keys),
        } as u32;
        let is_get = ((bits & 0xffff_ffff) * 100) >> 32 < u64::from(get_percent);
        if owns_keys {
            // A key near this one that belongs to this client alone.
            id = id - id % clients + client as u32;
            id = if id < keys { id } else { id - clients };
        }
        let operation = command.unwrap_or(if is_get { Operation::Get } else { Operation::Set });
        if operation == Operation::Del {
            follow_ups.push_back((operation, id));
            return (Operation::Set, id);
        }
        (operation, id)
    }
}

/// Zipf's distribution for any exponent, without a table, by rejection-inversion (Hoermann and Derflinger,
/// "Rejection-inversion to generate variates from monotone discrete distributions", 1996). It draws a rank; 0 is the
/// most popular.
fn zipf(count: u32, exponent: f64) -> impl Fn(&mut Rng) -> u64 {
    // With a power of 0 the integral of the density would be a logarithm. So close to 0 the difference does not show.
    let power = if (1.0 - exponent).abs() < 1e-6 { 1e-6 } else { 1.0 - exponent };
    let density = move |x: f64| x.powf(power - 1.0);
    let integral = move |x: f64| x.powf(power) / power;
    let inverse = move |area: f64| (area * power).powf(1.0 / power);
    // The bounds of what is drawn from: the integral up to 1.5 less the density at 1, and that up to `count` + 0.5.
    let (low, high) = (integral(1.5) - 1.0, integral(f64::from(count) + 0.5));
    // A draw that rounds up by no more than this is accepted without computing the density.
    let shortcut = 2.0 - inverse(integral(2.5) - density(2.0));
    move |random| loop {
        let area = high + random.f64() * (low - high);
        let place = inverse(area);
        // The nearest rank, in fewer steps than f64::round takes.
        let rank = f64::from(((place + 0.5) as u32).clamp(1, count));
        if rank - place <= shortcut || area >= integral(rank + 0.5) - density(rank) {
            return rank as u64 - 1;
        }
    }
}
