//! What was changed at run time, and whether it holds in a new configuration.

use std::collections::BTreeMap;
use std::io;

use ngx::ffi::{NGX_LOG_ERR, NGX_LOG_NOTICE, NGX_LOG_WARN};

use super::entry::Entry;
use super::state::Directory;
use crate::logic::stored;
use crate::nginx::log::CycleLog;
use crate::shm::document::Line;
use crate::shm::zone::Root;

/// What is kept of a cluster.
pub struct Kept {
    /// Its name.
    pub name: String,
    /// Its settings as text, the newest first, each with its version. There is one at least.
    pub lines: Vec<(u64, String)>,
    /// Whether the zone has them that the new configuration uses.
    pub is_in_zone: bool,
    /// The newest version that is on disk; 0: none is.
    on_disk: u64,
}

/// What was found of changes at run time, in the zone and on disk.
#[derive(Default)]
pub struct Taken {
    found: BTreeMap<String, Kept>,
    last_version: u64,
    /// What holds no more, by the names of clusters, and why.
    dropped: Vec<(String, &'static str)>,
    /// The files that cannot be used, and why.
    damaged: Vec<(String, String)>,
    /// What is in the zone, and not on disk.
    unwritten: Vec<(String, Vec<u8>)>,
}

/// What is in the directory.
pub struct Files {
    directory: String,
    found: io::Result<Vec<(String, io::Result<Vec<u8>>)>>,
}

impl Files {
    /// Reads the directory, which takes as long as the disk does.
    pub fn read(directory: &Directory) -> Self {
        Self { directory: directory.path().display().to_string(), found: directory.read() }
    }
}

impl Kept {
    /// The settings as they lie in the zone.
    pub fn lines(&self) -> Vec<Line<'_>> {
        self.lines.iter().map(|(version, text)| Line { version: *version, text }).collect()
    }

    fn version(&self) -> u64 {
        self.lines.first().map_or(0, |(version, _)| *version)
    }

    /// See [`stored::Stored::base`].
    fn base(&self) -> u64 {
        self.lines.first().and_then(|(_, line)| stored::head(line)).map_or(0, |head| head.base)
    }
}

impl Taken {
    /// Looks what there is: in the zone, or else in the `old` one that it is to replace, and in the
    /// directory of `checkups_state`. Of two that are kept of a cluster the newer counts. The caller
    /// has the right to change settings, and holds the slab; the files were read before.
    pub fn look(root: &Root, old: Option<&Root>, files: Option<Files>) -> Self {
        let mut taken = Self::default();
        let zone = old.unwrap_or(root);
        taken.last_version = zone.last_version();
        let mut in_use = BTreeMap::new();
        for cluster in zone.clusters().filter(|cluster| !cluster.is_removed()) {
            in_use.insert(cluster.name().to_owned(), cluster.settings());
            let lines: Vec<_> = cluster
                .documents()
                .map(|document| (document.version(), document.text().to_owned()))
                .collect();
            if !lines.is_empty() {
                let (name, is_in_zone) = (cluster.name().to_owned(), old.is_none());
                taken.found.insert(name.clone(), Kept { name, lines, is_in_zone, on_disk: 0 });
            }
        }
        if let Some(files) = files {
            taken.look_at(files, &in_use);
        }
        taken
    }

    /// `in_use` are the versions of the settings of the clusters in the zone.
    fn look_at(&mut self, files: Files, in_use: &BTreeMap<String, u64>) {
        let files = match files.found {
            Ok(files) => files,
            Err(error) => return self.damaged.push((files.directory, error.to_string())),
        };
        for (file, contents) in files {
            let Some(name) = stored::name_of_file(&file) else {
                self.damaged.push((file, "its name is not that of a cluster".to_owned()));
                continue;
            };
            match contents.map_err(|error| error.to_string()).and_then(|contents| {
                stored::from_file(&name, &contents).map_err(|error| error.to_string())
            }) {
                Ok(lines) => self.add(name, lines, in_use),
                Err(error) => self.damaged.push((file, error)),
            }
        }
    }

    fn add(&mut self, name: String, lines: Vec<String>, in_use: &BTreeMap<String, u64>) {
        let with_version = |line: String| Some((stored::head(&line)?.version, line));
        let lines: Vec<_> = lines.into_iter().filter_map(with_version).collect();
        let Some(version) = lines.first().map(|(version, _)| *version) else { return };
        self.last_version = self.last_version.max(version);
        match self.found.get_mut(&name) {
            // A worker died before it took into use what it had written, or another nginx wrote it.
            Some(kept) if kept.version() < version => {
                *kept = Kept { name, lines, is_in_zone: false, on_disk: version };
            }
            Some(kept) => kept.on_disk = version,
            None if in_use.get(&name).is_some_and(|used| *used > version) => {}
            None => {
                let kept = Kept { name: name.clone(), lines, is_in_zone: false, on_disk: version };
                self.found.insert(name, kept);
            }
        }
    }

    /// The last version that was given.
    pub fn last_version(&self) -> u64 {
        self.last_version
    }

    /// What holds of a cluster that has a block in the configuration. `None`: what the block says.
    pub fn of_block(&mut self, entry: &Entry) -> Option<Kept> {
        let kept = self.found.remove(entry.name())?;
        let configured = entry.configured.as_ref()?;
        if entry.watch.is_some() || kept.base() != configured.fingerprint {
            let why = if kept.base() == 0 {
                "it is in the configuration now"
            } else {
                "its block in the configuration has changed"
            };
            self.dropped.push((kept.name, why));
            return None;
        }
        self.note_unwritten(&kept);
        Some(kept)
    }

    /// What holds of clusters that have no block in the configuration.
    pub fn of_no_block(&mut self) -> Vec<Kept> {
        let mut born = Vec::new();
        for (name, kept) in std::mem::take(&mut self.found) {
            if kept.base() == 0 {
                self.note_unwritten(&kept);
                born.push(kept);
            } else {
                self.dropped.push((name, "its block is not in the configuration any more"));
            }
        }
        born
    }

    fn note_unwritten(&mut self, kept: &Kept) {
        if kept.on_disk < kept.version() {
            let lines: Vec<&str> = kept.lines.iter().map(|(_, line)| line.as_str()).collect();
            self.unwritten.push((kept.name.clone(), stored::to_file(&kept.name, &lines)));
        }
    }

    /// Logs what does not hold any more.
    pub fn report(&self, log: &CycleLog<'_>) {
        for (name, why) in &self.dropped {
            log.write(
                NGX_LOG_NOTICE,
                format_args!(
                    "cluster \"{name}\": what was changed at run time holds no more: {why}"
                ),
            );
        }
        for (file, why) in &self.damaged {
            log.write(NGX_LOG_ERR, format_args!("checkups_state: \"{file}\" is not used: {why}"));
        }
    }

    /// Has the directory be as what was taken into use.
    pub fn tidy(&self, directory: &Directory, log: &CycleLog<'_>) {
        let complain = |what: &str, error: &dyn std::fmt::Display| {
            log.write(NGX_LOG_WARN, format_args!("checkups_state: \"{what}\": {error}"));
        };
        for (name, _) in &self.dropped {
            let file = stored::file_name(name);
            if let Err(error) = directory.set_aside(&file, "old") {
                complain(&file, &error);
            }
        }
        for (file, _) in &self.damaged {
            if let Err(error) = directory.set_aside(file, "damaged") {
                complain(file, &error);
            }
        }
        if let Err(error) = directory.tidy() {
            complain("*.tmp", &error);
        }
        let files: Vec<_> = self
            .unwritten
            .iter()
            .map(|(name, contents)| (stored::file_name(name), Some(contents.clone())))
            .collect();
        for error in directory.write(&files).into_iter().filter_map(Result::err) {
            log.write(NGX_LOG_WARN, format_args!("checkups_state: {error}"));
        }
    }
}
