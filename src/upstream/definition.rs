//! A check as one directive says it.

use std::rc::Rc;

use crate::logic::directive::CheckDirective;
use crate::logic::matching::Match;
use crate::logic::password::Password;
use crate::logic::settings::Check;
use crate::nginx::conf::Position;
use crate::nginx::tls::Tls;

/// A line that says a check: `checkups_check`, or `checkups_check_define`.
pub struct Definition {
    /// Its words.
    pub directive: CheckDirective,
    /// What stands in the file that the directive names.
    pub password: Option<Password>,
    /// What it needs where it uses TLS.
    pub tls: Option<Tls>,
    /// Where it is written.
    pub position: Position,
}

impl Definition {
    /// The check, for a cluster of this name. `matches` are the `checkups_match` blocks that there are.
    ///
    /// # Errors
    /// Where it names a block that there is not, or one for checks of another type.
    pub fn complete(&self, cluster: &str, matches: &[Rc<Match>]) -> Result<Check, String> {
        let block = match &self.directive.matching {
            None => None,
            Some(name) => {
                let found = matches.iter().find(|block| block.name() == name);
                Some(found.ok_or_else(|| format!("there is no checkups_match \"{name}\""))?)
            }
        };
        let completed = self.directive.complete(cluster, self.password.as_ref(), block);
        let mut check = completed.map_err(|error| error.to_string())?;
        check.tls = check.tls.filter(|_| self.tls.is_some());
        Ok(check)
    }
}
