//! Programs that cannot take over, each in a way of its own: the old one serves on, and says why.

use super::*;

pub const SCENARIOS: Scenarios = scenarios![
    i07_a_program_that_cannot_run_is_refused_and_the_old_one_serves_on: long,
    i07_a_program_that_hangs_is_refused_after_ten_seconds: long,
    a_program_whose_children_fail_gives_the_place_back: long,
    a_program_that_fails_after_its_trial_gives_the_place_back: long,
    the_way_back_is_there_when_the_file_is_not,
];

/// Programs that cannot take over, each in a way of its own. Each is refused, and told of; the children
/// are the same ones. `BROKEN=9000` makes so many such upgrades, those to a program that hangs included.
fn i07_a_program_that_cannot_run_is_refused_and_the_old_one_serves_on(world: &mut World) {
    // The shell that kills one of the programs.
    world.expect_orphans();
    let many: Option<usize> = std::env::var("BROKEN")
        .ok()
        .map(|n| n.parse().expect("a number"));
    world.deadline(SOON * 6 + SOON * u32::try_from(many.unwrap_or(0)).expect("a number"));
    // For those that hang: there are many of them.
    let flags = ["--upgrade-timeout", "2000"];
    let upgraded = Upgraded::new(world, if many.is_some() { &flags } else { &[] });
    let server = &upgraded.server;
    let before = server.expect_children(4);
    let descriptors = held_when_settled(server);
    let broken = broken();
    // That one is waited for.
    let short = broken.iter().filter(|(_, reason)| *reason != HANGS).count();
    let upgrades = many.unwrap_or(short);
    let began = Instant::now();
    let served = beside_clients(&server.address(), 4, || {
        for (make, reason) in broken.iter().cycle().take(upgrades) {
            make(&upgraded.path);
            let said = server.stdout_length();
            server.signal(Signal::SIGUSR2);
            let told = upgraded.expect_after(said, "version 1 serves on: upgrade ");
            let told = told.to_lowercase();
            assert!(told.contains(reason), "{reason}: {told}");
        }
    });
    println!(
        "{upgrades} upgrades to broken programs in {:?}, {served} connections",
        began.elapsed()
    );
    assert!(served > 0);
    upgraded.expect_version(1);
    expect_alive(&before);
    assert_eq!(upgraded.said("event failed"), upgrades);
    expect_no_zombie(server);
    expect_as_many(server, descriptors);
    // It was no fault of the server's.
    upgraded.upgrade_to(2, Mode::Good);
    upgraded.expect("upgraded to 2", 1);
    upgraded.expect_version(2);
    upgraded.stop();
}

/// Puts a program there.
type Make = Box<dyn Fn(&Path)>;

/// What is told of a program that does not answer.
const HANGS: &str = "in its trial it has not answered";

/// Programs that cannot take over, and what is told of each.
fn broken() -> [(Make, &'static str); 9] {
    let of_mode = |mode| -> Make { Box::new(move |path: &Path| write_program(path, 2, mode)) };
    let no_shell = |path: &Path| fs::write(fresh(path), "#!/no/such/shell\n").expect("a file");
    [
        (Box::new(remove), "no such file or directory"),
        (Box::new(write_not_executable), "permission denied"),
        (Box::new(write_foreign), "exec format error"),
        (of_mode(Mode::Exits), "it has ended: exit status: 3"),
        (of_mode(Mode::Dies), "signal: 9 (sigkill)"),
        (of_mode(Mode::Refuses), "this is of a later version"),
        (of_mode(Mode::Older), "format 2, a later one"),
        (Box::new(no_shell), "exec"),
        (of_mode(Mode::Hangs), HANGS),
    ]
}

fn remove(path: &Path) {
    fs::remove_file(path).expect("a file");
}

fn write_not_executable(path: &Path) {
    write_program(path, 2, Mode::Good);
    fs::set_permissions(path, Permissions::from_mode(0o644)).expect("a mode");
}

/// A program for a machine that this is not.
fn write_foreign(path: &Path) {
    fs::remove_file(path).ok();
    let mut bytes = fs::read("/proc/self/exe").expect("this program")[..4096].to_vec();
    bytes[18..20].copy_from_slice(&0x2a_u16.to_le_bytes());
    fs::write(path, bytes).expect("a program");
    fs::set_permissions(path, Permissions::from_mode(0o755)).expect("a mode");
}

/// The path, of a file that is new and can be executed.
fn fresh(path: &Path) -> &Path {
    fs::remove_file(path).ok();
    File::create(path).expect("a file");
    fs::set_permissions(path, Permissions::from_mode(0o755)).expect("a mode");
    path
}

/// A program that does not answer in its trial is killed, and the old one serves on.
fn i07_a_program_that_hangs_is_refused_after_ten_seconds(world: &mut World) {
    world.deadline(SOON * 6);
    let upgraded = Upgraded::new(world, &[]);
    let before = upgraded.server.expect_children(4);
    let served = beside_clients(&upgraded.server.address(), 2, || {
        upgraded.upgrade_to(2, Mode::Hangs);
        upgraded.expect(
            "version 1 serves on: upgrade the new program: in its trial it has not answered",
            1,
        );
    });
    assert!(served > 0);
    expect_alive(&before);
    upgraded.stop();
}

/// No child of the new program becomes ready: the old program comes back, and its children have never
/// stopped to serve.
fn a_program_whose_children_fail_gives_the_place_back(world: &mut World) {
    world.deadline(SOON * 6);
    let upgraded = Upgraded::new(world, &[]);
    let server = &upgraded.server;
    let before = server.expect_children(4);
    let descriptors = held_when_settled(server);
    let served = beside_clients(&server.address(), 4, || {
        for times in 1..=3 {
            upgraded.upgrade_to(2, Mode::Childless);
            upgraded.expect("version 2 in", times);
            upgraded.expect("version 1 serves on: ", times);
        }
    });
    assert!(served > 0);
    let stdout = server.stdout();
    assert!(
        stdout.contains("3 children in a row have not become ready"),
        "{stdout}"
    );
    upgraded.expect_version(1);
    expect_alive(&before);
    expect_as_many(server, descriptors);
    upgraded.upgrade_to(3, Mode::Good);
    upgraded.expect("upgraded to 3", 1);
    upgraded.expect_version(3);
    upgraded.stop();
}

/// Between the exec and the adoption: what the trial does not see.
fn a_program_that_fails_after_its_trial_gives_the_place_back(world: &mut World) {
    world.deadline(SOON * 6);
    world.expect_panics();
    let upgraded = Upgraded::new(world, &[]);
    let before = upgraded.server.expect_children(4);
    let served = beside_clients(&upgraded.server.address(), 4, || {
        for (times, mode) in [Mode::Fails, Mode::Panics, Mode::Fails]
            .into_iter()
            .enumerate()
        {
            upgraded.upgrade_to(2, mode);
            upgraded.expect("version 1 serves on: ", times + 1);
        }
    });
    assert!(served > 0);
    let stdout = upgraded.server.stdout();
    for reason in ["this program does not start", "the start has panicked"] {
        assert!(stdout.contains(reason), "{stdout}");
    }
    expect_alive(&before);
    upgraded.expect_version(1);
    upgraded.stop();
}

/// The package manager has put another file there, or none.
fn the_way_back_is_there_when_the_file_is_not(world: &mut World) {
    let upgraded = Upgraded::new(world, &[]);
    upgraded.server.expect_children(4);
    write_program(&upgraded.path, 2, Mode::Fails);
    let other = upgraded.path.with_file_name("other");
    fs::rename(&upgraded.path, &other).expect("another name");
    // The path of version 1 leads nowhere while version 2 tries and gives up.
    fs::hard_link(&other, &upgraded.path).expect("a link");
    upgraded.server.signal(Signal::SIGUSR2);
    upgraded.expect("version 1 serves on: ", 1);
    fs::remove_file(&upgraded.path).expect("a file");
    fs::write(&upgraded.path, "no program").expect("a file");
    upgraded.expect_version(1);
    upgraded.server.signal(Signal::SIGUSR2);
    upgraded.expect("version 1 serves on: ", 2);
    upgraded.upgrade_to(3, Mode::Good);
    upgraded.expect("upgraded to 3", 1);
    upgraded.expect_version(3);
    upgraded.stop();
}
