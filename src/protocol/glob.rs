//! Redis's glob patterns, as SCAN and CONFIG GET take them: `*`, `?`, `[a-z]`, `[^a]` and `\`. Matching one takes time
//! with the product of both lengths at worst, so the caller says how many steps it may take.

/// Whether `text` matches `pattern`. Each step, of about 2 ns, is taken off `steps`; the answer counts unless that is 0.
pub fn matches(mut pattern: &[u8], mut text: &[u8], steps: &mut usize) -> bool {
    // Where to go back to when what follows the last star does not match: the star then takes one more byte of the
    // text. Earlier stars are never reconsidered, since the last one can take whatever they could.
    let mut star = None;
    while !(pattern == b"*" || pattern.is_empty() && text.is_empty()) {
        *steps = steps.saturating_sub(if pattern.first() == Some(&b'[') { pattern.len() } else { 1 });
        if *steps == 0 {
            return false;
        }
        if let [b'*', behind @ ..] = pattern {
            pattern = behind;
            star = Some((behind, text));
            continue;
        }
        let step = text.split_first().and_then(|(byte, rest)| Some((without_first(pattern, *byte)?, rest)));
        (pattern, text) = match (step, star) {
            (Some(step), _) => step,
            (None, Some((behind, [_, rest @ ..]))) => {
                star = Some((behind, rest));
                (behind, rest)
            }
            _ => return false,
        };
    }
    true
}

/// The pattern without its first element, if `byte` matches that.
fn without_first(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', rest @ ..] => Some(rest),
        [b'[', b'^', class @ ..] => without_class(class, byte, false),
        [b'[', class @ ..] => without_class(class, byte, true),
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => (*literal == byte).then_some(rest),
    }
}

/// What follows a class, if `byte` is in it or is not, as `wanted` says. Without `]`, a class ends with the pattern.
fn without_class(mut class: &[u8], byte: u8, wanted: bool) -> Option<&[u8]> {
    let mut is_in = false;
    loop {
        let (low, high, rest) = match class {
            [] | [b']', ..] => return (is_in == wanted).then_some(class.get(1..).unwrap_or_default()),
            [b'\\', literal, rest @ ..] => (literal, literal, rest),
            [low, b'-', high, rest @ ..] => (low.min(high), low.max(high), rest),
            [literal, rest @ ..] => (literal, literal, rest),
        };
        is_in |= (low..=high).contains(&&byte);
        class = rest;
    }
}
