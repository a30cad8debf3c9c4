//! Numbers as the wire has them: decimal text. It knows nothing else.

/// The number that these bytes spell: an optional `-` and one or more digits, within 64 bits.
#[inline]
pub fn parse(bytes: &[u8]) -> Option<i64> {
    let (negative, digits) = match bytes {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    digits.first()?;
    // Summed up below zero, where there is room for one more.
    let mut sum: i64 = 0;
    for byte in digits {
        let digit = Some(byte.wrapping_sub(b'0')).filter(|digit| *digit <= 9)?;
        sum = sum.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    if negative { Some(sum) } else { sum.checked_neg() }
}
