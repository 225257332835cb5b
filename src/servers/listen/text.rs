//! An address and its options as text: what is read, and what to write where it cannot be. Opens
//! nothing.

use super::{Listen, ListenAddress};
use std::{net::SocketAddr, str::FromStr};

/// An address and its options, after commas. The reason of a refusal says what to write.
impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = parts(text);
        let (address, options) = parts.split_first().ok_or("there is no address")?;
        let listen = at(address.trim())?;
        let mut options = options.iter();
        options.try_fold(listen, |listen, option| listen.with_option(option))
    }
}

/// What is between the commas that have no backslash before them; there is one part at least.
fn parts(text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut rest = text.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '\\' if rest.next_if_eq(&',').is_some() => part.push(','),
            ',' => parts.push(std::mem::take(&mut part)),
            next => part.push(next),
        }
    }
    parts.push(part);
    parts
}

/// Where to listen, from the text of an address.
fn at(address: &str) -> Result<Listen, String> {
    if address == "systemd" {
        return Ok(Listen::listen_fds());
    }
    if let Some(name) = address.strip_prefix("systemd:") {
        return Ok(Listen::listen_fds_named(name));
    }
    if address.contains('/') {
        return Ok(Listen::unix(address));
    }
    let port = address.rsplit_once(':').map(|(_, port)| port);
    match port.map(str::parse::<u16>) {
        Some(Ok(_)) => Ok(Listen::tcp(address)),
        _ => Err(format!(
            "{address:?} is no address; write \"127.0.0.1:8080\", \":8080\", \"/run/x.sock\" or \
             \"systemd\""
        )),
    }
}

impl Listen {
    fn with_option(self, option: &str) -> Result<Self, String> {
        let (option, value) = option.split_once('=').unwrap_or((option, ""));
        match (option.trim(), value.trim()) {
            ("name", name) => {
                let listen = self.name(name);
                listen.checked_name().map_err(|error| error.to_string())?;
                Ok(listen)
            }
            ("mode", _) if !matches!(self.at, ListenAddress::Unix { .. }) => {
                Err("mode is for a socket at a path".to_owned())
            }
            ("mode", mode) => Ok(self.mode(octal(mode)?)),
            ("no_delay", _) if matches!(self.at, ListenAddress::Unix { .. }) => {
                Err("no_delay is for TCP".to_owned())
            }
            ("no_delay", "true") => Ok(self.no_delay(true)),
            ("no_delay", "false") => Ok(self.no_delay(false)),
            (option, _) => Err(format!(
                "{option:?} is no option of an address; they are name=TEXT, mode=660 and \
                 no_delay=false. A comma of a path is written \\,"
            )),
        }
    }
}

/// A mode, with or without `0o` before it.
fn octal(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let mode = u32::from_str_radix(digits, 8).ok();
    mode.filter(|mode| *mode <= 0o777)
        .ok_or_else(|| format!("{text:?} is not a mode; write it in octal digits: 660"))
}

/// As text: `127.0.0.1:80`, or a path after a slash. Without options: see [`FromStr`].
impl From<&str> for Listen {
    fn from(text: &str) -> Self {
        if text.starts_with('/') {
            Self::unix(text)
        } else {
            Self::tcp(text)
        }
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self::tcp(address.to_string())
    }
}
