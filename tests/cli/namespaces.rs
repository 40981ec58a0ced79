//! Other PID namespaces.

use crate::support::{Place, Said};

/// Seen to fail with start times that are compared whatever /proc shows: the prober took over from the living holder.
#[test]
fn a_proc_of_another_namespace_proves_no_death() {
    // In a PID namespace of their own: a holder that sees its own /proc, and a prober that sees the outer one, as after
    // nsenter(1). There, other processes have these pids, and other start times.
    const INSIDE: &str = r#"
        tool="$1"
        unshare --mount sh -c 'mount -t proc proc /proc && exec "$1" x get -a 600' sh "$tool" > /dev/null &
        until "$tool" x state | grep -q True; do kill -0 $! || exit 99; sleep 0.01; done
        "$tool" x get -t 0.3 -a 0 > /dev/null
        echo "status $?"
        kill $!
    "#;
    let place = Place::new();
    let outside = r#"unshare --pid --mount true || exit 98; exec unshare --pid --fork --mount sh -c "$INSIDE" sh "$1""#;
    let said = Said::by(place.shell(outside, &[]).env("INSIDE", INSIDE));
    if said.status == Some(98) {
        eprintln!("passed over: a_proc_of_another_namespace_proves_no_death: namespaces are not permitted");
        return;
    }
    assert_eq!(said.stdout, "status 1\n", "{said:?}");
}
