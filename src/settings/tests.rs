//! Settings from texts: which source wins, what is refused, and what a builder gets.

use super::*;
use crate::core::{config::CommChannel, confinement::Confinement, wire::CommWords};
use std::{collections::BTreeSet, time::Duration};

fn read(text: &str) -> Result<Settings, String> {
    let mut settings = Settings::new();
    let read = settings.read_text("x.toml", text);
    read.map(|()| settings).map_err(|error| error.to_string())
}

#[track_caller]
fn refused(text: &str) -> String {
    read(text).expect_err("a refusal")
}

fn environment(settings: &mut Settings, variables: &[(&str, &str)]) -> Result<(), SettingsError> {
    let variables = variables.iter();
    settings.read_environment(variables.map(|(name, value)| (name.into(), value.into())))
}

#[test]
fn nothing_that_is_read_leaves_the_defaults() {
    let settings = Settings::new();
    assert_eq!(settings.config(), Config::default());
    assert_eq!(settings.confinement(), Confinement::new());
    assert!(settings.listen().is_empty() && settings.program().is_empty());
    assert_eq!((settings.backlog(), settings.max_requests()), (1024, 25));
    assert_eq!(settings.deadline(), None);
}

/// Flags, variables and keys of a file are one name space.
#[test]
fn no_two_keys_have_one_name() {
    let keys = Settings::keys();
    let names: BTreeSet<_> = keys.iter().map(|key| key.name).collect();
    assert_eq!(names.len(), keys.len());
    assert!(
        Config::attributes()
            .iter()
            .all(|attribute| names.contains(attribute.name))
    );
}

/// The default that a key documents is its value when it was not set.
#[test]
fn each_default_is_one_of_the_values() {
    for key in Settings::keys() {
        let (mut values, unset) = (Values::default(), format!("{:?}", Values::default()));
        let texts = key.default_texts();
        if !texts.is_empty() {
            assert_eq!(key.apply(&mut values, &texts), Ok(()), "{}", key.name);
        }
        assert_eq!(format!("{values:?}"), unset, "{}", key.name);
    }
}

#[test]
fn a_file_sets_everything() {
    let settings = read(
        r#"
        listen = [":8080", { address = "/run/x.sock", mode = "600", name = "x" }]
        program = ["./worker.py", "--fast"]
        protocol = "einhorn"
        stop_signal = "TERM"
        deadline = "5m"
        max_requests = 0
        max_clients = 0x20
        timeout = "1m 30s"
        comm_channel = "private"
        comm_words = "poe"
        coalesce_words = false

        [confinement]
        user = "nobody"
        umask = 0o27
        nice = -5
        capabilities = ["net_raw"]
        limit_open_files = "64:128"
        limit_address_space = "1GiB"
        limit_cpu_time = "2m"
        no_new_privs = true
        "#,
    );
    let settings = settings.expect("settings");
    let config = Config::default()
        .max_clients(32)
        .timeout(Duration::from_secs(90))
        .comm_channel(CommChannel::Private)
        .comm_words(CommWords::POE)
        .coalesce_words(false);
    assert_eq!(settings.config(), config);
    assert_eq!(
        settings.confinement().to_string(),
        "limit of address space 1073741824:1073741824, limit of CPU time 120:120, \
         limit of open files 64:128, nice -5, umask 027, supplementary groups none, \
         group of nobody, capability bounding set net_raw, user nobody, no_new_privs"
    );
    assert_eq!(settings.listen().len(), 2);
    assert_eq!(settings.program(), ["./worker.py", "--fast"]);
    assert_eq!(settings.deadline(), Some(Duration::from_secs(300)));
    assert_eq!(settings.max_requests(), 0);
    let server = format!("{:?}", settings.exec_server("p", ["a"]));
    for part in [
        "einhorn: true",
        "server_starter: false",
        "Terminate",
        "\"p\"",
        "[\"a\"]",
    ] {
        assert!(server.contains(part), "no {part} in {server}");
    }
}

/// A flag is stronger than the environment, and that than a file, whatever is read first.
#[test]
fn the_stronger_source_wins_in_every_order() {
    let file = |settings: &mut Settings| settings.read_text("x.toml", "max_clients = 10");
    let variable =
        |settings: &mut Settings| environment(settings, &[("PREFORK_MAX_CLIENTS", "20")]);
    let flag = |settings: &mut Settings| settings.set_flag("max_clients", ["30"]);
    type Read<'a> = &'a dyn Fn(&mut Settings) -> Result<(), SettingsError>;
    let value = |reads: &[Read<'_>]| {
        let mut settings = Settings::new();
        reads
            .iter()
            .for_each(|read| read(&mut settings).expect("settings"));
        let source = settings.entry("max_clients").expect("a key").source();
        (settings.config().max_clients, source.to_string())
    };
    let by = |clients, source: &str| (clients, source.to_owned());
    assert_eq!(value(&[&file]), by(10, "x.toml:1"));
    for reads in [[&file as Read<'_>, &variable], [&variable, &file]] {
        assert_eq!(value(&reads), by(20, "PREFORK_MAX_CLIENTS"));
    }
    for reads in [
        [&file as Read<'_>, &variable, &flag],
        [&flag, &variable, &file],
        [&variable, &flag, &file],
    ] {
        assert_eq!(value(&reads), by(30, "--max-clients"));
    }
}

/// What the program has set itself stays, like what is read at the start only.
#[test]
fn a_reload_changes_what_has_changed_and_may() {
    let older = read("max_clients = 10\nhandle_signals = true\ntimeout = \"1s\"").expect("them");
    let newer = read("max_clients = 20\nhandle_signals = false\ntimeout = \"1s\"").expect("them");
    let running = older.config().timeout(Duration::from_secs(7));
    let mut config = running.clone();
    newer.apply_changes(&older, &mut config);
    assert_eq!(config, running.clone().max_clients(20));
    // A key that the file has no longer has its default again.
    let empty = Settings::new();
    empty.apply_changes(&newer, &mut config);
    let default = Config::default();
    assert_eq!(config.max_clients, default.max_clients);
    assert_eq!(config.timeout, default.timeout);
}

/// A stronger source takes back what a weaker one has asked for.
#[test]
fn a_step_of_the_confinement_is_taken_back() {
    let mut settings = read("[confinement]\nno_new_privs = true\nuser = \"nobody\"").expect("them");
    settings
        .set_flag("no_new_privs", ["false"])
        .expect("a flag");
    environment(&mut settings, &[("PREFORK_USER", "none")]).expect("a variable");
    assert_eq!(settings.confinement(), Confinement::new());
}

#[test]
fn a_program_may_have_any_word_as_an_argument() {
    let settings = read("program = ['./worker', '--log', 'none']").expect("a program");
    assert_eq!(settings.program(), ["./worker", "--log", "none"]);
    assert!(refused("allow = ['none', '10.0.0.0/8']").contains("none is the whole list"));
    let mut settings = settings;
    settings.set_flag("program", ["none"]).expect("a flag");
    assert!(settings.program().is_empty());
    assert!(settings.entry("program").expect("it").texts().is_empty());
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest() {
    assert_eq!(
        refused("timeout = \"1s\"\n\nmax_client = 3\n"),
        "x.toml:3: there is no key max_client; the nearest is max_clients"
    );
    assert_eq!(
        refused("[confinement]\nusr = \"x\"\n"),
        "x.toml:2: there is no key confinement.usr; the nearest is confinement.user"
    );
    // A key of a section does not stand at the top.
    assert!(refused("user = \"x\"").ends_with("the nearest is confinement.user"));
}

#[test]
fn all_that_is_wrong_in_a_file_is_told_at_once() {
    assert_eq!(
        refused("max_clients = \"many\"\ntimeout = 30\n[confinement]\nnice = 99"),
        "x.toml:1: max_clients: \"many\" is not a whole number from 0 on\n\
         x.toml:2: timeout: \"30\" is not a time: it has no unit; write \"30s\"\n\
         x.toml:4: nice: 99 is not between -20 and 19"
    );
}

#[test]
fn what_is_no_value_is_refused() {
    for (text, reason) in [
        ("max_clients = [1, 2]", "it takes one value, not 2"),
        ("max_clients = 1979-05-27", "a date is no value here"),
        ("max_clients = -1", "not a whole number"),
        ("comm_channel = \"stderr\"", "is none of stdout, private"),
        ("listen = \"8080\"", "write \"127.0.0.1:8080\""),
        ("listen = [{ name = \"x\" }]", "a table needs an `address`"),
        (
            "listen = [\"/run/a,b\"]",
            "A comma of a path is written \\,",
        ),
        (
            "listen = [\"systemd\", \"systemd:web\"]",
            "\"systemd:web\" too",
        ),
        (
            "listen = [{ address = \":80\", nane = \"x\" }]",
            "no option of an address",
        ),
        (
            "protocol = \"inetd\"",
            "is none of systemd, starter, einhorn, stdin",
        ),
        ("[confinement]\numask = \"9\"", "write it in octal digits"),
        (
            "[confinement]\nchroot = \"jail\"",
            "is not an absolute path",
        ),
        (
            "[confinement]\nlimit_open_files = \"9:8\"",
            "a soft limit above the hard one",
        ),
        (
            "[confinement]\nlimit_cpu_time = \"1.5s\"",
            "not a whole number of seconds",
        ),
        ("max_clients 3", "this is not TOML"),
        (
            "max_clients = 3\nmax_clients = 4",
            "x.toml:2: max_clients is there twice",
        ),
    ] {
        let message = refused(text);
        assert!(message.contains(reason), "{text}: {message}");
        assert!(message.starts_with("x.toml:"), "{message}");
    }
}

/// What a table says is what is meant.
#[test]
fn a_comma_in_a_table_is_one_of_its_value() {
    let mut settings = Settings::new();
    let text = r#"listen = [{ address = "/run/a,name=x", mode = "600" }, '/run/b\,c']"#;
    settings.read_text("x.toml", text).expect("settings");
    let listen = format!("{:?}", settings.listen());
    for part in [r#""/run/a,name=x", mode: 384"#, r#""/run/b,c""#] {
        assert!(listen.contains(part), "no {part} in {listen}");
    }
    assert!(!listen.contains("Some"), "a name in {listen}");
}

#[test]
fn variables_that_are_nearly_known_are_refused_and_others_ignored() {
    let mut settings = Settings::new();
    let foreign = [
        ("PATH", "/bin"),
        ("PREFORK_SEND_ACK", "1.5"),
        ("PREFORK_SERVICE_HOST", "10.0.0.1"),
        ("PREFORK_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("PREFORK_LISTEN", "127.0.0.1:80 /run/x.sock"),
    ];
    environment(&mut settings, &foreign).expect("nothing wrong");
    assert_eq!(settings.listen().len(), 2);
    let error = environment(&mut settings, &[("PREFORK_MAX_CLIENT", "1")]);
    assert_eq!(
        error.expect_err("a refusal").to_string(),
        "PREFORK_MAX_CLIENT: no such variable; did you mean PREFORK_MAX_CLIENTS?"
    );
    let error = environment(&mut settings, &[("PREFORK_TIMEOUT", "soon")]);
    let error = error.expect_err("a refusal").to_string();
    assert!(
        error.starts_with("PREFORK_TIMEOUT: \"soon\" is not a time"),
        "{error}"
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Settings::new()
        .read_file("/no/such.toml")
        .expect_err("a refusal");
    assert!(
        error
            .to_string()
            .starts_with("/no/such.toml: cannot read it: "),
        "{error}"
    );
}

#[test]
fn a_flag_that_is_none_is_refused() {
    let error = Settings::new().set_flag("max-clients", ["1"]);
    assert!(error.is_err(), "a key has underscores");
    let error = Settings::new()
        .set_flag("timeout", ["1"])
        .expect_err("a refusal");
    assert!(
        error.to_string().starts_with("--timeout: \"1\" is not"),
        "{error}"
    );
}
