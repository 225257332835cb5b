//! The files of `docs/deploy/container`: what they name exists, and what they promise is in them.
//! Builds no image.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The instructions of a Dockerfile: each keyword with its arguments, continued lines joined.
fn instructions(text: &str) -> Vec<(String, String)> {
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let split = |line: &str| {
        let (keyword, rest) = line.split_once(char::is_whitespace).expect("arguments");
        (keyword.to_owned(), rest.trim().to_owned())
    };
    lines.map(split).collect()
}

fn of<'a>(instructions: &'a [(String, String)], keyword: &str) -> Vec<&'a str> {
    let found = instructions.iter().filter(|(found, _)| found == keyword);
    found.map(|(_, rest)| &**rest).collect()
}

/// The words of an exec form, `["a", "b"]`.
fn words(exec_form: &str) -> Vec<&str> {
    let inner = exec_form
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let inner = inner.unwrap_or_else(|| panic!("no exec form: {exec_form}"));
    inner.split('"').skip(1).step_by(2).collect()
}

fn dockerfile() -> Vec<(String, String)> {
    instructions(&read(&root().join("docs/deploy/container/Dockerfile")))
}

#[test]
fn the_dockerfile_has_known_instructions_in_two_stages() {
    const KNOWN: [&str; 10] = [
        "FROM",
        "WORKDIR",
        "COPY",
        "RUN",
        "USER",
        "EXPOSE",
        "HEALTHCHECK",
        "STOPSIGNAL",
        "ENTRYPOINT",
        "CMD",
    ];
    let dockerfile = dockerfile();
    for (keyword, rest) in &dockerfile {
        assert!(KNOWN.contains(&&**keyword), "{keyword} {rest}");
    }
    let stages = of(&dockerfile, "FROM");
    assert_eq!(stages.len(), 2);
    let version = read(&root().join("Cargo.toml"));
    let (_, version) = version.split_once("rust-version = \"").expect("a version");
    let (version, _) = version.split_once('"').expect("its end");
    assert!(
        stages[0].starts_with(&format!("rust:{version}-")),
        "{}",
        stages[0]
    );
    assert!(stages[1].contains("slim"), "{}", stages[1]);
}

#[test]
fn the_container_runs_the_example_that_it_builds_as_nobody() {
    let dockerfile = dockerfile();
    let build = of(&dockerfile, "RUN").join(" ");
    let (_, example) = build.split_once("--example ").expect("an example");
    assert!(
        root().join(format!("examples/{example}.rs")).exists(),
        "{example}"
    );
    let copied = of(&dockerfile, "COPY");
    let (from, to) = copied[1].rsplit_once(' ').expect("two paths");
    assert!(
        from.ends_with(&format!("/target/release/examples/{example}")),
        "{from}"
    );
    let entry = words(of(&dockerfile, "ENTRYPOINT")[0]);
    assert_eq!(entry[0], to);
    let flags = read(&root().join("examples/common/mod.rs"));
    for flag in entry.iter().filter(|word| word.starts_with("--")) {
        assert!(flags.contains(&format!("{flag} ")), "{flag}");
    }
    let port = entry.last().expect("a port");
    assert_eq!(of(&dockerfile, "EXPOSE"), [*port]);
    let user = of(&dockerfile, "USER")[0].split(':').map(str::parse::<u32>);
    assert!(user.clone().count() == 2 && user.flatten().all(|id| id > 0));
}

/// `tests/scenarios/containers.rs` runs the command.
#[test]
fn the_health_check_asks_at_the_port_of_the_server() {
    let dockerfile = dockerfile();
    let check = of(&dockerfile, "HEALTHCHECK")[0];
    let (options, command) = check.split_once("CMD ").expect("a command");
    assert!(options.contains("--timeout="), "{options}");
    let port = of(&dockerfile, "EXPOSE")[0];
    assert!(
        command.contains(&format!("/dev/tcp/127.0.0.1/{port}")),
        "{command}"
    );
}

#[test]
fn the_compose_file_names_the_dockerfile_and_waits_for_a_stop() {
    let folder = root().join("docs/deploy/container");
    let text = read(&folder.join("compose.yaml"));
    let value = |key: &str| {
        let line = text
            .lines()
            .find_map(|line| line.trim().strip_prefix(&format!("{key}: ")));
        line.unwrap_or_else(|| panic!("no {key}")).to_owned()
    };
    let context = folder.join(value("context"));
    assert_eq!(
        context.canonicalize().unwrap(),
        root().canonicalize().unwrap()
    );
    assert!(context.join(value("dockerfile")).exists());
    let grace = value("stop_grace_period");
    let seconds: u64 = grace.trim_end_matches('s').parse().expect("seconds");
    let shutdown = prefork_server::Config::default().shutdown_timeout;
    assert!(seconds > shutdown.as_secs());
    assert_eq!(value("init"), "false");
    assert!(!text.contains('\t'));
}
