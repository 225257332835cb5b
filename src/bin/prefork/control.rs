//! `prefork reload`, `upgrade`, `stop`, `drain`, `ready`, `retire`, `stack`, `set` and `get`: gives a
//! command to a running server over its control socket, and prints the answer when the command is
//! done. Starts no server.

use crate::{args::ControlArgs, exit::CliError, flags};
use serde_json::Value;
use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

pub(crate) fn reload(to: &ControlArgs) -> Result<(), CliError> {
    send(to, "reload", |answer| {
        let (replaced, took) = (number(answer, "replaced"), seconds(answer, "took"));
        vec![format!("reloaded: {replaced} children replaced in {took}")]
    })
}

/// A path is one of this directory, and not of the server's.
pub(crate) fn upgrade(to: &ControlArgs, program: Option<&Path>) -> Result<(), CliError> {
    let line = match program {
        Some(program) => format!("upgrade {}", full_path(program)?),
        None => "upgrade".to_owned(),
    };
    send(to, &line, |answer| {
        let blind = answer.get("blind").and_then(Value::as_f64).unwrap_or(0.0);
        let took = seconds(answer, "took");
        vec![format!(
            "upgraded in {took}; nobody watched the children for {:.1} ms",
            blind * 1e3
        )]
    })
}

fn full_path(path: &Path) -> Result<String, CliError> {
    let full = std::path::absolute(path);
    let full = full.map_err(|error| CliError::usage(&format!("{}: {error}", path.display())))?;
    let text = full.into_os_string().into_string();
    text.map_err(|_| CliError::usage("the path is not UTF-8"))
}

pub(crate) fn stop(to: &ControlArgs, how: Option<&str>) -> Result<(), CliError> {
    let line = how.map_or("stop".to_owned(), |how| format!("stop {how}"));
    send(to, &line, |answer| {
        let (deaths, took) = (number(answer, "deaths"), seconds(answer, "took"));
        let lost = number(answer, "lost_connections");
        vec![format!(
            "stopped in {took}; in its life {deaths} children have ended and {lost} connections \
             were lost"
        )]
    })
}

pub(crate) fn drain(to: &ControlArgs) -> Result<(), CliError> {
    let line = "drained: /ready says 503, and the agent-check drain; who comes is served";
    send(to, "drain", |_| vec![line.to_owned()])
}

pub(crate) fn ready(to: &ControlArgs) -> Result<(), CliError> {
    send(to, "ready", |_| vec!["ready: no longer drained".to_owned()])
}

pub(crate) fn retire(to: &ControlArgs, pid: u32) -> Result<(), CliError> {
    send(to, &format!("retire {pid}"), |answer| {
        vec![retired(answer, pid)]
    })
}

pub(crate) fn stack(to: &ControlArgs, pid: u32) -> Result<(), CliError> {
    send(to, &format!("stack {pid}"), |answer| {
        stack_lines(answer, pid)
    })
}

/// Where a child is, in a sentence, and its calls, the innermost first.
fn stack_lines(answer: &Value, pid: u32) -> Vec<String> {
    let known = |field| answer.get(field).and_then(Value::as_str);
    let first = match (known("in"), known("kernel")) {
        (Some(function), _) => format!("child {pid} is in {function}"),
        (None, Some(place)) => format!("child {pid} is {place}"),
        (None, None) => format!("child {pid}"),
    };
    let kernel = known("in").and(known("kernel"));
    let kernel = kernel.map(|place| format!("kernel: {place}"));
    let missing = known("no_stack").map(|why| format!("no stack: {why}"));
    let calls = answer.get("stack").and_then(Value::as_array);
    let calls = calls.into_iter().flatten().filter_map(Value::as_str);
    let calls = calls.map(|call| format!("  at {call}"));
    let told = [Some(first), kernel, missing].into_iter().flatten();
    told.chain(calls).collect()
}

pub(crate) fn set(to: &ControlArgs, name: &str, value: &str) -> Result<(), CliError> {
    send(to, &format!("set {name} {value}"), set_lines)
}

pub(crate) fn get(to: &ControlArgs, name: Option<&str>) -> Result<(), CliError> {
    let line = name.map_or("get".to_owned(), |name| format!("get {name}"));
    send(to, &line, get_lines)
}

fn set_lines(answer: &Value) -> Vec<String> {
    let [name, old, new] = ["name", "old", "new"].map(|field| text(answer, field));
    let effect = text(answer, "takes_effect");
    let mut lines = vec![format!("{name} is {new}, was {old}; takes effect {effect}")];
    if let Some(asked) = answer.get("asked").and_then(Value::as_str) {
        let why = text(answer, "normalised");
        lines.push(format!("{asked} makes no sense: {why}"));
    }
    let also = answer.get("also").and_then(Value::as_object);
    for (name, value) in also.into_iter().flatten() {
        let value = value.as_str().unwrap_or("?");
        lines.push(format!("{name} is {value} because of that"));
    }
    lines
}

fn get_lines(answer: &Value) -> Vec<String> {
    let Some(all) = answer.get("attributes").and_then(Value::as_object) else {
        let fields = ["name", "value", "default", "unit", "takes_effect"];
        let [name, value, default, unit, effect] = fields.map(|field| text(answer, field));
        let line = format!("{name} is {value} (default {default}, {unit}); takes effect {effect}");
        return vec![line];
    };
    let width = all.keys().map(String::len).max().unwrap_or(0);
    let line = |(name, value): (&String, &Value)| {
        let value = value.as_str().unwrap_or("?");
        format!("{name:width$}  {value}")
    };
    all.iter().map(line).collect()
}

/// Gives a command, waits for the answer, and prints it: as it is, or as these lines.
fn send(
    to: &ControlArgs,
    command: &str,
    lines: impl FnOnce(&Value) -> Vec<String>,
) -> Result<(), CliError> {
    let path = path(to.control.as_ref(), to.config.as_deref())?;
    let missing = "no control socket: add --control PATH, or --config FILE with the key `control`";
    let path = path.ok_or_else(|| CliError::usage(missing))?;
    let answer = ask(&path, command, to.wait)?;
    let value: Value = serde_json::from_str(&answer)
        .map_err(|error| CliError::no_answer(&format!("it is no JSON: {error}")))?;
    if to.json {
        writeln!(io::stdout(), "{}", answer.trim_end())?;
    }
    if !is_ok(&value) {
        let message = text(&value, "error");
        return Err(CliError::answered(text(&value, "code"), message));
    }
    if !to.json {
        for line in lines(&value) {
            writeln!(io::stdout(), "{line}")?;
        }
    }
    Ok(())
}

/// Retires a child, and says in a sentence what came of it.
pub(crate) fn retire_at(path: &Path, pid: u32) -> String {
    let answer = answer_at(path, &format!("retire {pid}"));
    answer.map_or_else(|reason| reason, |answer| retired(&answer, pid))
}

/// Where a child is, as `prefork stack` prints it; or why that is not known.
pub(crate) fn stack_at(path: &Path, pid: u32) -> Result<Vec<String>, String> {
    let answer = answer_at(path, &format!("stack {pid}"))?;
    Ok(stack_lines(&answer, pid))
}

/// The answer to a command that was done, or the reason in words.
fn answer_at(path: &Path, command: &str) -> Result<Value, String> {
    let answer = ask(path, command, None).map_err(|failure| failure.message().to_owned())?;
    let answer: Value = serde_json::from_str(&answer).map_err(|error| error.to_string())?;
    match is_ok(&answer) {
        true => Ok(answer),
        false => Err(text(&answer, "error").to_owned()),
    }
}

fn retired(answer: &Value, pid: u32) -> String {
    let cause = text(answer, "cause");
    let successor = answer.get("successor").and_then(Value::as_u64);
    match successor {
        Some(successor) => {
            format!("child {pid} has ended ({cause}); child {successor} has taken its place")
        }
        None => format!("child {pid} has ended ({cause})"),
    }
}

/// The line that the server answers.
fn ask(path: &Path, command: &str, wait: Option<Duration>) -> Result<String, CliError> {
    if command.contains('\n') {
        return Err(CliError::usage("a command is one line"));
    }
    let mut stream =
        UnixStream::connect(path).map_err(|error| CliError::no_server(path, &error))?;
    let broken = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => CliError::no_answer_yet(),
        _ => CliError::no_answer(&error.to_string()),
    };
    stream.set_read_timeout(wait).map_err(broken)?;
    // A server that refuses a client answers without having read the command.
    let sent = stream.write_all(format!("{command}\n").as_bytes());
    let mut answer = String::new();
    match BufReader::new(stream).read_line(&mut answer) {
        Ok(0) => Err(CliError::no_answer("it has closed the connection")),
        Ok(_) => Ok(answer),
        Err(error) => Err(broken(sent.err().unwrap_or(error))),
    }
}

/// The control socket that is named by a flag, a variable or a file.
pub(crate) fn path(
    flag: Option<&PathBuf>,
    config: Option<&Path>,
) -> Result<Option<PathBuf>, CliError> {
    match flag {
        Some(path) => Ok(Some(path.clone())),
        None => Ok(flags::without_flags(config)?.control()),
    }
}

fn is_ok(answer: &Value) -> bool {
    answer.get("ok") == Some(&Value::Bool(true))
}

fn text<'a>(answer: &'a Value, field: &str) -> &'a str {
    answer.get(field).and_then(Value::as_str).unwrap_or("?")
}

fn number(answer: &Value, field: &str) -> u64 {
    answer.get(field).and_then(Value::as_u64).unwrap_or(0)
}

fn seconds(answer: &Value, field: &str) -> String {
    let seconds = answer.get(field).and_then(Value::as_f64).unwrap_or(0.0);
    format!("{seconds:.1} s")
}
