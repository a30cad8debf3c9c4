//! Redis's glob patterns, as SCAN and CONFIG GET take them: `*`, `?`, `[a-z]`, `[^a]` and `\`. Linear in the text for
//! each star at worst, and never more than the product of both lengths.

/// Whether `text` matches `pattern`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    // Where to go on when what follows the last star does not fit: one byte further in the text. Earlier stars need no
    // second look, as the last can take whatever they could.
    let mut star = None;
    loop {
        let rest = &pattern[at..];
        if rest.first() == Some(&b'*') {
            at += 1;
            star = Some((at, from));
            continue;
        }
        let step = match text.get(from) {
            None if rest.is_empty() => return true,
            None => None,
            Some(&byte) => one(rest, byte),
        };
        match (step, star) {
            (Some(length), _) => (at, from) = (at + length, from + 1),
            (None, Some((behind, taken))) if taken < text.len() => {
                star = Some((behind, taken + 1));
                (at, from) = (behind, taken + 1);
            }
            _ => return false,
        }
    }
}

/// The most that [`matches()`] may take, in units of about 100 ns.
pub fn cost(pattern: &[u8], text: &[u8]) -> u64 {
    (pattern.len() * text.len() / 64) as u64
}

/// The length of the pattern's first element if `byte` fits it.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'\\', escaped, ..] => (escaped == byte).then_some(2),
        [b'[', ref class @ ..] => {
            let (fits, length) = class_fits(class, byte);
            fits.then_some(1 + length)
        }
        [literal, ..] => (literal == byte).then_some(1),
    }
}

/// Whether `byte` is in a class, and how long that is, its bracket included. One without a bracket goes on to the end.
fn class_fits(class: &[u8], byte: u8) -> (bool, usize) {
    let inverted = class.first() == Some(&b'^');
    let mut at = usize::from(inverted);
    let mut fits = false;
    loop {
        match class[at..] {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', escaped, ..] => {
                fits |= escaped == byte;
                at += 2;
            }
            [low, b'-', high, ..] => {
                fits |= (low.min(high)..=low.max(high)).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                fits |= literal == byte;
                at += 1;
            }
        }
    }
    (fits != inverted, at)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_are_redis_s() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "abc", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbb", false),
            ("*b*b", "abab", true),
            ("a**", "a", true),
            ("?", "", false),
            ("h?llo", "hello", true),
            ("h[ae]llo", "hillo", false),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("h[^e]llo", "hallo", true),
            ("h[a-c]", "hb", true),
            ("h[c-a]", "hb", true),
            ("h[a-c]", "hd", false),
            ("h[a", "ha", true),
            ("[\\]]", "]", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("user:*:name", "user:17:name", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_do_not_take_for_ever() {
        let pattern = "*a".repeat(64) + "b";
        assert!(!matches(pattern.as_bytes(), &[b'a'; 10_000]));
    }
}
