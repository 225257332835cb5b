//! Metrics without shared memory: what can be declared, and what the numbers of children add up to.

use super::*;
use proptest::prelude::*;

#[test]
fn a_metric_is_declared_once_and_found_again() {
    let mut schema = Schema::new();
    let pages = schema.counter("pages").unwrap();
    assert_eq!(schema.counter("pages"), Ok(pages));
    let render = schema.histogram("render_seconds", &[0.1, 1.0]).unwrap();
    assert_eq!(schema.histogram("render_seconds", &[0.1, 1.0]), Ok(render));
    assert_eq!(schema.counter("errors"), Ok(MetricKind::Counter { at: 4 }));
    assert_eq!(schema.counter("render_seconds"), Err(Refused::Other));
    assert_eq!(schema.histogram("pages", &[0.1, 1.0]), Err(Refused::Other));
    assert_eq!(
        schema.histogram("render_seconds", &[0.1]),
        Err(Refused::Other)
    );
}

#[test]
fn what_no_scraper_takes_is_refused() {
    let mut schema = Schema::new();
    for name in ["", "7up", "a b", "a-b", "a:b", "ü"] {
        assert_eq!(schema.counter(name), Err(Refused::Name), "{name}");
    }
    for bounds in [&[1.0, 1.0][..], &[2.0, 1.0], &[f64::NAN], &[f64::INFINITY]] {
        assert_eq!(schema.histogram("a", bounds), Err(Refused::Bounds));
    }
    assert_eq!(schema.show(&MetricNumbers::default()), []);
}

#[test]
fn there_is_room_for_so_many_and_no_more() {
    let mut schema = Schema::new();
    let bounds: Vec<f64> = (0..INTEGERS - 1).map(|bound| bound as f64).collect();
    assert!(schema.histogram("large", &bounds).is_ok());
    assert_eq!(schema.counter("one_more"), Err(Refused::Room));
    let mut schema = Schema::new();
    for number in 0..SUMS {
        assert!(schema.histogram(&format!("h{number}"), &[]).is_ok());
    }
    assert_eq!(schema.histogram("one_more", &[]), Err(Refused::Room));
    for number in SUMS..INTEGERS {
        assert!(schema.counter(&format!("c{number}")).is_ok());
    }
    assert_eq!(schema.counter("one_more"), Err(Refused::Room));
}

#[test]
fn an_observation_falls_into_the_first_bucket_that_holds_it() {
    let bounds = [0.1, 1.0];
    let cases = [
        (-1.0, 0),
        (0.1, 0),
        (0.11, 1),
        (1.0, 1),
        (1.5, 2),
        (f64::INFINITY, 2),
    ];
    for (value, right) in cases {
        assert_eq!(bucket(&bounds, value), right, "{value}");
    }
    assert_eq!(bucket(&[], 5.0), 0);
}

#[test]
fn numbers_are_shown_with_their_names() {
    let mut schema = Schema::new();
    schema.counter("pages").unwrap();
    schema.histogram("seconds", &[0.5]).unwrap();
    let mut words = [0; NUMBERS];
    words[..3].copy_from_slice(&[7, 2, 1]);
    words[INTEGERS] = 1.75_f64.to_bits();
    let numbers = MetricNumbers::read(|at| words[at]);
    assert_eq!(numbers.words().collect::<Vec<_>>(), words);
    let [pages, seconds] = &schema.show(&numbers)[..] else {
        panic!("two");
    };
    assert_eq!((&*pages.name, &pages.value), ("pages", &Value::Counter(7)));
    let Value::Histogram(seconds) = &seconds.value else {
        panic!("{seconds:?}");
    };
    assert_eq!(
        (&*seconds.counts, seconds.sum, seconds.count()),
        (&[2, 1][..], 1.75, 3)
    );
}

#[test]
fn nonsense_of_a_child_is_left_out_whole() {
    let honest = |at| [7, 0, 2_u64.pow(52)][at % 3];
    let with = |place, word| MetricNumbers::read(|at| if at == place { word } else { honest(at) });
    let (good, sum) = (MetricNumbers::read(honest), SUMS - 1 + INTEGERS);
    let mut total = good.clone();
    for (at, word) in [
        (0, MOST),
        (INTEGERS - 1, u64::MAX),
        (INTEGERS, f64::NAN.to_bits()),
        (sum, f64::NEG_INFINITY.to_bits()),
    ] {
        total.add_childs(&[with(at, word), good.clone()]);
        total.add_childs(&[good.clone(), with(at, word)]);
        assert_eq!(total, good, "{at}");
    }
    total.add_childs(&[with(1, MOST - 1), good.clone()]);
    assert_eq!(total.integers[..2], [21, MOST - 1]);
}

proptest! {
    /// A child may have written anything: totals never go down, never overflow, and stay
    /// numbers.
    #[test]
    fn nonsense_does_not_spoil_the_kind_of_a_number(seeds in prop::collection::vec(any::<u64>(), 1..8)) {
        let mut total = MetricNumbers::default();
        for seed in seeds {
            let before = total.clone();
            let noise = MetricNumbers::read(|at| seed.wrapping_mul(at as u64 | 1) >> (seed % 64));
            total.add_childs(&[noise.clone(), noise.clone()]);
            total.add(&noise);
            prop_assert!(total.sums.iter().all(|sum| sum.is_finite()));
            prop_assert!(total.integers.iter().zip(before.integers).all(|(now, then)| *now >= then));
        }
    }
}
