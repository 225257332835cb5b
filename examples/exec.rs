//! Any program as a child: the one after `--`, by default an echo server in Perl. The program finds
//! the listening socket at descriptor 3, as under systemd.
//!
//! cargo run --release --example exec
//! cargo run --release --example exec -- --timeout 2 -- python3 examples/languages/prefork.py

mod common;

use common::{Flags, Result, Usage};
use prefork_server::{CommWords, ExecServer, servers::Listen};
use std::{ffi::OsString, path::Path, process::ExitCode, time::Duration};

const ABOUT: &str = "Any program as a child: `exec [FLAGS] -- PROGRAM [ARGS]`, by default a line
echo server in Perl (for which --max-requests is; give PROGRAM its own).";
const OWN_FLAGS: &str = "  --path PATH              listen on a UNIX socket there, not on TCP
  --words control|poe      how the program says ACK, BUSY and NOT_BUSY (control)
";

/// How long a child that was told to stop may be stuck.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// Takes the program and its arguments from the end of the command line.
fn take_program(args: &mut Vec<OsString>) -> Option<Vec<OsString>> {
    let at = args.iter().position(|arg| arg == "--")?;
    let program = args.split_off(at).split_off(1);
    (!program.is_empty()).then_some(program)
}

/// Takes `--words` and its value.
fn take_words(args: &mut Vec<OsString>) -> Result<&'static str> {
    let Some(at) = args.iter().position(|arg| arg == "--words") else {
        return Ok("control");
    };
    args.remove(at);
    match (at < args.len()).then(|| args.remove(at)) {
        Some(words) if words == "control" => Ok("control"),
        Some(words) if words == "poe" => Ok("poe"),
        _ => Err(std::io::Error::other("--words takes control or poe").into()),
    }
}

/// The Perl child with its arguments.
fn perl(flags: &Flags, words: &str) -> Vec<OsString> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/languages/Prefork.pm");
    let max_requests = flags.max_requests.to_string();
    let grace = KILL_TIMEOUT.as_secs().to_string();
    let options = [
        "--max-requests",
        &max_requests,
        "--words",
        words,
        "--grace",
        &grace,
    ];
    let command = [OsString::from("perl"), script.into()];
    command
        .into_iter()
        .chain(options.map(OsString::from))
        .collect()
}

fn main() -> ExitCode {
    common::ended(try_main())
}

fn try_main() -> Result {
    common::init_log();
    let mut args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let program = take_program(&mut args);
    let words = take_words(&mut args)?;
    let flags = Flags::parse_from(
        &Usage {
            takes_path: true,
            own_flags: OWN_FLAGS,
            ..Usage::new(ABOUT, 7777)
        },
        args,
    )?;
    let mut command = program.unwrap_or_else(|| perl(&flags, words)).into_iter();
    let server = ExecServer::new(command.next().unwrap_or_default()).args(command);
    let server = match &flags.path {
        Some(path) => server.listen(Listen::unix(path)),
        None => server.listen(Listen::tcp(format!("{}:{}", flags.address, flags.port))),
    };
    let comm_words = match words {
        "poe" => CommWords::POE,
        _ => CommWords::CONTROL,
    };
    let prefork = flags
        .builder(server)
        .comm_words(comm_words)
        .kill_timeout(KILL_TIMEOUT)
        .start()?;
    let (listening, hint) = match &flags.path {
        Some(path) => (
            vec![path.display().to_string()],
            format!("nc -U {}", path.display()),
        ),
        None => {
            let addresses = prefork.server().local_addrs();
            let first = addresses
                .first()
                .ok_or_else(|| std::io::Error::other("no address"))?;
            let hint = format!("nc {} {}", first.ip(), first.port());
            (addresses.iter().map(ToString::to_string).collect(), hint)
        }
    };
    common::run(prefork, &listening, &format!("try: {hint}, and say spin"))
}
