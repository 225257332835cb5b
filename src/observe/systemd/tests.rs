//! What systemd is told and when, without a socket.

use super::*;

#[test]
fn the_watchdog_is_fed_at_half_of_its_time_by_the_process_that_it_watches() {
    let own = std::process::id().to_string();
    let half = |usec, pid: Option<&str>| watchdog(Some(OsStr::new(usec)), pid.map(OsStr::new));
    assert_eq!(half("3000000", None), Some(Duration::from_millis(1500)));
    assert_eq!(
        half("3000000", Some(&own)),
        Some(Duration::from_millis(1500))
    );
    assert_eq!(half("3000000", Some("1")), None);
    for wrong in ["", "0", "1", "-5", "3s", "99999999999999999999"] {
        assert_eq!(half(wrong, None), None, "{wrong:?}");
    }
    assert_eq!(watchdog(None, None), None);
}

/// What is sent at a second after the start.
fn sent(systemd: &mut Systemd, monitor: &mut Monitor, second: u64) -> Vec<String> {
    monitor.is_now(Time::at(Duration::from_secs(second)));
    let mut notified = systemd.notified;
    let lines = systemd.due(&mut notified, monitor);
    systemd.notified = notified;
    lines
}

#[test]
fn a_long_shutdown_is_extended_every_five_seconds() {
    const EXTEND: &str = "EXTEND_TIMEOUT_USEC=15000000";
    let mut systemd = Systemd::to(None, None);
    let mut monitor = Monitor::default();
    systemd.phase = ServicePhase::Stopping;
    let status = "STATUS=stopping, 0 children left";
    let lines = sent(&mut systemd, &mut monitor, 60);
    assert_eq!(lines, ["STOPPING=1", status, EXTEND]);
    let next = Some(Time::at(Duration::from_secs(65)));
    assert_eq!(systemd.next(&monitor), next);
    assert!(sent(&mut systemd, &mut monitor, 64).is_empty());
    assert_eq!(sent(&mut systemd, &mut monitor, 65), [EXTEND]);
}

#[test]
fn a_reload_begins_with_a_message_of_its_own_and_ends_ready() {
    let mut systemd = Systemd::to(None, None);
    let mut monitor = Monitor::default();
    systemd.phase = ServicePhase::Ready;
    assert_eq!(sent(&mut systemd, &mut monitor, 60)[0], "READY=1");
    for failed in [false, true] {
        systemd.reload(!failed, &monitor);
        let lines = sent(&mut systemd, &mut monitor, 61);
        assert_eq!(lines[0], "RELOADING=1");
        assert!(lines[1].starts_with("MONOTONIC_USEC=") && lines.len() == 2);
        systemd.reload_ended(&monitor);
        assert_eq!(
            sent(&mut systemd, &mut monitor, 61),
            ["READY=1"],
            "{failed}"
        );
        assert_eq!(systemd.notified.reloads, systemd.reloads);
    }
}

/// It would make the loop turn without a pause.
#[test]
fn what_is_overdue_is_not_waited_for() {
    let mut systemd = Systemd::to(None, Some(Duration::from_secs(2)));
    let mut monitor = Monitor::default();
    monitor.set_timeout(Duration::from_secs(10));
    systemd.phase = ServicePhase::Ready;
    // No child has sent an ACK, since there is none.
    let lines = sent(&mut systemd, &mut monitor, 60);
    assert_eq!(lines, ["READY=1", "STATUS=0 free, 0 busy, 0 waiting"]);
    assert_eq!(systemd.next(&monitor), None);
}

#[test]
fn a_name_is_a_path_from_the_root_or_abstract() {
    for good in ["/run/systemd/notify", "@abstract"] {
        assert!(NotifySocket::at(OsStr::new(good)).is_ok(), "{good}");
    }
    let long = format!("/{}", "x".repeat(200));
    for wrong in ["", "@", "run/notify", "vsock:2:9999", &long] {
        assert!(NotifySocket::at(OsStr::new(wrong)).is_err(), "{wrong}");
    }
}
