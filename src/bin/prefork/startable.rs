//! Whether a server with these settings could start here: names, directories and addresses that are
//! looked up without opening anything. Starts nothing.

use crate::{exit::Failure, serve::Job};
use nix::unistd::{Group, User};
use prefork_server::settings::{Entry, Settings};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Keys whose value is the path of a file that the server makes.
const FILES: [&str; 4] = ["control", "status", "agent_check", "access_log"];

/// All that keeps it from starting; the program comes last.
pub(crate) fn check(settings: &Settings) -> Result<(), Failure> {
    let mut lines = names(settings);
    lines.extend(directories(settings));
    lines.extend(twice(settings));
    let program = program(settings);
    match (lines.is_empty(), program) {
        (true, program) => program,
        (false, Ok(())) => Err(Failure::config(lines.join("\n"))),
        (false, Err(program)) => {
            lines.push(program.message().to_owned());
            Err(Failure::config(lines.join("\n")))
        }
    }
}

fn program(settings: &Settings) -> Result<(), Failure> {
    match settings.program().split_first() {
        None => Ok(()),
        Some((program, args)) => Job::new(settings.clone(), program, args).check_program(),
    }
}

/// The entry of a key that has a value, and the value.
fn set<'a>(settings: &'a Settings, name: &str) -> Option<(&'a Entry, String)> {
    let entry = settings.entry(name)?;
    let value = entry.value();
    (!value.is_empty() && value != "none").then_some((entry, value))
}

/// Users and groups that this system does not know.
fn names(settings: &Settings) -> Vec<String> {
    let user = |name: &str| User::from_name(name).is_ok_and(|found| found.is_none());
    let group = |name: &str| Group::from_name(name).is_ok_and(|found| found.is_none());
    let unknown = |key: &str, what: &str, is_unknown: &dyn Fn(&str) -> bool| {
        let (entry, value) = set(settings, key)?;
        let mut names = value.split_whitespace();
        let name = names.find(|name| name.parse::<u32>().is_err() && is_unknown(name))?;
        let source = entry.source();
        Some(format!("{source}: {key}: there is no {what} {name}"))
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
    let root = set(settings, "chroot").map(|(_, value)| PathBuf::from(value));
    let missing = |key: &str, directory: &Path| {
        let source = settings.entry(key)?.source();
        let shown = directory.display();
        let message = format!("{source}: {key}: there is no directory {shown}");
        (!directory.is_dir()).then_some(message)
    };
    let mut lines: Vec<_> = root
        .iter()
        .filter_map(|root| missing("chroot", root))
        .collect();
    if let Some((_, directory)) = set(settings, "directory") {
        lines.extend(missing("directory", &inside(root.as_deref(), &directory)));
    }
    for key in FILES {
        let value = set(settings, key).map(|(_, value)| value);
        let parent = value.as_deref().and_then(parent);
        lines.extend(parent.and_then(|parent| missing(key, parent)));
    }
    for address in addresses(settings) {
        lines.extend(parent(&address).and_then(|parent| missing("listen", parent)));
    }
    lines
}

/// A path of children as this process has it.
fn inside(root: Option<&Path>, path: &str) -> PathBuf {
    match root {
        Some(root) => root.join(path.trim_start_matches('/')),
        None => path.into(),
    }
}

/// The directory of a path that has a slash.
fn parent(path: &str) -> Option<&Path> {
    let path = Some(path).filter(|path| path.contains('/'));
    path.and_then(|path| Path::new(path).parent())
}

/// Where it would listen, without options.
fn addresses(settings: &Settings) -> Vec<String> {
    let listen = set(settings, "listen").map(|(_, value)| value);
    let address = |text: &str| text.split(',').next().unwrap_or("").to_owned();
    listen
        .iter()
        .flat_map(|all| all.split_whitespace())
        .map(address)
        .collect()
}

/// Addresses that stand there twice, where the system chooses no port.
fn twice(settings: &Settings) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let source = set(settings, "listen").map(|(entry, _)| entry.source().to_string());
    let again = addresses(settings)
        .into_iter()
        .filter(|address| !address.ends_with(":0") && !seen.insert(address.clone()));
    let source = source.unwrap_or_default();
    again
        .map(|address| format!("{source}: listen: {address} is there twice"))
        .collect()
}
