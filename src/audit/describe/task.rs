//! Events of tasks, one line each.

use super::reason;
use crate::audit::text::{count, listed, size};
use std::sync::Arc;
use stheno_events::backup::{Outcome, SidecarKind};
use stheno_events::task::{Call, Event, Purged};

pub(super) fn task(event: &Event) -> String {
    match event {
        Event::Queued(e) => format!("waits ({}): {}", reason(e.reason), e.message),
        Event::ApprovalNeeded(e) => format!("waits for a person's consent ({}): {}", e.token, e.message),
        Event::Started(e) if e.nodes.is_empty() => "starts".into(),
        Event::Started(e) => format!("starts on {}: {}", count(e.nodes.len(), "node"), listed(e.nodes.iter())),
        Event::EffectClaimed(e) => format!("{} (attempt {}, term {})", intent(&e.call), e.attempt, e.epoch),
        Event::ClaimAbandoned(e) => format!(
            "nothing was sent to {} in time, so it is decided again (attempt {}, term {})",
            e.call.pod(),
            e.attempt,
            e.epoch
        ),
        Event::NodeFinished(e) => match e.purged {
            Some(purged) => format!("{} has purged {}", e.pod, removed(purged)),
            None => format!("{} is done", e.pod),
        },
        Event::NodeFailed(e) => {
            let next = if e.retryable { "it will be tried again" } else { "it is not tried again" };
            format!("{} failed (attempt {}), {next}: {}", e.pod, e.attempt, e.reason)
        }
        Event::NodeUnanswered(e) => {
            let doubt = match (e.in_doubt, e.sidecar) {
                (true, Some(SidecarKind::Medusa)) => "Medusa may be at it, and is asked again later",
                (true, Some(SidecarKind::Stheno) | None) => "the request may have reached it",
                (false, _) => "nothing was sent",
            };
            format!("{} gave no answer that decides (attempt {}), {doubt}: {}", e.call.pod(), e.attempt, e.error)
        }
        Event::NodeLost(e) => format!("{} is given up and counts as failed: {}", e.pod, e.reason),
        Event::Listed(e) => {
            let page = if e.page == 0 && e.last { String::new() } else { format!(" (page {})", e.page + 1) };
            let mut parts =
                vec![format!("{} lists {}, {} of this datacenter{page}", e.pod, count(e.total, "backup"), e.ours)];
            if !e.found.is_empty() {
                parts.push(format!("not known so: {}", listed(e.found.iter().map(|found| &found.name))));
            }
            if !e.missing.is_empty() {
                parts.push(format!("missing: {}", listed(e.missing.iter())));
            }
            parts.join("; ")
        }
        Event::Planned(e) => match &e.backups {
            Some(backups) if backups.is_empty() => format!("{} would remove no backup", e.pod),
            Some(backups) => {
                format!("{} would remove {}: {}", e.pod, count(backups.len(), "backup"), listed(backups.iter()))
            }
            None => format!("{} cannot tell before it purges", e.pod),
        },
        Event::Reconciled(e) => {
            let part = |what: &str, of: &[Arc<str>]| (!of.is_empty()).then(|| format!("{what} {}", listed(of.iter())));
            let parts = [part("creates", &e.created), part("corrects", &e.corrected), part("deletes", &e.removed)];
            format!("MedusaBackups are brought in line: {}", parts.into_iter().flatten().collect::<Vec<_>>().join("; "))
        }
        Event::SyncRequested(e) => format!("the sync {} is to follow", e.name),
        Event::Completed(e) => format!("ended well: {}", e.message),
        Event::Failed(e) => format!("ended {}: {}", outcome(e.outcome), e.message),
        Event::SyncCreated(e) if e.foreign => {
            format!("a MedusaTask {} was there already and stays as it is: no sync follows", e.name)
        }
        Event::SyncCreated(e) => format!("the sync {} was created (uid {})", e.name, e.uid),
        Event::BackupCreated(e) if e.foreign => {
            format!("a MedusaBackup {} was there already and stays as it is", e.name)
        }
        Event::BackupCreated(e) => format!("MedusaBackup {} was created (uid {})", e.name, e.uid),
    }
}

/// How a task ended, in the middle of a sentence.
pub(in crate::audit) const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Complete => "complete",
        Outcome::Partial => "partial, on some nodes only",
        Outcome::Failed => "failed",
        Outcome::Refused => "refused",
        Outcome::DatacenterReplaced => "void, the datacenter was replaced",
        Outcome::DeadlineExceeded => "late, its time was over",
        Outcome::Cancelled => "cancelled",
    }
}

fn intent(call: &Call) -> String {
    match call {
        Call::Purge(pod) => format!("{pod} is about to be asked to purge"),
        Call::Prepare(pod) => format!("{pod} is about to be asked to prepare the restore"),
        Call::List(pod) => format!("{pod} is about to be asked what the bucket holds"),
        Call::Plan(pod) => format!("{pod} is about to be asked what a purge would remove"),
    }
}

/// What a node has purged, in the middle of a sentence.
pub(in crate::audit) fn removed(purged: Purged) -> String {
    format!(
        "{}, {}, {} ({} wait for the grace period)",
        count(purged.backups, "backup"),
        count(purged.objects, "object"),
        size(u64::try_from(purged.bytes).unwrap_or(0)),
        purged.within_grace
    )
}
