//! The setters of all attributes, in any order, against setting all values at once.

use super::*;
use crate::core::{
    child::State,
    testing::{child, monitor, sized, warnings},
};
use proptest::prelude::*;

/// Sets one attribute of a monitor to its value in a configuration.
type Setter = fn(&mut Monitor, &Config);

macro_rules! setters {
    ($(
        $(#[doc = $doc:literal])*
        $name:ident, $set:ident: $type:ty $(as $read:ty)? = $default:expr => $facts:tt;
    )*) => {
        /// One setter for each row of the table.
        const SETTERS: &[Setter] = &[
            $(|monitor, config| monitor.$set(config.$name.clone()),)*
        ];

        /// Whether the monitor's getters return the values in force in `attributes`.
        fn says(monitor: &Monitor, attributes: &Attributes) -> bool {
            true $(&& monitor.$name() == read!(attributes.$name $(, $read)?))*
        }
    };
}
with_attributes!(setters);

fn any_number() -> impl Strategy<Value = usize> {
    prop_oneof![0..9usize, any::<usize>()]
}

fn any_duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        (0..9000u64).prop_map(Duration::from_millis)
    ]
}

fn any_config() -> impl Strategy<Value = Config> {
    let numbers = [any_number(), any_number(), any_number(), any_number()];
    let durations = [
        any_duration(),
        any_duration(),
        any_duration(),
        any_duration(),
    ];
    let check = proptest::option::of(any_duration());
    let flags = any::<[bool; 6]>();
    (numbers, durations, check, flags).prop_map(|(numbers, durations, check, flags)| {
        let [min, max, start, clients] = numbers;
        let [timeout, kill, shutdown, cull] = durations;
        let [on_error, coalesce, signals, private, warn, poe] = flags;
        let mut config = Config::default()
            .min_spare_servers(min)
            .max_spare_servers(max)
            .start_servers(start)
            .max_clients(clients)
            .timeout(timeout)
            .kill_timeout(kill)
            .shutdown_timeout(shutdown)
            .cull_after(cull)
            .server_check_ack(check)
            .shutdown_on_error(on_error)
            .coalesce_words(coalesce)
            .handle_signals(signals);
        if private {
            config = config.comm_channel(CommChannel::Private);
        }
        if poe {
            config = config.comm_words(CommWords::POE);
        }
        if warn {
            config = config.thread_check(ThreadCheck::Warn);
        }
        config
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// After all attributes were set, in any order and after any earlier values, the values in
    /// force are those that normalising the new values once gives.
    #[test]
    fn the_order_of_setters_does_not_matter(
        (begun, before, asked) in (any_config(), any_config(), any_config()),
        set_before in proptest::sample::subsequence(SETTERS, 0..=SETTERS.len()),
        order in Just(SETTERS.to_vec()).prop_shuffle(),
    ) {
        let mut monitor = Monitor::with_attributes(Attributes::from(begun));
        set_before.iter().for_each(|set| set(&mut monitor, &before));
        order.iter().for_each(|set| set(&mut monitor, &asked));
        prop_assert_eq!(monitor.config(), &asked);
        let at_once = Attributes::from(asked);
        prop_assert_eq!(&*monitor.attributes, &*at_once);
        prop_assert!(says(&monitor, &at_once));
    }
}

#[test]
fn what_makes_no_sense_is_warned_of_once_and_kept() {
    let mut monitor = monitor();
    let text = warnings(|| {
        monitor.set_start_servers(70);
        monitor.set_timeout(Duration::from_secs(1));
        monitor.set_start_servers(70);
    });
    assert_eq!(text, ["start_servers 70 makes no sense, using 50"]);
    assert_eq!(monitor.config().start_servers, 70);
    let text = warnings(|| monitor.set_max_clients(80));
    assert_eq!(text, [""; 0]);
    assert_eq!(monitor.start_servers(), 70);
}

/// Without it an idle pool would stay as it is until a client comes.
#[test]
fn a_pool_that_lacks_children_under_its_new_attributes_forks_at_once() {
    let mut monitor = sized(4, 5, 1, 1);
    child(&mut monitor, State::Free);
    assert!(!monitor.queue.has_forkoff());
    monitor.set_timeout(Duration::from_secs(1));
    assert!(!monitor.queue.has_forkoff(), "there is no room");
    monitor.set_max_clients(20);
    assert!(monitor.queue.has_forkoff());
}
