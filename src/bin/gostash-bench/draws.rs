//! Which command comes next, and on which key: random numbers, and what is made of them.

use crate::options::Options;
use crate::protocol::Operation;

/// Spreads neighbouring ranks over the keys: a prime above any number of keys, so that no two ranks share a key.
const SHUFFLE: u64 = 2_654_435_761;

/// Draws operations and keys as the options say.
pub struct Draws {
    options: Options,
    zipf: Option<Zipf>,
    /// In a mix, a draw of 32 bits below this is a GET.
    get_below: u64,
    /// For each client, the key that it has set and is to delete next.
    to_delete: Vec<Option<u32>>,
    random: Random,
}

impl Draws {
    pub fn new(options: &Options) -> Self {
        Draws {
            zipf: options.zipf.map(|exponent| Zipf::new(options.keys, exponent)),
            get_below: (u64::from(options.get_percent) << 32) / 100,
            to_delete: vec![None; options.clients],
            random: Random(options.seed),
            options: options.clone(),
        }
    }

    /// The next operation of a client, and its key.
    #[inline]
    pub fn next(&mut self, client: usize) -> (Operation, u32) {
        if self.options.command == Some(Operation::Del) {
            return self.set_or_delete(client);
        }
        // One draw serves both: its low half picks the command, its high half the key.
        let bits = self.random.next();
        let is_get = bits & 0xffff_ffff < self.get_below;
        let operation = self.options.command.unwrap_or(if is_get { Operation::Get } else { Operation::Set });
        (operation, self.key((bits >> 32) as u32))
    }

    #[inline]
    fn key(&mut self, bits: u32) -> u32 {
        match &self.zipf {
            None => ((u64::from(bits) * u64::from(self.options.keys)) >> 32) as u32,
            Some(zipf) => (zipf.rank(&mut self.random) * SHUFFLE % u64::from(self.options.keys)) as u32,
        }
    }

    /// Sets a key that no other client deletes; the next call deletes it.
    fn set_or_delete(&mut self, client: usize) -> (Operation, u32) {
        if let Some(id) = self.to_delete[client].take() {
            return (Operation::Del, id);
        }
        let bits = (self.random.next() >> 32) as u32;
        let (any, clients) = (self.key(bits), self.options.clients as u32);
        let own = any - any % clients + client as u32;
        let id = if own < self.options.keys { own } else { own - clients };
        self.to_delete[client] = Some(id);
        (Operation::Set, id)
    }
}

/// `SplitMix64` (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): one word of state, a
/// nanosecond a number, and good enough to pick keys.
pub struct Random(pub u64);

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    #[inline]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}

/// Random bits of a key's own.
#[inline]
pub fn mix(id: u32) -> u64 {
    Random(u64::from(id).wrapping_mul(GOLDEN)).next()
}

/// Zipf's distribution for any exponent without a table: rejection-inversion (Hoermann and Derflinger,
/// "Rejection-inversion to generate variates from monotone discrete distributions", 1996).
struct Zipf {
    count: f64,
    exponent: f64,
    /// The integral of the density up to 1.5, less the probability of 1, and up to `count` + 0.5.
    area: (f64, f64),
    /// A draw this close below its integer is accepted without looking further.
    sure: f64,
}

impl Zipf {
    fn new(count: u32, exponent: f64) -> Self {
        let mut zipf = Zipf { count: f64::from(count), exponent, area: (0.0, 0.0), sure: 0.0 };
        zipf.area = (zipf.integral(1.5) - 1.0, zipf.integral(zipf.count + 0.5));
        zipf.sure = 2.0 - zipf.inverse(zipf.integral(2.5) - 2_f64.powf(-exponent));
        zipf
    }

    /// From 0, the most popular.
    #[inline(never)]
    fn rank(&self, random: &mut Random) -> u64 {
        loop {
            // From 0 up to but not including 1.
            let fraction = (random.next() >> 11) as f64 / (1_u64 << 53) as f64;
            let area = self.area.1 + fraction * (self.area.0 - self.area.1);
            let place = self.inverse(area);
            let rank = place.round().clamp(1.0, self.count);
            if rank - place <= self.sure || area >= self.integral(rank + 0.5) - rank.powf(-self.exponent) {
                return rank as u64 - 1;
            }
        }
    }

    fn integral(&self, x: f64) -> f64 {
        let power = 1.0 - self.exponent;
        if power == 0.0 { x.ln() } else { (x.powf(power) - 1.0) / power }
    }

    fn inverse(&self, area: f64) -> f64 {
        let power = 1.0 - self.exponent;
        if power == 0.0 { area.exp() } else { (1.0 + area * power).max(0.0).powf(1.0 / power) }
    }
}
