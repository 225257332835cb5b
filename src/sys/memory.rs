//! How much memory of its own a process has, as the kernel counts it. Reads /proc; changes nothing.

use nix::libc::pid_t;

/// The private memory of a process, in bytes. `None` where the kernel does not tell.
#[cfg(target_os = "linux")]
pub(super) fn private(pid: pid_t) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    private_of(&text)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn private(_: pid_t) -> Option<u64> {
    None
}

/// The sum of the private pages in an smaps_rollup, in bytes.
#[cfg(any(target_os = "linux", test))]
fn private_of(text: &str) -> Option<u64> {
    let kibibytes = |line: &str| {
        let rest = line.strip_prefix("Private_")?;
        let (which, value) = rest.split_once(':')?;
        let number = value
            .trim()
            .strip_suffix("kB")?
            .trim()
            .parse::<u64>()
            .ok()?;
        matches!(which, "Clean" | "Dirty").then_some(number)
    };
    let sums: Vec<u64> = text.lines().filter_map(kibibytes).collect();
    (sums.len() == 2).then(|| sums.iter().sum::<u64>() * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_pages_are_summed() {
        let text = "5581e000-7fff0000 ---p 00000000 00:00 0    [rollup]\nRss:  900 kB\n\
                    Shared_Clean:  700 kB\nPrivate_Clean:  60 kB\nPrivate_Dirty:  140 kB\n\
                    Private_Hugetlb:  7 kB\n";
        assert_eq!(private_of(text), Some(200 * 1024));
    }

    #[test]
    fn nothing_is_made_up_for_another_text() {
        for text in [
            "",
            "Private_Clean: 60 kB\n",
            "Private_Clean: x kB\nPrivate_Dirty: 1 kB\n",
        ] {
            assert_eq!(private_of(text), None, "{text:?}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn memory_that_is_written_is_private() {
        let pid = std::process::id().cast_signed();
        let Some(before) = private(pid) else {
            return println!("skipped: the kernel does not tell");
        };
        let written = vec![1_u8; 64 << 20];
        let after = private(pid).expect("it was told before");
        assert!(
            after >= before + (60 << 20),
            "{before} and {after}, {}",
            written.len()
        );
    }
}
