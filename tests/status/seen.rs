//! The page for everybody: on a phone, by the keyboard, with a screen reader, in light and in dark,
//! without scripts. In a real browser; skipped where Chromium is not installed.

use std::time::Duration;

use crate::browser::{Browser, Spoken};
use crate::json::Json;
use crate::support::{Address, Client, SOON, Scenarios, Server, Signal, World, connect, scenarios};
use crate::web::{hold, told, until_told};

pub const SCENARIOS: Scenarios = scenarios![
    on_a_phone_nothing_is_wider_than_the_screen,
    every_control_is_reached_by_keys_and_seen,
    children_are_walked_by_keys,
    a_screen_reader_is_told_names_and_roles,
    a_screen_reader_is_told_that_the_server_is_silent_once,
    another_child_in_a_slot_is_another_name,
    text_stands_out_in_light_and_in_dark,
    without_scripts_a_phone_shows_a_table_with_a_name,
];

/// The width and the height of a phone.
const PHONE: (u32, u32) = (390, 844);
/// The contrast that WCAG 2.2 asks of text (1.4.3), and of what is no text (1.4.11).
const TEXT: &str = "4.5";
const SHAPES: &str = "3";

/// A server with all that a page may show: children busy with long requests, one death.
struct Shown {
    server: Server,
    status: Address,
    clients: Vec<Client>,
}

impl Shown {
    fn new(world: &mut World, children: u32) -> Self {
        world.deadline(Duration::from_secs(120));
        let (count, spare) = (children.to_string(), (children - 1).to_string());
        let (server, status) = told(world, &["--children", &count, "--spare", &spare]);
        let mut dying = connect(&server.address());
        dying.send_line("die");
        dying.gone();
        let mut clients: Vec<_> = (0..2).map(|_| hold(&server).0).collect();
        for client in &mut clients {
            client.ask(&format!("GET /{}", "a-long-path".repeat(10)));
        }
        until_told(&status, "the death, and all children", |document| {
            let (children, deaths) = (&document["children"], document["deaths"].list().len());
            let all = children["total"].number() == f64::from(children_of(children));
            (all && children["busy"].number() == 2.0 && deaths == 1).then_some(())
        });
        Self {
            server,
            status,
            clients,
        }
    }

    fn end(self) {
        drop(self.clients);
        assert!(self.server.stop(Signal::SIGTERM, SOON).success());
    }
}

/// How many there are when none is missing.
fn children_of(children: &Json) -> u32 {
    children["max"].number() as u32
}

fn nothing(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}: {found:#?}");
}

fn on_a_phone_nothing_is_wider_than_the_screen(world: &mut World) {
    let shown = Shown::new(world, 40);
    if let Some(mut browser) = Browser::open(world) {
        browser.resize(PHONE.0, PHONE.1, true);
        browser.visit(&shown.status);
        browser.value("document.querySelectorAll('details').forEach(one => one.open = true)");
        // The details of a busy child have the longest words.
        browser.value("document.querySelector('#slots .busy').click()");
        browser.until("document.body.textContent.includes('a-long-patha-long-path')");
        nothing("wider than the screen", &browser.texts("look.wide()"));
        nothing("too small to read", &browser.texts("look.small(12)"));
        nothing("too close for a finger", &browser.texts("look.crowded()"));
        browser.close(world);
    }
    shown.end();
}

/// Presses Tab until the focus leaves the page. Returns what has had it.
fn walk(browser: &mut Browser) -> Vec<Json> {
    let mut focused = Vec::new();
    loop {
        browser.press("Tab");
        let element = browser.value("look.focused()");
        if element == Json::Null || focused.first() == Some(&element) {
            return focused;
        }
        focused.push(element);
        assert!(focused.len() < 100, "no end: {focused:?}");
    }
}

/// Also what scrolls, on a screen that is too narrow for the tables.
fn every_control_is_reached_by_keys_and_seen(world: &mut World) {
    let shown = Shown::new(world, 5);
    if let Some(mut browser) = Browser::open(world) {
        for (width, scheme) in [(1280, "light"), (1280, "dark"), (PHONE.0, "light")] {
            browser.resize(width, 900, false);
            browser.prefer(scheme);
            browser.visit(&shown.status);
            let mut controls = browser.texts("look.controls()");
            let focused = walk(&mut browser);
            for element in &focused {
                assert_eq!(element["isSeen"], Json::Bool(true), "{element:?}");
            }
            let mut names: Vec<_> = focused.iter().map(|one| one["name"].text()).collect();
            names.sort_unstable();
            controls.sort_unstable();
            assert!(controls.len() >= 5, "{controls:?}");
            assert_eq!(names, controls, "at {width}");
        }
        browser.close(world);
    }
    shown.end();
}

/// The name of the child that is chosen, as a screen reader is told it, and whether one sees it.
fn chosen(browser: &mut Browser) -> Option<String> {
    let name = "document.getElementById(slots.getAttribute('aria-activedescendant'))";
    let seen = "document.querySelector('#slots .chosen')";
    let script = format!(
        "(() => {{ const slots = document.getElementById('slots'); const one = {name}; \
         return one && one === {seen} && getComputedStyle(one).outlineStyle === 'solid' \
         ? one.id : null; }})()"
    );
    match browser.value(&script) {
        Json::Text(id) => Some(id),
        _ => None,
    }
}

fn children_are_walked_by_keys(world: &mut World) {
    let shown = Shown::new(world, 5);
    if let Some(mut browser) = Browser::open(world) {
        // So wide that no table scrolls.
        browser.resize(1280, 900, false);
        browser.visit(&shown.status);
        browser.press("Tab");
        assert_eq!(chosen(&mut browser), None);
        for (key, slot) in [
            ("ArrowRight", 0),
            ("ArrowRight", 1),
            ("End", 4),
            ("Home", 0),
        ] {
            browser.press(key);
            assert_eq!(chosen(&mut browser), Some(format!("slot-{slot}")), "{key}");
        }
        let pid = "document.getElementById('h-child').textContent.startsWith('Child ')";
        assert_eq!(
            browser.value(pid),
            Json::Bool(true),
            "its details are there"
        );
        let spoken = browser.spoken();
        let is_selected = |one: &&Spoken| one.role == "option" && one.is("selected");
        assert_eq!(spoken.iter().filter(is_selected).count(), 1);
        browser.press("Escape");
        assert_eq!(chosen(&mut browser), None);
        // The next control opens by a key.
        browser.press("Tab");
        browser.press("Enter");
        browser.until("document.querySelector('details').open");
        browser.close(world);
    }
    shown.end();
}

/// What has no use without a name.
const NAMED: [&str; 10] = [
    "DisclosureTriangle",
    "columnheader",
    "heading",
    "image",
    "link",
    "list",
    "listbox",
    "option",
    "region",
    "table",
];

fn a_screen_reader_is_told_names_and_roles(world: &mut World) {
    let shown = Shown::new(world, 5);
    if let Some(mut browser) = Browser::open(world) {
        browser.resize(PHONE.0, PHONE.1, true);
        browser.visit(&shown.status);
        browser.value("document.querySelectorAll('details').forEach(one => one.open = true)");
        browser.value("document.querySelector('#slots .busy').click()");
        let spoken = browser.spoken();
        for one in &spoken {
            let needs_one = NAMED.contains(&&*one.role) || one.is("focusable");
            assert!(!needs_one || !one.name.is_empty(), "no name: {one:?}");
        }
        let count = |role: &str| spoken.iter().filter(|one| one.role == role).count();
        for (role, least) in NAMED.map(|role| (role, 1)) {
            assert!(count(role) >= least, "no {role}");
        }
        assert_eq!((count("option"), count("main"), count("banner")), (5, 1, 1));
        let busy = |one: &&Spoken| one.role == "option" && one.name.ends_with(", busy");
        assert_eq!(spoken.iter().filter(busy).count(), 2);
        let live = |one: &&Spoken| one.property("live").map(Json::text) == Some("polite");
        assert_eq!(
            spoken.iter().filter(live).count(),
            1,
            "the state of the server"
        );
        assert_eq!(
            browser.value("document.getElementById('spoken').textContent"),
            Json::Text("serving".to_owned())
        );
        browser.close(world);
    }
    shown.end();
}

/// How often what is alive has changed, for a screen reader to tell it.
const COUNT: &str = "globalThis.told = []; new MutationObserver(changes => told.push(...changes \
     .map(({ target }) => target.textContent))).observe(document.getElementById('reason'), \
     { childList: true, characterData: true, subtree: true })";

fn a_screen_reader_is_told_that_the_server_is_silent_once(world: &mut World) {
    let Shown {
        server,
        status,
        clients,
    } = Shown::new(world, 5);
    let Some(mut browser) = Browser::open(world) else {
        drop(clients);
        assert!(server.stop(Signal::SIGTERM, SOON).success());
        return;
    };
    browser.visit(&status);
    browser.value(COUNT);
    drop(clients);
    assert!(server.stop(Signal::SIGTERM, SOON).success());
    let silence = "document.getElementById('silence').textContent";
    browser.until(&format!("{silence} !== ''"));
    let first = browser.value(silence);
    browser.until(&format!("{silence} !== '{}'", first.text()));
    browser.until(&format!("{silence}.includes(' s')"));
    let told = browser.texts("told");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("No answer from the server"), "{told:?}");
    let alarms = browser.spoken().into_iter();
    let alarms: Vec<_> = alarms.filter(|one| one.role == "alert").collect();
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    for scheme in ["light", "dark"] {
        browser.prefer(scheme);
        nothing(scheme, &browser.texts(&format!("look.faint({TEXT})")));
    }
    browser.close(world);
}

/// It is in the same state as the one before.
fn another_child_in_a_slot_is_another_name(world: &mut World) {
    let shown = Shown::new(world, 3);
    if let Some(mut browser) = Browser::open(world) {
        browser.visit(&shown.status);
        let free = "document.querySelector('#slots .free')";
        let name = format!("{free}.getAttribute('aria-label')");
        let first = browser.value(&name).text().to_owned();
        let pid = first
            .trim_start_matches("child ")
            .trim_end_matches(", free");
        let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap());
        nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
        browser.until(&format!(
            "{free} !== null && {name} !== '{first}' && {name}.endsWith(', free')"
        ));
        browser.close(world);
    }
    shown.end();
}

fn text_stands_out_in_light_and_in_dark(world: &mut World) {
    let shown = Shown::new(world, 5);
    if let Some(mut browser) = Browser::open(world) {
        let mut grounds = Vec::new();
        for scheme in ["light", "dark"] {
            browser.prefer(scheme);
            browser.visit(&shown.status);
            browser.value("document.querySelectorAll('details').forEach(one => one.open = true)");
            browser.value("document.querySelector('#slots .busy').click()");
            // Each badge that there may be.
            browser.value(
                "const badge = document.getElementById('ready'); badge.hidden = false; \
                 badge.textContent = 'not ready'; badge.classList.add('bad')",
            );
            nothing(scheme, &browser.texts(&format!("look.faint({TEXT})")));
            nothing(scheme, &browser.texts(&format!("look.pale({SHAPES})")));
            grounds.push(browser.value("look.background()"));
        }
        assert_ne!(grounds[0], grounds[1], "both are the same");
        browser.close(world);
    }
    shown.end();
}

fn without_scripts_a_phone_shows_a_table_with_a_name(world: &mut World) {
    let shown = Shown::new(world, 5);
    if let Some(mut browser) = Browser::open(world) {
        browser.resize(PHONE.0, PHONE.1, true);
        browser.tell("Emulation.setScriptExecutionDisabled", "{\"value\":true}");
        browser.navigate(&shown.status);
        let spoken = crate::support::until("the table", SOON, || {
            let spoken = browser.spoken();
            spoken
                .iter()
                .any(|one| one.role == "table")
                .then_some(spoken)
        });
        let tables: Vec<_> = spoken.iter().filter(|one| one.role == "table").collect();
        assert!(
            tables.len() == 1 && tables[0].name == "Children",
            "{tables:?}"
        );
        let count = |role: &str| spoken.iter().filter(|one| one.role == role).count();
        assert_eq!((count("row"), count("columnheader")), (6, 8));
        for one in spoken.iter().filter(|one| one.is("focusable")) {
            assert!(!one.name.is_empty(), "no name: {one:?}");
        }
        let size = &browser.tell("Page.getLayoutMetrics", "{}")["cssContentSize"];
        assert_eq!(size["width"].number(), f64::from(PHONE.0));
        browser.close(world);
    }
    shown.end();
}
