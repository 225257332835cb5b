//! The known name that is nearest to an unknown one. Compares; knows no key.

/// The name that was probably meant: the nearest one, if few changes lead to it.
pub(crate) fn typo(name: &str, names: impl IntoIterator<Item = String>) -> Option<String> {
    /// A letter that is missing, wrong or one too many, and another.
    const FEW: usize = 2;
    let nearest = names.into_iter().min_by_key(|known| distance(name, known));
    nearest.filter(|nearest| distance(name, nearest) <= FEW)
}

/// How many characters must be inserted, removed or replaced to turn one text into the other.
pub(crate) fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (above, char) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], above + 1);
        for (at, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(char != *other);
            diagonal = row[at + 1];
            row[at + 1] = replaced.min(row[at] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn distances_are_counted() {
        for (from, to, changes) in [
            ("", "", 0),
            ("max_client", "max_clients", 1),
            ("max-clients", "max_clients", 1),
            ("timeuot", "timeout", 2),
            ("kitten", "sitting", 3),
            ("", "abc", 3),
        ] {
            assert_eq!(distance(from, to), changes, "{from} {to}");
            assert_eq!(distance(to, from), changes, "{to} {from}");
        }
    }

    #[test]
    fn what_is_far_away_was_not_mistyped() {
        let names = || ["PREFORK_USER", "PREFORK_NICE"].map(str::to_owned);
        assert_eq!(
            typo("PREFORK_USRE", names()).as_deref(),
            Some("PREFORK_USER")
        );
        assert_eq!(typo("PREFORK_SERVICE_HOST", names()), None);
    }

    proptest! {
        #[test]
        fn a_text_is_nearest_to_itself(a in "[a-z_]{0,9}", b in "[a-z_]{0,9}") {
            prop_assert_eq!(distance(&a, &a), 0);
            prop_assert!(distance(&a, &b) <= a.len().max(b.len()));
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
        }
    }
}
