//! Patterns for SCAN and CONFIG GET.

use gostash::protocol::glob::matches;

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
        assert_eq!(matches(pattern.as_bytes(), text.as_bytes(), &mut 100), expected, "{pattern} {text}");
    }
}

#[test]
fn matching_takes_no_more_steps_than_it_may() {
    let (pattern, text) = ("*a".repeat(64) + "b", [b'a'; 10_000]);
    // An earlier star is never reconsidered.
    let mut steps = 3 * text.len();
    assert!(!matches(pattern.as_bytes(), &text, &mut steps) && steps > 0);
    // A last star takes the rest at once.
    let mut steps = 3;
    assert!(matches(b"a*", &text, &mut steps) && steps > 0);
    // What follows the last star is tried at each byte of the text, and a class costs as much as it is long.
    for pattern in ["*".to_owned() + &"a".repeat(200) + "b", format!("*[{}]", "b".repeat(200))] {
        let mut steps = 100 * text.len();
        matches(pattern.as_bytes(), &text, &mut steps);
        assert_eq!(steps, 0, "{pattern}");
    }
    // Then it stops, and does not know whether the rest would have matched.
    assert!(!matches(b"abcde", b"abcde", &mut 4));
}
