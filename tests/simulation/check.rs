//! What must hold at the end of every run, whatever happened on the way.

mod tasks;

use crate::api::Body;
use crate::sidecar::{Kind, Sidecar};
use crate::sim::{OLD, Sim, UNKNOWN, dc, epochs, time};
use std::collections::{BTreeMap, BTreeSet};
use stheno::audit::redact::{Names, Redactor};
use stheno::audit::{Entry, redecide::Redecider, verify::Verifier};
use stheno_decide::cron::{Cron, Tz};
use stheno_decide::policy;
use stheno_events::backup::{Call, Outcome};
use stheno_events::{
    Aggregate, Digest, Event, Fact, LogId, PodName, Process, Uid, backup, observed, operator, schedule,
};
use stheno_projections::Datacenter;
use stheno_projections::backup::Stage;

/// What a run came to, without its times.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// Outcome of each job.
    pub(crate) outcomes: Vec<String>,
    /// Nodes by how they ended.
    pub(crate) nodes: BTreeMap<String, String>,
    /// Names of the MedusaBackup objects.
    pub(crate) backups: Vec<String>,
    /// Outcome of each task.
    pub(crate) tasks: BTreeMap<String, String>,
}

pub(crate) fn all(sim: &Sim) -> Result<Ending, String> {
    if let Some(fault) = sim.faults_found.first() {
        return Err(fault.clone());
    }
    chain(sim)?;
    verified(sim)?;
    redecided(sim)?;
    terminals(sim)?;
    sidecars(sim)?;
    folds(sim)?;
    accepted(sim)?;
    slots(sim)?;
    tasks::lawful(sim)?;
    stopped(sim)?;
    expired(sim)?;
    suspended(sim)?;
    ending(sim)
}

/// Each message names the digest of the one before it; time does not run backwards in an aggregate.
fn chain(sim: &Sim) -> Result<(), String> {
    let mut heads: BTreeMap<&Aggregate, (Digest, stheno_events::Time)> = BTreeMap::new();
    for (index, stored) in sim.log.messages.iter().enumerate() {
        if Digest::of(&stored.payload) != stored.digest {
            return Err(format!("message {} has another digest", index + 1));
        }
        let before = heads.insert(&stored.aggregate, (stored.digest, stored.envelope.at));
        if before.map(|(digest, _)| digest) != stored.envelope.prev {
            return Err(format!("message {} does not follow its predecessor", index + 1));
        }
        if before.is_some_and(|(_, at)| at > stored.envelope.at) {
            return Err(format!("message {} goes back in time", index + 1));
        }
    }
    Ok(())
}

/// The messages as the audit tool reads them.
fn entries(sim: &Sim) -> impl Iterator<Item = Entry> + '_ {
    let log = LogId::of_cluster("cluster-uid");
    (1..).zip(&sim.log.messages).map(move |(sequence, stored)| {
        let subject = stored.aggregate.subject(&log, Process::Backup);
        Entry::read(&log, sequence, subject, stheno_events::Time::UNIX_EPOCH, stored.payload.clone().into())
    })
}

/// `audit verify` finds nothing: what lawful writers write it must not blame, whatever became of them.
fn verified(sim: &Sim) -> Result<(), String> {
    let mut verifier = Verifier::default();
    for entry in entries(sim) {
        if !verifier.add(&entry) {
            break;
        }
    }
    verifier.finish(None).fault.map_or(Ok(()), |fault| Err(fault.to_string()))
}

/// `audit replay` decides everything as it was decided: a decision follows from the log, and from nothing else.
fn redecided(sim: &Sim) -> Result<(), String> {
    let mut redecider = Redecider::default();
    entries(sim).for_each(|entry| redecider.add(&entry));
    let report = redecider.finish();
    if report.unjudged > 0 {
        return Err(format!("{} messages cannot be decided once more", report.unjudged));
    }
    report.differences.first().map_or(Ok(()), |difference| Err(format!("decided otherwise: {difference}")))
}

/// What is given away holds no name of the simulation's, and is decided as it was decided.
pub(crate) fn redacted(sim: &Sim) -> Result<(), String> {
    let names = ["prod", "dc1", "test", "nightly", "often", "fire", "uid-"];
    let mut collected = Names::default();
    entries(sim).for_each(|entry| collected.learn(&entry));
    let mut redactor = Redactor::new(LogId::of_cluster("cluster-uid"), collected);
    let mut redecider = Redecider::default();
    for entry in entries(sim) {
        let redacted = redactor.redact(&entry).map_err(|error| error.to_string())?;
        let holds = |name: &&&str| redacted.payload.windows(name.len()).any(|part| part == name.as_bytes());
        if let Some(name) = names.iter().find(|name| redacted.subject.contains(**name) || holds(name)) {
            return Err(format!("message {} holds the name {name}: {:?}", entry.sequence, redacted.envelope));
        }
        redecider.add(&redacted);
    }
    if let Some(sequence) = redactor.finish() {
        return Err(format!("message {sequence} is decided otherwise without names"));
    }
    let mut original = Redecider::default();
    entries(sim).for_each(|entry| original.add(&entry));
    let (was, is) = (original.finish(), redecider.finish());
    let same = was.differences.is_empty() && is.differences.is_empty();
    if !same || (was.messages, was.decisions, was.unjudged) != (is.messages, is.decisions, is.unjudged) {
        return Err(format!("decided otherwise without names: {:?}", is.differences.first()));
    }
    Ok(())
}

/// One terminal event for each job, and nothing about it after that.
fn terminals(sim: &Sim) -> Result<(), String> {
    let mut ended: BTreeMap<&Uid, usize> = BTreeMap::new();
    for (index, stored) in sim.log.messages.iter().enumerate() {
        for fact in &stored.envelope.events {
            let Fact::Known(Event::Backup(event)) = fact else { continue };
            // A time to live is a process of its own, and begins where this one ends.
            if matches!(event, backup::Event::ObjectCreated(_) | backup::Event::Expired(_)) {
                continue;
            }
            if let Some(end) = ended.get(event.job()) {
                return Err(format!("{} at {} after the terminal event at {}", fact.name(), index + 1, end + 1));
            }
            if matches!(event, backup::Event::Completed(_) | backup::Event::Failed(_)) {
                ended.insert(event.job(), index);
            }
        }
    }
    Ok(())
}

/// While nobody has accepted that the API server's store went back, nothing is concluded from what it lacks, nothing is
/// decided, and in the end somebody has.
fn accepted(sim: &Sim) -> Result<(), String> {
    let (mut since, mut accepted) = (None, false);
    for (sequence, stored) in (1_u64..).zip(&sim.log.messages) {
        for fact in &stored.envelope.events {
            match fact {
                Fact::Known(Event::Observed(observed::Event::Gap(gap))) if gap.backwards => since = Some(sequence),
                Fact::Known(Event::Operator(operator::Event::ApiAccepted(e))) => {
                    since = since.filter(|since| *since > e.until);
                    accepted = true;
                }
                Fact::Known(Event::Observed(observed::Event::Gone(gone))) if gone.inferred => {
                    if let Some(since) = since.filter(|since| stored.envelope.seen >= *since) {
                        return Err(format!(
                            "{} is concluded to be gone at {sequence}, unaccepted since {since}",
                            gone.name
                        ));
                    }
                }
                Fact::Known(_) | Fact::Unknown { .. } => {}
            }
        }
    }
    if let Some(since) = since {
        return Err(format!("what message {since} tells of was never accepted"));
    }
    // A process that dies before it has told of it leaves one that knows only what the log holds: where that is no newer
    // than the store, nothing went back for it.
    let unnoticed = sim.plan.put_back && !accepted && sim.plan.faults.kills > 0;
    if accepted != sim.plan.put_back && !unnoticed {
        return Err(format!("put back: {}, accepted: {accepted}", sim.plan.put_back));
    }
    Ok(())
}

/// Each slot of the schedule has ended once, in order and without a gap; each that ran has one job, and no other job was
/// made for a schedule. Returns how many slots have ended, and how many ran.
pub(crate) fn slots(sim: &Sim) -> Result<(u64, u64), String> {
    let Some(schedule) = sim.api.objects.values().find_map(|body| match body {
        Body::Schedule(schedule) => Some(schedule),
        Body::Job(..) | Body::Task(..) | Body::Backup(_) | Body::Datacenter(_) | Body::Pod(_) => None,
    }) else {
        return Ok((0, 0));
    };
    let cron = Cron::parse(&schedule.cron).map_err(|error| error.to_string())?;
    let met = sim.log.messages.iter().find(|stored| {
        let is = |fact: &Fact| matches!(fact, Fact::Known(Event::Observed(observed::Event::Schedule(_))));
        stored.envelope.events.iter().any(is)
    });
    // The API server's clock may be ahead of the log's.
    let begin = met.map_or(schedule.meta.created, |met| met.envelope.at.min(schedule.meta.created));
    let (mut last, mut ended, mut ran) = (begin, 0, BTreeMap::new());
    for fact in sim.log.messages.iter().flat_map(|stored| &stored.envelope.events) {
        let Fact::Known(Event::Schedule(event)) = fact else { continue };
        let (first, until, count, object) = match event {
            schedule::Event::Ran(e) => (e.slot, e.slot, 1, Some(&e.object.name)),
            schedule::Event::RanLate(e) => (e.slot, e.slot, 1, Some(&e.object.name)),
            schedule::Event::Skipped(e) => (e.first, e.last, e.count, None),
            schedule::Event::Missed(e) => (e.first, e.last, e.count, None),
            schedule::Event::Accepted(_)
            | schedule::Event::Rejected(_)
            | schedule::Event::Postponed(_)
            | schedule::Event::ObjectCreated(_)
            | schedule::Event::Expired(_) => continue,
        };
        ran.extend(object.map(|name| (name.clone(), 1)));
        for place in 0..count {
            let next = cron.next_after(last, Tz::UTC).ok_or("the schedule has no such slot")?;
            if (place == 0 && next != first) || (place + 1 == count && next != until) {
                return Err(format!("{event:?} ends other slots than the one behind {last}"));
            }
            last = next;
        }
        ended += count;
    }
    if sim.api.jobs_created != ran {
        return Err(format!("jobs {:?} were created, and {ran:?} asked for", sim.api.jobs_created));
    }
    let end = time(sim.now);
    let waits = cron.next_after(last, Tz::UTC).filter(|next| *next + chrono::TimeDelta::minutes(5) < end);
    let world = sim.replay(None);
    let postponed = world.datacenter(&dc()).is_some_and(|dc| dc.schedules.values().any(|it| it.postponed.is_some()));
    if let Some(open) = waits.filter(|_| !postponed) {
        return Err(format!("the slot {open} has not ended at {end}"));
    }
    Ok((ended, ran.len() as u64))
}

/// As long as the log shows a job suspended, nothing of it is started.
fn suspended(sim: &Sim) -> Result<(), String> {
    let mut held = BTreeSet::new();
    for fact in sim.log.messages.iter().flat_map(|stored| &stored.envelope.events) {
        match fact {
            Fact::Known(Event::Observed(observed::Event::BackupJob(job))) if job.rules.suspended => {
                held.insert(job.meta.uid.clone());
            }
            Fact::Known(Event::Observed(observed::Event::BackupJob(job))) => drop(held.remove(&job.meta.uid)),
            Fact::Known(Event::Backup(backup::Event::Started(e))) if held.contains(&e.job) => {
                return Err(format!("{:?} is suspended, and starts", e.job));
            }
            Fact::Known(Event::Backup(backup::Event::EffectClaimed(e)))
                if matches!(e.call, Call::Start(_)) && held.contains(&e.job) =>
            {
                return Err(format!("{:?} is suspended, and {:?} is claimed", e.job, e.call));
            }
            Fact::Known(_) | Fact::Unknown { .. } => {}
        }
    }
    Ok(())
}

/// A job with a time to live is gone in the end, by one decision; its MedusaBackup is there all the same.
fn expired(sim: &Sim) -> Result<(), String> {
    let mut gone = BTreeMap::<&Uid, u64>::new();
    for fact in sim.log.messages.iter().flat_map(|stored| &stored.envelope.events) {
        if let Fact::Known(Event::Backup(backup::Event::Expired(e))) = fact {
            *gone.entry(&e.job).or_default() += 1;
        }
    }
    if let Some((job, times)) = gone.iter().find(|(_, times)| **times != 1) {
        return Err(format!("it was decided {times} times that {job:?} is to go"));
    }
    let jobs = sim.api.objects.values().filter(|body| matches!(body, Body::Job(..))).count();
    if sim.plan.rules.ttl.is_some() && jobs > 0 {
        return Err(format!("{jobs} jobs have outlived their time"));
    }
    Ok(())
}

/// Exclusion: when a job has ended nothing of it is at work, on nodes that were not given up; and nothing of it is begun
/// once it is to stop, which it is not before its time.
#[allow(clippy::wildcard_enum_match_arm, reason = "the law speaks of these events")]
fn stopped(sim: &Sim) -> Result<(), String> {
    let (mut lost, mut started, mut stops) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
    for stored in &sim.log.messages {
        let at = stored.envelope.at;
        for fact in &stored.envelope.events {
            let Fact::Known(Event::Backup(event)) = fact else { continue };
            let job = event.job();
            match event {
                backup::Event::Started(_) => drop(started.insert(job.clone(), at)),
                // One whose turn never came is not at work either.
                backup::Event::NodeLost(e) if e.reason.contains("before its turn") => {}
                backup::Event::NodeLost(e) => drop(lost.insert((job.clone(), e.pod.clone()))),
                backup::Event::OutcomeDecided(e) if e.outcome.stops() => {
                    let since = started.get(job).copied();
                    let long = sim
                        .plan
                        .rules
                        .active_deadline
                        .map_or(policy::BACKUP_DEADLINE, |seconds| chrono::TimeDelta::seconds(seconds.into()));
                    if e.outcome == Outcome::DeadlineExceeded && since.is_none_or(|since| at < since + long) {
                        return Err(format!("{job:?} is stopped at {at}, it runs since {since:?}"));
                    }
                    stops.insert(job.clone());
                }
                backup::Event::EffectClaimed(e)
                    if matches!(e.call, Call::Start(_) | Call::Resume(_)) && stops.contains(job) =>
                {
                    return Err(format!("{:?} is claimed for {job:?}, which is to stop", e.call));
                }
                backup::Event::Completed(_) | backup::Event::Failed(_) => {
                    let ms = u64::try_from((at - time(0)).num_milliseconds()).unwrap_or(0);
                    let works = |(pod, sidecar): (&PodName, &Sidecar)| {
                        let given_up = lost.contains(&(job.clone(), pod.clone()));
                        (!given_up && sidecar.works_on(job, ms)).then(|| pod.clone())
                    };
                    if let Some(pod) = sim.sidecars.iter().find_map(works) {
                        return Err(format!("{job:?} has ended at {at}, and {pod} is at work on it"));
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// No overlapping effects: starts come in the order of terms, and a stock sidecar is never asked twice.
fn sidecars(sim: &Sim) -> Result<(), String> {
    for (pod, sidecar) in &sim.sidecars {
        for (name, starts) in &sidecar.starts {
            let epochs = epochs(starts);
            if !epochs.is_sorted() {
                return Err(format!("{pod}: starts of {name} in terms {epochs:?}"));
            }
            let again = sim.plan.rules.backoff_limit.unwrap_or(policy::BACKOFF_LIMIT);
            if starts.len() as u64 > 1 + u64::from(again) {
                return Err(format!("{pod}: {name} was begun {} times, {again} more were allowed", starts.len()));
            }
            if sidecar.kind == Kind::Medusa && starts.len() > 1 {
                return Err(format!("{pod}: a stock sidecar was asked {} times for {name}", starts.len()));
            }
        }
    }
    Ok(())
}

/// Every process holds what a replay gives, byte for byte; a replay from the middle too.
fn folds(sim: &Sim) -> Result<(), String> {
    for (index, process) in sim.processes.iter().enumerate() {
        let live = process.engine.world();
        let replayed = sim.replay(Some(live.position));
        if live.to_bytes().ok() != replayed.to_bytes().ok() {
            return Err(format!("operator {index} holds another state than a replay up to {}", live.position));
        }
    }
    Ok(())
}

/// How jobs ended that are there no more.
#[allow(clippy::wildcard_enum_match_arm, reason = "a job ends with one of two events")]
fn forgotten(sim: &Sim, dc: &Datacenter) -> Vec<String> {
    let mut outcomes = Vec::new();
    for fact in sim.log.messages.iter().flat_map(|stored| &stored.envelope.events) {
        let Fact::Known(Event::Backup(event)) = fact else { continue };
        if dc.operation(event.job()).is_some() {
            continue;
        }
        match event {
            backup::Event::Completed(_) => outcomes.push("Complete, gone".to_owned()),
            backup::Event::Failed(e) => outcomes.push(format!("{:?}, gone", e.outcome)),
            _ => {}
        }
    }
    outcomes
}

fn ending(sim: &Sim) -> Result<Ending, String> {
    let world = sim.replay(None);
    let dc = world.datacenter(&dc()).ok_or("the log never met the datacenter")?;
    if dc.illegal > 0 {
        return Err(format!("{} events broke a law of the log", dc.illegal));
    }
    let tasks = tasks::ended(sim, dc)?;
    let mut ending = Ending { outcomes: Vec::new(), nodes: BTreeMap::new(), backups: Vec::new(), tasks };
    for operation in dc.operations.values() {
        let name = &operation.request.meta.name;
        let Stage::Ended { outcome, finished, .. } = &operation.stage else {
            return Err(format!("{name} has not ended: {:?}, nodes {:?}", operation.stage, operation.nodes));
        };
        ending.outcomes.push(format!("{outcome:?}"));
        for (pod, node) in &operation.nodes {
            let state = format!("{:?}", node.state);
            let state = state.split_once(' ').map_or(state.as_str(), |(word, _)| word);
            ending.nodes.insert(pod.to_string(), state.to_owned());
        }
        let Some(Body::Job(_, status)) = sim.api.objects.get(&operation.request.meta.uid) else {
            return Err(format!("{name} is not on the API server"));
        };
        if status.finished != Some(*finished) || status.outcome != Some(format!("{outcome:?}")) {
            return Err(format!("the status of {name} says {status:?}, the log {outcome:?} at {finished}"));
        }
        let complete = format!("{outcome:?}") == "Complete";
        let times = sim.api.created.get(name).copied().unwrap_or(0);
        // One that a store lost before the log knew of it is made again.
        let lost = sim.plan.put_back && complete && times > 1;
        // Whole in the bucket though its job has given up: a sync finds it.
        let found = sim.plan.tasks && times == 1;
        if times != u64::from(complete) && !lost && !found {
            return Err(format!("MedusaBackup {name} was created {times} times, the outcome is {outcome:?}"));
        }
        let there = sim.api.objects.values().any(|body| matches!(body, Body::Backup(b) if b.meta.name == *name));
        // Of a store that was put back only the person who did it knows what should be there.
        if there == sim.deleted_by_user.contains(name) && complete && !sim.plan.put_back {
            return Err(format!("MedusaBackup {name}: there is {there}, deleted by the user as well"));
        }
        if complete {
            let done =
                sim.sidecars.values().all(|sidecar| sidecar.status(u64::MAX, name) == crate::sidecar::Answer::Done);
            if !done {
                return Err(format!("{name} is called complete, but not every sidecar has it"));
            }
            ending.backups.push(name.to_string());
        }
    }
    let forgotten = forgotten(sim, dc);
    let complete = forgotten.iter().filter(|outcome| outcome.starts_with("Complete")).count() + ending.backups.len();
    if sim.api.created.len() != complete && !sim.plan.put_back && !sim.plan.tasks {
        return Err(format!("{complete} backups are complete, and {:?} were created", sim.api.created));
    }
    ending.outcomes.extend(forgotten);
    if ending.outcomes.is_empty() {
        return Err("no job reached the log".into());
    }
    Ok(ending)
}
