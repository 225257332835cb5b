//! The values that settings add up to, and what each key of our own does to them. Reads texts;
//! knows no source.

use crate::{
    core::{
        access::{Access, Cidr},
        child::Signal,
        config::{
            Config,
            text::{self, AsText},
        },
        confinement::{Confinement, Resource},
    },
    servers::{AccessFormat, AccessLog, ExecServer, Listen, check_taken_once},
};
use std::{path::PathBuf, time::Duration};

/// Sets what a key stands for. The texts of a key that is no list are one.
pub(super) type Apply = fn(&mut Values, &[String]) -> Result<(), String>;

/// What a server is made from.
#[derive(Clone, Debug)]
pub(super) struct Values {
    pub(super) config: Config,
    pub(super) confinement: Confinement,
    pub(super) listen: Vec<Listen>,
    pub(super) backlog: i32,
    pub(super) max_requests: u64,
    pub(super) max_per_peer: usize,
    pub(super) max_queue_age: Option<Duration>,
    pub(super) access: Access,
    pub(super) deadline: Option<Duration>,
    pub(super) access_log: Option<PathBuf>,
    pub(super) access_log_format: AccessFormat,
    pub(super) program: Vec<String>,
    pub(super) protocol: Protocol,
    pub(super) stop_signal: Signal,
    pub(super) reopen_signal: Option<Signal>,
    pub(super) control: Option<PathBuf>,
    pub(super) status: Option<Address>,
    pub(super) agent_check: Option<Address>,
    pub(super) holder: bool,
}

/// Where the status is told.
#[cfg(feature = "status")]
pub(super) type Address = crate::observe::status::StatusAddress;
/// Nothing can be told without the feature.
#[cfg(not(feature = "status"))]
pub(super) type Address = std::convert::Infallible;

impl Default for Values {
    fn default() -> Self {
        Self {
            config: Config::default(),
            confinement: Confinement::new(),
            listen: Vec::new(),
            backlog: 1024,
            max_requests: 25,
            max_per_peer: 0,
            max_queue_age: None,
            access: Access::new(),
            deadline: None,
            access_log: None,
            access_log_format: AccessFormat::default(),
            program: Vec::new(),
            protocol: Protocol::Systemd,
            stop_signal: Signal::Interrupt,
            reopen_signal: None,
            control: None,
            status: None,
            agent_check: None,
            holder: false,
        }
    }
}

impl Values {
    pub(super) fn access_log(&self) -> Option<AccessLog> {
        let log = AccessLog::named(self.access_log.clone()?);
        Some(log.format(self.access_log_format))
    }
}

/// How a program is told of its sockets, besides LISTEN_FDS, which it always has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Protocol {
    Systemd,
    Starter,
    Einhorn,
    Stdin,
}

impl Protocol {
    pub(super) const WORDS: &[&str] = &["systemd", "starter", "einhorn", "stdin"];

    pub(super) fn set_on(self, server: ExecServer) -> ExecServer {
        match self {
            Self::Systemd => server,
            Self::Starter => server.server_starter(true),
            Self::Einhorn => server.einhorn(true),
            Self::Stdin => server.socket_at_stdin(true),
        }
    }
}

pub(super) const SIGNALS: &[&str] = &["INT", "TERM", "QUIT", "HUP", "USR1", "USR2", "WINCH"];

fn one<T: AsText>(texts: &[String]) -> Result<T, String> {
    T::read(texts.first().map_or("", String::as_str))
}

fn word<T: Copy>(texts: &[String], words: &[&str], values: &[T]) -> Result<T, String> {
    let text = texts.first().map_or("", String::as_str);
    let at = words.iter().position(|word| *word == text);
    let value = at.and_then(|at| values.get(at)).copied();
    value.ok_or_else(|| format!("{text:?} is none of {}", words.join(", ")))
}

/// The keys of a server.
pub(super) mod server {
    use super::*;

    pub(in super::super) fn listen(values: &mut Values, texts: &[String]) -> Result<(), String> {
        let listen = texts.iter().map(|text| text.parse());
        values.listen = listen.collect::<Result<_, String>>()?;
        check_taken_once(&values.listen)
    }

    pub(in super::super) fn backlog(values: &mut Values, texts: &[String]) -> Result<(), String> {
        values.backlog = one(texts)?;
        Ok(())
    }

    pub(in super::super) fn max_requests(
        values: &mut Values,
        texts: &[String],
    ) -> Result<(), String> {
        values.max_requests = one(texts)?;
        Ok(())
    }

    pub(in super::super) fn max_per_peer(
        values: &mut Values,
        texts: &[String],
    ) -> Result<(), String> {
        values.max_per_peer = one(texts)?;
        Ok(())
    }

    pub(in super::super) fn max_queue_age(
        values: &mut Values,
        texts: &[String],
    ) -> Result<(), String> {
        let age: Duration = one(texts)?;
        values.max_queue_age = (!age.is_zero()).then_some(age);
        Ok(())
    }

    pub(in super::super) fn allow(values: &mut Values, texts: &[String]) -> Result<(), String> {
        with_ranges(values, texts, Access::allow)
    }

    pub(in super::super) fn deny(values: &mut Values, texts: &[String]) -> Result<(), String> {
        with_ranges(values, texts, Access::deny)
    }

    fn with_ranges(
        values: &mut Values,
        texts: &[String],
        with: fn(Access, Cidr) -> Access,
    ) -> Result<(), String> {
        for text in texts {
            let range = text
                .parse::<Cidr>()
                .map_err(|error| format!("{text:?}: {error}"))?;
            values.access = with(std::mem::take(&mut values.access), range);
        }
        Ok(())
    }

    pub(in super::super) fn deadline(values: &mut Values, texts: &[String]) -> Result<(), String> {
        let deadline: Duration = one(texts)?;
        values.deadline = (!deadline.is_zero()).then_some(deadline);
        Ok(())
    }

    pub(in super::super) fn access_log(
        values: &mut Values,
        texts: &[String],
    ) -> Result<(), String> {
        let path: String = one(texts)?;
        if path.is_empty() {
            return Err("it is the path of a file, or - for stdout".to_owned());
        }
        values.access_log = Some(path.into());
        Ok(())
    }

    pub(in super::super) const FORMATS: &[&str] = &["common", "json"];

    pub(in super::super) fn access_log_format(
        values: &mut Values,
        texts: &[String],
    ) -> Result<(), String> {
        let all = [AccessFormat::Common, AccessFormat::Json];
        values.access_log_format = word(texts, FORMATS, &all)?;
        Ok(())
    }

    pub(in super::super) fn program(values: &mut Values, texts: &[String]) -> Result<(), String> {
        values.program = texts.to_vec();
        Ok(())
    }

    pub(in super::super) fn protocol(values: &mut Values, texts: &[String]) -> Result<(), String> {
        use Protocol::{Einhorn, Starter, Stdin, Systemd};
        let all = [Systemd, Starter, Einhorn, Stdin];
        values.protocol = word(texts, Protocol::WORDS, &all)?;
        Ok(())
    }

    pub(in super::super) fn stop_signal(
        values: &mut Values,
        texts: &[String],
    ) -> Result<(), String> {
        values.stop_signal = signal(texts)?;
        Ok(())
    }

    pub(in super::super) fn reopen_signal(
        values: &mut Values,
        texts: &[String],
    ) -> Result<(), String> {
        values.reopen_signal = Some(signal(texts)?);
        Ok(())
    }

    pub(in super::super) fn control(values: &mut Values, texts: &[String]) -> Result<(), String> {
        let path: PathBuf = one(texts)?;
        match path.as_os_str().is_empty() {
            true => Err("the path is empty".to_owned()),
            false => {
                values.control = Some(path);
                Ok(())
            }
        }
    }

    pub(in super::super) fn status(values: &mut Values, texts: &[String]) -> Result<(), String> {
        values.status = Some(address(texts)?);
        Ok(())
    }

    pub(in super::super) fn agent_check(
        values: &mut Values,
        texts: &[String],
    ) -> Result<(), String> {
        values.agent_check = Some(address(texts)?);
        Ok(())
    }

    pub(in super::super) fn holder(values: &mut Values, texts: &[String]) -> Result<(), String> {
        values.holder = one(texts)?;
        match values.holder && !cfg!(feature = "holder") {
            true => Err("this program was built without the feature `holder`".to_owned()),
            false => Ok(()),
        }
    }

    /// A bare name is a file, as that of a control socket is.
    #[cfg(feature = "status")]
    fn address(texts: &[String]) -> Result<Address, String> {
        let text: String = one(texts)?;
        let is_name = !text.is_empty() && !text.contains(['/', ':']);
        match is_name && text.parse::<u64>().is_err() {
            true => Ok(Address::unix(text)),
            false => text.parse(),
        }
    }

    #[cfg(not(feature = "status"))]
    fn address(_: &[String]) -> Result<Address, String> {
        Err("this program was built without the feature `status`".to_owned())
    }

    fn signal(texts: &[String]) -> Result<Signal, String> {
        use Signal::{Hangup, Interrupt, Quit, Terminate, User1, User2, Window};
        let all = [Interrupt, Terminate, Quit, Hangup, User1, User2, Window];
        word(texts, SIGNALS, &all)
    }
}

/// The keys of a confinement.
pub(super) mod confine {
    use super::*;

    /// A function for each step: what it reads from the texts, and what it does with it.
    macro_rules! steps {
        ($($name:ident($confinement:ident, $texts:ident) => $changed:expr;)*) => {$(
            pub(in super::super) fn $name(
                values: &mut Values,
                $texts: &[String],
            ) -> Result<(), String> {
                let $confinement = std::mem::take(&mut values.confinement);
                values.confinement = $changed;
                Ok(())
            }
        )*};
    }
    steps! {
        session(c, texts) => if one(texts)? { c.session() } else { c };
        process_group(c, texts) => if one(texts)? { c.process_group() } else { c };
        nice(c, texts) => c.nice(between(one(texts)?, -20, 19)?);
        oom_score_adj(c, texts) => c.oom_score_adj(between(one(texts)?, -1000, 1000)?);
        umask(c, texts) => c.umask(octal(texts)?);
        chroot(c, texts) => c.chroot(absolute(texts)?);
        directory(c, texts) => c.directory(absolute(texts)?);
        supplementary_groups(c, texts) => c.supplementary_groups(texts);
        group(c, texts) => c.group(one::<String>(texts)?);
        capabilities(c, texts) => c.capabilities(texts);
        user(c, texts) => c.user(one::<String>(texts)?);
        no_new_privs(c, texts) => if one(texts)? { c.no_new_privs() } else { c };
        limit_address_space(c, texts) => limit(c, Resource::AddressSpace, texts, text::size)?;
        limit_core_size(c, texts) => limit(c, Resource::CoreSize, texts, text::size)?;
        limit_cpu_time(c, texts) => limit(c, Resource::CpuTime, texts, seconds)?;
        limit_data_size(c, texts) => limit(c, Resource::DataSize, texts, text::size)?;
        limit_file_size(c, texts) => limit(c, Resource::FileSize, texts, text::size)?;
        limit_locked_memory(c, texts) => limit(c, Resource::LockedMemory, texts, text::size)?;
        limit_open_files(c, texts) => limit(c, Resource::OpenFiles, texts, u64::read)?;
        limit_processes(c, texts) => limit(c, Resource::Processes, texts, u64::read)?;
        limit_stack_size(c, texts) => limit(c, Resource::StackSize, texts, text::size)?;
    }

    fn between(number: i32, least: i32, most: i32) -> Result<i32, String> {
        match (least..=most).contains(&number) {
            true => Ok(number),
            false => Err(format!("{number} is not between {least} and {most}")),
        }
    }

    fn octal(texts: &[String]) -> Result<u32, String> {
        let text: String = one(texts)?;
        let digits = text.trim_start_matches("0o");
        let mask = u32::from_str_radix(digits, 8)
            .ok()
            .filter(|mask| *mask <= 0o777);
        mask.ok_or_else(|| format!("{text:?} is not a mask; write it in octal digits: \"027\""))
    }

    fn absolute(texts: &[String]) -> Result<String, String> {
        let path: String = one(texts)?;
        match path.starts_with('/') {
            true => Ok(path),
            false => Err(format!("{path:?} is not an absolute path")),
        }
    }

    /// `64`, `64:128` or `unlimited`: the soft limit and the hard one.
    fn limit(
        confinement: Confinement,
        resource: Resource,
        texts: &[String],
        read: fn(&str) -> Result<u64, String>,
    ) -> Result<Confinement, String> {
        let text: String = one(texts)?;
        let (soft, hard) = text.split_once(':').unwrap_or((&text, &text));
        let amount = |text: &str| match text {
            "unlimited" => Ok(Confinement::UNLIMITED),
            _ => read(text),
        };
        let (soft, hard) = (amount(soft)?, amount(hard)?);
        match soft <= hard {
            true => Ok(confinement.limit(resource, soft, hard)),
            false => Err(format!("{text:?} has a soft limit above the hard one")),
        }
    }

    fn seconds(text: &str) -> Result<u64, String> {
        let time = text::time(text)?;
        match time.subsec_nanos() {
            0 => Ok(time.as_secs()),
            _ => Err(format!("{text:?} is not a whole number of seconds")),
        }
    }
}
