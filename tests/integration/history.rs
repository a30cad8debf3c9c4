//! What the loop remembers of its turns, and for how long.

use gostash::event_loop::turn::{History, Turn};

#[test]
fn turns_are_forgotten_after_their_time() {
    let turn = |nanos| Turn { nanos, counts: [0, 0, 0, 1, 0, 0, 0] };
    let mut history = History::default();
    history.note(10, &turn(500));
    history.note(10, &turn(300));
    history.note(11, &turn(200));
    let nanos = |history: &History, now| history.longest(now).map(|turn| turn.nanos);
    assert_eq!(nanos(&history, 11), [500, 500, 500]);
    assert_eq!(history.rates(11), [2, 0, 0]);
    assert_eq!(nanos(&history, 12), [200, 500, 500]);
    assert_eq!(nanos(&history, 13), [0, 500, 500]);
    assert_eq!(history.rates(13), [0, 0, 0]);
    assert_eq!(nanos(&history, 75), [0, 0, 500]);
    assert_eq!(nanos(&history, 3700), [0, 0, 0]);
    history.note(1_000_000, &turn(7));
    assert_eq!(nanos(&history, 1_000_000), [7, 7, 7]);
}
