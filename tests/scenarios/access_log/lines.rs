//! The lines of a log, taken apart, and the conversations that cause them.

use super::*;

pub(super) fn log_file(world: &World) -> (PathBuf, String) {
    let path = world.tempdir().join("access.log");
    let name = path.to_str().expect("a path in UTF-8").to_owned();
    (path, name)
}

pub(super) fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    assert!(
        text.is_empty() || text.ends_with('\n'),
        "an unfinished line"
    );
    text.lines().map(str::to_owned).collect()
}

/// A value in a line of JSON. Every line has all of them, in order and once.
#[track_caller]
pub(super) fn field<'a>(line: &'a str, name: &str) -> &'a str {
    const NAMES: [&str; 11] = [
        "time", "peer", "user", "queued", "took", "received", "sent", "outcome", "text", "pid",
        "number",
    ];
    assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
    let mut rest = line;
    for name in NAMES {
        let found = rest.split_once(&format!("\"{name}\":"));
        rest = found.unwrap_or_else(|| panic!("no {name} in {line}")).1;
    }
    assert!(!rest.contains('{'), "two lines in one: {line}");
    let (_, value) = line.split_once(&format!("\"{name}\":")).expect("a field");
    value.split([',', '}']).next().expect("a value")
}

#[track_caller]
pub(super) fn sum(lines: &[String], name: &str) -> u64 {
    let values = lines.iter().map(|line| field(line, name));
    values
        .map(|value| value.parse::<u64>().expect("a number"))
        .sum()
}

#[track_caller]
pub(super) fn expect_lines(path: &Path, count: usize) -> Vec<String> {
    let what = format!("{count} lines in {}", path.display());
    until(&what, SOON, || {
        Some(lines(path)).filter(|lines| lines.len() == count)
    })
}

#[track_caller]
pub(super) fn stop(server: &Server) {
    assert_eq!(server.stop(Signal::SIGTERM, SOON).code(), Some(0));
}

/// A connection that says some lines and is ended by the client. How many bytes went each way.
pub(super) fn converse(address: &Address, said: &[&str]) -> io::Result<u64> {
    let mut client = try_connect(address)?;
    let mut bytes = 0;
    for line in said {
        client.try_send_line(line)?;
        match client.try_read_line()? {
            Some(answer) if answer == *line => bytes += line.len() as u64 + 1,
            _ => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
    client.close_write();
    match client.try_read_line()? {
        None => Ok(bytes),
        Some(more) => panic!("more came: {more}"),
    }
}
