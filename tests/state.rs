//! The directory of state needs no nginx, but lies in a house that does: it is tested by itself.

#[path = "../src/upstream/state.rs"]
#[allow(dead_code)] // what only the module uses
mod state;

use std::fs;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use state::{Directory, Wanted};

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("checkups-state-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn directory(&self) -> Directory {
        Directory::new(self.0.clone())
    }

    fn names(&self) -> Vec<String> {
        let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        let mut names: Vec<_> =
            fs::read_dir(&self.0).unwrap().map(|entry| name(entry.unwrap())).collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn file(name: &str, contents: &str) -> Wanted {
    (name.to_owned(), Some(contents.as_bytes().to_vec()))
}

fn written(directory: &Directory, files: &[Wanted]) -> Vec<Option<String>> {
    let result = |result: Result<(), state::WriteError>| result.err().map(|it| it.to_string());
    directory.write(files).into_iter().map(result).collect()
}

fn contents(directory: &Directory) -> Vec<(String, Result<String, String>)> {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let files = directory.read().unwrap().into_iter();
    files.map(|(name, it)| (name, it.map(text).map_err(|error| error.to_string()))).collect()
}

#[test]
fn what_is_written_is_read() {
    let scratch = Scratch::new();
    let directory = scratch.directory();
    assert_eq!(directory.path(), scratch.0);
    assert!(contents(&directory).is_empty());
    assert_eq!(written(&directory, &[file("b.json", "2"), file("a.json", "1")]), [None, None]);
    assert_eq!(written(&directory, &[file("a.json", "other")]), [None]);
    let both = [("a.json".into(), Ok("other".into())), ("b.json".into(), Ok("2".into()))];
    assert_eq!(contents(&directory), both);
    assert_eq!(scratch.names(), ["a.json", "b.json"]);
    let mode = fs::metadata(scratch.0.join("a.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn an_absent_directory_is_empty_and_cannot_be_written_to() {
    let scratch = Scratch::new();
    let directory = Directory::new(scratch.0.join("none"));
    assert!(contents(&directory).is_empty());
    directory.tidy().unwrap();
    assert!(directory.write(&[("a.json".to_owned(), None)])[0].is_err());
    let message =
        format!("cannot open \"{}\": No such file or directory", directory.path().display());
    assert_eq!(written(&directory, &[file("a.json", "1")]), [Some(message)]);
}

#[test]
fn one_that_fails_leaves_the_others_and_its_old_file() {
    let scratch = Scratch::new();
    let directory = scratch.directory();
    written(&directory, &[file("a.json", "old")]);
    // Nothing can be written where a directory is.
    fs::create_dir(scratch.0.join("a.json.tmp")).unwrap();
    let results = written(&directory, &[file("a.json", "new"), file("b.json", "new")]);
    let path = scratch.0.join("a.json.tmp");
    let message = format!("cannot write \"{}\": Is a directory", path.display());
    assert_eq!(results, [Some(message), None]);
    let both = [("a.json".into(), Ok("old".into())), ("b.json".into(), Ok("new".into()))];
    assert_eq!(contents(&directory), both);
}

#[test]
fn what_cannot_be_replaced_leaves_nothing_unfinished() {
    let scratch = Scratch::new();
    let directory = scratch.directory();
    fs::create_dir_all(scratch.0.join("a.json/full")).unwrap();
    assert!(written(&directory, &[file("a.json", "new")])[0].is_some());
    assert_eq!(scratch.names(), ["a.json"]);
    assert_eq!(contents(&directory), [("a.json".into(), Err("it is no plain file".into()))]);
}

#[test]
fn no_link_is_followed() {
    let scratch = Scratch::new();
    let directory = scratch.directory();
    fs::write(scratch.0.join("other"), "kept").unwrap();
    symlink("other", scratch.0.join("a.json.tmp")).unwrap();
    assert!(written(&directory, &[file("a.json", "new")])[0].is_some());
    assert_eq!(fs::read_to_string(scratch.0.join("other")).unwrap(), "kept");
    // The link is gone: the next time it works.
    assert_eq!(written(&directory, &[file("a.json", "new")]), [None]);

    symlink("other", scratch.0.join("b.json")).unwrap();
    assert!(contents(&directory)[1].1.is_err());
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let scratch = Scratch::new();
    let directory = scratch.directory();
    for name in ["", ".json/", "../a.json", "a/b.json", "/a.json", "..", "a", "a.json/"] {
        assert!(written(&directory, &[file(name, "1")])[0].is_some(), "{name}");
        assert!(directory.set_aside(name, "old").is_err(), "{name}");
        assert!(directory.write(&[(name.to_owned(), None)])[0].is_err(), "{name}");
    }
    assert!(scratch.names().is_empty());
}

#[test]
fn files_are_set_aside_and_removed() {
    let scratch = Scratch::new();
    let directory = scratch.directory();
    written(&directory, &[file("a.json", "1")]);
    directory.set_aside("a.json", "damaged").unwrap();
    written(&directory, &[file("a.json", "2")]);
    directory.set_aside("a.json", "damaged").unwrap();
    assert_eq!(scratch.names(), ["a.json.damaged"]);
    assert_eq!(fs::read_to_string(scratch.0.join("a.json.damaged")).unwrap(), "2");
    let absent = directory.set_aside("a.json", "damaged").unwrap_err();
    assert_eq!(absent.kind(), std::io::ErrorKind::NotFound);
    written(&directory, &[file("a.json", "3")]);
    assert!(directory.set_aside("a.json", "a/b").is_err());
    assert!(directory.write(&[("a.json".to_owned(), None)])[0].is_ok());
    assert!(directory.write(&[("a.json".to_owned(), None)])[0].is_ok());
    assert_eq!(scratch.names(), ["a.json.damaged"]);
}

#[test]
fn what_was_left_is_ignored_and_removed() {
    let scratch = Scratch::new();
    let directory = scratch.directory();
    fs::write(scratch.0.join("a.json.tmp"), "half").unwrap();
    fs::write(scratch.0.join("notes.tmp"), "not ours").unwrap();
    assert!(contents(&directory).is_empty());
    directory.tidy().unwrap();
    assert_eq!(scratch.names(), ["notes.tmp"]);
}

#[test]
fn two_that_write_at_a_time_leave_whole_files() {
    let scratch = Scratch::new();
    let directory = scratch.directory();
    let write = |digit: char| {
        let all = digit.to_string().repeat(1 << 16);
        for _ in 0..8 {
            assert_eq!(written(&directory, &[file("a.json", &all)]), [None]);
        }
    };
    #[expect(clippy::disallowed_methods, reason = "there is no nginx here")]
    std::thread::scope(|scope| {
        scope.spawn(|| write('1'));
        scope.spawn(|| write('2'));
    });
    let (_, text) = contents(&directory).remove(0);
    let text = text.unwrap();
    let first = text.chars().next().unwrap();
    assert!(text.len() == 1 << 16 && text.chars().all(|each| each == first));
    assert_eq!(scratch.names(), ["a.json"]);
}
