//! Whether a server with these settings could start here: names, directories and addresses that are
//! looked up without opening anything. Starts nothing.

use crate::{exit::CliError, flags::given, serve::Job};
use nix::unistd::{Group, User};
use prefork_server::settings::{Setting, Settings, Source};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Keys whose value is the path of a file that the server makes.
const FILES: [&str; 4] = ["control", "status", "agent_check", "access_log"];

/// All that keeps it from starting; the program comes last.
pub(crate) fn check(settings: &Settings) -> Result<(), CliError> {
    let mut lines = names(settings);
    lines.extend(directories(settings));
    lines.extend(twice(settings));
    let program = program(settings);
    match (lines.is_empty(), program) {
        (true, program) => program,
        (false, Ok(())) => Err(CliError::config(lines.join("\n"))),
        (false, Err(program)) => {
            lines.push(program.message().to_owned());
            Err(CliError::config(lines.join("\n")))
        }
    }
}

fn program(settings: &Settings) -> Result<(), CliError> {
    match settings.program().split_first() {
        None => Ok(()),
        Some((program, args)) => Job::new(settings.clone(), program, args).check_program(),
    }
}

/// A line about a key. A flag and a variable have its name already.
fn line(entry: &Setting, what: &str) -> String {
    let source = entry.source();
    match source {
        Source::Flag(_) | Source::Environment(_) => format!("{source}: {what}"),
        _ => format!("{source}: {}: {what}", entry.key().name),
    }
}

/// Users and groups that this system does not know.
fn names(settings: &Settings) -> Vec<String> {
    let user = |name: &str| User::from_name(name).is_ok_and(|found| found.is_none());
    let group = |name: &str| Group::from_name(name).is_ok_and(|found| found.is_none());
    let unknown = |key: &str, what: &str, is_unknown: &dyn Fn(&str) -> bool| {
        let entry = given(settings, key)?;
        let mut names = entry.texts().iter();
        let name = names.find(|name| name.parse::<u32>().is_err() && is_unknown(name))?;
        Some(line(entry, &format!("there is no {what} {name}")))
    };
    let all = [
        unknown("user", "user", &user),
        unknown("group", "group", &group),
        unknown("supplementary_groups", "group", &group),
    ];
    all.into_iter().flatten().collect()
}

/// Directories that are not there: those of children, and those of the files that the server makes.
fn directories(settings: &Settings) -> Vec<String> {
    let of_children = children_directories(settings);
    let files = FILES.into_iter().filter_map(|key| given(settings, key));
    let files = files.map(|entry| (entry, entry.value()));
    let sockets = addresses(settings);
    let parents = files
        .chain(sockets)
        .filter_map(|(entry, path)| Some((entry, parent(&path)?)));
    let missing = of_children
        .into_iter()
        .chain(parents)
        .filter(|(_, directory)| !directory.is_dir());
    missing
        .map(|(entry, directory)| {
            let shown = directory.display();
            line(entry, &format!("there is no directory {shown}"))
        })
        .collect()
}

/// The root and the current directory of children, as this process has them.
fn children_directories(settings: &Settings) -> Vec<(&Setting, PathBuf)> {
    let root = given(settings, "chroot").map(|entry| (entry, PathBuf::from(entry.value())));
    let directory = given(settings, "directory").map(|entry| {
        let path = entry.value();
        let path = match &root {
            Some((_, root)) => root.join(path.trim_start_matches('/')),
            None => path.into(),
        };
        (entry, path)
    });
    root.into_iter().chain(directory).collect()
}

/// The directory of a path that has a slash.
fn parent(path: &str) -> Option<PathBuf> {
    let path = Some(path).filter(|path| path.contains('/'))?;
    let parent = Path::new(path).parent()?;
    (!parent.as_os_str().is_empty()).then(|| parent.to_owned())
}

/// Where it would listen, without options.
fn addresses(settings: &Settings) -> impl Iterator<Item = (&Setting, String)> {
    let listen = given(settings, "listen").into_iter();
    let all = listen.flat_map(|entry| entry.texts().iter().map(move |text| (entry, text)));
    all.map(|(entry, text)| (entry, without_options(text)))
}

/// What is before the first comma that has no backslash before it.
fn without_options(text: &str) -> String {
    let mut address = String::new();
    for part in text.split_inclusive(',') {
        match part.strip_suffix("\\,") {
            Some(part) => address.extend([part, ","]),
            None => {
                address.push_str(part.trim_end_matches(','));
                break;
            }
        }
    }
    address.trim().to_owned()
}

/// Addresses that stand there twice, where the system chooses no port.
fn twice(settings: &Settings) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let again = addresses(settings)
        .filter(|(_, address)| !address.ends_with(":0") && !seen.insert(address.clone()));
    again
        .map(|(entry, address)| line(entry, &format!("{address} is there twice")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_no_part_of_an_address() {
        for (text, address) in [
            (":80", ":80"),
            (" :80 ,name=x", ":80"),
            (r"/run/a\,b,mode=600", "/run/a,b"),
            (r"/run/a\,", "/run/a,"),
            ("/run/a\\", "/run/a\\"),
            ("", ""),
        ] {
            assert_eq!(without_options(text), address);
        }
    }
}
