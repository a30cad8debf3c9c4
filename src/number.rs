//! Numbers as the wire has them: decimal text. It knows nothing else.

/// The longest text of a number: a sign and nineteen digits.
pub const DIGITS_MAX: usize = 20;

/// The number that these bytes spell: an optional `-` and one or more digits, within 64 bits.
#[inline]
pub fn parse(bytes: &[u8]) -> Option<i64> {
    let (negative, digits) = match bytes {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    // Summed up below zero, where there is room for one more.
    let mut sum: i64 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        sum = sum.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    if negative { Some(sum) } else { sum.checked_neg() }
}

/// The number's text, at the end of `digits`.
#[inline]
pub fn format(number: i64, digits: &mut [u8; DIGITS_MAX]) -> &[u8] {
    let mut rest = number.unsigned_abs();
    let mut start = DIGITS_MAX;
    // Two digits at a time take half the divisions.
    while rest >= 10 {
        let pair = (rest % 100) as u8;
        rest /= 100;
        start -= 2;
        digits[start..start + 2].copy_from_slice(&[b'0' + pair / 10, b'0' + pair % 10]);
    }
    if rest > 0 || start == DIGITS_MAX {
        start -= 1;
        digits[start] = b'0' + rest as u8;
    }
    if number < 0 {
        start -= 1;
        digits[start] = b'-';
    }
    &digits[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_what_the_wire_says() {
        let rows: [(&str, Option<i64>); 13] = [
            ("0", Some(0)),
            ("007", Some(7)),
            ("-0", Some(0)),
            ("-12", Some(-12)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("-9223372036854775808", Some(i64::MIN)),
            ("-9223372036854775809", None),
            ("", None),
            ("-", None),
            ("+5", None),
            ("1 ", None),
            ("00000000000000000000000000001", Some(1)),
        ];
        for (text, number) in rows {
            assert_eq!(parse(text.as_bytes()), number, "{text:?}");
        }
        for number in [0, 1, -1, 9, 10, -99, 100, 101, 999, 1000, i64::MAX, i64::MIN] {
            assert_eq!(format(number, &mut [0; DIGITS_MAX]), number.to_string().as_bytes());
        }
    }
}
