//! Clocks that are a day off: of a leader at work, of one that starts, and of one that was here before.

use super::house::House;
use super::operators::Seat;
use super::writer::{Writer, fact};
use chrono::TimeDelta;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use stheno::audit::Source;
use stheno_events::datacenter::Led;
use stheno_events::operator::Leading;
use stheno_events::{Aggregate, Epoch, Process};
use tokio::time::{Instant, sleep};

const DAY: i64 = 86_400;

/// The wall clock of a process is set by a library that is loaded before all others; the clocks of the machine go on.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static long offset(void) {
    char text[32] = {0};
    const char *path = getenv("DRILL_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return 0;
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    return length > 0 ? atol(text) : 0;
}
int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = (int)syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) time->tv_sec += offset();
    return result;
}
"#;

/// A wall clock that can be set.
struct Clock {
    offset: PathBuf,
    _folder: tempfile::TempDir,
}

impl Clock {
    fn of(seat: &mut Seat) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (source, library) = (folder.path().join("clock.c"), folder.path().join("clock.so"));
        std::fs::write(&source, SHIM).unwrap();
        // Rust links with it, so it is there.
        let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]).status();
        assert!(built.unwrap().success());
        let offset = folder.path().join("offset");
        seat.environment.push(("LD_PRELOAD".into(), library));
        seat.environment.push(("DRILL_CLOCK".into(), offset.clone()));
        Self { offset, _folder: folder }
    }

    fn set(&self, seconds: i64) {
        // At once: a file that is half written would be another time.
        let part = self.offset.with_extension("part");
        std::fs::write(&part, seconds.to_string()).unwrap();
        std::fs::rename(&part, &self.offset).unwrap();
    }
}

/// No message bears a time that was not.
async fn times_are_true(file: &Path) {
    let source = Source::file(file.to_owned()).unwrap();
    let mut reader = source.read(1, Default::default()).await.unwrap();
    while let Some(entry) = reader.next().await.unwrap() {
        let off = (entry.at() - entry.stored).abs();
        assert!(
            off < TimeDelta::seconds(60),
            "message {} of {} was stored at {}",
            entry.sequence,
            entry.at(),
            entry.stored
        );
    }
}

async fn whole(house: &House) {
    let (good, said, error) = house.stheno(&["audit", "verify"]).await;
    assert!(good, "{said}{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_a_day_ahead_and_back_ends_nothing() {
    let house = &mut House::simple("jump").await;
    let mut operator = house.operators.pop().unwrap();
    let clock = Clock::of(&mut operator);
    clock.set(0);
    operator.start();
    operator.leads().await;
    house.ground.job("in-the-jump").await;
    let running = |job: &stheno_crds::MedusaBackupJob| job.status.as_ref().is_some_and(|s| s.in_progress.len() == 1);
    house.ground.job_once("in-the-jump", running).await;
    clock.set(DAY);
    // No deadline of its has passed, whatever the clock says.
    let said = operator.says("what is wrong", |status, text| status == 503 && text.starts_with("ClockSkew")).await;
    assert!(said.contains("The clock here is 86") && said.contains("ahead of that of the NATS server"), "{said}");
    house.ground.job("behind-it").await;
    sleep(Duration::from_secs(3)).await;
    assert!(house.ground.jobs().get("behind-it").await.unwrap().status.is_none(), "something was decided");
    clock.set(0);
    // An own message may have told of the jump, so that no look at the clock ever saw it: that it is over is seen all the same.
    let set_back = Instant::now();
    operator.leads().await;
    assert!(set_back.elapsed() < Duration::from_secs(20), "noticed {:?} after it was set back", set_back.elapsed());
    for name in ["in-the-jump", "behind-it"] {
        let job = house.ground.finished(name).await.status.unwrap();
        assert_eq!((job.finished.len(), job.failed.len()), (1, 0), "{job:#?}");
    }
    operator.stop().await;
    whole(house).await;
    let folder = tempfile::tempdir().unwrap();
    times_are_true(&house.export(folder.path()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_starts_with_a_wrong_clock_does_nothing_until_it_is_set_right() {
    let house = &mut House::simple("wrong").await;
    let mut operator = house.operators.pop().unwrap();
    let clock = Clock::of(&mut operator);
    house.ground.job("nightly").await;
    for (offset, word) in [(DAY, " s ahead of that"), (-DAY, " s behind that")] {
        clock.set(offset);
        operator.start();
        let said = operator.says("what is wrong", |status, text| status == 503 && text.contains(word)).await;
        assert!(said.starts_with("ClockSkew") && said.contains("until the clocks are set right"), "{said}");
        sleep(Duration::from_secs(2)).await;
        assert!(house.ground.jobs().get("nightly").await.unwrap().status.is_none(), "something was decided");
        if offset > 0 {
            operator.stop().await;
        }
    }
    clock.set(0);
    operator.leads().await;
    house.ground.finished("nightly").await;
    operator.stop().await;
    whole(house).await;
    let folder = tempfile::tempdir().unwrap();
    times_are_true(&house.export(folder.path()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_a_former_leader_wrote_a_day_ahead_still_goes_on() {
    let house = &mut House::simple("ahead").await;
    let mut operator = house.operators.pop().unwrap();
    operator.start();
    operator.leads().await;
    house.ground.job("before").await;
    house.ground.finished("before").await;
    operator.stop().await;

    let mut writer = Writer::new(house).await;
    let (epoch, ahead) = (Epoch(writer.world.operator.epoch.0 + 1), stheno::runtime::wall() + TimeDelta::seconds(DAY));
    let leading = vec![fact(Leading { epoch, identity: "tomorrow".into() })];
    writer.say(&Aggregate::Operator, Process::Operator, ahead, epoch, leading).await;
    let led = vec![fact(Led { epoch, quiet_until: None })];
    writer.say(&Writer::datacenter(house), Process::Datacenter, ahead, epoch, led).await;

    // A start that fails at first waits, and the wait ends.
    house.agent.kill();
    operator.start();
    operator.leads().await;
    house.ground.job("after").await;
    sleep(Duration::from_secs(13)).await;
    house.agent.start().await;
    let job = house.ground.finished("after").await.status.unwrap();
    assert_eq!((job.finished.len(), job.failed.len()), (1, 0), "{job:#?}");
    operator.stop().await;
    whole(house).await;
}
