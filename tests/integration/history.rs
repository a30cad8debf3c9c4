//! What the loop remembers of its turns, and for how long.

use gostash::event_loop::turn::{History, Turn};

use crate::random::Random;

#[test]
fn turns_are_forgotten_after_their_time() {
    let turn = |nanos| Turn { nanos, counts: [0, 0, 0, 1, 0, 0, 0] };
    let mut history = History::default();
    history.note(10, &turn(500));
    history.note(10, &turn(300));
    history.note(11, &turn(200));
    let nanos = |history: &History, now| history.longest(now).map(|turn| turn.nanos);
    assert_eq!(nanos(&history, 11), [500, 500, 500, 500]);
    assert_eq!(history.rates(11), [2, 0, 0]);
    assert_eq!(nanos(&history, 12), [200, 500, 500, 500]);
    assert_eq!(nanos(&history, 13), [0, 500, 500, 500]);
    assert_eq!(history.rates(13), [0, 0, 0]);
    assert_eq!(nanos(&history, 75), [0, 0, 500, 500]);
    assert_eq!(nanos(&history, 3700), [0, 0, 0, 500]);
    history.note(1_000_000, &turn(7));
    assert_eq!(nanos(&history, 1_000_000), [7, 7, 7, 500]);
}

#[test]
fn the_longest_turn_of_a_span_is_the_longest_of_all_in_it() {
    let mut random = Random::new(1);
    let (mut history, mut all) = (History::default(), Vec::new());
    let mut now = 0;
    for _ in 0..5_000 {
        // Mostly several in a second, and now and then none for minutes.
        now += if random.once_in(100) { random.below(1_000) as u64 } else { random.below(2) as u64 };
        let turn = Turn { nanos: random.below(1_000) as u64, ..Turn::default() };
        history.note(now, &turn);
        all.push((now, turn.nanos));
        let longest = |seconds| {
            let last = all.iter().rev().take_while(|(second, _)| now - second < seconds);
            last.map(|(_, nanos)| *nanos).max().unwrap_or_default()
        };
        assert_eq!(history.longest(now).map(|turn| turn.nanos), [2, 60, 3600, u64::MAX].map(longest));
    }
}
