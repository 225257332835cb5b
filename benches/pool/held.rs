//! What a holder costs at each fork: of a child, and of one that becomes a program, which is the
//! holder's from its first moment.

use crate::added::{self, Pools};

pub(crate) fn cost() {
    for (title, roles) in [
        ("A holder: children", ["ours", "held"]),
        (
            "A holder: children that become programs",
            ["programs", "held-programs"],
        ),
    ] {
        added::compare(&Pools {
            title: title.to_owned(),
            roles,
            others: [1, 2],
            with: "held",
        });
    }
}
