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
        assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
    }
}

#[test]
fn many_stars_do_not_take_for_ever() {
    let pattern = "*a".repeat(64) + "b";
    assert!(!matches(pattern.as_bytes(), &[b'a'; 10_000]));
}
