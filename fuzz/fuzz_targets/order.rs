//! The value of `checkups_order`, which may come from a client.
#![no_main]

use std::cell::Cell;

use libfuzzer_sys::fuzz_target;
use ngx_checkups::logic::order::levels;

const NAMES: [Option<&str>; 4] = [Some("dc1"), None, Some("dc2"), Some("a-b")];

fuzz_target!(|text: &[u8]| {
    let compared = Cell::new(0);
    let found = levels(text, NAMES.len(), |level| {
        compared.set(compared.get() + 1);
        NAMES[level]
    });
    let elements: Vec<_> = text.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).collect();
    assert!(compared.get() <= elements.len() * NAMES.len());

    // The same, in the simplest way.
    let mut expected = Vec::new();
    for element in elements {
        let digits = !element.is_empty() && element.iter().all(u8::is_ascii_digit);
        let level = if digits {
            let number = std::str::from_utf8(element).unwrap().trim_start_matches('0');
            (1..=NAMES.len()).find(|level| level.to_string() == number).map(|level| level - 1)
        } else {
            NAMES.iter().position(|name| name.map(str::as_bytes) == Some(element))
        };
        expected.extend(level.filter(|level| !expected.contains(level)));
    }
    let found = found.map(|levels| levels.iter().copied().map(usize::from).collect::<Vec<_>>());
    let blank = text.trim_ascii().is_empty();
    assert_eq!(found, (!blank).then_some(expected));
});
