//! `prefork status` and `prefork top` on real servers, the latter in a real terminal of tmux.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use super::{PREFORK, prefork, tell, text};
use crate::support::{
    SOON, Scenarios, Server, Signal, World, connect, processes, scenarios, until,
};

pub const SCENARIOS: Scenarios = scenarios![
    a_status_is_text_or_json,
    a_status_is_found_by_file_or_variable,
    what_tells_no_status_is_named,
    top_needs_a_terminal,
    top_shows_children_and_retires_them,
    top_gives_the_terminal_back_when_it_is_told_to_end,
    top_goes_on_when_the_server_has_gone,
];

const USAGE: i32 = 64;
const UNAVAILABLE: i32 = 69;

/// A server that `prefork inetd` runs, and where it tells its status and takes commands.
struct Watched {
    server: Server,
    status: PathBuf,
    control: PathBuf,
}

impl Watched {
    fn new(world: &mut World) -> Self {
        let [status, control] = ["status", "control"].map(|name| world.tempdir().join(name));
        let server = prefork(
            world,
            &["inetd", "--listen", "127.0.0.1:0", "--spare", "1..5"],
        )
        .args(&["--start-servers", "3", "--status", text(&status)])
        .args(&["--control", text(&control), "--", "cat"])
        .spawn();
        server.address();
        until("its status", SOON, || status.exists().then_some(()));
        Self {
            server,
            status,
            control,
        }
    }

    /// The children; the status helper is none of them.
    #[track_caller]
    fn pids(&self, world: &mut World) -> Vec<u32> {
        until("three children that are ready", SOON, || {
            let show = tell(
                world,
                &["status", "--json", "--status", text(&self.status)],
                0,
            );
            let slots = show
                .split_once("\"slots\":[")?
                .1
                .split_once("]")?
                .0
                .to_owned();
            let pids: Vec<_> = slots.split("\"pid\":").skip(1).collect();
            let pids = pids
                .iter()
                .filter_map(|rest| rest.split(',').next()?.parse().ok());
            let pids: Vec<u32> = pids.collect();
            let free = show.contains("\"free\":3,");
            (free && pids.len() == 3).then_some(pids)
        })
    }

    #[track_caller]
    fn stop(&self, world: &mut World) {
        tell(world, &["stop", "--control", text(&self.control)], 0);
        assert!(self.server.wait(SOON).success(), "{}", self.server.stderr());
        assert!(!self.status.exists());
    }
}

fn a_status_is_text_or_json(world: &mut World) {
    let watched = Watched::new(world);
    watched.pids(world);
    let mut held = connect(&watched.server.address());
    held.ask("hello");
    let status = text(&watched.status).to_owned();
    let summary = until("a busy child", SOON, || {
        let summary = tell(world, &["status", "--status", &status], 0);
        summary.contains("\nlongest ").then_some(summary)
    });
    let server = format!(
        "server      process {}, serving, ready, up ",
        watched.server.pid()
    );
    assert!(summary.starts_with(&server), "{summary}");
    for part in [
        "\nchildren    1 busy, 2 free; 3 of at most 50, spare 1 to 5\n",
        "\nconnections 1 taken, 0 lost; a second: ",
        "\nlistener    127.0.0.1:",
        ", 0 queued\n",
        " 127.0.0.1:",
    ] {
        assert!(summary.contains(part), "{part}: {summary}");
    }
    let json = tell(world, &["status", "--json", "--status", &status], 0);
    assert!(json.starts_with("{\"version\":1,"), "{json}");
    assert_eq!(json.lines().count(), 1);
    drop(held);
    watched.stop(world);
}

fn a_status_is_found_by_file_or_variable(world: &mut World) {
    let watched = Watched::new(world);
    let file = world.tempdir().join("x.toml");
    fs::write(&file, format!("status = {:?}\n", text(&watched.status))).unwrap();
    let by_file = tell(world, &["status", "--config", text(&file)], 0);
    assert!(by_file.starts_with("server "), "{by_file}");
    let by_variable = prefork(world, &["status"]);
    let by_variable = by_variable.env("PREFORK_STATUS", &watched.status).spawn();
    assert!(by_variable.wait(SOON).success(), "{}", by_variable.stderr());
    let nowhere = tell(world, &["status"], USAGE);
    assert!(nowhere.contains("add --status ADDRESS"), "{nowhere}");
    watched.stop(world);
}

fn what_tells_no_status_is_named(world: &mut World) {
    let missing = tell(world, &["status", "--status", "/no/such"], UNAVAILABLE);
    assert!(missing.starts_with("prefork: /no/such: "), "{missing}");
    assert!(
        missing.contains("is the server running, with this --status?"),
        "{missing}"
    );
    let wrong = tell(world, &["status", "--status", ":9100"], USAGE);
    assert!(wrong.contains("has no host"), "{wrong}");
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port().to_string();
    let serving = thread::spawn(move || {
        for answer in ["220 smtp.example\r\n", "HTTP/1.1 404 Not Found\r\n\r\n"] {
            let (mut client, _) = other.accept().unwrap();
            client.write_all(answer.as_bytes()).unwrap();
            // So that the answer is not lost to a reset.
            let mut request = Vec::new();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            std::io::Read::read_to_end(&mut client, &mut request).unwrap();
        }
    });
    let smtp = tell(world, &["status", "--status", &port], UNAVAILABLE);
    assert!(smtp.contains("it does not answer in HTTP"), "{smtp}");
    let http = tell(world, &["status", "--status", &port], UNAVAILABLE);
    assert!(http.contains("404 Not Found"), "{http}");
    serving.join().unwrap();
}

fn top_needs_a_terminal(world: &mut World) {
    let watched = Watched::new(world);
    let refused = tell(world, &["top", "--status", text(&watched.status)], USAGE);
    assert!(
        refused.contains("top needs a terminal; `prefork status`"),
        "{refused}"
    );
    watched.stop(world);
}

/// What the screen showed last, for whoever waits in vain for something else.
struct LastScreen(String);

impl Drop for LastScreen {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the screen:\n{}", self.0);
        }
    }
}

/// A terminal, in which a script runs `prefork top`.
struct Terminal {
    tmux: Server,
    socket: PathBuf,
    directory: PathBuf,
}

impl Terminal {
    /// `None` where there is no tmux.
    fn open(world: &mut World, watched: &Watched) -> Option<Self> {
        if Command::new("tmux").arg("-V").output().is_err() {
            println!("skipped: there is no tmux here");
            return None;
        }
        let directory = world.tempdir();
        let socket = directory.join("tmux");
        let (status, control) = (text(&watched.status), text(&watched.control));
        let script = format!(
            "cd {directory}\n\
             echo 'before top'\n\
             stty -g >stty-before\n\
             {PREFORK} top --status {status} --control {control}\n\
             echo \"top has ended with $?\"\n\
             stty -g >stty-after\n\
             exec cat\n",
            directory = text(&directory),
        );
        fs::write(directory.join("script"), script).unwrap();
        let tmux = world
            .command("tmux")
            .args(&["-S", text(&socket), "-f", "/dev/null", "-D"])
            .env("LC_ALL", "C.UTF-8")
            .env("TERM", "xterm-256color")
            .spawn();
        until("tmux", SOON, || socket.exists().then_some(()));
        let terminal = Self {
            tmux,
            socket,
            directory,
        };
        let size = ["-x", "100", "-y", "30"];
        let script = format!("sh {}", text(&terminal.directory.join("script")));
        terminal.tell(&[&["new-session", "-d", "-s", "t"], &size[..], &[&script]].concat());
        Some(terminal)
    }

    #[track_caller]
    fn tell(&self, words: &[&str]) -> String {
        let mut command = Command::new("tmux");
        let command = command.arg("-u").arg("-S").arg(&self.socket).args(words);
        let output = command.output().expect("tmux");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn press(&self, key: &str) {
        self.tell(&["send-keys", "-t", "t", key]);
    }

    /// Waits until the screen has all of these texts.
    #[track_caller]
    fn expect(&self, texts: &[&str]) -> String {
        let mut screen = LastScreen(String::new());
        until(&format!("{texts:?} on the screen"), SOON, || {
            screen.0 = self.tell(&["capture-pane", "-p", "-t", "t"]);
            let has_all = texts.iter().all(|text| screen.0.contains(text));
            has_all.then(|| screen.0.clone())
        })
    }

    /// Waits until the frame of the details reaches from edge to edge. A key that arrives together
    /// with a new size may be read with the next key only, so no key is pressed before.
    #[track_caller]
    fn is_as_wide_as(&self, width: usize) {
        until("a frame of that width", SOON, || {
            let screen = self.tell(&["capture-pane", "-p", "-t", "t"]);
            let mut lines = screen.lines();
            let corner = lines.find(|line| line.ends_with('\u{2510}'))?;
            (corner.chars().count() == width).then_some(())
        });
    }

    /// The process `prefork top`.
    #[track_caller]
    fn top(&self) -> u32 {
        until("the process", SOON, || {
            let mut below = processes::descendants(self.tmux.pid()).into_iter();
            below
                .find(|process| process.name == "prefork")
                .map(|process| process.pid)
        })
    }

    /// The terminal is as it was before `top`, which has ended with success.
    #[track_caller]
    fn is_as_before(&self) {
        let screen = self.expect(&["before top", "top has ended with 0"]);
        assert!(
            !screen.contains("PID "),
            "the screen of top is left: {screen}"
        );
        let stty = |name: &str| {
            let path = self.directory.join(name);
            until("the settings", SOON, || {
                fs::read_to_string(&path)
                    .ok()
                    .filter(|text| text.ends_with('\n'))
            })
        };
        assert_eq!(stty("stty-before"), stty("stty-after"));
        let cursor = self.tell(&["display-message", "-p", "-t", "t", "#{cursor_flag}"]);
        assert_eq!(cursor, "1\n", "the cursor is hidden");
    }

    #[track_caller]
    fn close(self) {
        // `cat`, which comes last in the script.
        self.press("C-c");
        until("an empty terminal", SOON, || {
            processes::children(self.tmux.pid())
                .is_empty()
                .then_some(())
        });
        self.tell(&["kill-server"]);
        self.tmux.wait(SOON);
    }
}

fn top_shows_children_and_retires_them(world: &mut World) {
    let watched = Watched::new(world);
    let pids = watched.pids(world);
    let Some(terminal) = Terminal::open(world, &watched) else {
        return watched.stop(world);
    };
    let pids = pids.iter().map(u32::to_string).collect::<Vec<_>>();
    let process = format!("process {}  serving, ready", watched.server.pid());
    terminal.expect(&[&process, &pids[0], &pids[1], &pids[2], "q quit"]);
    // A busy child shows its client, without a key pressed.
    let mut held = connect(&watched.server.address());
    held.ask("hello");
    terminal.expect(&["1 busy 2 free", "busy", "127.0.0.1:"]);
    terminal.press("/");
    terminal.press("busy");
    terminal.press("Enter");
    let only = terminal.expect(&["only \"busy\""]);
    let shown = pids.iter().filter(|pid| only.contains(pid.as_str()));
    let shown: Vec<_> = shown.collect();
    assert_eq!(shown.len(), 1, "{only}");
    terminal.press("Enter");
    terminal.expect(&["details", &format!("child {} #", shown[0]), "1 connections"]);
    // The size changes, and changes back.
    for (width, height) in [("50", "12"), ("120", "40")] {
        terminal.tell(&["resize-window", "-t", "t", "-x", width, "-y", height]);
        terminal.expect(&["process ", "details", "PID"]);
        terminal.is_as_wide_as(width.parse().expect("a number"));
    }
    // The child goes when its client has gone.
    terminal.press("x");
    terminal.expect(&[&format!("retire child {}? y for yes", shown[0])]);
    terminal.press("y");
    terminal.expect(&[&format!("retiring {}", shown[0])]);
    assert_eq!(held.ask("still"), "still");
    drop(held);
    terminal.expect(&[&format!("child {} has ended (Recycled); child ", shown[0])]);
    terminal.press("q");
    terminal.is_as_before();
    terminal.close();
    watched.stop(world);
}

fn top_gives_the_terminal_back_when_it_is_told_to_end(world: &mut World) {
    let watched = Watched::new(world);
    watched.pids(world);
    let Some(terminal) = Terminal::open(world, &watched) else {
        return watched.stop(world);
    };
    terminal.expect(&["process ", "q quit"]);
    let top = nix::unistd::Pid::from_raw(terminal.top().cast_signed());
    nix::sys::signal::kill(top, Signal::SIGTERM).expect("a signal");
    terminal.is_as_before();
    terminal.close();
    watched.stop(world);
}

/// It says so, shows what it knew last, and shows the next server at the same address.
fn top_goes_on_when_the_server_has_gone(world: &mut World) {
    let watched = Watched::new(world);
    watched.pids(world);
    let Some(terminal) = Terminal::open(world, &watched) else {
        return watched.stop(world);
    };
    terminal.expect(&["process ", "serving, ready"]);
    watched.stop(world);
    terminal.expect(&["no answer: "]);
    let next = Watched::new(world);
    let process = format!("process {}  serving, ready", next.server.pid());
    terminal.expect(&[&process]);
    terminal.press("C-c");
    terminal.is_as_before();
    terminal.close();
    next.stop(world);
}
