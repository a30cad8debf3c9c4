//! Numbers in decimal text, as the wire and the values have them. It knows nothing else.

/// Parses a number: an optional `-` and one or more digits, whose value fits a signed 64-bit integer.
#[inline]
pub fn parse(bytes: &[u8]) -> Option<i64> {
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    digits.first()?;
    // The sum is kept negative, since the range has one more number below zero than above.
    let mut sum: i64 = 0;
    for byte in digits {
        let digit = Some(byte.wrapping_sub(b'0')).filter(|digit| *digit <= 9)?;
        sum = sum.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    if digits.len() < bytes.len() { Some(sum) } else { sum.checked_neg() }
}
