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

/// What a parent has.
pub(crate) struct InForce {
    /// What is in force; while a reload goes on, what was before it.
    pub(crate) job: Job,
    /// What a reload has read, if the children that have it did not fail.
    pub(crate) read: Option<Job>,
}

#[derive(Deserialize, Serialize)]
struct Kept {
    job: KeptJob,
    read: Option<KeptJob>,
}

/// What differs from the defaults, and the program with its arguments, as bytes.
#[derive(Deserialize, Serialize)]
struct KeptJob {
    settings: BTreeMap<String, Vec<String>>,
    command: Vec<Vec<u8>>,
}

impl InForce {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let kept = Kept {
            job: KeptJob::of(&self.job),
            read: self.read.as_ref().map(KeptJob::of),
        };
        // OK: text and numbers are always JSON.
        serde_json::to_vec(&kept).unwrap_or_default()
    }

    pub(crate) fn of(bytes: &[u8]) -> io::Result<Self> {
        let Kept { job, read } = serde_json::from_slice(bytes)?;
        Ok(Self {
            job: job.job()?,
            read: read.map(KeptJob::job).transpose()?,
        })
    }
}

impl KeptJob {
    fn of(job: &Job) -> Self {
        let defaults = Settings::new();
        let set = defaults.changes(&job.settings).map(|(_, set)| set);
        let words = std::iter::once(&job.program).chain(&job.args);
        Self {
            settings: set
                .map(|it| (it.key().name.to_owned(), it.texts().to_vec()))
                .collect(),
            command: words.map(|word| word.as_bytes().to_vec()).collect(),
        }
    }

    fn job(self) -> io::Result<Job> {
        let mut settings = Settings::new();
        for (name, texts) in self.settings {
            settings.set_flag(&name, texts).map_err(io::Error::other)?;
        }
        let mut words = self.command.into_iter().map(OsString::from_vec);
        let none = || io::Error::other("there is no program");
        let program = words.next().ok_or_else(none)?;
        Ok(Job::new(settings, program, words))
    }
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
        let kept = InForce {
            job: before.clone(),
            read: Some(Job::new(Settings::new(), "true", [] as [&str; 0])),
        };
        let after = InForce::of(&kept.bytes()).expect("what was kept");
        assert_eq!(after.read.expect("a job").program, "true");
        let after = after.job;
        assert_eq!(before.settings.changes(&after.settings).count(), 0);
        assert_eq!((before.program, before.args), (after.program, after.args));
        let none = br#"{"job":{"settings":{},"command":[]},"read":null}"#;
        assert!(InForce::of(b"").is_err() && InForce::of(none).is_err());
    }
}
