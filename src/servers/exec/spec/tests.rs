//! The environment and the files of a program, without running it.

use super::*;

fn socket(place: &str, name: &str) -> Socket {
    Socket {
        place: place.into(),
        name: name.to_owned(),
    }
}

fn variables(spec: &ExecSpec, inherited: &[&str], sockets: &[Socket]) -> Vec<String> {
    let launch = LaunchValues {
        pid: 42,
        sockets,
        send_ack: None,
    };
    let inherited = inherited.iter().map(|assignment| {
        let (name, value) = assignment.split_once('=').expect("an assignment");
        (name.into(), value.into())
    });
    let image = spec.image(inherited, launch).expect("an image");
    image
        .envp
        .iter()
        .map(|text| text.to_string_lossy().into_owned())
        .collect()
}

#[test]
fn the_environment_is_the_parents_without_stale_descriptors_and_with_ours() {
    let spec = ExecSpec::new("p".into());
    let inherited = [
        "EINHORN_FD_7=9",
        "HOME=/h",
        "LISTEN_ADDRESS=mine",
        "LISTEN_FDNAMES=x",
        "LISTEN_FDS=4",
        "LISTEN_PID=1",
        "LISTEN_PIDFDID=5",
        "NOTIFY_SOCKET=/run/systemd/notify",
        "SERVER_STARTER_GENERATION=2",
        "SERVER_STARTER_PORT=80=7",
        "WATCHDOG_PID=1",
        "WATCHDOG_USEC=3000000",
    ];
    assert_eq!(
        variables(&spec, &inherited, &[]),
        ["HOME=/h", "LISTEN_ADDRESS=mine"]
    );
    let sockets = [socket("127.0.0.1:80", "http"), socket("/run/x", "control")];
    assert_eq!(
        variables(&spec, &inherited, &sockets),
        [
            "HOME=/h",
            "LISTEN_ADDRESS=mine",
            "LISTEN_FDNAMES=http:control",
            "LISTEN_FDS=2",
            "LISTEN_PID=42",
        ]
    );
}

#[test]
fn the_users_changes_come_before_ours() {
    let mut spec = ExecSpec::new("p".into());
    spec.changes.insert("A".into(), Some("1".into()));
    spec.changes.insert("HOME".into(), None);
    spec.changes.insert("LISTEN_FDS".into(), Some("9".into()));
    let environment = variables(&spec, &["HOME=/h", "B=2"], &[socket("h:1", "n")]);
    assert_eq!(
        environment,
        [
            "A=1",
            "B=2",
            "LISTEN_FDNAMES=n",
            "LISTEN_FDS=1",
            "LISTEN_PID=42"
        ]
    );
    spec.clear = true;
    assert_eq!(variables(&spec, &["B=2"], &[]), ["A=1", "LISTEN_FDS=9"]);
}

#[test]
fn the_other_two_ways_are_spoken_when_asked_for() {
    let mut spec = ExecSpec::new("p".into());
    spec.server_starter = true;
    spec.einhorn = true;
    let sockets = [socket("[::1]:80", "a"), socket("/run/x", "b")];
    assert_eq!(
        variables(&spec, &[], &sockets),
        [
            "EINHORN_FD_0=3",
            "EINHORN_FD_1=4",
            "EINHORN_FD_COUNT=2",
            "LISTEN_FDNAMES=a:b",
            "LISTEN_FDS=2",
            "LISTEN_PID=42",
            "SERVER_STARTER_PORT=[::1]:80=3;/run/x=4",
        ]
    );
}

#[test]
fn the_interval_of_acks_is_in_seconds() {
    let spec = ExecSpec::new("p".into());
    for (interval, text) in [(1500, "1.5"), (2000, "2"), (33, "0.033")] {
        let launch = LaunchValues {
            pid: 1,
            sockets: &[],
            send_ack: Some(Duration::from_millis(interval)),
        };
        let image = spec.image([], launch).expect("an image");
        let expected = CString::new(format!("PREFORK_SEND_ACK={text}")).expect("no zero byte");
        assert_eq!(image.envp, [expected]);
    }
}

#[test]
fn a_bare_name_is_looked_for_in_the_path_that_the_program_gets() {
    let mut spec = ExecSpec::new("perl".into());
    let files = |spec: &ExecSpec, inherited: Option<&str>| {
        let launch = LaunchValues {
            pid: 1,
            sockets: &[],
            send_ack: None,
        };
        let inherited = inherited.map(|path| ("PATH".into(), path.into()));
        let image = spec.image(inherited, launch).expect("an image");
        image
            .files
            .iter()
            .map(|file| file.to_string_lossy().into_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        files(&spec, Some("/a::/b")),
        ["/a/perl", "./perl", "/b/perl"]
    );
    let path = Some("/c".into());
    spec.changes.insert("PATH".into(), path);
    assert_eq!(files(&spec, Some("/a")), ["/c/perl"]);
    spec.program = "bin/perl".into();
    assert_eq!(files(&spec, Some("/a")), ["bin/perl"]);
}

#[test]
fn what_cannot_be_handed_over_is_refused() {
    let refused = |change: &dyn Fn(&mut ExecSpec), place: &str| {
        let mut spec = ExecSpec::new("p".into());
        change(&mut spec);
        let launch = LaunchValues {
            pid: 1,
            sockets: &[socket(place, "n")],
            send_ack: None,
        };
        let error = spec.image([], launch).expect_err("a refusal");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        error.to_string()
    };
    let env = |name: &'static str, value: &'static str| {
        move |spec: &mut ExecSpec| drop(spec.changes.insert(name.into(), Some(value.into())))
    };
    assert!(refused(&|spec| spec.program = "a\0b".into(), "h:1").contains("zero byte"));
    assert!(refused(&|spec| spec.args.push("\0".into()), "h:1").contains("zero byte"));
    assert!(refused(&env("A", "\0"), "h:1").contains("zero byte"));
    assert!(refused(&env("A=B", "1"), "h:1").contains("name of a variable"));
    assert!(refused(&env("", "1"), "h:1").contains("name of a variable"));
    let starter = |spec: &mut ExecSpec| spec.server_starter = true;
    assert!(refused(&starter, "/run/a=b").contains("SERVER_STARTER_PORT"));
    assert!(refused(&starter, "/run/a;b").contains("SERVER_STARTER_PORT"));
}
