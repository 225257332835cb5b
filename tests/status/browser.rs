//! Chromium, driven by its DevTools protocol over two pipes: what a page shows, what keys do, what a
//! screen reader is told. Skipped where it is not installed; goes to the address it is given alone.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::json::Json;
use crate::support::{Address, SOON, World, until};

const CHROMIUM: &str = "/usr/bin/chromium";

/// The flags without which it needs more than a container gives.
const FLAGS: [&str; 5] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-zygote",
    "--disable-dev-shm-usage",
];

/// What the tests look at in a page.
const LOOK: &str = include_str!("look.js");

/// A browser with one page.
pub struct Browser {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    number: u32,
    session: Option<String>,
}

/// A new command, which makes another browser.
pub fn chromium(profile: &Path) -> Option<Command> {
    if !Path::new(CHROMIUM).exists() {
        println!("skipped: no chromium");
        return None;
    }
    let mut command = Command::new(CHROMIUM);
    command.args(FLAGS);
    command.arg(format!("--user-data-dir={}", profile.display()));
    Some(command)
}

/// Waits until no process of a browser is left: they end a moment after it, and are the scenario's to
/// reap.
pub fn expect_no_browser(world: &World) {
    until("the browser to end", SOON, || {
        let browsers = world.processes().into_iter();
        let mut left = browsers.filter(|process| process.describe().contains("chrom"));
        let is_over = left.next().is_none() && world.orphans().is_empty();
        world.reap_orphans();
        is_over.then_some(())
    });
}

/// A text as JSON and JavaScript write it.
pub fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|char| match char {
        '"' | '\\' => format!("\\{char}"),
        char if char.is_control() => format!("\\u{:04x}", u32::from(char)),
        char => char.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

impl Browser {
    /// Starts it. `None` where there is no Chromium.
    pub fn open(world: &World) -> Option<Self> {
        let browser = chromium(&world.tempdir().join("profile"))?;
        // It reads commands from descriptor 3 and writes answers to 4.
        let mut shell = Command::new("sh");
        let redirected = "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null";
        shell.args(["-c", redirected, "sh"]).arg(CHROMIUM);
        shell.args(browser.get_args());
        shell.args(["--remote-debugging-pipe", "about:blank"]);
        shell.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = shell.stderr(Stdio::null()).spawn().unwrap();
        let commands = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        let mut browser = Self {
            process,
            commands,
            answers,
            number: 0,
            session: None,
        };
        browser.attach();
        Some(browser)
    }

    fn attach(&mut self) {
        let page = self.tell("Target.createTarget", "{\"url\":\"about:blank\"}");
        let page = quoted(page["targetId"].text());
        let flat = format!("{{\"targetId\":{page},\"flatten\":true}}");
        let session = self.tell("Target.attachToTarget", &flat);
        self.session = Some(session["sessionId"].text().to_owned());
        self.tell("Emulation.setFocusEmulationEnabled", "{\"enabled\":true}");
        self.tell("Page.enable", "{}");
    }

    /// Sends a command, and returns its result. Events are not looked at.
    #[track_caller]
    pub fn tell(&mut self, method: &str, parameters: &str) -> Json {
        self.send(method, parameters);
        let number = Json::Number(f64::from(self.number));
        loop {
            let message = self.message();
            let message = message.unwrap_or_else(|| panic!("{method}: the browser has gone"));
            if message.object().get("id") == Some(&number) {
                let result = message.object().get("result").cloned();
                return result.unwrap_or_else(|| panic!("{method}: {message:?}"));
            }
        }
    }

    fn send(&mut self, method: &str, parameters: &str) {
        self.number += 1;
        let session = self.session.as_deref().map(quoted);
        let session = session.map_or(String::new(), |id| format!(",\"sessionId\":{id}"));
        let (number, method) = (self.number, quoted(method));
        let command =
            format!("{{\"id\":{number},\"method\":{method},\"params\":{parameters}{session}}}\0");
        self.commands.write_all(command.as_bytes()).unwrap();
    }

    fn message(&mut self) -> Option<Json> {
        let mut bytes = Vec::new();
        self.answers.read_until(0, &mut bytes).unwrap();
        (bytes.pop() == Some(0)).then(|| Json::parse(std::str::from_utf8(&bytes).unwrap()))
    }

    /// The value of an expression in the page.
    #[track_caller]
    pub fn value(&mut self, expression: &str) -> Json {
        let parameters = format!(
            "{{\"expression\":{},\"returnByValue\":true}}",
            quoted(expression)
        );
        let answer = self.tell("Runtime.evaluate", &parameters);
        let thrown = answer.object().get("exceptionDetails");
        assert!(thrown.is_none(), "{expression}: {answer:?}");
        let value = answer["result"].object().get("value");
        value.cloned().unwrap_or(Json::Null)
    }

    /// The texts of an expression that yields a list of texts.
    #[track_caller]
    pub fn texts(&mut self, expression: &str) -> Vec<String> {
        let value = self.value(expression);
        let texts = value.list().iter();
        texts.map(|text| text.text().to_owned()).collect()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub fn until(&mut self, expression: &str) {
        let what = format!("{expression} to be true");
        until(&what, SOON, || {
            (self.value(expression) == Json::Bool(true)).then_some(())
        });
    }

    /// Opens the page of a server, and waits until it shows the children.
    pub fn visit(&mut self, status: &Address) {
        self.navigate(status);
        self.until("document.querySelectorAll('#slots .slot[aria-label^=child]').length > 0");
        self.value(LOOK);
    }

    pub fn navigate(&mut self, status: &Address) {
        let url = quoted(&format!("http://{status}/"));
        self.tell("Page.navigate", &format!("{{\"url\":{url}}}"));
    }

    /// As on a screen of this size; on a phone also with its touch screen and its viewport.
    pub fn resize(&mut self, width: u32, height: u32, is_phone: bool) {
        let parameters = format!(
            "{{\"width\":{width},\"height\":{height},\"deviceScaleFactor\":1,\"mobile\":{is_phone}}}"
        );
        self.tell("Emulation.setDeviceMetricsOverride", &parameters);
    }

    /// As for somebody who prefers `light` or `dark`.
    pub fn prefer(&mut self, scheme: &str) {
        let feature = format!("{{\"name\":\"prefers-color-scheme\",\"value\":\"{scheme}\"}}");
        let parameters = format!("{{\"features\":[{feature}]}}");
        self.tell("Emulation.setEmulatedMedia", &parameters);
    }

    /// Presses a key that has a name and writes no text: `Tab`, `ArrowRight`.
    pub fn press(&mut self, key: &str) {
        const CODES: [(&str, u32); 7] = [
            ("Tab", 9),
            ("Enter", 13),
            ("Escape", 27),
            ("End", 35),
            ("Home", 36),
            ("ArrowRight", 39),
            ("ArrowDown", 40),
        ];
        let code = CODES.iter().find(|(name, _)| *name == key).unwrap().1;
        let text = if key == "Enter" { "\\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            let parameters = format!(
                "{{\"type\":\"{kind}\",\"key\":\"{key}\",\"code\":\"{key}\",\"text\":\"{text}\",\
                 \"windowsVirtualKeyCode\":{code}}}"
            );
            self.tell("Input.dispatchKeyEvent", &parameters);
        }
    }

    /// What a screen reader is told of the page, without what is hidden from it.
    pub fn spoken(&mut self) -> Vec<Spoken> {
        let tree = self.tell("Accessibility.getFullAXTree", "{}");
        let nodes = tree["nodes"].list().iter();
        let told = nodes.filter(|node| node["ignored"] == Json::Bool(false));
        told.map(Spoken::of).collect()
    }

    /// Ends it, and waits for its processes.
    pub fn close(mut self, world: &World) {
        self.session = None;
        self.send("Browser.close", "{}");
        // To the end: a full pipe would hold it up.
        while self.message().is_some() {}
        self.process.wait().unwrap();
        expect_no_browser(world);
    }
}

/// One thing that a screen reader is told.
#[derive(Clone, Debug)]
pub struct Spoken {
    pub role: String,
    pub name: String,
    properties: Vec<(String, Json)>,
}

impl Spoken {
    fn of(node: &Json) -> Self {
        let value = |key: &str| match node.object().get(key) {
            Some(found) => found
                .object()
                .get("value")
                .map_or("", Json::text)
                .to_owned(),
            None => String::new(),
        };
        let properties = node.object().get("properties").map(Json::list);
        let properties = properties.unwrap_or_default().iter().map(|property| {
            let value = property["value"].object().get("value");
            (
                property["name"].text().to_owned(),
                value.cloned().unwrap_or(Json::Null),
            )
        });
        Self {
            role: value("role"),
            name: value("name"),
            properties: properties.collect(),
        }
    }

    pub fn property(&self, name: &str) -> Option<&Json> {
        let found = self.properties.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value)
    }

    pub fn is(&self, property: &str) -> bool {
        self.property(property) == Some(&Json::Bool(true))
    }
}
