//! The helpers in other languages, Flask and Plack under `prefork run`: the scenarios that `ExecServer`
//! has for them as well.

#[path = "../../scenarios/exec/applications.rs"]
pub mod applications;
#[path = "../../scenarios/exec/ending.rs"]
mod ending;
#[path = "../../scenarios/exec/languages.rs"]
pub mod languages;

use std::ops::Deref;

use self::ending::{ready_children, signal, stop, stop_ready, until_gone};
use super::{prefork, text};
use crate::support::{Address, Launch, SOON, Server, World, connect, until};

/// A server of the command. The process that tells its status is no child that serves.
pub struct Served {
    server: Server,
    status: Address,
    teller: u32,
}

impl Deref for Served {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// `prefork run` with flags of the program that other scenarios run, as its own flags.
fn launch<'w>(world: &'w mut World, flags: &[&str]) -> Launch<'w> {
    let status = world.tempdir().join("status");
    let own = ["--listen", "127.0.0.1:0", "--start-servers", "1"];
    let own = [&own[..], &["--spare", "1..10", "--cull-after", "100ms"]].concat();
    let launch = prefork(world, &["run", "--status", text(&status)]).args(&own);
    let launch = flags.chunks(2).fold(launch, |launch, flag| match flag {
        ["--words", words] => launch.arg("--comm-words").arg(words),
        ["--timeout" | "--kill-timeout", time] => launch.arg(flag[0]).arg(format!("{time}ms")),
        other => launch.args(other),
    });
    launch.arg("--")
}

fn served(launch: Launch<'_>) -> Served {
    let server = launch.spawn();
    let said = server.expect_stdout("the status", |text| text.contains("\nstatus at "));
    let status = said
        .lines()
        .find_map(|line| line.strip_prefix("status at "));
    let status = Address::parse(status.expect("an address"));
    let teller = until("the process that tells the status", SOON, || {
        let told = told(&status)?;
        let is_child = |pid: &u32| told.iter().any(|(child, _)| child == pid);
        let mut others = server.children();
        others.retain(|pid| !is_child(pid));
        // A child may have been forked since it was told of them.
        (others.len() == 1).then(|| others[0])
    });
    Served {
        server,
        status,
        teller,
    }
}

fn spawn(world: &mut World, flags: &[&str], program: &[impl AsRef<str>]) -> Served {
    let program: Vec<&str> = program.iter().map(AsRef::as_ref).collect();
    served(launch(world, flags).args(&program))
}

/// The children that the status tells of, each with its state.
fn told(status: &Address) -> Option<Vec<(u32, String)>> {
    let mut asked = connect(status);
    asked.send_line("GET /status.json HTTP/1.0\r\n\r");
    let answer = asked.read_rest();
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let body: serde_json::Value = serde_json::from_str(body).ok()?;
    let child = |child: &serde_json::Value| {
        let pid = u32::try_from(child["pid"].as_u64()?).ok()?;
        Some((pid, child["state"].as_str()?.to_owned()))
    };
    body["slots"].as_array()?.iter().map(child).collect()
}

/// All children, if each has said that it is free or busy.
fn ready(server: &Served) -> Option<Vec<u32>> {
    let told = told(&server.status)?;
    let is_ready = |pid: &u32| {
        let mut states = told.iter().filter(|(child, _)| child == pid);
        states.any(|(_, state)| state == "free" || state == "busy")
    };
    let children = server.children();
    children.iter().all(is_ready).then_some(children)
}

impl Served {
    fn children(&self) -> Vec<u32> {
        let mut children = self.server.children();
        children.retain(|pid| *pid != self.teller);
        children
    }

    #[track_caller]
    fn expect_children(&self, count: usize) -> Vec<u32> {
        until(&format!("{count} children"), SOON, || {
            Some(self.children()).filter(|children| children.len() == count)
        })
    }
}
