//! What checkups decides, without nginx: no C type, no clock, no input or output. Time and
//! randomness are arguments, so every edge can be tested.

#![forbid(unsafe_code)]

pub mod api;
pub mod balance;
pub mod change;
pub mod directive;
pub mod health;
pub mod matching;
pub mod order;
pub mod passive;
pub mod password;
pub mod plus;
pub mod probe;
pub mod schedule;
pub mod settings;
pub mod statistics;
pub mod status;
pub mod stored;
