//! Which bytes are a number.

use gostash::number::parse;

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
}
