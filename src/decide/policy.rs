//! How long and how often: every number that decides, with its reason.

use chrono::TimeDelta;
use stheno_events::backup::WaitReason;

/// A job whose datacenter is missing, stopped or not ready waits this long before it is refused: a reference to something
/// that is still being created is not an error.
pub const WAIT_FOR_DATACENTER: TimeDelta = TimeDelta::minutes(10);

/// Whether a job is refused that waits for this for [`WAIT_FOR_DATACENTER`]: not where it waits for its turn, or for the
/// person who holds it back.
#[must_use]
pub const fn limited(reason: WaitReason) -> bool {
    match reason {
        WaitReason::OperationRunning | WaitReason::Suspended => false,
        WaitReason::DatacenterNotFound
        | WaitReason::DatacenterStopped
        | WaitReason::PodsMissing
        | WaitReason::SidecarMissing
        | WaitReason::SidecarNotReady => true,
    }
}

/// A node that gives no sign of life for this long counts as failed. A pod that restarts, image pull included, is back
/// well before.
pub const SILENCE: TimeDelta = TimeDelta::minutes(10);

/// How long after the claim of a start a stock sidecar may still answer NOT_FOUND: Medusa retries CQL for about 390 s
/// before its backup becomes visible (medusa-dataplane.md 1.3).
pub const START_VISIBLE: TimeDelta = TimeDelta::minutes(10);

/// A backup that runs longer than this is stopped, unless its job says otherwise; one that was stopped and did not end
/// within this time is given up.
pub const BACKUP_DEADLINE: TimeDelta = TimeDelta::hours(24);

/// How long the summary is asked for before the backup is closed with what its nodes said.
pub const CLOSING_DEADLINE: TimeDelta = TimeDelta::minutes(10);

/// A successor starts no effect in an aggregate before this time after taking it (LOG.md, epochs and claims).
pub const QUIET: TimeDelta = TimeDelta::seconds(10);

/// The quiet time is counted from when its message was composed; where that took longer than this to be stored and read,
/// it is counted anew.
pub const LED_WITHIN_MS: u64 = 1_000;

/// A claim is started within this time of its append, by a clock that counts suspended time, or abandoned.
pub const START_WITHIN_MS: u64 = 5_000;

/// What a claim allows is handed to the connection within this time of the claim's append, by the same clock, or not at
/// all: a successor's [`QUIET`] time is not over then, however long the question before it took or the process was
/// suspended meanwhile. A connection that breaks in that moment may be made anew within some seconds: ours refuses a
/// former term, and stock Medusa is asked before anything is concluded.
pub const COMMAND_WITHIN_MS: u64 = 9_000;

/// Starts that may be unanswered at one time in a datacenter; following is not bounded.
pub const STARTS_AT_ONCE: usize = 32;

/// How often the work of a node is tried again whose sidecar says that this may help, unless a job says otherwise.
pub const BACKOFF_LIMIT: u32 = 2;

/// A task that runs longer than this is given up: a purge of a node is asked for again at most [`BACKOFF_LIMIT`] times, each with an
/// hour to answer.
pub const TASK_DEADLINE: TimeDelta = TimeDelta::hours(12);

/// Nodes of a datacenter that purge, or prepare a restore, at one time: each lists and deletes in the same bucket.
pub const TASKS_AT_ONCE: usize = 16;

/// How long the bucket's listing is asked for before a sync is given up.
pub const LISTING_DEADLINE: TimeDelta = TimeDelta::minutes(10);

/// What was listed longer ago than this is listed again before anything is removed because of it.
pub const LISTING_FRESH: TimeDelta = TimeDelta::minutes(5);

/// So many backups may a sync remove without a person's consent, or
pub const REMOVED_UNASKED: usize = 3;

/// one of so many that are known.
pub const REMOVED_UNASKED_OF: usize = 5;

/// Names that a request for consent lists.
pub const NAMES_SHOWN: usize = 20;

/// Backups that one event brings in line.
pub const RECONCILED_AT_ONCE: usize = 200;

/// Bytes of a page of a listing: a backup of many nodes with many tokens may be larger by itself.
pub const PAGE_BYTES: usize = 64 << 10;

/// So many jobs of those that wait in line say whom they wait for. Those behind only say that they wait: with each backup
/// that ends, every such sentence changes.
pub const NAMED_WAITS: usize = 8;

/// Progress is recorded at most this often for a datacenter.
pub const PROGRESS_EVERY: TimeDelta = TimeDelta::seconds(30);

/// All watches notice within this time that the API server's store went back: one without a sign of life is begun anew
/// sooner.
pub const NOTICED_WITHIN: TimeDelta = TimeDelta::minutes(10);

/// A job that a slot created is seen within this time, or was deleted before it could be.
pub const SEEN_WITHIN: TimeDelta = TimeDelta::minutes(1);

/// A slot of a schedule that starts within this time is in time: a leader that dies is replaced well before.
pub const ON_TIME: TimeDelta = TimeDelta::seconds(60);

/// With `catchUp: All` at most so many slots are made up for at once; the oldest beyond them are missed.
pub const CATCH_UP_AT_ONCE: usize = 100;

/// Slots that are looked at together: what passed in a year of absence is not walked in one go.
pub const SLOTS_AT_ONCE: usize = 1_000;

/// A checkpoint after this many messages, or
pub const CHECKPOINT_MESSAGES: u64 = 10_000;

/// after this time, if anything was written.
pub const CHECKPOINT_EVERY: TimeDelta = TimeDelta::hours(1);

/// Facts in one message, and
pub const FACTS_PER_MESSAGE: usize = 500;

/// bytes of facts in one message: well below the 1 MiB that a server takes, decisions included.
pub const BYTES_PER_MESSAGE: usize = 256 << 10;

/// A summary larger than this is recorded without its tokens: it must fit into one message.
pub const SUMMARY_BYTES: usize = 384 << 10;

/// A wall clock that moves by more than this beside the clock of the machine was set: time goes on without it.
pub const CLOCK_JUMP: TimeDelta = TimeDelta::seconds(60);

/// The wait after `failures` failures in a row: 1, 2, 4 … 60 s.
#[must_use]
pub fn backoff(failures: u32) -> TimeDelta {
    TimeDelta::seconds(1_i64 << failures.saturating_sub(1).min(6)).min(TimeDelta::seconds(60))
}
