//! What the fuzz targets have in common.

pub mod memory;
pub mod talk;

use std::rc::Rc;

use ngx_checkups::logic::directive::{self, MatchBlock};
use ngx_checkups::logic::matching::Match;
use ngx_checkups::logic::settings::Check;

/// The checks that these `checkups_check` lines say. Behind each of them stand the lines of the
/// `checkups_match` block that it has, if any.
///
/// # Panics
/// Where one of them is refused.
pub fn checks(lines: &[(&str, &[&str])]) -> Vec<Check> {
    let check = |(line, block): &(&str, &[&str])| {
        let block = (!block.is_empty()).then(|| Rc::new(matching(block)));
        let directive = directive::check(&words(line)).unwrap().unwrap();
        directive.complete("upstream", None, block.as_ref()).unwrap()
    };
    lines.iter().map(check).collect()
}

fn matching(lines: &[&str]) -> Match {
    let mut block = MatchBlock::new(&[b"name"]).unwrap();
    for line in lines {
        block.line(&words(line)).unwrap();
    }
    block.finish().unwrap()
}

fn words(line: &str) -> Vec<&[u8]> {
    line.split(' ').map(str::as_bytes).collect()
}

/// Takes an input apart: a seed, one of so many `choices`, and the rest. Digits count from `0`, so
/// that the files of a corpus can be written by hand.
pub fn split(input: &[u8], choices: usize) -> Option<(u8, usize, &[u8])> {
    let [seed, choice, rest @ ..] = input else { return None };
    Some((seed.wrapping_sub(b'0'), usize::from(choice.wrapping_sub(b'0')) % choices, rest))
}
