//! A parent of `prefork run` that is killed, with the key `holder`: the programs outlive it.

use super::{prefork, run::has, stop};
use crate::support::{SOON, Scenarios, Signal, World, connect, processes, scenarios, until};

pub const SCENARIOS: Scenarios = scenarios![a_held_parent_that_is_killed_leaves_its_programs];

const PERL: &str = r#"
open my $listener, '+<&=', 3 or die "no socket: $!";
$| = 1;
print "\x06\n\x11\n";
while (accept my $client, $listener) {
    print "\x13\n";
    $client->autoflush(1);
    print $client "$$ $_" while <$client>;
    close $client;
    print "\x11\n";
}
"#;

fn a_held_parent_that_is_killed_leaves_its_programs(world: &mut World) {
    if !has("perl") {
        return;
    }
    let command = ["run", "--listen", "127.0.0.1:0", "--holder", "--", "perl"];
    let program = ["-MIO::Handle", "-e", PERL];
    let server = prefork(world, &[&command[..], &program].concat()).spawn();
    let parent = || {
        let below = processes::children(server.pid()).into_iter();
        let mut parents = below.filter(|it| it.is_alive() && it.name == "prefork");
        parents.next().map(|process| process.pid)
    };
    let mut client = connect(&server.address());
    let answer = client.ask("one");
    for _ in 0..3 {
        let killed = until("a parent", SOON, parent);
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(killed.cast_signed()),
            Signal::SIGKILL,
        )
        .expect("a signal");
        until("another parent", SOON, || {
            parent().filter(|pid| *pid != killed)
        });
        assert_eq!(client.ask("one"), answer, "the same program");
    }
    drop(client);
    stop(&server);
}
