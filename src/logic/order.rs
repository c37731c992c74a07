//! The levels that a request asks for: the value of `checkups_order`.

use smallvec::SmallVec;

/// The levels that `text` names, as indices, each once, in its order. `None`: it is empty or
/// blank, which stands for all levels in their own order.
///
/// `text` has names of levels, or their numbers from 1, between commas; blanks around them do not
/// count, nor do levels that there are not. The names are those that `name` gives for the indices
/// below `count`.
///
/// The text may come from a client: an element of it costs a comparison with each name at the
/// most, and it is not read on where all levels are found.
pub fn levels<'a>(
    text: &[u8],
    count: usize,
    name: impl Fn(usize) -> Option<&'a str>,
) -> Option<SmallVec<[u16; 8]>> {
    if text.trim_ascii().is_empty() {
        return None;
    }
    let mut levels = SmallVec::new();
    for element in text.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
        if levels.len() == count {
            break;
        }
        let index = match number(element) {
            Some(number) => number.checked_sub(1).filter(|index| *index < count),
            None if element.is_empty() => None,
            None => (0..count).find(|index| name(*index).is_some_and(|n| n.as_bytes() == element)),
        };
        let level = index.and_then(|index| u16::try_from(index).ok());
        levels.extend(level.filter(|level| !levels.contains(level)));
    }
    Some(levels)
}

/// The number, where `text` has digits only. One that is too high for any level is as high as
/// can be.
fn number(text: &[u8]) -> Option<usize> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0usize, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| usize::from(byte - b'0'))?;
        Some(number.saturating_mul(10).saturating_add(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;

    const NAMES: [Option<&str>; 4] = [Some("dc1"), None, Some("dc2"), Some("a-b")];

    fn of(text: &str) -> Option<Vec<u16>> {
        levels(text.as_bytes(), 4, |index| NAMES[index]).map(|levels| levels.to_vec())
    }

    #[test]
    fn orders() {
        for (text, order) in [
            ("dc2,dc1", vec![2, 0]),
            ("3,1", vec![2, 0]),
            (" dc2 ,\t1 , dc2", vec![2, 0]),
            ("dc1,1,dc1", vec![0]),
            ("2", vec![1]),
            ("02", vec![1]),
            ("a-b,4,3,2,1", vec![3, 2, 1, 0]),
            (",,dc1,,", vec![0]),
            ("dc3,DC1,dc,dc11,dc2", vec![2]),
            ("0,5,99999999999999999999999,-1,+1,1", vec![0]),
            ("d c1", vec![]),
            ("dc1;dc2", vec![]),
            (",", vec![]),
            (" , ", vec![]),
            ("nobody", vec![]),
        ] {
            assert_eq!(of(text), Some(order), "{text}");
        }
        assert_eq!(of(""), None);
        assert_eq!(of(" \t "), None);
    }

    #[test]
    fn no_names_and_no_levels() {
        assert_eq!(levels(b"2,x,1", 2, |_| None).unwrap()[..], [1, 0]);
        assert!(levels(b"1,x", 0, |_| None).unwrap().is_empty());
        assert_eq!(levels(b"", 0, |_| None), None);
    }

    #[test]
    fn hostile_text_costs_little() {
        let compared = Cell::new(0);
        let of = |element: &str| {
            compared.set(0);
            let text = element.repeat(6000 / element.len());
            let levels = levels(text.as_bytes(), 4, |index| {
                compared.set(compared.get() + 1);
                NAMES[index]
            });
            (levels.unwrap().to_vec(), compared.get())
        };
        assert_eq!(of(","), (vec![], 0));
        assert_eq!(of("1,"), (vec![0], 0));
        assert_eq!(of("1"), (vec![], 0));
        assert_eq!(of("x,"), (vec![], 3000 * 4));
        assert_eq!(of("x"), (vec![], 4));
        assert_eq!(of("1,2,3,4,x,"), (vec![0, 1, 2, 3], 0));
    }

    proptest! {
        #[test]
        fn as_split_and_searched(text in "(dc1|dc2|dc3|a-b|[0-9]{0,2}| |\t|,){0,12}") {
            let mut expected = Vec::new();
            for element in text.split(',').map(str::trim_ascii) {
                let level = match element.parse::<usize>() {
                    Ok(number) => (1..=4).contains(&number).then(|| number - 1),
                    Err(_) => NAMES.iter().position(|name| *name == Some(element)),
                };
                expected.extend(level.map(|level| level as u16));
            }
            let mut seen = Vec::new();
            expected.retain(|level| !seen.contains(level) && { seen.push(*level); true });
            let blank = text.trim_ascii().is_empty();
            prop_assert_eq!(of(&text), (!blank).then_some(expected));
        }
    }
}
