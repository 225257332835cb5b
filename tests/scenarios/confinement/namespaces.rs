//! Confinement in a user namespace, in which a parent without privileges is root.

use super::*;

pub const SCENARIOS: Scenarios = scenarios![
    l01_children_are_confined_in_a_user_namespace,
    l03_without_other_users_in_the_namespace_a_user_is_an_error_of_the_start,
];

/// Whether this user may have one; says why a scenario is skipped where not.
pub(super) fn has_user_namespaces() -> bool {
    let attempt = Command::new("unshare").args(["-Ur", "true"]).output();
    let has = attempt.is_ok_and(|output| output.status.success());
    if !has {
        eprintln!("skipped: this machine lets nobody have a user namespace");
    }
    has
}

/// The first of the ids outside that stand for those from 1 on in the namespace.
const FIRST_ID: u32 = 100_000;
const IDS: u32 = 65_535;

/// Maps root of the namespace of `pid` to the user of this process, and all others to a range: root
/// may write the maps, for others newuidmap does so where it is installed and /etc/subuid allows it.
fn map_ids(pid: u32) -> io::Result<()> {
    let own = [Uid::effective().as_raw(), Gid::effective().as_raw()];
    for ((file, tool), own) in [("uid_map", "newuidmap"), ("gid_map", "newgidmap")]
        .into_iter()
        .zip(own)
    {
        if Uid::effective().is_root() {
            let map = format!("0 {own} 1\n1 {FIRST_ID} {IDS}\n");
            fs::write(format!("/proc/{pid}/{file}"), map)?;
            continue;
        }
        let (own, first, count) = (own.to_string(), FIRST_ID.to_string(), IDS.to_string());
        let map = [&pid.to_string(), "0", &own, "1", "1", &first, &count];
        if !Command::new(tool).args(map).output()?.status.success() {
            return Err(io::Error::other(format!("{tool} refuses")));
        }
    }
    Ok(())
}

/// Starts a program as root of a user namespace that has other users; `None`, with a message, where
/// that cannot be had.
fn spawn_in_namespace(world: &mut World, program: &str, flags: &[&str]) -> Option<Server> {
    if !has_user_namespaces() {
        return None;
    }
    let own = std::env::current_exe().unwrap();
    // It waits until the maps are written.
    let wait = r#"read -r line && exec "$@""#;
    let launch = world
        .command("unshare")
        .args(&["-U", "sh", "-c", wait, "sh"]);
    let launch = launch.arg(own).args(&["--program", program]).args(flags);
    let server = launch.stdin(Stdio::piped()).spawn();
    let mut stdin = server.take_stdin().expect("a stdin");
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/user")).ok();
    let pid = server.pid();
    until("a namespace", SOON, || {
        (namespace(&pid.to_string())? != namespace("self")?).then_some(())
    });
    if let Err(error) = map_ids(pid) {
        eprintln!("skipped: a namespace can have no other users: {error}");
        drop(stdin);
        server.wait(SOON);
        return None;
    }
    writeln!(stdin, "mapped").expect("a program that waits");
    Some(server)
}

/// A parent that is root of its user namespace alone, as in a container without privileges, confines
/// its children like any other.
fn l01_children_are_confined_in_a_user_namespace(world: &mut World) {
    let jail = jail(world);
    let Some(server) = spawn_in_namespace(world, "confined", &everything(&jail)) else {
        return;
    };
    // As they are seen from outside.
    let id = |inside: u32| (FIRST_ID + inside - 1).to_string();
    let groups = [id(12), id(34)].join(" ");
    expect_everything(&server, &jail, &id(65534), &groups);
    ends_well(&server);
}

/// With one user in the namespace there is no other one for the children, and setgroups(2) is denied:
/// the start fails, and no child serves as root.
fn l03_without_other_users_in_the_namespace_a_user_is_an_error_of_the_start(world: &mut World) {
    if !has_user_namespaces() {
        return;
    }
    let own = std::env::current_exe().unwrap();
    let launch = world.command("unshare").arg("-Ur").arg(own);
    let launch = launch.args(&["--program", "confined", "--user", NOBODY]);
    let server = launch.spawn();
    assert_eq!(server.wait(SOON).code(), Some(1));
    // A parent that has no supplementary groups need not give them up.
    let expected = [
        "error: confine supplementary groups none: operation not permitted (os error 1)\n",
        "error: confine group of 65534: invalid argument (os error 22)\n",
    ];
    assert!(expected.contains(&&*server.stderr()), "{}", server.stderr());
    assert_eq!(server.stdout(), "");
}
