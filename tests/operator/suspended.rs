//! The leader is suspended (SIGSTOP) at a claim, long enough for another one to lead and to finish, and wakes: effects do
//! not overlap, and the end is the same.

use super::ground::{Ground, Operator, until};
use super::tollgate::Tollgate;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use stheno_rpc::medusa::StatusType;
use stheno_rpc::sidecar::node_state::Phase;

/// When, beside a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// The claim is on its way to the log: whether it got there the leader finds out when it wakes.
    Claimed,
    /// The sidecar was asked who it is: its answer lies there when the leader wakes.
    Asked,
    /// The call that was claimed has arrived.
    Called,
}

/// One run: the leader is suspended at the claim of this number. False when there is no such claim.
async fn suspended_at(claim: usize, moment: Moment, ours: bool) -> bool {
    let kind = if ours { "ours" } else { "stock" };
    let name = format!("suspended-{kind}-{claim}-{moment:?}").to_lowercase();
    let mut ground = Ground::new(&name).await;
    ground.datacenter("dc1", 2, ours).await;
    ground.list("nightly");
    for node in &ground.nodes {
        node.sidecar.phase(Phase::Finished);
        node.sidecar.script().status = Some(StatusType::Success);
    }
    // One answer is lost, so that there is a claim more: to resume what is in doubt.
    let lost = if ours { "StartBackup" } else { "BackupStatus" };
    ground.nodes[1].sidecar.script().errors.entry(lost).or_default().push_back(tonic::Status::unavailable("lost"));

    let leader = Arc::new(AtomicI32::new(0));
    let (reached, at_claim) = mpsc::channel();
    let (process, sidecars) =
        (leader.clone(), ground.nodes.iter().map(|node| node.sidecar.clone()).collect::<Vec<_>>());
    let gate = Tollgate::to(ground.nats.address(), move |number| {
        if number != claim {
            return;
        }
        let stop = {
            let (process, reached) = (process.clone(), reached.clone());
            move || {
                kill(Pid::from_raw(process.load(Ordering::SeqCst)), Signal::SIGSTOP).unwrap();
                reached.send(()).unwrap();
            }
        };
        match moment {
            Moment::Claimed => stop(),
            Moment::Asked => {
                // Both are asked at once; the first one that is stops the leader.
                let stop = Arc::new(Mutex::new(Some(stop)));
                for sidecar in &sidecars {
                    let stop = stop.clone();
                    let once = move || stop.lock().unwrap().take().into_iter().for_each(|stop| stop());
                    sidecar.script().meanwhile.insert("Capabilities", Box::new(once));
                }
            }
            Moment::Called => {
                let calls = move |sidecars: &[crate::support::sidecar::FalseSidecar]| -> usize {
                    sidecars.iter().map(|sidecar| sidecar.calls().len()).sum()
                };
                let (before, sidecars) = (calls(&sidecars), sidecars.clone());
                std::thread::spawn(move || {
                    while calls(&sidecars) == before {
                        std::thread::sleep(Duration::from_micros(200));
                    }
                    stop();
                });
            }
        }
    })
    .await;
    let mut first = ground.start(|command| command.args(["--nats-url", &gate.url()]));
    leader.store(i32::try_from(first.child.id()).unwrap(), Ordering::SeqCst);
    first.leads().await;
    let mut second = ground.operator();
    second.says(|status, text| status == 200 && text.starts_with("following")).await;
    ground.job("nightly").await;

    let mut there = false;
    for _ in 0..3_000 {
        there = at_claim.try_recv().is_ok();
        let job = ground.jobs().get("nightly").await.unwrap();
        if there || job.status.is_some_and(|status| status.finish_time.is_some()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if !there {
        return false;
    }
    second.leads().await;
    let status = ground.finished("nightly").await.status.unwrap();
    assert_eq!((status.finished.len(), status.failed.len()), (2, 0), "{name}: {status:#?}");
    ground.backup_status("nightly").await;
    let before = commands(&ground);
    resume(&mut first).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = commands(&ground);
    // What was on its way to a socket when the process was suspended gets there when it wakes: ours refuses it.
    if ours {
        assert_eq!(after, before, "{name}: the former leader has something done when it wakes");
    }
    for calls in after {
        let epochs: Vec<u64> = calls.iter().filter_map(|call| call.rsplit(' ').next()?.parse().ok()).collect();
        assert!(epochs.is_sorted(), "{name}: {calls:?}");
        let stock = calls.iter().filter(|call| call.starts_with("AsyncBackup")).count();
        assert!(stock <= 1, "{name}: {calls:?}");
    }
    assert!(ground.jobs().get("nightly").await.unwrap().status.unwrap() == status, "{name}: the end is another one");
    ground.verified();
    // Either may lead on.
    assert_eq!(second.stop().await, Some(0));
    first.leads().await;
    ground.list("after");
    ground.job("after").await;
    ground.finished("after").await;
    true
}

/// What a sidecar was told to do, by node.
fn commands(ground: &Ground) -> Vec<Vec<String>> {
    let command = |call: &String| call.starts_with("StartBackup") || call.starts_with("AsyncBackup");
    ground.nodes.iter().map(|node| node.sidecar.calls().into_iter().filter(command).collect()).collect()
}

async fn resume(first: &mut Operator) {
    first.signal(Signal::SIGCONT);
    first.says(|status, text| status == 200 && text.starts_with("following")).await;
    until("it goes on", || first.child.try_wait().unwrap().is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_first_claim() {
    assert!(suspended_at(1, Moment::Claimed, true).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_claim_of_a_resumed_call() {
    assert!(suspended_at(2, Moment::Called, true).await);
}

/// The answer is as old as the suspension: nothing may be started on it.
#[tokio::test(flavor = "multi_thread")]
async fn before_it_reads_who_the_sidecar_is() {
    assert!(suspended_at(1, Moment::Asked, true).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_stock_sidecar_was_asked() {
    assert!(suspended_at(1, Moment::Called, false).await);
}

/// Every claim of a backup, before and after its call. A start that a stock sidecar was never sent is lost after ten
/// minutes, by design: of its claims those are left out.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes five minutes: cargo nightly"]
async fn night_every_claim() {
    let mut runs = 0;
    for (moment, ours) in
        [(Moment::Claimed, true), (Moment::Asked, true), (Moment::Called, true), (Moment::Called, false)]
    {
        let mut claim = 1;
        while suspended_at(claim, moment, ours).await {
            runs += 1;
            println!("suspended at claim {claim} ({moment:?}, ours: {ours}): the same end");
            claim += 1;
        }
        assert!(claim > 3, "a backup has claims to start, to resume and to read: {claim}");
    }
    println!("{runs} runs");
}
