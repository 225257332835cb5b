//! The table of attributes, and how values that make no sense are normalised and kept.

use super::*;
use crate::core::title::{Activity, Title};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn numbers(min: usize, max: usize, start: usize, clients: usize) -> Config {
    Config {
        min_spare_servers: min,
        max_spare_servers: max,
        start_servers: start,
        max_clients: clients,
        ..Config::default()
    }
}

fn spare(attributes: &Attributes) -> (usize, usize) {
    (attributes.min_spare_servers, attributes.max_spare_servers)
}

#[test]
fn the_defaults_are_the_documents_and_make_sense() {
    let mut attributes = Attributes::default();
    assert_eq!(*attributes, numbers(1, 2, 5, 50));
    assert!(attributes.shutdown_on_error);
    assert_eq!(attributes.timeout, Duration::ZERO);
    assert_eq!(attributes.take_unreported(), []);
}

/// Numbers that make no sense are replaced by documented ones, and each change is reported.
#[test]
fn m01_nonsense_is_normalised_and_reported() {
    let most = usize::MAX;
    for (given, expected, changed) in [
        ([0, 2, 5, 50], [1, 2, 5, 50], &["min_spare_servers"][..]),
        ([3, 3, 5, 50], [3, 4, 5, 50], &["max_spare_servers"]),
        ([7, 2, 5, 50], [7, 8, 5, 50], &["max_spare_servers"]),
        ([1, 2, 0, 50], [1, 2, 5, 50], &["start_servers"]),
        ([1, 2, 9, 4], [1, 2, 4, 4], &["start_servers"]),
        ([1, 2, 0, 3], [1, 2, 3, 3], &["start_servers"]),
        ([1, 2, 5, 0], [1, 2, 5, 50], &["max_clients"]),
        (
            [most, 0, most, most],
            [most - 1, most, most, most],
            &["min_spare_servers", "max_spare_servers"],
        ),
    ] {
        let of = |[min, max, start, clients]: [usize; 4]| numbers(min, max, start, clients);
        let mut attributes = Attributes::from(of(given));
        let changes = attributes.take_unreported();
        let names: Vec<_> = changes.iter().map(|change| change.name).collect();
        assert_eq!((&*attributes, &*names), (&of(expected), changed));
        assert_eq!(*attributes.asked(), of(given), "what was asked for is kept");
        let mut again = Attributes::from(Config::clone(&attributes));
        assert_eq!(again.take_unreported(), [], "what makes sense is left");
    }
}

/// The attributes in force are computed again from all that was asked for, so the order of setters
/// does not matter.
///
/// With values normalised one by one, this gave (1, 4).
#[test]
fn o16_the_order_of_two_setters_does_not_matter() {
    let max_first = |attributes: &mut Attributes| {
        attributes.set(|asked| asked.max_spare_servers = 2);
        assert_eq!(spare(attributes), (3, 4), "the minimum is still 3");
        attributes.set(|asked| asked.min_spare_servers = 1);
    };
    let min_first = |attributes: &mut Attributes| {
        attributes.set(|asked| asked.min_spare_servers = 1);
        attributes.set(|asked| asked.max_spare_servers = 2);
    };
    for setters in [max_first, min_first] {
        let mut attributes = Attributes::from(numbers(3, 5, 5, 50));
        setters(&mut attributes);
        assert_eq!(spare(&attributes), (1, 2));
    }
}

#[test]
fn a_change_is_reported_once_and_again_when_it_is_another_one() {
    let mut attributes = Attributes::default();
    let mut reported_of = |change: fn(&mut Config)| {
        attributes.set(change);
        let changes = attributes.take_unreported();
        changes.into_iter().map(|change| change.to).collect()
    };
    let mut expect = |change, expected: &[usize]| {
        let reported: Vec<usize> = reported_of(change);
        assert_eq!(reported, expected);
    };
    expect(|asked| asked.start_servers = 90, &[50]);
    expect(|asked| asked.timeout = Duration::from_secs(9), &[]);
    expect(|asked| asked.start_servers = 90, &[]);
    expect(|asked| asked.max_clients = 60, &[60]);
    expect(|asked| asked.max_clients = 100, &[]);
    expect(|asked| asked.max_clients = 60, &[60]);
}

fn any_number() -> impl Strategy<Value = usize> {
    prop_oneof![0..6usize, any::<usize>(), usize::MAX - 2..=usize::MAX]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// Whatever numbers are set, the numbers in force make sense together: the maximum of spare
    /// children is above the minimum, there is at least one client, and `start_servers` is at most
    /// `max_clients`. Exactly the changed ones are reported.
    #[test]
    fn m01_any_numbers_become_numbers_that_make_sense(
        (min, max, start, clients) in (any_number(), any_number(), any_number(), any_number())
    ) {
        let given = numbers(min, max, start, clients);
        let mut normal = Attributes::from(given.clone());
        prop_assert!(1 <= normal.min_spare_servers);
        prop_assert!(normal.min_spare_servers < normal.max_spare_servers);
        prop_assert!(1 <= normal.start_servers);
        prop_assert!(normal.start_servers <= normal.max_clients);
        let changes = normal.take_unreported();
        let mut undone = Config::clone(&normal);
        for change in changes {
            let field = match change.name {
                "min_spare_servers" => &mut undone.min_spare_servers,
                "max_spare_servers" => &mut undone.max_spare_servers,
                "start_servers" => &mut undone.start_servers,
                _ => &mut undone.max_clients,
            };
            prop_assert_eq!(*field, change.to);
            *field = change.from;
        }
        prop_assert_eq!(undone, given);
    }
}

/// The interval of ACKs is half the timeout and that of the checks one and a half times the
/// timeout. An interval of zero is treated as none.
#[test]
fn h04_intervals_follow_the_timeout_without_rounding() {
    let ms = Duration::from_millis;
    let of = |timeout, check| {
        let config = Config::default().timeout(timeout).server_check_ack(check);
        let attributes = Attributes::from(config);
        (attributes.check_interval(), attributes.ack_interval())
    };
    assert_eq!(of(Duration::ZERO, None), (None, None));
    assert_eq!(of(ms(1000), None), (Some(ms(1500)), Some(ms(500))));
    assert_eq!(of(ms(1000), Some(ms(20))), (Some(ms(20)), Some(ms(500))));
    assert_eq!(of(ms(1000), Some(ms(0))), (Some(ms(1500)), Some(ms(500))));
    assert!(of(Duration::MAX, None).0 > Some(Duration::from_secs(1 << 60)));
}

/// An interval of checks that was derived from the timeout follows it.
#[test]
fn o19_a_derived_interval_follows_the_timeout() {
    let secs = Duration::from_secs;
    let mut attributes = Attributes::from(Config::default().timeout(secs(10)));
    attributes.derive_check();
    assert_eq!(attributes.server_check_ack, Some(secs(15)));
    attributes.set(|asked| asked.timeout = secs(20));
    assert_eq!(attributes.server_check_ack, Some(secs(30)));
    attributes.set(|asked| asked.timeout = Duration::ZERO);
    assert_eq!(attributes.server_check_ack, None);
    attributes.set(|asked| asked.timeout = secs(2));
    assert_eq!(attributes.server_check_ack, Some(secs(3)));
    assert_eq!(
        attributes.asked().server_check_ack,
        None,
        "nobody has asked"
    );
    attributes.set(|asked| asked.server_check_ack = Some(secs(7)));
    assert_eq!(attributes.check_interval(), Some(secs(7)));
}

#[test]
fn each_attribute_is_described() {
    let names: BTreeSet<_> = Config::attributes().iter().map(|row| row.name).collect();
    assert_eq!(names.len(), Config::attributes().len());
    let fields = format!("{:?}", Config::default());
    for row in Config::attributes() {
        assert!(fields.contains(&format!("{}: ", row.name)), "{row:?}");
        let first = row.documentation.lines().next().unwrap().trim();
        assert!(first.ends_with('.') && first.len() < 80, "{first}");
        for words in [row.unit, row.normalised, row.read] {
            assert!(!words.is_empty() && !words.ends_with('.'), "{row:?}");
        }
    }
}

/// What is asked for, and the value that is in force then.
type Cases = &'static [(&'static str, &'static str)];

/// What the words of each row that is normalised say, as cases.
#[rustfmt::skip]
const NORMALISED: [(&str, &str, Cases); 6] = [
    ("min_spare_servers", "less than 1 becomes 1", &[
        ("min_spare_servers=0", "1"),
        ("min_spare_servers=1", "1"),
        ("min_spare_servers=2 max_spare_servers=9", "2"),
    ]),
    ("max_spare_servers", "not above `min_spare_servers` becomes `min_spare_servers` + 1", &[
        ("min_spare_servers=3 max_spare_servers=2", "4"),
        ("min_spare_servers=3 max_spare_servers=3", "4"),
        ("min_spare_servers=3 max_spare_servers=5", "5"),
    ]),
    ("start_servers", "0 becomes 5; more than `max_clients` becomes `max_clients`", &[
        ("start_servers=0", "5"),
        ("start_servers=9 max_clients=4", "4"),
        ("start_servers=4 max_clients=4", "4"),
    ]),
    ("max_clients", "0 becomes 50", &[("max_clients=0", "50"), ("max_clients=1", "1")]),
    ("server_check_ack", "none and zero become `timeout` × 1.5 from the start on", &[
        ("timeout=10s server_check_ack=none", "15s"),
        ("timeout=10s server_check_ack=0s", "15s"),
        ("timeout=10s server_check_ack=1s", "1s"),
    ]),
    ("limit_jitter", "more than 100 becomes 100", &[
        ("limit_jitter=101", "100"),
        ("limit_jitter=100", "100"),
    ]),
];

/// The words of two rows are about what a value means, which stays as it is.
const MEANT: [(&str, &str); 2] = [
    (
        "replace_at_once",
        "0 means a tenth of the children, at least 1",
    ),
    (
        "process_title",
        "never; control characters are shown as `?`, 40 bytes at most",
    ),
];

fn row(name: &str) -> &'static Attribute {
    let mut rows = Config::attributes().iter();
    rows.find(|row| row.name == name).expect("a row")
}

/// A configuration that is asked for like this: `max_clients=4 start_servers=9`.
fn asked(texts: &str) -> Config {
    let mut config = Config::default();
    for text in texts.split(' ') {
        let (name, value) = text.split_once('=').expect("a name and a value");
        row(name).set(&mut config, value).expect("a value");
    }
    config
}

#[test]
fn the_words_about_normalising_say_what_is_done() {
    for (name, words, cases) in NORMALISED {
        assert_eq!(row(name).normalised, words, "the cases are for other words");
        for (texts, expected) in cases {
            let in_force = asked(texts).in_force();
            assert_eq!(row(name).text(&in_force), *expected, "{name}: {texts}");
        }
    }
    let attributes = Attributes::from(asked("replace_at_once=0"));
    let at_once = [1, 19, 20, 200].map(|children| attributes.replacements_at_once(children));
    assert_eq!(at_once, [1, 1, 2, 20]);
    let title = Title::new(&format!("a\u{1b}{}", "b".repeat(50)));
    let shown = title.text(Activity::Free);
    let expected = format!("a?{}: free", "b".repeat(38));
    assert_eq!(shown.bytes(), expected.as_bytes());
}

/// A row whose words say "never", or have no case above, has no value that is changed.
#[test]
fn what_is_never_normalised_is_left_as_it_is() {
    let has_cases = |row: &Attribute| NORMALISED.iter().any(|(name, ..)| *name == row.name);
    let texts = "0 1 7 101 18446744073709551615 0s 1ns 10000d none true false stdout private \
                 control poe refuse warn a\u{1b}b";
    for row in Config::attributes().iter().filter(|row| !has_cases(row)) {
        let is_meant = MEANT.contains(&(row.name, row.normalised));
        assert!(
            is_meant || row.normalised == "never",
            "{}: no case",
            row.name
        );
        let mut tried = 0;
        for text in texts.split(' ') {
            let mut config = Config::default();
            if row.set(&mut config, text).is_ok() {
                tried += 1;
                assert_eq!(
                    row.text(&config.in_force()),
                    row.text(&config),
                    "{}",
                    row.name
                );
            }
        }
        assert!(tried >= 2, "{}: hardly a value was tried", row.name);
    }
}

#[test]
fn values_are_said_in_words() {
    let own = CommWords::new(1, 2, 3).unwrap();
    let config = Config::default()
        .timeout(Duration::from_millis(1500))
        .server_check_ack(Some(Duration::from_secs(7)))
        .comm_words(own);
    let value = |name| {
        let mut rows = Config::attributes().iter();
        let row = rows.find(|row| row.name == name).unwrap();
        (row.default(), row.value(&config))
    };
    let pair = |default: &str, value: &str| (default.to_owned(), value.to_owned());
    assert_eq!(value("timeout"), pair("0 s", "1.5 s"));
    assert_eq!(value("server_check_ack"), pair("none", "7 s"));
    assert_eq!(value("max_clients"), pair("50", "50"));
    assert_eq!(value("handle_signals"), pair("true", "true"));
    let stdout = "CommChannel::Stdout";
    assert_eq!(value("comm_channel"), pair(stdout, stdout));
    let refuse = "ThreadCheck::Refuse";
    assert_eq!(value("thread_check"), pair(refuse, refuse));
    let own = format!("{own:?}");
    assert_eq!(value("comm_words"), pair("CommWords::CONTROL", &own));
}

/// An attribute that is not `Copy` is read by reference, as its row says.
#[test]
fn a_type_that_is_not_copy_is_read_as_its_row_says() {
    struct Own {
        paths: Vec<String>,
        number: usize,
    }
    fn paths(own: &Own) -> read_type!(Vec<String>, [String]) {
        read!(own.paths, [String])
    }
    fn number(own: &Own) -> read_type!(usize) {
        read!(own.number)
    }
    let own = Own {
        paths: vec!["/srv".to_owned()],
        number: 3,
    };
    assert_eq!((paths(&own), number(&own)), (&["/srv".to_owned()][..], 3));
}

/// A new attribute is in files and flags by itself, and its default is one of its values.
#[test]
fn each_attribute_is_written_and_read_again() {
    for attribute in Config::attributes() {
        let default = Config::default();
        let mut config = Config::default();
        let text = attribute.text(&default);
        assert_eq!(
            attribute.set(&mut config, &text),
            Ok(()),
            "{}",
            attribute.name
        );
        assert_eq!(config, default, "{}", attribute.name);
        assert!(attribute.is_optional || attribute.set(&mut config, "no such value").is_err());
        assert_eq!(
            config, default,
            "{} is set in spite of an error",
            attribute.name
        );
    }
}

#[test]
fn an_attribute_is_set_from_text() {
    let mut config = Config::default();
    let attributes = Config::attributes();
    for (name, text) in [
        ("max_clients", "7"),
        ("kill_timeout", "1.5s"),
        ("server_check_ack", "none"),
        ("comm_channel", "private"),
        ("coalesce_words", "false"),
    ] {
        let attribute = attributes.iter().find(|attribute| attribute.name == name);
        let attribute = attribute.expect("an attribute");
        assert_eq!(attribute.set(&mut config, text), Ok(()), "{name}");
        assert_eq!(attribute.text(&config), text, "{name}");
    }
    assert_eq!(config.kill_timeout, Duration::from_millis(1500));
    assert_eq!(config.comm_channel, CommChannel::Private);
}
