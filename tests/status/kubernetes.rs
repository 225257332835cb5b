//! `docs/deploy/kubernetes` against a server: the kubelet's sequence, played, and the metrics that the
//! autoscaler asks for. Needs no cluster.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::balancer::rig::Load;
use crate::support::{SOON, Scenarios, Signal, World, connect, holds, scenarios, until};
use crate::web::{document, get, status_of, until_code};

pub const SCENARIOS: Scenarios = scenarios![
    the_kubelets_sequence_loses_no_request,
    the_autoscaler_asks_for_metrics_that_there_are,
    the_autoscalers_queries_tell_what_they_are_named_after,
];

fn read(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/deploy/kubernetes");
    fs::read_to_string(folder.join(name)).unwrap()
}

/// What the manifest has after the first `key` after `section`.
fn in_manifest(section: &str, key: &str) -> String {
    let text = read("hello.yaml");
    let (_, rest) = text.split_once(section).expect(section);
    let (_, rest) = rest.split_once(key).expect(key);
    let ends = |char: char| char.is_whitespace() || ",}\"".contains(char);
    rest.trim_start().split(ends).next().unwrap().to_owned()
}

/// The startup probe, then readiness and liveness while all children have work to do; then the pod is
/// deleted: SIGTERM comes, and clients still come until the last node has learnt that the pod goes.
fn the_kubelets_sequence_loses_no_request(world: &mut World) {
    let [startup, readiness, liveness] = ["startupProbe", "readinessProbe", "livenessProbe"]
        .map(|probe| in_manifest(probe, "path:"));
    let flags = ["--name", "pod", "--work", "20", "--children", "4"];
    // Time enough to see that it is not ready, and that clients are served all the same. A second
    // SIGTERM ends it.
    let own = ["--status", "0", "--pre-stop-delay", "600000"];
    let server = world.spawn("host", &[&flags[..], &own].concat());
    let (address, status) = (server.address(), status_of(&server, "status at "));
    until_code(&status, &startup, 200, SOON);
    // Nine tenths of what four children can do in a second.
    let load = Load::start(&address, 180.0, 100);
    load.reaches("pod", 100);
    let probed = |path: &str| get(&status, path).code;
    holds("the pod is ready and alive", Duration::from_secs(1), || {
        probed(&readiness) == 200 && probed(&liveness) == 200
    });
    server.signal(Signal::SIGTERM);
    until_code(&status, &readiness, 503, SOON);
    load.reaches("pod", 50);
    assert_eq!(probed(&liveness), 200, "it would be killed");
    let lost: Vec<_> = load
        .end()
        .into_iter()
        .filter_map(|request| request.by.err())
        .collect();
    assert!(lost.is_empty(), "{lost:?}");
    // One whose request is under way when the stop begins.
    let mut late = connect(&address);
    late.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    until("a child to have it", SOON, || {
        (document(&status)["children"]["busy"].number() == 1.0).then_some(())
    });
    server.signal(Signal::SIGTERM);
    until("the stop", SOON, || {
        (document(&status)["server"]["stage"].text() == "stopping").then_some(())
    });
    late.write_all(b"Host: here\r\n\r\n").unwrap();
    assert!(late.read_line().starts_with("HTTP/1.1 200 "));
    drop(late);
    let grace = in_manifest("spec:", "terminationGracePeriodSeconds:").parse();
    assert!(server.wait(Duration::from_secs(grace.unwrap())).success());
}

// The autoscaler.

/// The names in a text that begin with `prefork_`.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let words = text.split(|char| !is_part(char));
    let names = words.filter(|word| word.starts_with("prefork_"));
    names.map(str::to_owned).collect()
}

/// The names that the adapter gives.
fn given(adapter: &str) -> BTreeSet<String> {
    let lines = adapter.lines();
    names(
        &lines
            .filter(|line| line.contains("name: { as: "))
            .collect::<String>(),
    )
}

fn the_autoscaler_asks_for_metrics_that_there_are(world: &mut World) {
    let adapter = read("adapter.yaml");
    assert_eq!(names(&read("hello.yaml")), given(&adapter));
    let flags = ["--name", "pod", "--children", "2", "--status", "0"];
    let server = world.spawn("host", &flags);
    let (address, status) = (server.address(), status_of(&server, "status at "));
    connect(&address).send_line("GET / HTTP/1.1\r\n\r");
    let asked = &names(&adapter) - &given(&adapter);
    until(&format!("all of {asked:?}"), SOON, || {
        let told = names(&get(&status, "/metrics").body);
        asked.is_subset(&told).then_some(())
    });
    assert!(server.stop(Signal::SIGTERM, SOON).success());
}

/// The queries of the adapter for a pod, in the order of the file.
fn queries(adapter: &str) -> Vec<String> {
    let parts = adapter.split("metricsQuery: >-\n").skip(1);
    let query = |part: &str| {
        let lines = part.lines().take_while(|line| line.starts_with("        "));
        let lines: Vec<_> = lines.map(str::trim).collect();
        lines.join(" ")
    };
    let for_a_pod = |query: String| {
        let matched = query.replace("<<.LabelMatchers>>", "namespace=\"n\"");
        matched.replace("<<.GroupBy>>", "pod")
    };
    parts.map(query).map(for_a_pod).collect()
}

/// In thousandths. Thirty of fifty children are busy; of a hundred connections a second ten are queued for 10 to 50 ms,
/// and in one pod there are none. Skipped where promtool is not installed.
fn the_autoscalers_queries_tell_what_they_are_named_after(world: &mut World) {
    let queries = queries(&read("adapter.yaml"));
    let [ratio, queued] = &queries[..] else {
        panic!("{queries:?}");
    };
    let series = |series: &str, values: &str| {
        format!("      - series: '{series}'\n        values: '{values}'\n")
    };
    let bucket = |le: &str, values: &str| {
        let name = "prefork_connection_queue_seconds_bucket";
        series(
            &format!("{name}{{namespace=\"n\",pod=\"a\",le=\"{le}\"}}"),
            values,
        )
    };
    let of = |pod: &str, state: &str| format!("{{namespace=\"n\",pod=\"{pod}\"{state}}}");
    let input = [
        series(
            &format!("prefork_children{}", of("a", ",state=\"busy\"")),
            "30x9",
        ),
        series(
            &format!("prefork_children{}", of("a", ",state=\"free\"")),
            "5x9",
        ),
        series(&format!("prefork_children_max{}", of("a", "")), "50x9"),
        series(&format!("prefork_children_max{}", of("b", "")), "50x9"),
        bucket("0.01", "0+900x9"),
        bucket("0.05", "0+1000x9"),
        bucket("+Inf", "0+1000x9"),
    ];
    let expects = |query: &str, values: &[(&str, f64)]| {
        let rows = values.iter().map(|(pod, value)| {
            format!("          - labels: '{{pod=\"{pod}\"}}'\n            value: {value}\n")
        });
        let rows: String = rows.collect();
        format!(
            "      - expr: 'round(1000 * ({query}))'\n        eval_time: 1m\n        exp_samples:\n{rows}"
        )
    };
    let tests = [
        expects(ratio, &[("a", 600.0)]),
        expects(queued, &[("a", 46.0), ("b", 0.0)]),
    ];
    let path = world.tempdir().join("queries.yaml");
    let text = format!(
        "tests:\n  - interval: 10s\n    input_series:\n{}    promql_expr_test:\n{}",
        input.concat(),
        tests.concat()
    );
    fs::write(&path, text).unwrap();
    match Command::new("promtool")
        .args(["test", "rules"])
        .arg(path)
        .output()
    {
        Err(error) => println!("skipped: promtool: {error}"),
        Ok(output) => assert!(output.status.success(), "{output:?}"),
    }
}
