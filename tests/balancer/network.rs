//! A network that nothing leaves: a bridge in a namespace of its own, and hosts that are joined to it.
//!
//! It lives as long as the processes in it: nothing is left in the file system or in the network of
//! the machine. It needs `unshare`, `nsenter` and `ip`, and to be root or to be allowed user
//! namespaces.

use std::process::{Command, Stdio};

use crate::support::{Launch, SOON, Server, World};

/// What the balancer's side of the network is made of.
const BRIDGE: &str = "ip link set lo up && ip link add br0 type bridge && \
    ip addr add 10.83.0.1/24 dev br0 && ip link set br0 up";

/// Makes the bridge, and holds the namespace until its input ends.
const HOLD: &str = "&& echo made && exec cat";

/// As whom: groups cannot be set in a user namespace that is not root's.
const PRESERVE: &str = "--preserve-credentials";

/// With a user namespace, and without one for a root that may not have it.
const WAYS: [(&str, &[&str]); 2] = [("-Urn", &["--user", "--net"]), ("-n", &["--net"])];

/// The balancer's side of the network.
#[derive(Debug)]
pub struct Network {
    holder: Server,
    /// The flags with which `nsenter` comes into it.
    enters: &'static [&'static str],
}

impl Network {
    /// `None`, with a message, where no network can be made.
    pub fn make(world: &mut World) -> Option<Self> {
        let Some((makes, enters)) = WAYS.into_iter().find(|(makes, _)| can_be_made(makes)) else {
            eprintln!("skipped: this machine lets us have no network namespace with a bridge");
            return None;
        };
        let script = [BRIDGE, HOLD].join(" ");
        let launch = world.command("unshare").args(&[makes, "sh", "-c", &script]);
        let holder = launch.stdin(Stdio::piped()).spawn();
        holder.expect_stdout("the bridge", |text| text.contains("made"));
        Some(Self { holder, enters })
    }

    /// A command in the balancer's namespace.
    pub fn command<'w>(&self, world: &'w mut World, program: &str) -> Launch<'w> {
        let target = self.holder.pid().to_string();
        let launch = world.command("nsenter").args(self.enters);
        launch.args(&[PRESERVE, "--target", &target, program])
    }

    /// Joins the network namespace of a process to the bridge. `number` is the last part of its
    /// address, and of the address of its card: a machine that replaces another has both.
    pub fn join(&self, pid: u32, number: u8) {
        let (link, pid) = (format!("host{pid}"), pid.to_string());
        let card = format!("02:00:0a:53:00:{number:02x}");
        let bridge = format!(
            "ip link add {link} type veth peer name eth0 address {card} netns {pid} && \
             ip link set {link} master br0 up"
        );
        self.run(&self.holder.pid().to_string(), &bridge);
        let host = format!(
            "ip link set lo up && ip addr add 10.83.0.{number}/24 dev eth0 && \
             ip link set eth0 up"
        );
        self.run(&pid, &host);
    }

    fn run(&self, pid: &str, script: &str) {
        let mut command = Command::new("nsenter");
        command.args(self.enters).args([PRESERVE, "--target", pid]);
        let output = command.args(["sh", "-c", script]).output();
        let output = output.expect("nsenter to be started");
        assert!(output.status.success(), "{script}: {output:?}");
    }

    /// Ends it; the processes in it must have ended.
    pub fn end(self) {
        drop(self.holder.take_stdin());
        assert!(self.holder.wait(SOON).success());
    }
}

fn can_be_made(makes: &str) -> bool {
    let script = format!("{BRIDGE} && ip link add type veth && exec nsenter --version");
    let output = Command::new("unshare")
        .args([makes, "sh", "-c", &script])
        .output();
    output.is_ok_and(|output| output.status.success())
}
