//! Deterministic simulation of a backup: the real engine between a false API server, false sidecars (ours and stock), a
//! false log, a virtual clock and seeded faults. Nothing here sleeps or opens a socket.
//!
//! `STHENO_SIM_SEED=<n>` replays one seed, `STHENO_SIM_POINT=<n>` one crash point, `STHENO_SIM_SEEDS=<n>` sets how many
//! seeds run, `STHENO_SIM_TRACE=1` prints what happens.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on says so"
)]

mod api;
mod check;
mod log;
#[allow(dead_code, unreachable_pub, reason = "shared with the log's own tests, which use the rest of it")]
#[path = "../support/memory_log.rs"]
mod memory_log;
mod process;
mod sidecar;
mod sim;

use sidecar::Kind;
use sim::{Faults, Plan, Sim, Wish};
use stheno_events::observed::JobRules;

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// The crash-free run: what every run with a crash must come to.
fn calm(kind: Kind) -> Plan {
    Plan {
        kind,
        nodes: 3,
        seed: 1,
        crash_at: None,
        faults: Faults::default(),
        operators: 1,
        put_back: false,
        schedule: None,
        outages: false,
        tasks: false,
        rules: JobRules::default(),
        wish: None,
    }
}

fn crash_points(plan: Plan, test: &str) {
    crash_points_of(plan, test, |ending| ending.outcomes == ["Complete"]);
}

fn crash_points_of(plan: Plan, test: &str, well: impl Fn(&check::Ending) -> bool) {
    let mut calm_run = Sim::new(plan);
    calm_run.run();
    let expected = check::all(&calm_run).unwrap_or_else(|fault| panic!("without a crash: {fault}"));
    assert!(well(&expected), "the calm run backs up: {expected:?}");
    let points = calm_run.points();
    assert!(points > 30, "a backup of three nodes has more than {points} crash points");
    let chosen: Vec<u64> = env("STHENO_SIM_POINT").map_or_else(|| (0..points).collect(), |point| vec![point]);
    for point in &chosen {
        let mut sim = Sim::new(Plan { crash_at: Some(*point), ..plan });
        sim.run();
        let replay = format!("STHENO_SIM_POINT={point} cargo test --test simulation {test}");
        let found = check::all(&sim).unwrap_or_else(|fault| panic!("crash point {point}: {fault}\nreplay: {replay}"));
        assert_eq!(found, expected, "crash point {point} ends otherwise\nreplay: {replay}");
    }
    println!("{test}: {} crash points (before and after each append, call and write)", chosen.len());
}

/// Three slots of a schedule: whatever dies when, each of them has its outcome and its one job.
#[test]
fn crash_before_and_after_each_edge_of_a_schedule() {
    let test = "crash_before_and_after_each_edge_of_a_schedule";
    let plan = Plan { nodes: 1, schedule: Some("10 0-2 * * *"), ..calm(Kind::Stheno) };
    let mut calm_run = Sim::new(plan);
    calm_run.run();
    let expected = check::all(&calm_run).unwrap_or_else(|fault| panic!("without a crash: {fault}"));
    assert_eq!(expected.outcomes, ["Complete"; 3], "the calm run backs up three times");
    assert_eq!(check::slots(&calm_run), Ok((3, 3)), "three slots, three jobs");
    let points = calm_run.points();
    assert!(points > 60, "three slots have more than {points} crash points");
    let chosen: Vec<u64> = env("STHENO_SIM_POINT").map_or_else(|| (0..points).collect(), |point| vec![point]);
    for point in &chosen {
        let mut sim = Sim::new(Plan { crash_at: Some(*point), ..plan });
        sim.run();
        let replay = format!("STHENO_SIM_POINT={point} cargo test --test simulation {test}");
        let found = check::all(&sim).unwrap_or_else(|fault| panic!("crash point {point}: {fault}\nreplay: {replay}"));
        assert_eq!(found, expected, "crash point {point} ends otherwise\nreplay: {replay}");
        assert_eq!(check::slots(&sim), Ok((3, 3)), "crash point {point}\nreplay: {replay}");
    }
    println!("{test}: {} crash points (before and after each append, call and write)", chosen.len());
}

/// Two leaders, faults of every kind, and hours without an operator: each slot ends once, each that ran has one job.
#[test]
fn a_schedule_through_everything() {
    seeds("a_schedule_through_everything", 150, |seed| Plan {
        kind: if seed % 2 == 0 { Kind::Stheno } else { Kind::Medusa },
        nodes: 1 + seed % 2,
        seed,
        faults: Faults { user_deletes: 0, ..Faults::everything() },
        operators: 2,
        // The last slots come an hour before the end: what they start ends too.
        schedule: Some(if seed % 3 == 0 { "* 0-1 * * *" } else { "*/20 0-1 * * *" }),
        outages: seed % 4 != 0,
        ..calm(Kind::Stheno)
    });
}

/// A purge, the sync that follows it, and a sync that takes in one backup and lets go of another, beside a backup.
#[test]
fn crash_before_and_after_each_edge_of_tasks() {
    let test = "crash_before_and_after_each_edge_of_tasks";
    let plan = Plan { nodes: 2, tasks: true, ..calm(Kind::Stheno) };
    let mut calm_run = Sim::new(plan);
    calm_run.run();
    let expected = check::all(&calm_run).unwrap_or_else(|fault| panic!("without a crash: {fault}"));
    assert_eq!(expected.tasks.len(), 3, "a purge and two syncs: {:?}", expected.tasks);
    assert!(expected.tasks.values().all(|outcome| outcome == "Complete"), "{:?}", expected.tasks);
    let points = calm_run.points();
    assert!(points > 60, "tasks have more than {points} crash points");
    let chosen: Vec<u64> = env("STHENO_SIM_POINT").map_or_else(|| (0..points).collect(), |point| vec![point]);
    for point in &chosen {
        let mut sim = Sim::new(Plan { crash_at: Some(*point), ..plan });
        sim.run();
        let replay = format!("STHENO_SIM_POINT={point} cargo test --test simulation {test}");
        let found = check::all(&sim).unwrap_or_else(|fault| panic!("crash point {point}: {fault}\nreplay: {replay}"));
        assert_eq!(found, expected, "crash point {point} ends otherwise\nreplay: {replay}");
    }
    println!("{test}: {} crash points (before and after each append, call and write)", chosen.len());
}

/// Two leaders and faults of every kind: each task ends once, no purge runs beside a backup, and no sync removes much
/// without consent.
#[test]
fn tasks_through_everything() {
    seeds("tasks_through_everything", 800, |seed| Plan {
        kind: if seed % 2 == 0 { Kind::Stheno } else { Kind::Medusa },
        nodes: 1 + seed % 3,
        seed,
        faults: Faults { user_deletes: 0, ..Faults::everything() },
        operators: 2,
        tasks: true,
        ..calm(Kind::Stheno)
    });
}

#[test]
fn crash_before_and_after_each_edge_with_our_sidecar() {
    crash_points(calm(Kind::Stheno), "crash_before_and_after_each_edge_with_our_sidecar");
}

/// One node after the other: a place that a crash leaves behind is taken again, and never twice.
#[test]
fn crash_before_and_after_each_edge_with_one_node_at_a_time() {
    let rules = JobRules { parallelism: Some(1), ..JobRules::default() };
    let plan = Plan { rules, ..calm(Kind::Stheno) };
    crash_points(plan, "crash_before_and_after_each_edge_with_one_node_at_a_time");
}

/// Jobs with rules of their own, two leaders, faults of every kind: no more nodes at work than allowed, none tried again
/// more often than allowed.
#[test]
fn jobs_with_rules_through_everything() {
    seeds("jobs_with_rules_through_everything", 1_000, |seed| Plan {
        kind: if seed % 2 == 0 { Kind::Stheno } else { Kind::Medusa },
        nodes: 2 + seed % 4,
        seed,
        faults: Faults { sidecar_failures: 200, ..Faults::everything() },
        operators: 2,
        rules: rules(seed),
        ..calm(Kind::Stheno)
    });
}

/// Rules that differ from seed to seed.
fn rules(seed: u64) -> JobRules {
    let one_of =
        |draw: u64, choices: &[Option<u32>]| choices[usize::try_from(draw).expect("a small number") % choices.len()];
    JobRules {
        parallelism: one_of(seed / 2, &[Some(1), Some(2), None]),
        backoff_limit: one_of(seed / 6, &[Some(0), Some(1), None, Some(4)]),
        active_deadline: one_of(seed / 24, &[None, Some(10), Some(30)]),
        ttl: None,
        suspended: false,
    }
}

/// A job that a person holds back on its way and lets go on: nothing is started meanwhile, and it ends.
#[test]
fn suspended_jobs_through_everything() {
    seeds("suspended_jobs_through_everything", 600, |seed| Plan {
        kind: if seed % 2 == 0 { Kind::Stheno } else { Kind::Medusa },
        nodes: 2 + seed % 3,
        seed,
        faults: Faults::everything(),
        operators: 2,
        rules: JobRules { suspended: seed % 5 == 0, ..rules(seed / 2) },
        wish: Some(Wish::Suspend),
        ..calm(Kind::Stheno)
    });
}

/// Jobs that live for a while after their end: each is deleted once, by a decision of the log, and its backup stays.
#[test]
fn jobs_with_a_time_to_live_through_everything() {
    seeds("jobs_with_a_time_to_live_through_everything", 600, |seed| Plan {
        kind: if seed % 2 == 0 { Kind::Stheno } else { Kind::Medusa },
        nodes: 1 + seed % 3,
        seed,
        faults: Faults { user_deletes: 0, ..Faults::everything() },
        operators: 2,
        rules: JobRules { ttl: Some(if seed % 5 == 0 { 0 } else { 60 }), ..rules(seed / 2) },
        wish: Some(if seed % 3 == 0 { Wish::Cancel } else { Wish::Patience }),
        ..calm(Kind::Stheno)
    });
}

/// A leader that dies around the end of a job that is to go at once: it goes, and its backup stays.
#[test]
fn crash_before_and_after_each_edge_of_a_job_that_goes_at_once() {
    let rules = JobRules { ttl: Some(0), ..JobRules::default() };
    let expected = |ending: &check::Ending| ending.outcomes == ["Complete, gone"];
    let plan = Plan { rules, ..calm(Kind::Stheno) };
    crash_points_of(plan, "crash_before_and_after_each_edge_of_a_job_that_goes_at_once", expected);
}

/// A job that is cancelled, deleted or runs too long, and another one behind it: whoever leads, whatever was lost, nothing
/// of the first is at work when it has ended and the other one starts.
#[test]
fn stopped_jobs_through_everything() {
    seeds("stopped_jobs_through_everything", 1_500, |seed| Plan {
        kind: if seed % 2 == 0 { Kind::Stheno } else { Kind::Medusa },
        nodes: 1 + seed % 4,
        seed,
        faults: if seed % 3 == 0 { Faults::leaders() } else { Faults { user_deletes: 0, ..Faults::everything() } },
        operators: 1 + seed % 2,
        rules: rules(seed / 3),
        wish: Some([Wish::Patience, Wish::Cancel, Wish::Delete][usize::try_from(seed / 2 % 3).expect("small")]),
        ..calm(Kind::Stheno)
    });
}

/// A leader that dies while a job is stopped: the next one stops it, and nothing stays at work.
#[test]
fn crash_before_and_after_each_edge_of_a_job_that_runs_too_long() {
    let test = "crash_before_and_after_each_edge_of_a_job_that_runs_too_long";
    let rules = JobRules { active_deadline: Some(1), ..JobRules::default() };
    for kind in [Kind::Stheno, Kind::Medusa] {
        let plan = Plan { rules, wish: Some(Wish::Patience), ..calm(kind) };
        let mut calm_run = Sim::new(plan);
        calm_run.run();
        let expected = check::all(&calm_run).unwrap_or_else(|fault| panic!("without a crash: {fault}"));
        assert!(expected.outcomes.contains(&"DeadlineExceeded".to_owned()), "{expected:?}");
        let points = calm_run.points();
        let chosen: Vec<u64> = env("STHENO_SIM_POINT").map_or_else(|| (0..points).collect(), |point| vec![point]);
        for point in &chosen {
            let mut sim = Sim::new(Plan { crash_at: Some(*point), ..plan });
            sim.run();
            let replay = format!("STHENO_SIM_POINT={point} cargo test --test simulation {test}");
            check::all(&sim).unwrap_or_else(|fault| panic!("{kind:?}, crash point {point}: {fault}\nreplay: {replay}"));
        }
        println!("{test}: {} crash points", chosen.len());
    }
}

/// A stock sidecar cannot be asked twice: a crash between claim and answer may leave a node whose start never arrived,
/// which is lost after ten minutes. What must hold is one terminal state, never a second start, never a false success.
#[test]
fn crash_before_and_after_each_edge_with_a_stock_sidecar() {
    let test = "crash_before_and_after_each_edge_with_a_stock_sidecar";
    let mut calm_run = Sim::new(calm(Kind::Medusa));
    calm_run.run();
    check::all(&calm_run).unwrap_or_else(|fault| panic!("without a crash: {fault}"));
    let points = calm_run.points();
    let chosen: Vec<u64> = env("STHENO_SIM_POINT").map_or_else(|| (0..points).collect(), |point| vec![point]);
    let mut lost = 0;
    for point in &chosen {
        let mut sim = Sim::new(Plan { crash_at: Some(*point), ..calm(Kind::Medusa) });
        sim.run();
        let replay = format!("STHENO_SIM_POINT={point} cargo test --test simulation {test}");
        let found = check::all(&sim).unwrap_or_else(|fault| panic!("crash point {point}: {fault}\nreplay: {replay}"));
        lost += u64::from(found.outcomes != ["Complete"]);
    }
    // Only a start that was claimed and never sent can be lost: three nodes, a handful of points.
    assert!(lost <= 8, "{lost} of {} crash points lost the backup", chosen.len());
    println!("{test}: {} crash points, {lost} ended as lost (start claimed, never sent)", chosen.len());
}

fn seeds(test: &str, count: u64, plan: impl Fn(u64) -> Plan) {
    let first = env("STHENO_SIM_SEED");
    let count = env("STHENO_SIM_SEEDS").unwrap_or(count);
    let chosen = first.map_or(0..count, |seed| seed..seed + 1);
    let mut tally = std::collections::BTreeMap::<String, u64>::new();
    let total = chosen.end - chosen.start;
    for seed in chosen {
        let mut sim = Sim::new(plan(seed));
        sim.run();
        let replay = format!("STHENO_SIM_SEED={seed} cargo test --test simulation {test}");
        let found = check::all(&sim).unwrap_or_else(|fault| panic!("seed {seed}: {fault}\nreplay: {replay}"));
        for outcome in found.outcomes {
            *tally.entry(outcome).or_default() += 1;
        }
    }
    println!("{test}: {total} seeds, outcomes {tally:?}");
}

#[test]
fn two_leaders_with_our_sidecars() {
    seeds("two_leaders_with_our_sidecars", 1_500, |seed| Plan {
        nodes: 3,
        seed,
        faults: Faults::leaders(),
        operators: 2,
        ..calm(Kind::Stheno)
    });
}

#[test]
fn two_leaders_with_stock_sidecars() {
    seeds("two_leaders_with_stock_sidecars", 1_500, |seed| Plan {
        nodes: 3,
        seed,
        faults: Faults::leaders(),
        operators: 2,
        ..calm(Kind::Medusa)
    });
}

#[test]
fn everything_at_once() {
    seeds("everything_at_once", 1_500, |seed| Plan {
        kind: if seed % 2 == 0 { Kind::Stheno } else { Kind::Medusa },
        nodes: 1 + seed % 4,
        seed,
        faults: Faults::everything(),
        operators: 2,
        ..calm(Kind::Stheno)
    });
}

/// The store goes back to a copy from before the user deleted the job: what has ended is not run again, and nothing is
/// concluded from what the store lacks until a person accepts it.
#[test]
fn an_older_store_is_put_back() {
    seeds("an_older_store_is_put_back", 1_000, |seed| Plan {
        kind: if seed % 2 == 0 { Kind::Stheno } else { Kind::Medusa },
        nodes: 1 + seed % 3,
        seed,
        faults: if seed % 3 == 0 { Faults::default() } else { Faults::leaders() },
        operators: 1 + seed % 2,
        put_back: true,
        ..calm(Kind::Stheno)
    });
}

/// Logs of every kind, without their names: decided as they were.
#[test]
fn redacted_logs() {
    for seed in 0..env("STHENO_SIM_SEEDS").unwrap_or(200) {
        let kind = if seed.is_multiple_of(2) { Kind::Stheno } else { Kind::Medusa };
        let everything = Plan { nodes: 1 + seed % 4, seed, faults: Faults::everything(), operators: 2, ..calm(kind) };
        let plan = match seed % 5 {
            0 => Plan { put_back: true, faults: Faults::leaders(), ..everything },
            1 => {
                let faults = Faults { user_deletes: 0, ..Faults::everything() };
                Plan { schedule: Some("*/20 0-1 * * *"), outages: true, faults, ..everything }
            }
            2 => Plan { tasks: true, ..everything },
            3 => Plan { wish: Some(Wish::Cancel), ..everything },
            _ => everything,
        };
        let mut sim = Sim::new(plan);
        sim.run();
        check::redacted(&sim).unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
    }
}

/// A night's worth of seeds.
#[test]
#[ignore = "runs for hours: cargo nightly"]
fn night() {
    seeds("night", 2_000_000, |seed| Plan {
        kind: if seed % 2 == 0 { Kind::Stheno } else { Kind::Medusa },
        nodes: 1 + seed % 6,
        seed,
        faults: Faults::everything(),
        operators: 2 + seed % 2,
        ..calm(Kind::Stheno)
    });
}
