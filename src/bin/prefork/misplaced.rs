//! What a command line was meant to be whose words stand in the wrong place. Explains; repairs nothing.

use crate::{
    exit::CliError,
    flags::{AcceptsFlags, Inetd, Run},
};
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use std::ffi::OsString;

/// The failure that an error of the parser stands for.
pub(crate) fn explained(error: Error, words: &[OsString]) -> CliError {
    let words = words.iter().map(|word| word.to_string_lossy().into_owned());
    let words: Vec<String> = words.collect();
    match explanation(&error, &words) {
        Some(message) => CliError::usage(&message),
        None => error.into(),
    }
}

fn explanation(error: &Error, words: &[String]) -> Option<String> {
    let unknown = match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(unknown))) => unknown,
        _ => return None,
    };
    let (command, other, without) = match words.get(1)?.as_str() {
        Run::NAME => (Run::NAME, Run::OTHER, Run::WITHOUT),
        Inetd::NAME => (Inetd::NAME, Inetd::OTHER, Inetd::WITHOUT),
        _ => return None,
    };
    match unknown.strip_prefix("--") {
        Some(flag) => {
            let key = flag.split('=').next()?.replace('-', "_");
            let is_others = without.contains(&key.as_str());
            let message =
                format!("prefork {command} has no use for {unknown}; it is for prefork {other}");
            is_others.then_some(message)
        }
        None if unknown.starts_with('-') => None,
        None => Some(format!(
            "write the program after --: {}",
            with_dashes(words, unknown)
        )),
    }
}

/// The command line with two dashes before this word, which comes after the name of the command.
fn with_dashes(words: &[String], program: &str) -> String {
    const NAMES: usize = 2;
    let at = words.iter().skip(NAMES).position(|word| word == program);
    let (before, after) = words.split_at(at.map_or(words.len(), |at| NAMES + at));
    let before = before.iter().skip(1).map(|word| quoted(word));
    let after = after.iter().map(|word| quoted(word));
    let all = ["prefork".to_owned()].into_iter().chain(before);
    let all: Vec<String> = all.chain(["--".to_owned()]).chain(after).collect();
    all.join(" ")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=+:,./@%[]".contains(&byte);
    match !word.is_empty() && word.bytes().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}
