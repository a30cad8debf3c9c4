//! The work: which keys are asked for, what they and their values look like, and requests ready to be sent. Everything
//! follows from a key's number, so any reply can be checked without remembering it. It knows no socket and no clock.

use std::str::FromStr;

use crate::options::Options;
use crate::output::Output;
use crate::protocol::{FIRST_NUMBER, Operation, Protocol, Start};

/// Values begin with so many bytes of their own; the rest they share, at an offset of their own.
const STAMP_BYTES: usize = 8;

/// How far apart the offsets of two values may be in the bytes they share.
const OFFSETS: usize = 1 << 16;

/// A value from this length on, in bytes, is sent from where it lies.
const BORROW_BYTES: usize = 16 * 1024;

/// Spreads neighbouring ranks over the keys: a prime above any number of keys, so that no two ranks share a key.
const SHUFFLE: u64 = 2_654_435_761;

/// One request under way.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// What was asked.
    pub operation: Operation,
    /// Of which key.
    pub id: u32,
    /// How long a hit's value is, in bytes; for an echo, how long the reply.
    pub body_bytes: usize,
    /// For `--verify`: what the model knew when it was sent.
    pub known: u32,
    /// When it was due, in nanoseconds of the run's clock.
    pub due_nanos: u64,
}

/// What the reply to a request must be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// How long a hit's value is, in bytes; for an echo, how long the reply.
    pub body_bytes: usize,
    /// How long all of the reply is if all goes well, in bytes; `None` where a failure could be as long.
    pub reply_bytes: Option<usize>,
}

/// Which commands are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// GET and SET.
    Mix,
    /// GET alone.
    Get,
    /// SET alone.
    Set,
    /// INC alone.
    Inc,
    /// DEC alone.
    Dec,
    /// SET, and then DEL of the same key.
    Del,
}

impl FromStr for Mode {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Ok(match name {
            "mix" => Mode::Mix,
            "get" => Mode::Get,
            "set" => Mode::Set,
            "inc" => Mode::Inc,
            "dec" => Mode::Dec,
            "del" => Mode::Del,
            _ => return Err(()),
        })
    }
}

/// How often each key is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// All alike.
    Uniform,
    /// The n-th most popular one in proportion to n to the minus this.
    Zipf(f64),
}

impl FromStr for Distribution {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.split_once(':') {
            None if text == "uniform" => Ok(Distribution::Uniform),
            None if text == "zipf" => Ok(Distribution::Zipf(0.99)),
            Some(("zipf", exponent)) => {
                let exponent = exponent.parse().map_err(|_| ())?;
                if 0.0 < exponent && exponent <= 10.0 { Ok(Distribution::Zipf(exponent)) } else { Err(()) }
            }
            _ => Err(()),
        }
    }
}

/// A length in bytes, or a range from which each key takes one for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// The least.
    pub low: usize,
    /// The most.
    pub high: usize,
}

impl Sizes {
    /// The same for all.
    pub fn exactly(bytes: usize) -> Self {
        Sizes { low: bytes, high: bytes }
    }

    /// What number `random` of the range's lengths is.
    fn pick(self, random: u32) -> usize {
        let choices = (self.high - self.low + 1) as u64;
        self.low + ((u64::from(random) * choices) >> 32) as usize
    }

    fn is_fixed(self) -> bool {
        self.low == self.high
    }
}

impl FromStr for Sizes {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        let sizes = Sizes { low: bytes(low)?, high: bytes(high)? };
        if sizes.low <= sizes.high { Ok(sizes) } else { Err(()) }
    }
}

/// Digits, and perhaps b, kb, mb or gb.
fn bytes(text: &str) -> Result<usize, ()> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: usize = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1 << 10,
        "mb" => 1 << 20,
        "gb" => 1 << 30,
        _ => return Err(()),
    };
    digits.parse::<usize>().ok().and_then(|number| number.checked_mul(unit)).ok_or(())
}

/// Turns random numbers into requests, and requests into bytes.
pub struct Workload {
    protocol: Protocol,
    mode: Mode,
    keys: u32,
    clients: u32,
    key_size: Sizes,
    values: Values,
    zipf: Option<Zipf>,
    /// A draw of 32 bits below this is a GET, any other is ...
    get_below: u64,
    /// ... this.
    other: Operation,
    shape: Option<(usize, usize)>,
    random: Random,
    /// Requests with the key's digits still to be written, by operation; where sizes vary there are none.
    templates: [Option<Template>; 6],
}

impl Workload {
    /// The work that the options describe.
    pub fn new(options: &Options) -> Self {
        let zipf = match options.distribution {
            Distribution::Uniform => None,
            Distribution::Zipf(exponent) => Some(Zipf::new(options.keys, exponent)),
        };
        let (get_percent, other) = match options.mode {
            Mode::Mix => (options.get_percent, Operation::Set),
            Mode::Get => (100, Operation::Get),
            Mode::Set => (0, Operation::Set),
            Mode::Inc => (0, Operation::Inc),
            Mode::Dec => (0, Operation::Dec),
            Mode::Del => (0, Operation::Del),
        };
        let mut workload = Workload {
            protocol: options.protocol,
            mode: options.mode,
            keys: options.keys,
            clients: options.clients as u32,
            key_size: options.key_size,
            values: Values::new(options.value_size),
            zipf,
            get_below: (u64::from(get_percent) << 32) / 100,
            other,
            shape: options.shape,
            random: Random(options.seed),
            templates: Default::default(),
        };
        workload.templates = Operation::ALL.map(|operation| workload.template(operation));
        workload
    }

    /// The next request of a client that has just sent `previous`.
    #[inline]
    pub fn next(&mut self, client: usize, previous: Option<(Operation, u32)>) -> (Operation, u32) {
        if self.mode == Mode::Del {
            return match previous {
                Some((Operation::Set, id)) => (Operation::Del, id),
                _ => (Operation::Set, self.own_key(client)),
            };
        }
        // One draw serves both: its low half picks the command, its high half the key.
        let bits = self.random.next();
        let operation = if bits & 0xffff_ffff < self.get_below { Operation::Get } else { self.other };
        (operation, self.key((bits >> 32) as u32))
    }

    /// What sets a key for the first time.
    pub fn first(&self) -> Operation {
        if matches!(self.mode, Mode::Inc | Mode::Dec) { Operation::SetNumber } else { Operation::Set }
    }

    #[inline]
    fn key(&mut self, bits: u32) -> u32 {
        match &self.zipf {
            None => scale(bits, self.keys),
            Some(zipf) => (zipf.rank(&mut self.random) * SHUFFLE % u64::from(self.keys)) as u32,
        }
    }

    /// A key that no other client deletes.
    fn own_key(&mut self, client: usize) -> u32 {
        let bits = (self.random.next() >> 32) as u32;
        let any = self.key(bits);
        let own = any - any % self.clients + client as u32;
        if own < self.keys { own } else { own - self.clients }
    }

    /// Appends a request's bytes, and says what to expect for them.
    #[inline]
    pub fn write(&self, operation: Operation, id: u32, out: &mut Output) -> Expected {
        if let Some(template) = &self.templates[operation as usize] {
            let start = out.bytes.len();
            for block in &template.blocks {
                out.bytes.extend_from_slice(block);
            }
            out.bytes.truncate(start + template.length);
            let request = &mut out.bytes[start..];
            if let Some(at) = template.digits_at {
                request[at..at + 8].copy_from_slice(&digits(id));
            }
            if let Some((at, length)) = template.value {
                self.values.write(id, &mut request[at..at + length]);
            }
            return template.expected;
        }
        self.write_long(operation, id, out)
    }

    /// The long way, kept apart so that the short one stays short.
    #[inline(never)]
    fn write_long(&self, operation: Operation, id: u32, out: &mut Output) -> Expected {
        self.write_sized(operation, id, self.value_bytes(operation, id), out)
    }

    /// The same where the value's length is the caller's.
    pub fn write_sized(&self, operation: Operation, id: u32, value_bytes: usize, out: &mut Output) -> Expected {
        let before = out.len();
        self.write_head(operation, id, value_bytes, &mut out.bytes);
        if operation == Operation::SetNumber {
            out.bytes.extend_from_slice(FIRST_NUMBER.to_string().as_bytes());
        } else if operation.has_value() {
            if value_bytes >= BORROW_BYTES {
                out.bytes.extend_from_slice(&stamp(id));
                out.borrow(offset(id) + STAMP_BYTES, value_bytes - STAMP_BYTES);
            } else {
                let start = out.bytes.len();
                out.bytes.resize(start + value_bytes, 0);
                self.values.write(id, &mut out.bytes[start..]);
            }
        }
        out.bytes.extend_from_slice(b"\r\n");
        self.expected(operation, self.key_bytes(id), value_bytes, out.len() - before)
    }

    fn write_head(&self, operation: Operation, id: u32, value_bytes: usize, out: &mut Vec<u8>) {
        self.protocol.write_head(out, operation, self.key_bytes(id), value_bytes, |out| {
            self.write_key(id, out);
        });
    }

    /// `key:` and the number in hexadecimal digits, filled up with zeros; a short key is digits alone.
    pub fn write_key(&self, id: u32, out: &mut Vec<u8>) {
        let length = self.key_bytes(id);
        let prefix = if length >= 12 { "key:" } else { "" };
        out.extend_from_slice(prefix.as_bytes());
        out.resize(out.len() + (length - prefix.len()).saturating_sub(8), b'0');
        out.extend_from_slice(&digits(id)[8_usize.saturating_sub(length)..]);
    }

    fn key_bytes(&self, id: u32) -> usize {
        self.key_size.pick(mix(id) as u32)
    }

    /// The length of a key's value, in bytes.
    #[inline]
    pub fn value_bytes(&self, operation: Operation, id: u32) -> usize {
        match operation {
            Operation::SetNumber => FIRST_NUMBER.to_string().len(),
            _ if self.values.sizes.is_fixed() => self.values.sizes.low,
            _ => self.values.sizes.pick((mix(id) >> 32) as u32),
        }
    }

    fn expected(&self, operation: Operation, key_bytes: usize, value_bytes: usize, request_bytes: usize) -> Expected {
        if self.protocol == Protocol::Echo {
            let body_bytes = self.shape.map_or(request_bytes, |shape| shape.1);
            return Expected { body_bytes, reply_bytes: Some(body_bytes) };
        }
        let reply_bytes = self.protocol.reply_bytes(operation, key_bytes, value_bytes);
        Expected { body_bytes: value_bytes, reply_bytes }
    }

    /// How the reply to a request begins.
    #[inline]
    pub fn start(&self, operation: Operation, value_bytes: usize, input: &[u8]) -> Start {
        self.protocol.start(operation, value_bytes, input)
    }

    /// What all values share; [`Output`] borrows from it.
    pub fn shared(&self) -> &[u8] {
        &self.values.shared
    }

    /// The language spoken.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Whether a hit answers an operation with bytes of a known number.
    pub fn has_body(&self, operation: Operation) -> bool {
        operation == Operation::Get || self.protocol == Protocol::Echo
    }

    /// Where `piece`, which begins `at` bytes into what answers a request, first differs from what must be there.
    pub fn difference(&self, request: &Request, at: usize, piece: &[u8]) -> Option<usize> {
        match (self.protocol, self.shape) {
            (Protocol::Echo, Some(_)) => None,
            (Protocol::Echo, None) => {
                let mut sent = Output::default();
                self.write(request.operation, request.id, &mut sent);
                let sent = sent.slices(&self.values.shared).collect::<Vec<_>>().concat();
                let sent = &sent[at..at + piece.len()];
                let differs = || piece.iter().zip(sent).position(|(got, sent)| got != sent);
                if piece == sent { None } else { differs().map(|place| at + place) }
            }
            _ => self.values.difference(request.id, at, piece),
        }
    }

    /// A request whose parts never move, if that is so.
    fn template(&self, operation: Operation) -> Option<Template> {
        if let Some((request_bytes, _)) = self.shape {
            let expected = self.expected(operation, 0, 0, request_bytes);
            return Some(Template::new(&vec![b'x'; request_bytes], None, None, expected));
        }
        let (key_size, value_size) = (self.key_size, self.values.sizes);
        let has_own_value = operation == Operation::Set;
        let is_value_fixed = value_size.is_fixed() && !(has_own_value && value_size.low >= BORROW_BYTES);
        let needs_value = matches!(operation, Operation::Get | Operation::Set);
        if !key_size.is_fixed() || key_size.low < 8 || (needs_value && !is_value_fixed) {
            return None;
        }
        let (mut key, mut head, mut request) = (Vec::new(), Vec::new(), Output::default());
        let value_bytes = self.value_bytes(operation, 0);
        self.write_head(operation, 0, value_bytes, &mut head);
        self.write_sized(operation, 0, value_bytes, &mut request);
        self.write_key(0, &mut key);
        let key_end = head.windows(key.len()).position(|part| part == key)? + key.len();
        let expected = self.expected(operation, key_size.low, value_bytes, request.bytes.len());
        let value = has_own_value.then_some((head.len(), value_bytes));
        Some(Template::new(&request.bytes, Some(key_end - 8), value, expected))
    }
}

impl Operation {
    const ALL: [Operation; 6] =
        [Operation::Get, Operation::Set, Operation::SetNumber, Operation::Inc, Operation::Dec, Operation::Del];
}

/// A request with a gap for the key's digits and one for the value.
struct Template {
    /// Its bytes and some more: a copy of a length that the compiler knows is a few stores, any other is a call.
    blocks: Vec<[u8; 64]>,
    length: usize,
    digits_at: Option<usize>,
    /// Where the value goes, and its length in bytes.
    value: Option<(usize, usize)>,
    expected: Expected,
}

impl Template {
    fn new(bytes: &[u8], digits_at: Option<usize>, value: Option<(usize, usize)>, expected: Expected) -> Self {
        let blocks = bytes.chunks(64).map(|chunk| {
            let mut block = [0; 64];
            block[..chunk.len()].copy_from_slice(chunk);
            block
        });
        Template { blocks: blocks.collect(), length: bytes.len(), digits_at, value, expected }
    }
}

/// The values of all keys: a stamp of a key's own, then a stretch of shared random bytes.
pub struct Values {
    sizes: Sizes,
    shared: Vec<u8>,
}

impl Values {
    /// Values of these lengths.
    pub fn new(sizes: Sizes) -> Self {
        let mut random = Random(0);
        let words = (OFFSETS + sizes.high).div_ceil(8);
        let shared = (0..words).flat_map(|_| random.next().to_le_bytes()).collect();
        Values { sizes, shared }
    }

    #[inline]
    fn write(&self, id: u32, out: &mut [u8]) {
        let from = offset(id);
        out.copy_from_slice(&self.shared[from..from + out.len()]);
        let count = out.len().min(STAMP_BYTES);
        out[..count].copy_from_slice(&stamp(id)[..count]);
    }

    /// Where `piece`, which begins `at` bytes into the value of `id`, first differs from it.
    pub fn difference(&self, id: u32, at: usize, piece: &[u8]) -> Option<usize> {
        let stamp = stamp(id);
        let own = &stamp[at.min(STAMP_BYTES)..];
        let own = &own[..own.len().min(piece.len())];
        let from = offset(id) + at + own.len();
        let (first, rest) = piece.split_at(own.len());
        let shared = &self.shared[from..from + rest.len()];
        if first == own && rest == shared {
            return None;
        }
        let expected = own.iter().chain(shared);
        piece.iter().zip(expected).position(|(got, expected)| got != expected).map(|place| at + place)
    }
}

/// A value's first bytes. The first of all is a small letter, so that no value can be taken for `ERR`.
#[inline]
fn stamp(id: u32) -> [u8; STAMP_BYTES] {
    let mut stamp = mix(!id).to_le_bytes();
    stamp[0] = b'a' + stamp[0] % 16;
    stamp
}

#[inline]
fn offset(id: u32) -> usize {
    mix(id) as usize % OFFSETS
}

/// The last step of `SplitMix64` (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[inline]
fn mix(id: u32) -> u64 {
    finish(u64::from(id).wrapping_mul(GOLDEN).wrapping_add(GOLDEN))
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline]
fn finish(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Eight hexadecimal digits.
#[inline]
fn digits(id: u32) -> [u8; 8] {
    // One nibble into each byte, then letters where a nibble exceeds 9.
    let mut nibbles = u64::from(id);
    nibbles = (nibbles | nibbles << 16) & 0x0000_ffff_0000_ffff;
    nibbles = (nibbles | nibbles << 8) & 0x00ff_00ff_00ff_00ff;
    nibbles = (nibbles | nibbles << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = ((nibbles + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    (nibbles + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

/// `SplitMix64`: one word of state, a nanosecond a number, and good enough to pick keys.
struct Random(u64);

impl Random {
    #[inline]
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        finish(self.0)
    }

    /// From 0 up to but not including 1.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// From 0 up to but not including `end`, as evenly as 32 random bits allow.
#[inline]
fn scale(bits: u32, end: u32) -> u32 {
    ((u64::from(bits) * u64::from(end)) >> 32) as u32
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
            let area = self.area.1 + random.fraction() * (self.area.0 - self.area.1);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_what_format_makes_of_them() {
        for id in [0, 9, 10, 0xdead_beef, 0x0123_4567, 0x89ab_cdef, u32::MAX] {
            assert_eq!(digits(id).as_slice(), format!("{id:08x}").as_bytes());
        }
    }

    #[test]
    fn zipf_draws_each_rank_as_often_as_it_should() {
        for exponent in [0.5, 0.99, 1.0, 1.2, 3.0] {
            let zipf = Zipf::new(10, exponent);
            let mut random = Random(7);
            let mut counts = [0_u32; 10];
            for _ in 0..200_000 {
                counts[zipf.rank(&mut random) as usize] += 1;
            }
            let total: f64 = (1..=10).map(|rank| f64::from(rank).powf(-exponent)).sum();
            for (count, rank) in counts.into_iter().zip(1..) {
                let expected = 200_000.0 * f64::from(rank).powf(-exponent) / total;
                let spread = 5.0 * expected.sqrt() + 1.0;
                assert!((f64::from(count) - expected).abs() < spread, "{exponent} {rank}: {count}, {expected}");
            }
        }
    }

    #[test]
    fn sizes_read_ranges_and_units() {
        assert_eq!("32-512".parse(), Ok(Sizes { low: 32, high: 512 }));
        assert_eq!("1kb-2MB".parse(), Ok(Sizes { low: 1024, high: 2 << 20 }));
        for wrong in ["", "-", "5-", "9-8", "1tb", "kb", "-3"] {
            assert_eq!(wrong.parse::<Sizes>(), Err(()), "{wrong}");
        }
        let sizes = Sizes { low: 3, high: 5 };
        assert_eq!([0, u32::MAX / 2, u32::MAX].map(|random| sizes.pick(random)), [3, 4, 5]);
    }

    #[test]
    fn a_template_and_the_long_way_make_the_same_request() {
        for protocol in [Protocol::Gostash, Protocol::Resp, Protocol::Memcached, Protocol::Echo] {
            for key_size in [6, 8, 11, 12, 100] {
                let options = Options { protocol, key_size: Sizes::exactly(key_size), ..Options::default() };
                let workload = Workload::new(&options);
                for operation in Operation::ALL {
                    let (mut quick, mut long) = (Output::default(), Output::default());
                    workload.write(operation, 0x1_2345, &mut quick);
                    let value_bytes = workload.value_bytes(operation, 0x1_2345);
                    workload.write_sized(operation, 0x1_2345, value_bytes, &mut long);
                    assert_eq!(workload.templates[operation as usize].is_some(), key_size >= 8);
                    assert_eq!(quick.bytes, long.bytes, "{protocol:?} {operation:?} {key_size}");
                }
            }
        }
    }

    #[test]
    fn a_difference_is_found_wherever_it_is() {
        let values = Values::new(Sizes::exactly(40));
        let mut value = vec![0; 40];
        values.write(77, &mut value);
        assert_ne!(value[0], b'E');
        for start in 0..40 {
            assert_eq!(values.difference(77, start, &value[start..]), None);
            assert_eq!(values.difference(77, start, &value[start..start + 1]), None);
            for wrong in start..40 {
                value[wrong] ^= 1;
                assert_eq!(values.difference(77, start, &value[start..]), Some(wrong));
                value[wrong] ^= 1;
            }
        }
    }
}
