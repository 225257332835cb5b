//! Command lines: the one that the test tools give to a test, and the one of a program.
//!
//! It never acts on what it reads, and never refuses an option of the standard test harness: those
//! without a meaning here are taken and ignored.

use std::ops::Deref;
use std::str::FromStr;

/// The arguments of a program.
#[derive(Clone, Debug)]
pub struct Args(Vec<String>);

impl Args {
    pub(super) fn new(arguments: Vec<String>) -> Self {
        Self(arguments)
    }

    /// Whether `flag` is among the arguments.
    pub fn has(&self, flag: &str) -> bool {
        self.0.iter().any(|argument| argument == flag)
    }

    /// The argument after `option`.
    pub fn value(&self, option: &str) -> Option<&str> {
        let at = self.0.iter().position(|argument| argument == option)?;
        let value = self.0.get(at + 1);
        Some(value.unwrap_or_else(|| panic!("a value after {option}")))
    }

    /// The argument after `option`, read as a `T`.
    pub fn parsed<T: FromStr>(&self, option: &str) -> Option<T> {
        let text = self.value(option)?;
        let value = text.parse();
        Some(value.unwrap_or_else(|_| panic!("{option} does not take {text:?}")))
    }
}

impl Deref for Args {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.0
    }
}

/// What the test tools ask of the runner.
#[derive(Debug, Default)]
pub struct Request {
    pub list: bool,
    pub terse: bool,
    pub exact: bool,
    pub ignored_only: bool,
    pub capture: bool,
    pub times: bool,
    pub threads: Option<usize>,
    pub filters: Vec<String>,
    pub skips: Vec<String>,
}

impl Request {
    /// Reads a command line as the standard test harness would.
    pub fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut request = Self {
            capture: true,
            threads: number(std::env::var("RUST_TEST_THREADS").ok().as_deref()),
            ..Self::default()
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let (name, attached) = match argument.split_once('=') {
                Some((name, value)) if name.starts_with('-') => (name, Some(value.to_owned())),
                _ => (argument.as_str(), None),
            };
            if TAKE_A_VALUE.contains(&name) {
                let value = attached.or_else(|| rest.next().cloned());
                request.set(name, value.ok_or_else(|| format!("{name} needs a value"))?)?;
            } else if name.starts_with('-') {
                request.switch(name)?;
            } else {
                request.filters.push(argument.clone());
            }
        }
        Ok(request)
    }

    /// Whether the request is about the test called `name`.
    pub fn selects(&self, name: &str) -> bool {
        let matches = |pattern: &String| {
            if self.exact {
                pattern == name
            } else {
                name.contains(pattern.as_str())
            }
        };
        !self.ignored_only
            && (self.filters.is_empty() || self.filters.iter().any(matches))
            && !self.skips.iter().any(matches)
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        match name {
            "--format" => self.terse = value == "terse",
            "--skip" => self.skips.push(value),
            "--test-threads" => {
                let threads = number(Some(&value));
                self.threads = Some(threads.ok_or("--test-threads needs a number above 0")?);
            }
            _ => {}
        }
        Ok(())
    }

    fn switch(&mut self, name: &str) -> Result<(), String> {
        match name {
            "--list" => self.list = true,
            "--exact" => self.exact = true,
            "--ignored" => self.ignored_only = true,
            "--nocapture" | "--no-capture" => self.capture = false,
            "--report-time" => self.times = true,
            "-q" | "--quiet" => self.terse = true,
            _ if WITHOUT_MEANING.contains(&name) => {}
            _ => return Err(format!("Unrecognized option: {name}")),
        }
        Ok(())
    }
}

/// The options of the standard harness that are followed by a value.
const TAKE_A_VALUE: [&str; 7] = [
    "--format",
    "--skip",
    "--test-threads",
    "--color",
    "--logfile",
    "--shuffle-seed",
    "-Z",
];

/// The switches of the standard harness that change nothing here.
const WITHOUT_MEANING: [&str; 8] = [
    "--include-ignored",
    "--test",
    "--bench",
    "--show-output",
    "--ensure-time",
    "--shuffle",
    "--exclude-should-panic",
    "--force-run-in-process",
];

fn number(text: Option<&str>) -> Option<usize> {
    text?.parse().ok().filter(|&number| number > 0)
}
