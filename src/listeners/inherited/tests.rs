//! The variables of inherited sockets: which values are accepted, and which are refused.

use super::*;

const OWN: u32 = 42;

fn said(pid: &str, fds: &str, names: Option<&str>) -> Result<Vec<AnnouncedFd>, ListenFdsError> {
    let variables = Variables {
        pid: Some(pid.as_bytes()),
        fds: Some(fds.as_bytes()),
        names: names.map(str::as_bytes),
    };
    parse(variables, OWN)
}

fn announced(fd: RawFd, name: &str) -> AnnouncedFd {
    AnnouncedFd {
        fd,
        name: name.to_owned(),
    }
}

#[test]
fn descriptors_begin_at_three_and_have_the_names_that_were_given() {
    assert_eq!(said("42", "1", None), Ok(vec![announced(3, "")]));
    assert_eq!(
        said("42", "3", Some("web:unknown:web")),
        Ok(vec![
            announced(3, "web"),
            announced(4, "unknown"),
            announced(5, "web")
        ])
    );
    assert_eq!(
        said("42", "2", Some(":")),
        Ok(vec![announced(3, ""), announced(4, "")])
    );
}

/// A value that is not plain digits is refused.
#[test]
fn i09_a_count_or_pid_that_is_no_plain_number_is_refused() {
    let bad = [
        "",
        " ",
        "3x",
        "x3",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1\n",
        "0x1",
        "1.0",
        "1e3",
        "٣",
        "--1",
        "4294967296",
        "99999999999999999999",
        "-99999999999999999999",
    ];
    for text in bad {
        let no_number = |variable| Err(ListenFdsError::NoNumber(variable, text.to_owned()));
        assert_eq!(said("42", text, None), no_number("LISTEN_FDS"));
        assert_eq!(said(text, "1", None), no_number("LISTEN_PID"));
    }
}

/// A count that is too large for any process is refused before a descriptor is checked.
#[test]
fn i09_a_count_that_cannot_be_true_is_refused() {
    for count in [65_537, 1_000_000, 2_147_483_647, u32::MAX] {
        let text = count.to_string();
        assert_eq!(said("42", &text, None), Err(ListenFdsError::TooMany(count)));
        assert_eq!(
            said("42", &text, Some("a:b")),
            Err(ListenFdsError::TooMany(count))
        );
    }
    assert_eq!(said("42", "65536", None).map(|all| all.len()), Ok(65_536));
    assert_eq!(said("42", "0", None), Err(ListenFdsError::None));
    assert_eq!(said("42", "0", Some("")), Err(ListenFdsError::None));
}

/// Variables for another process are refused, even if their other values are valid.
#[test]
fn i09_what_is_for_another_process_is_refused() {
    for pid in [0, 1, 41, 43, 420, u32::MAX] {
        assert_eq!(
            said(&pid.to_string(), "1", None),
            Err(ListenFdsError::OthersPid(pid))
        );
    }
    // The pid is checked first: values for another process cause no error of their own.
    assert_eq!(said("7", "3x", None), Err(ListenFdsError::OthersPid(7)));
}

#[test]
fn what_is_not_set_is_missing() {
    let fds_only = Variables {
        fds: Some(b"1"),
        ..Variables::default()
    };
    let pid_only = Variables {
        pid: Some(b"42"),
        ..Variables::default()
    };
    let missing = |variable| Err(ListenFdsError::Missing(variable));
    assert_eq!(parse(Variables::default(), OWN), missing("LISTEN_PID"));
    assert_eq!(parse(fds_only, OWN), missing("LISTEN_PID"));
    assert_eq!(parse(pid_only, OWN), missing("LISTEN_FDS"));
}

/// Names that are invalid or do not match the count make the start fail.
#[test]
fn i09_names_must_be_names_and_as_many_as_sockets() {
    for (fds, names, found) in [
        ("1", "a:b", 2),
        ("3", "a:b", 2),
        ("2", "a", 1),
        ("2", "", 1),
    ] {
        let sockets = fds.parse().unwrap();
        assert_eq!(
            said("42", fds, Some(names)),
            Err(ListenFdsError::Names {
                names: found,
                sockets
            })
        );
    }
    for name in ["a\n", "\0", "\x7f", "ä"] {
        assert_eq!(
            said("42", "2", Some(&format!("fine:{name}"))),
            Err(ListenFdsError::BadName(name.to_owned()))
        );
    }
    let not_text = Variables {
        pid: Some(b"42"),
        fds: Some(b"1"),
        names: Some(b"\xff"),
    };
    assert_eq!(
        parse(not_text, OWN),
        Err(ListenFdsError::BadName("\u{fffd}".to_owned()))
    );
}

#[test]
fn an_error_names_the_operation_the_object_and_the_reason() {
    let error = Error::new(
        Operation::TakeOver,
        "descriptor 3 (web)",
        ListenFdsError::NotListening(3).into(),
    );
    assert_eq!(
        error.to_string(),
        "take over descriptor 3 (web): descriptor 3 does not listen"
    );
    let reason = error.io_error().get_ref().unwrap();
    assert_eq!(
        reason.downcast_ref(),
        Some(&ListenFdsError::NotListening(3))
    );
}
