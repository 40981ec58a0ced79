//! Containers: PID and mount namespaces of their own around one shared directory of locks, with and without /proc. No pid,
//! no /proc and no boot id decides whether a holder lives, so nothing here may make a difference.

use std::ffi::CString;
use std::time::{Duration, Instant};

use resourcelock::{LockError, Previous, Timeout};

use crate::support::{Child, Dir, LONG, Line, has_own_mounts, hide, is_root, mount, pass_over};

const WHILE: Timeout = Timeout::from_millis(60);

/// A process that starts others, in namespaces of their own or in the host's.
struct Place<'a> {
    /// Reaps and relays; it is itself in the host's PID namespace.
    keeper: Child,
    _dir: &'a Dir,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Host,
    Container { has_proc: bool },
}

impl<'a> Place<'a> {
    /// The first process that is started in a container is its pid 1.
    fn new(kind: Kind, dir: &'a Dir) -> Self {
        let mut keeper = Child::fork(|line| {
            if let Kind::Container { has_proc } = kind {
                assert!(has_own_mounts());
                // SAFETY: the children from here on are in a new PID namespace.
                assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWPID) }, 0);
                if !has_proc {
                    assert!(hide("/proc"));
                }
            }
            line.say("ready");
            let mut children: Vec<(String, Child)> = Vec::new();
            loop {
                let order = line.next();
                let (verb, role) = order.split_once(' ').unwrap_or((&order, ""));
                match verb {
                    "start" => {
                        let mut child = Child::fork(|line| {
                            if kind == (Kind::Container { has_proc: true }) {
                                // Shows the new PID namespace.
                                assert!(mount(Some(c"proc"), "/proc", 0, c""));
                            }
                            play(role, dir, line);
                        });
                        let said = child.line.next();
                        line.say(&said);
                        children.push((role.to_owned(), child));
                    }
                    "hear" => {
                        let (_, child) = children.iter_mut().rfind(|(name, _)| name == role).unwrap();
                        line.say(&child.line.next());
                    }
                    "kill" => {
                        let (_, child) = children.iter_mut().rfind(|(name, _)| name == role).unwrap();
                        child.signal(libc::SIGKILL);
                        line.say("killed");
                    }
                    // The end of pid 1 is the end of the container.
                    "destroy" => {
                        children[0].1.signal(libc::SIGKILL);
                        line.say("destroyed");
                    }
                    _ => return,
                }
            }
        });
        keeper.line.hear("ready");
        Self { keeper, _dir: dir }
    }

    fn order(&mut self, order: &str) -> String {
        self.keeper.line.say(order);
        self.keeper.line.next()
    }
}

fn play(role: &str, dir: &Dir, line: &mut Line) {
    match role {
        "maker" => {
            drop(dir.open());
            line.say("made");
        }
        "idler" => {
            line.say("idle");
            line.next();
        }
        "holder" => {
            let lock = dir.open();
            let _guard = lock.lock(LONG, "works").unwrap();
            line.say("holds");
            line.next();
        }
        "waiter" => {
            let lock = dir.open();
            // A living holder is never taken over.
            assert!(matches!(lock.lock(WHILE, ""), Err(LockError::TimedOut(_))), "robbed");
            line.say("waits");
            let guard = lock.lock(LONG, "recovers").unwrap();
            line.say(match guard.previous() {
                Previous::Died(Some(grant)) if grant.info() == "works" => "recovered",
                Previous::Died(_) => "recovered from somebody",
                _ => "granted",
            });
        }
        "latecomer" => {
            let lock = dir.open();
            let guard = lock.lock(LONG, "recovers").unwrap();
            line.say(if guard.recovered() { "recovered" } else { "granted" });
        }
        _ => panic!("{role}"),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Host,
    A,
    B,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    /// The holder alone is killed.
    Holder,
    /// Its whole container is.
    Container,
    /// Its whole container is, and another one takes its place before the waiter comes.
    Restart,
}

struct World<'a> {
    host: Place<'a>,
    a: Place<'a>,
    b: Place<'a>,
}

impl<'a> World<'a> {
    fn at(&mut self, at: At) -> &mut Place<'a> {
        match at {
            At::Host => &mut self.host,
            At::A => &mut self.a,
            At::B => &mut self.b,
        }
    }
}

/// {holder on the host, in container A} × {waiter on the host, in A, in B} × {record made by the host, by A}; the holder
/// killed, its whole container killed, A restarted. In every cell, with and without /proc, the waiter recovers, and before
/// that finds the holder alive.
#[test]
fn a_dead_holder_is_recovered_across_containers() {
    if !is_root() {
        return pass_over("a_dead_holder_is_recovered_across_containers", "namespaces need root");
    }
    let mut took = Vec::new();
    for has_proc in [true, false] {
        for (holder, deaths) in
            [(At::Host, &[Death::Holder][..]), (At::A, &[Death::Holder, Death::Container, Death::Restart])]
        {
            for waiter in [At::Host, At::A, At::B] {
                for maker in [At::Host, At::A] {
                    for &death in deaths {
                        // A waiter in A would die with A.
                        if (waiter, death) != (At::A, Death::Container) {
                            took.push(cell(Kind::Container { has_proc }, holder, waiter, maker, death));
                        }
                    }
                }
            }
        }
    }
    took.sort();
    let (cells, median, slowest) = (took.len(), took[took.len() / 2], took[took.len() - 1]);
    println!("containers: {cells} cells, recovery took {median:?} (median), {slowest:?} (slowest)");
}

fn cell(container: Kind, holder: At, waiter: At, maker: At, death: Death) -> Duration {
    let dir = Dir::new();
    if maker == At::A {
        // By an earlier container, which has exited.
        assert_eq!(Place::new(container, &dir).order("start maker"), "made");
    } else {
        drop(dir.open());
    }
    let mut world =
        World { host: Place::new(Kind::Host, &dir), a: Place::new(container, &dir), b: Place::new(container, &dir) };
    // Pid 1 of A is the holder, unless a waiter in A is to outlive it. Pid 1 of B is the waiter.
    if holder == At::A && waiter == At::A && death == Death::Holder {
        assert_eq!(world.a.order("start idler"), "idle");
    }
    assert_eq!(world.at(holder).order("start holder"), "holds");
    let role = if death == Death::Restart { "latecomer" } else { "waiter" };
    if death != Death::Restart {
        assert_eq!(world.at(waiter).order("start waiter"), "waits", "{holder:?} {waiter:?} {maker:?} {death:?}");
    }
    let killed = Instant::now();
    match death {
        Death::Holder => assert_eq!(world.at(holder).order("kill holder"), "killed"),
        Death::Container => assert_eq!(world.a.order("destroy"), "destroyed"),
        Death::Restart => {
            assert_eq!(world.a.order("destroy"), "destroyed");
            world.a = Place::new(container, &dir);
        }
    }
    let outcome = match death {
        Death::Restart => world.at(waiter).order("start latecomer"),
        _ => world.at(waiter).order(&format!("hear {role}")),
    };
    assert_eq!(outcome, "recovered", "{holder:?} {waiter:?} {maker:?} {death:?}");
    killed.elapsed()
}

/// A living holder in a container is not robbed by a contender on the host whose /proc belongs to the container, nor the
/// other way round: in either, the holder's pid is another process's, or nobody's.
#[test]
fn a_foreign_proc_robs_nobody() {
    if !is_root() {
        return pass_over("a_foreign_proc_robs_nobody", "namespaces need root");
    }
    let dir = Dir::new();
    let holder = Child::holder(&dir, "lives");
    Child::fork(|_| {
        assert!(has_own_mounts());
        // SAFETY: the children from here on are in a new PID namespace.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWPID) }, 0);
        let mut init = Child::fork(|line| {
            assert!(mount(Some(c"proc"), "/proc", 0, c""));
            line.say("mounted");
            line.next();
        });
        init.line.hear("mounted");
        // This process is in the host's PID namespace, and its /proc is the container's.
        let lock = dir.open();
        assert!(matches!(lock.lock(WHILE, ""), Err(LockError::TimedOut(Some(_)))), "robbed");
        init.line.say("end");
    })
    .succeeds();
    holder.kill();
    assert!(dir.open().try_lock("").unwrap().recovered());
}

/// hidepid=2 hides other users' processes, so that a holder of another user looks gone to everything but its seat.
#[test]
fn hidepid_robs_nobody_and_blocks_nobody() {
    if !is_root() {
        return pass_over("hidepid_robs_nobody_and_blocks_nobody", "mounting needs root");
    }
    let dir = Dir::new();
    drop(dir.options().mode(0o666).open("it").unwrap());
    std::fs::set_permissions(dir.path(""), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let holder = Child::holder(&dir, "root's");
    let mut contender = Child::fork(|line| {
        assert!(has_own_mounts() && mount(Some(c"proc"), "/proc", libc::MS_REMOUNT, c"hidepid=2"));
        // SAFETY: gives up privileges.
        assert_eq!(unsafe { libc::setuid(65_534) }, 0);
        let lock = dir.open();
        assert!(matches!(lock.lock(WHILE, ""), Err(LockError::TimedOut(_))), "robbed");
        line.say("waits");
        assert!(lock.lock(LONG, "").unwrap().recovered());
    });
    contender.line.hear("waits");
    holder.kill();
    contender.succeeds();
}

/// systemd-nspawn and LXC give a container a boot id of its own; a held lock must stay held.
#[test]
fn a_fake_boot_id_wipes_no_lock() {
    const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
    if !is_root() || !std::path::Path::new(BOOT_ID).exists() {
        return pass_over("a_fake_boot_id_wipes_no_lock", "mounting needs root, and there must be a boot id");
    }
    let dir = Dir::new();
    let holder = Child::holder(&dir, "lives");
    Child::fork(|_| {
        let fake = dir.path("boot_id");
        std::fs::write(&fake, "01234567-89ab-cdef-0123-456789abcdef\n").unwrap();
        assert!(has_own_mounts());
        let paths = [fake.to_str().unwrap(), BOOT_ID].map(|path| CString::new(path).unwrap());
        // SAFETY: strings that end with NUL.
        let bound = unsafe {
            libc::mount(paths[0].as_ptr(), paths[1].as_ptr(), std::ptr::null(), libc::MS_BIND, std::ptr::null())
        };
        assert_eq!(bound, 0);
        assert!(std::fs::read_to_string(BOOT_ID).unwrap().starts_with("01234567"));
        let lock = dir.open();
        assert!(matches!(lock.lock(WHILE, ""), Err(LockError::TimedOut(Some(_)))), "robbed");
    })
    .succeeds();
    holder.lets_go();
}

/// Another process with the pid of a dead holder keeps nothing alive, and one with the pid of a living holder of another
/// namespace ends nothing.
#[test]
fn a_reused_pid_is_of_no_concern() {
    if !is_root() {
        return pass_over("a_reused_pid_is_of_no_concern", "choosing a pid needs root");
    }
    let dir = Dir::new();
    // A process of one thread, as `fork_with_pid` wants it.
    let mut tester = Child::fork(|line| {
        let lock = dir.open();
        let mut holder = Child::holder(&dir, "had the pid before");
        let pid = holder.pid;
        holder.signal(libc::SIGKILL);
        holder.end();
        let Some(mut other) = Child::fork_with_pid(pid, |line| {
            line.next();
        }) else {
            return line.say("no choice of pids");
        };
        assert!(lock.try_lock("recovers").unwrap().recovered());
        other.line.say("end");
        other.succeeds();
        line.say("recovered");
    });
    match tester.line.next().as_str() {
        "recovered" => tester.succeeds(),
        why => pass_over("a_reused_pid_is_of_no_concern", why),
    }
}

/// A forked child that is pid 1 of its namespace, as its parent is of its own, owns nothing of the parent's.
#[test]
fn a_child_with_its_parents_pid_owns_nothing() {
    if !is_root() {
        return pass_over("a_child_with_its_parents_pid_owns_nothing", "namespaces need root");
    }
    let dir = Dir::new();
    Child::fork(|_| {
        // SAFETY: the children from here on are in a new PID namespace.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWPID) }, 0);
        Child::fork(|_| {
            assert_eq!(std::process::id(), 1);
            let lock = dir.open();
            let guard = lock.try_lock("the parent's").unwrap();
            // SAFETY: as above.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWPID) }, 0);
            Child::fork(|_| {
                assert_eq!(std::process::id(), 1);
                assert!(!guard.is_held() && !lock.holds() && !lock.release());
                assert!(lock.try_lock("").is_err());
            })
            .succeeds();
            assert!(guard.release());
        })
        .succeeds();
    })
    .succeeds();
}
