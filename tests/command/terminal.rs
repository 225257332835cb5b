//! A real terminal, of tmux, in which `prefork top` runs: what is on its screen, which keys are pressed,
//! and how the terminal is afterwards.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use super::{PREFORK, text};
use crate::support::{SOON, Server, Signal, World, processes, until};

/// What the screen showed last, for a wait that ends in vain.
struct LastScreen(String);

impl Drop for LastScreen {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the screen:\n{}", self.0);
        }
    }
}

/// A terminal, in which a script runs `prefork top`.
pub struct Terminal {
    tmux: Server,
    socket: PathBuf,
    directory: PathBuf,
}

impl Terminal {
    /// Runs `prefork top` with these arguments. `None` where there is no tmux.
    pub fn open(world: &mut World, arguments: &[&str]) -> Option<Self> {
        if Command::new("tmux").arg("-V").output().is_err() {
            println!("skipped: there is no tmux here");
            return None;
        }
        let directory = world.tempdir();
        let socket = directory.join("tmux");
        let script = format!(
            "cd {directory}\n\
             echo 'before top'\n\
             stty -g >stty-before\n\
             {PREFORK} top {arguments}\n\
             echo \"top has ended with $?\"\n\
             stty -g >stty-after\n\
             exec cat\n",
            directory = text(&directory),
            arguments = arguments.join(" "),
        );
        fs::write(directory.join("script"), script).unwrap();
        let tmux = world
            .command("tmux")
            .args(&["-S", text(&socket), "-f", "/dev/null", "-D"])
            .env("LC_ALL", "C.UTF-8")
            .env("TERM", "xterm-256color")
            .env("RUST_BACKTRACE", "0")
            .spawn();
        until("tmux to listen", SOON, || UnixStream::connect(&socket).ok());
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
    pub fn tell(&self, words: &[&str]) -> String {
        let mut command = Command::new("tmux");
        let command = command.arg("-u").arg("-S").arg(&self.socket).args(words);
        let output = command.output().expect("tmux");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn press(&self, key: &str) {
        self.tell(&["send-keys", "-t", "t", key]);
    }

    /// Waits until `fact` yields something for the screen.
    #[track_caller]
    pub fn until<T>(&self, what: &str, mut fact: impl FnMut(&str) -> Option<T>) -> T {
        let mut screen = LastScreen(String::new());
        until(what, SOON, || {
            screen.0 = self.tell(&["capture-pane", "-p", "-t", "t"]);
            fact(&screen.0)
        })
    }

    /// Waits until the screen has all of these texts.
    #[track_caller]
    pub fn expect(&self, texts: &[&str]) -> String {
        let has_all = |screen: &str| texts.iter().all(|text| screen.contains(text));
        self.until(&format!("{texts:?} on the screen"), |screen| {
            has_all(screen).then(|| screen.to_owned())
        })
    }

    /// Waits until the frame of the details reaches from edge to edge.
    #[track_caller]
    pub fn is_as_wide_as(&self, width: usize) {
        self.until("a frame of that width", |screen| {
            let corner = screen.lines().find(|line| line.ends_with('\u{2510}'))?;
            (corner.chars().count() == width).then_some(())
        });
    }

    /// The title that was given to it.
    pub fn title(&self) -> String {
        self.tell(&["display-message", "-p", "-t", "t", "#{pane_title}"])
    }

    /// The process `prefork top`.
    #[track_caller]
    pub fn top(&self) -> u32 {
        until("the process", SOON, || {
            let mut below = processes::descendants(self.tmux.pid()).into_iter();
            below
                .find(|process| process.name == "prefork")
                .map(|process| process.pid)
        })
    }

    /// The terminal is as it was before `top`, which has ended with this exit code.
    #[track_caller]
    pub fn is_as_before(&self, code: i32) {
        let ended = format!("top has ended with {code}\n");
        self.until("the screen of before, and nothing of top", |screen| {
            let is_back = screen.contains("before top") && screen.contains(&ended);
            (is_back && !screen.contains("PID ")).then_some(())
        });
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
    pub fn close(self) {
        // `cat`, which comes last in the script.
        self.press("C-c");
        until("an empty terminal", SOON, || {
            let children = processes::children(self.tmux.pid());
            // Now and then tmux (3.3a) sleeps on beside a child that has ended, until it is told again.
            if children.iter().any(|child| !child.is_alive()) {
                self.tmux.signal(Signal::SIGCHLD);
            }
            children.is_empty().then_some(())
        });
        self.tell(&["kill-server"]);
        self.tmux.wait(SOON);
    }
}
