//! The settings that are in force, as bytes for the next parent, if this one is killed under a holder.
//! Converts; reads no file.

use crate::serve::Job;
use prefork_server::settings::Settings;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    os::unix::ffi::{OsStrExt, OsStringExt},
};

/// What differs from the defaults, and the program with its arguments, as bytes.
#[derive(Deserialize, Serialize)]
struct Kept {
    settings: BTreeMap<String, Vec<String>>,
    command: Vec<Vec<u8>>,
}

pub(crate) fn bytes(job: &Job) -> Vec<u8> {
    let defaults = Settings::new();
    let set = defaults.changes(&job.settings).map(|(_, set)| set);
    let words = std::iter::once(&job.program).chain(&job.args);
    let kept = Kept {
        settings: set
            .map(|it| (it.key().name.to_owned(), it.texts().to_vec()))
            .collect(),
        command: words.map(|word| word.as_bytes().to_vec()).collect(),
    };
    // OK: text and numbers are always JSON.
    serde_json::to_vec(&kept).unwrap_or_default()
}

pub(crate) fn job(bytes: &[u8]) -> io::Result<Job> {
    let kept: Kept = serde_json::from_slice(bytes)?;
    let mut settings = Settings::new();
    for (name, texts) in kept.settings {
        settings.set_flag(&name, texts).map_err(io::Error::other)?;
    }
    let mut words = kept.command.into_iter().map(OsString::from_vec);
    let none = || io::Error::other("there is no program");
    let program = words.next().ok_or_else(none)?;
    Ok(Job::new(settings, program, words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_was_in_force() {
        let mut settings = Settings::new();
        settings.set_flag("max_clients", ["60"]).expect("a number");
        let listen = ["127.0.0.1:0", "/run/x.sock,mode=600"];
        settings.set_flag("listen", listen).expect("addresses");
        settings.set_flag("nice", ["5"]).expect("a number");
        let args = [OsString::from("-e"), OsString::from_vec(b"\xff".to_vec())];
        let before = Job::new(settings, "perl", args);
        let after = job(&bytes(&before)).expect("a job");
        assert_eq!(before.settings.changes(&after.settings).count(), 0);
        assert_eq!((before.program, before.args), (after.program, after.args));
        assert!(job(b"").is_err() && job(b"{\"settings\":{},\"command\":[]}").is_err());
    }
}
