//! The directory in which what was changed at run time survives a restart.
//!
//! All of it blocks: a worker does it in a thread. Any number of processes may do so at a time, and a
//! process may be killed between any two calls: a file is there as it was, or as it is to be.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use thiserror::Error;

/// What the names of files end with.
const ENDING: &str = ".json";

/// What the names of files end with that are being written.
const UNFINISHED: &str = ".tmp";

/// The largest file that is read, in bytes.
const MAX_SIZE: u64 = 64 << 20;

/// A file was not written: it is as it was.
#[derive(Debug, Error)]
#[error("cannot {action} \"{path}\": {reason}")]
pub struct WriteError {
    action: &'static str,
    path: PathBuf,
    reason: Reason,
}

/// What the system says, without the number that std puts behind it.
#[derive(Debug)]
struct Reason(io::Error);

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = self.0.to_string();
        f.write_str(text.split(" (os error ").next().unwrap_or_default())
    }
}

/// The name of a file, and what is to be in it; `None`: it is not to be there.
pub type Wanted = (String, Option<Vec<u8>>);

/// The directory.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
}

/// A file in the new state, with what it was before.
struct Renamed {
    index: usize,
    path: PathBuf,
    old: Option<File>,
}

impl Directory {
    /// The directory at `path`, which need not be there.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What stands for it; never 0.
    pub fn identity(&self) -> u64 {
        1 << 32 | u64::from(crc32fast::hash(self.path.as_os_str().as_bytes()))
    }

    /// The contents of all files, by their names, which end with `.json`. A directory that is not
    /// there is empty. A file that cannot be read, is no plain file or has more than 64 MB is an error
    /// of its own.
    pub fn read(&self) -> io::Result<Vec<(String, io::Result<Vec<u8>>)>> {
        let mut files = Vec::new();
        for (name, is_utf8) in self.names()? {
            if !name.ends_with(ENDING) {
                continue;
            }
            let contents = match is_utf8 {
                true => read_file(&self.path.join(&name)),
                false => Err(io::Error::new(io::ErrorKind::InvalidData, "its name is not UTF-8")),
            };
            files.push((name, contents));
        }
        files.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(files)
    }

    /// The contents of one file, by its name. `None`: it is not there, or cannot be read.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        read_file(&self.path.join(name)).ok()
    }

    /// The names of what is there, and whether each is as it is there.
    fn names(&self) -> io::Result<Vec<(String, bool)>> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        entries
            .map(|entry| {
                let name = entry?.file_name();
                Ok(match name.into_string() {
                    Ok(name) => (name, true),
                    Err(name) => (name.to_string_lossy().into_owned(), false),
                })
            })
            .collect()
    }

    /// Has files be as wanted, by their names, which end with `.json`. For each the result says whether
    /// it will be so after a loss of power; where it is an error, the file is as it was.
    ///
    /// Who writes the same file from two places at a time has the one or the other, as a whole.
    pub fn write(&self, files: &[Wanted]) -> Vec<Result<(), WriteError>> {
        let directory = match self.lock() {
            Ok(directory) => directory,
            Err(error) => return self.all_failed(files.len(), "open", error),
        };
        let mut results: Vec<_> = files
            .iter()
            .map(|(name, contents)| match contents {
                Some(contents) => self.prepare(name, |file| file.write_all(contents)),
                None => Ok(()),
            })
            .collect();
        let mut all_renamed = Vec::new();
        for (index, (name, contents)) in files.iter().enumerate() {
            if results[index].is_err() {
                continue;
            }
            let changed = match contents {
                Some(_) => self.replace(name),
                None => self.take_away(name),
            };
            match changed {
                Ok((path, old)) => all_renamed.push(Renamed { index, path, old }),
                Err(error) => results[index] = Err(error),
            }
        }
        if all_renamed.is_empty() {
            return results;
        }
        if let Err(error) = directory.sync_all() {
            for Renamed { index, path, old } in all_renamed {
                self.put_back(&path, old);
                let error = io::Error::new(error.kind(), error.to_string());
                results[index] = Err(failed("sync", &self.path)(error));
            }
            // What was put back is there as well as can be.
            let _ = directory.sync_all();
        }
        results
    }

    fn all_failed(
        &self,
        count: usize,
        action: &'static str,
        error: io::Error,
    ) -> Vec<Result<(), WriteError>> {
        let again = || io::Error::new(error.kind(), error.to_string());
        (0..count).map(|_| Err(failed(action, &self.path)(again()))).collect()
    }

    /// Opens the directory for what changes it, and waits until nobody else does: a worker that is to
    /// exit may still write what its successor writes, too. The lock goes with the result, or with the
    /// process.
    fn lock(&self) -> io::Result<File> {
        let directory = self.open()?;
        flock(&directory, libc::LOCK_EX);
        Ok(directory)
    }

    fn open(&self) -> io::Result<File> {
        OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(&self.path)
    }

    /// The file of this name, and the one it is written to first.
    fn paths(&self, name: &str) -> Result<(PathBuf, PathBuf), WriteError> {
        let path = self.path.join(name);
        let mut parts = Path::new(name).components();
        let is_plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        if !is_plain || name.ends_with('/') || !name.ends_with(ENDING) {
            return Err(failed("write", &path)(io::ErrorKind::InvalidInput.into()));
        }
        let unfinished = self.path.join(format!("{name}{UNFINISHED}"));
        Ok((path, unfinished))
    }

    /// Writes what the file is to be beside it.
    fn prepare(
        &self,
        name: &str,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), WriteError> {
        let (_, unfinished) = self.paths(name)?;
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&unfinished)
            .and_then(|mut file| {
                write(&mut file)?;
                file.sync_all()
            });
        written.map_err(|error| {
            let _ = fs::remove_file(&unfinished);
            failed("write", &unfinished)(error)
        })
    }

    /// Puts what was prepared into the place of the file. Returns that, and what was there before.
    fn replace(&self, name: &str) -> Result<(PathBuf, Option<File>), WriteError> {
        let (path, unfinished) = self.paths(name)?;
        let old = open_file(&path).ok();
        match fs::rename(&unfinished, &path) {
            Ok(()) => Ok((path, old)),
            Err(error) => {
                let _ = fs::remove_file(&unfinished);
                Err(failed("replace", &path)(error))
            }
        }
    }

    /// Removes a file. Returns its path, and what was there before.
    fn take_away(&self, name: &str) -> Result<(PathBuf, Option<File>), WriteError> {
        let (path, _) = self.paths(name)?;
        let old = open_file(&path).ok();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &path)(error))
            }
            _ => Ok((path, old)),
        }
    }

    /// Makes a file what it was before, as well as can be: nobody can be told where that fails, too.
    fn put_back(&self, path: &Path, old: Option<File>) {
        let Some(mut old) = old else {
            let _ = fs::remove_file(path);
            return;
        };
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return };
        let prepared = self.prepare(name, |file| {
            old.seek(SeekFrom::Start(0))?;
            io::copy(&mut old, file).map(|_| ())
        });
        if prepared.is_ok() {
            let _ = self.replace(name);
        }
    }

    /// Renames the file `NAME.json` to `NAME.json.SUFFIX`, in the place of what has that name. A file
    /// that is not there is an error of the kind `NotFound`.
    pub fn set_aside(&self, name: &str, suffix: &str) -> io::Result<()> {
        let directory = self.lock()?;
        let (path, _) = self.paths(name).map_err(|error| error.reason.0)?;
        if suffix.is_empty() || suffix.contains('/') || format!(".{suffix}") == ENDING {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        fs::rename(&path, self.path.join(format!("{name}.{suffix}")))?;
        directory.sync_all()
    }

    /// Removes what a process left that was killed while it wrote. Does not wait: where somebody
    /// writes, nothing is removed. An absent directory is tidy.
    pub fn tidy(&self) -> io::Result<()> {
        let directory = match self.open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            directory => directory?,
        };
        if !flock(&directory, libc::LOCK_EX | libc::LOCK_NB) {
            return Ok(());
        }
        let unfinished = format!("{ENDING}{UNFINISHED}");
        for (name, is_utf8) in self.names()? {
            if is_utf8 && name.ends_with(&unfinished) {
                match fs::remove_file(self.path.join(name)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// Makes an error of one of the system.
fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> WriteError + 'a {
    move |error| WriteError { action, path: path.to_owned(), reason: Reason(error) }
}

/// Locks an open directory for as long as it is open. A file system without locks does without.
fn flock(directory: &File, operation: libc::c_int) -> bool {
    loop {
        // SAFETY: the descriptor is open, and the call takes no memory.
        if unsafe { libc::flock(directory.as_raw_fd(), operation) } == 0 {
            return true;
        }
        match io::Error::last_os_error().kind() {
            io::ErrorKind::Interrupted => {}
            io::ErrorKind::WouldBlock => return false,
            _ => return true,
        }
    }
}

/// Opens a plain file, for reading. Neither waits for who writes to a pipe, nor follows a link.
fn open_file(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no plain file"));
    }
    Ok(file)
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    open_file(path)?.take(MAX_SIZE + 1).read_to_end(&mut contents)?;
    if contents.len() as u64 > MAX_SIZE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it has more than 64 MB"));
    }
    Ok(contents)
}
