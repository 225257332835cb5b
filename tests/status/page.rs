//! The page, in a real browser: what it shows, and that it needs nothing from outside. Skipped where
//! Chromium is not installed.

use std::env;
use std::process::Stdio;
use std::time::Duration;

use crate::browser::{chromium, expect_no_browser};
use crate::support::{Address, SOON, Scenarios, Signal, World, connect, scenarios, until};
use crate::web::{document, get, hold, told, until_told};

pub const SCENARIOS: Scenarios = scenarios![
    the_page_lets_in_its_own_script_alone,
    what_a_client_writes_is_no_html,
    a_browser_shows_each_child_by_its_state,
    without_scripts_there_is_a_table,
    a_browser_shows_hundreds_of_children,
];

/// What the browser has made of the page when it has asked a few times.
fn seen(world: &World, status: &Address, more: &[&str]) -> Option<String> {
    let chromium = chromium(&world.tempdir().join("profile"))?
        .args(["--virtual-time-budget=5000", "--dump-dom"])
        .args(more)
        .arg(format!("http://{status}/"))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let dom = String::from_utf8(chromium.stdout).unwrap();
    expect_no_browser(world);
    Some(dom)
}

fn count(dom: &str, state: &str) -> usize {
    let cells = dom.split("id=\"slots\"").nth(1).unwrap_or("");
    let cells = cells.split("</section>").next().unwrap_or("");
    cells.matches(&format!("class=\"slot {state}")).count()
}

fn the_page_lets_in_its_own_script_alone(world: &mut World) {
    let (server, status) = told(world, &[]);
    let (one, other) = (get(&status, "/"), get(&status, "/"));
    assert!(one.head.contains("Content-Type: text/html; charset=utf-8"));
    let nonce = |head: &str| {
        let (_, rest) = head.split_once("script-src 'nonce-").unwrap();
        rest[..16].to_owned()
    };
    let own = nonce(&one.head);
    assert_ne!(own, nonce(&other.head), "it can be guessed");
    assert!(one.head.contains("default-src 'none'"), "{}", one.head);
    assert_eq!(one.body.matches("<script").count(), 1);
    assert!(one.body.contains(&format!("<script nonce=\"{own}\">")));
    // No address but its own, and that of SVG's names.
    let outside = one.body.replace("http://www.w3.org/2000/svg", "");
    assert!(
        !outside.contains("://") && !outside.contains("{{"),
        "{outside}"
    );
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

const SCRIPT: &str = "<script>document.title='caught'</script>";

fn what_a_client_writes_is_no_html(world: &mut World) {
    world.deadline(Duration::from_secs(90));
    let (server, status) = told(world, &[]);
    let (mut client, pid) = hold(&server);
    client.ask(SCRIPT);
    // A child that has just been forked is shown a moment later.
    until_told(&status, "the text", |document| {
        let slot = document["slots"].with("pid", pid)?;
        (slot["text"].text() == SCRIPT).then_some(())
    });
    let page = get(&status, "/").body;
    assert!(
        page.contains("&lt;script&gt;document.title=&#39;caught&#39;"),
        "{page}"
    );
    assert!(!page.contains(SCRIPT));
    let json = get(&status, "/status.json").body;
    assert!(
        !json.contains(SCRIPT) && json.contains("\\u003cscript>"),
        "{json}"
    );
    if let Some(dom) = seen(world, &status, &[]) {
        assert!(!dom.contains("<title>caught"), "{dom}");
    }
    drop(client);
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

fn a_browser_shows_each_child_by_its_state(world: &mut World) {
    world.deadline(Duration::from_secs(90));
    let (server, status) = told(world, &["--children", "5", "--spare", "4"]);
    let clients = [hold(&server), hold(&server)];
    let mut dying = connect(&server.address());
    dying.send_line("die");
    dying.gone();
    until_told(&status, "the death, and five children", |document| {
        let (children, deaths) = (&document["children"], document["deaths"].list().len());
        let all = children["total"].number() == 5.0 && children["starting"].number() == 0.0;
        (all && deaths == 1).then_some(())
    });
    if let Some(dom) = seen(world, &status, &[]) {
        assert_eq!([count(&dom, "busy"), count(&dom, "free")], [2, 3], "{dom}");
        assert!(dom.contains("<title>2/5 busy"), "{dom}");
        assert!(
            dom.contains("signal: 6 (SIGABRT)") && dom.contains("out of cheese"),
            "{dom}"
        );
        assert!(dom.contains(&server.address().to_string()), "{dom}");
        assert!(dom.contains("id=\"alarm\" hidden"), "it complains: {dom}");
    }
    drop(clients);
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

fn without_scripts_there_is_a_table(world: &mut World) {
    let (server, status) = told(world, &["--children", "3"]);
    let (client, pid) = hold(&server);
    until_told(&status, "all children", |document| {
        let slots = &document["slots"];
        let is_busy = slots.with("pid", pid)?["state"].text() == "busy";
        (is_busy && slots.list().len() == 3).then_some(())
    });
    let page = get(&status, "/").body;
    let (_, rest) = page.split_once("<noscript>").unwrap();
    let (table, _) = rest.split_once("</noscript>").unwrap();
    assert_eq!(table.matches("<tr>").count(), 4, "{table}");
    assert!(
        table.contains(&format!("<td>{pid}</td><td>busy</td>")),
        "{table}"
    );
    drop(client);
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

/// Five hundred, or as many as `BROWSER_CHILDREN` says.
fn a_browser_shows_hundreds_of_children(world: &mut World) {
    let asked = env::var("BROWSER_CHILDREN").ok();
    let children: u32 = asked.map_or(500, |text| text.parse().unwrap());
    world.deadline(Duration::from_secs(100) + Duration::from_millis(40) * children);
    world.process_limit(children as usize + 200);
    let (count_of, spare) = (children.to_string(), (children - 1).to_string());
    let (server, status) = told(world, &["--children", &count_of, "--spare", &spare]);
    until("all children to be ready", SOON * 6, || {
        let free = &document(&status)["children"]["free"];
        (free.number() == f64::from(children)).then_some(())
    });
    let clients: Vec<_> = (0..20).map(|_| hold(&server)).collect();
    if let Some(dom) = seen(world, &status, &[]) {
        let free = children as usize - 20;
        assert_eq!([count(&dom, "busy"), count(&dom, "free")], [20, free]);
        assert!(dom.contains("class=\"many\""), "the cells are large");
    }
    drop(clients);
    assert!(server.stop(Signal::SIGTERM, SOON * 6).success());
}
