//! The checks of an `upstream` block: those that it says, or else those of the `http` block.

use ngx::http::{HttpModuleMainConf, HttpModuleServerConf};

use super::module::{Module, UpstreamConf};
use super::wrong::Wrong;
use crate::logic::directive::CheckDirective;
use crate::logic::password::Password;
use crate::logic::settings::{self, Check, Source, Ssl};
use crate::nginx::conf::{Conf, Position};
use crate::nginx::tls::{Tls, TlsError};
use crate::upstream::definition::Definition;

/// The most checks of an upstream.
pub(super) use crate::shm::server::MAX_CHECKS;

/// What a block says of its checks.
#[derive(Default)]
pub(super) struct Checks {
    /// `checkups_check TYPE`, line by line.
    lines: Vec<Definition>,
    /// `checkups_check off`.
    are_off: bool,
}

/// A check, with what it needs where it uses TLS.
pub(super) type Complete = (Check, Option<Tls>);

impl Checks {
    /// Takes in what one directive says; `None`: `off`. What it names is read.
    ///
    /// # Errors
    /// Where it does not go with those before it, and where a file cannot be read.
    pub(super) fn add(
        &mut self,
        cf: &mut Conf,
        directive: Option<CheckDirective>,
    ) -> Result<(), Wrong> {
        if self.are_off || (directive.is_none() && !self.lines.is_empty()) {
            return Err("\"checkups_check off\" stands alone in its block".into());
        }
        let Some(directive) = directive else {
            self.are_off = true;
            return Ok(());
        };
        if self.lines.len() == MAX_CHECKS {
            return Err(format!("there are too many, a block has at most {MAX_CHECKS}").into());
        }
        self.lines.push(define(cf, directive)?);
        Ok(())
    }

    /// Where the first line is.
    pub(super) fn position(&self) -> Option<&Position> {
        self.lines.first().map(|line| &line.position)
    }

    /// Whether the block says anything of checks.
    fn is_given(&self) -> bool {
        self.are_off || !self.lines.is_empty()
    }
}

/// The checks of the upstream that `own` is of, whose name is `host`.
///
/// # Errors
/// Where something does not fit: where, and what.
pub(super) fn of_upstream(
    cf: &mut Conf,
    own: &UpstreamConf,
    host: &str,
) -> Result<Vec<Complete>, (Position, String)> {
    if own.checks.is_given() && own.cluster.is_some() {
        let with_protected =
            own.checks.lines.iter().find(|line| line.directive.protected().is_some());
        if let Some(line) = with_protected {
            let message = "\"checkups_check\" directive: \"protected=\" stands on \
                           \"checkups_cluster\" here";
            return Err((line.position.clone(), message.to_owned()));
        }
    }
    // SAFETY: the http block is being read or was just read, and nginx has its context.
    let of_http = Module::server_conf(unsafe { &*cf.as_ptr() }).map(|outer| &outer.checks);
    let checks = match of_http {
        Some(outer) if !own.checks.is_given() => outer,
        _ => &own.checks,
    };
    // SAFETY: likewise.
    let main = Module::main_conf(unsafe { &*cf.as_ptr() });
    let matches = main.map_or(&[][..], |main| &main.clusters.matches);
    let complete = |line: &Definition| {
        let mut check = line.complete(host, matches).map_err(|reason| {
            (line.position.clone(), format!("\"checkups_check\" directive: {reason}"))
        })?;
        // A cluster has a setting of its own for that.
        check.protected = check.protected.filter(|_| own.cluster.is_none());
        Ok((check, line.tls))
    };
    let mut found = checks.lines.iter().map(complete).collect::<Result<Vec<_>, _>>()?;
    for (number, (check, _)) in found.iter_mut().enumerate() {
        check.source = Source::Configured(number);
    }
    Ok(found)
}

/// Looks whether the checks by `checkups_check_define` are complete, when the whole configuration was
/// read.
///
/// # Errors
/// Where one is not; it was logged.
pub(super) fn look_at_definitions(cf: &mut Conf) -> Result<(), ()> {
    // SAFETY: the http block was just read, and nginx has its context.
    let Some(main) = Module::main_conf(unsafe { &*cf.as_ptr() }) else { return Ok(()) };
    for definition in main.clusters.definitions.values() {
        if let Err(reason) = definition.complete("cluster", &main.clusters.matches) {
            let message = format_args!("\"checkups_check_define\" directive: {reason}");
            cf.refuse_at(&definition.position, message);
            return Err(());
        }
    }
    Ok(())
}

/// What checks need that are given at run time and use TLS: nothing is verified. `None`: this nginx has
/// no TLS.
pub(super) fn plain_tls(cf: &mut Conf) -> Option<Tls> {
    let settings = settings::Tls {
        ssl: Ssl::On,
        verify: false,
        name: String::new(),
        trusted_certificate: None,
        certificate: None,
        certificate_key: None,
        protocols: Vec::new(),
    };
    Tls::create(cf, &settings).ok()
}

/// What a directive says that stands where the reader is. What it names is read.
///
/// # Errors
/// Where a file cannot be read.
pub(super) fn define(cf: &mut Conf, directive: CheckDirective) -> Result<Definition, Wrong> {
    let password = match &directive.password_file {
        Some(file) => Some(read_password(cf, file)?),
        None => None,
    };
    let tls = match directive.tls() {
        None => None,
        Some(settings) => match Tls::create(cf, settings) {
            Ok(tls) => Some(tls),
            Err(TlsError::Absent) if settings.ssl == Ssl::Auto => None,
            Err(error) => return Err(error.to_string().into()),
        },
    };
    Ok(Definition { directive, password, tls, position: cf.position() })
}

/// The password in a file, whose name is relative to the configuration.
fn read_password(cf: &mut Conf, file: &str) -> Result<Password, Wrong> {
    use std::io::Read;
    const MOST: u64 = 2 * crate::logic::password::MAX_PASSWORD as u64;

    let path = cf.full_name(file).ok_or(Wrong::Logged)?;
    let mut contents = Vec::new();
    let read =
        std::fs::File::open(&path).and_then(|file| file.take(MOST).read_to_end(&mut contents));
    let shown = path.display();
    read.map_err(|error| format!("\"password_file={shown}\": {error}"))?;
    Ok(Password::from_file(&contents)
        .map_err(|error| format!("\"password_file={shown}\": {error}"))?)
}
