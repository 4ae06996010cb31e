//! A clock that goes wrong while the log is open shows in own messages.

use super::fixture::{envelope, now, settings};
use crate::support::conformance::{PROCESS, dc};
use chrono::TimeDelta;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use stheno::log::{Log, Outcome, Settings, Skew};
use stheno_local::testing::nats;
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_is_noticed_at_the_next_message() {
    let server = nats().await.unwrap();
    let jump = Arc::new(AtomicI64::new(0));
    let jumped = Arc::clone(&jump);
    let clock = Arc::new(move || now() + TimeDelta::seconds(jumped.load(Ordering::Relaxed)));
    let log = Log::open(Settings { clock, ..settings(&server.url()) }).await.unwrap();
    let mut offset = log.clock_offset();
    assert_eq!(Skew::of(*offset.borrow()), Skew::Fine);
    let cancel = CancellationToken::new();
    let mut reader = log.follow(1, cancel.clone());
    let reading = tokio::spawn(async move { while reader.next().await.is_some() {} });
    let a = dc("a");
    for (sequence, seconds, expected) in
        [(0, 0, Skew::Fine), (1, 30, Skew::Warn(TimeDelta::seconds(30))), (2, -90, Skew::Stop(TimeDelta::seconds(-90)))]
    {
        jump.store(seconds, Ordering::Relaxed);
        let envelope = envelope(&a, &sequence.to_string());
        assert_eq!(log.append(&a, PROCESS, sequence, &envelope).await.unwrap(), Outcome::Committed(sequence + 1));
        let measured = tokio::time::timeout(
            Duration::from_secs(5),
            offset.wait_for(|offset| {
                std::mem::discriminant(&Skew::of(*offset)) == std::mem::discriminant(&expected)
                    && (offset.num_seconds() - seconds).abs() <= 2
            }),
        );
        measured.await.expect("measured within 5 s").unwrap();
    }
    cancel.cancel();
    reading.await.unwrap();
}
