//! The refusal of a directive.

use crate::logic::directive::DirectiveError;

/// Why a directive of an `upstream` block is refused.
pub(super) enum Wrong {
    /// By us, for this reason.
    Because(String),
    /// By nginx, which has logged why.
    Logged,
}

impl<T: Into<String>> From<T> for Wrong {
    fn from(reason: T) -> Self {
        Self::Because(reason.into())
    }
}

impl From<DirectiveError> for Wrong {
    fn from(error: DirectiveError) -> Self {
        Self::Because(error.to_string())
    }
}
