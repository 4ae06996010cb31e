//! Snapshots: kept, found, and never trusted blindly.

use super::fixture::open;
use std::collections::BTreeSet;
use stheno::log::snapshot::Meta;
use stheno_events::{Digest, Time};
use stheno_local::testing::nats;

fn meta(sequence: u64, at: &str, world: &[u8]) -> Meta {
    Meta {
        sequence,
        layout: 1,
        digest: Digest::of(world),
        at: at.parse::<Time>().unwrap(),
        skipped: BTreeSet::from([("later.event".to_owned(), 3), ("backup.queued".to_owned(), 2)]),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_usable_one_is_found_and_old_ones_go() {
    let server = nats().await.unwrap();
    let log = open(&server.url()).await;
    let snapshots = log.snapshots();
    assert_eq!(snapshots.latest(u64::MAX, |_| true).await, None, "none yet, and no error");
    let world = |sequence: u64| vec![u8::try_from(sequence).unwrap(); 300_000];
    let dates = ["2026-01-05", "2026-01-06", "2026-01-07", "2026-02-01", "2026-02-02", "2026-02-03"];
    let mut put = Vec::new();
    for (sequence, date) in (1..).zip(dates) {
        let meta = meta(sequence, &format!("{date}T00:00:00.123Z"), &world(sequence));
        snapshots.put(&meta, &world(sequence)).await.unwrap();
        put.push(meta);
    }
    let kept: Vec<u64> = snapshots.all().await.iter().map(|meta| meta.sequence).collect();
    assert_eq!(kept, [1, 4, 5, 6], "the first of each month and the last two");
    assert_eq!(snapshots.latest(u64::MAX, |_| true).await, Some((put[5].clone(), world(6))));
    assert_eq!(snapshots.latest(3, |_| true).await, Some((put[0].clone(), world(1))), "as it was then");
    assert_eq!(snapshots.latest(0, |_| true).await, None);
    assert_eq!(snapshots.latest(u64::MAX, |meta| meta.layout == 2).await, None, "another layout");
    let knows = |meta: &Meta| !meta.skipped.contains(&("later.event".to_owned(), 3));
    assert_eq!(snapshots.latest(u64::MAX, knows).await, None, "a program that knows what was skipped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_one_is_passed_over_and_none_of_another_stream_is_used() {
    let server = nats().await.unwrap();
    let log = open(&server.url()).await;
    let (good, bad) = (b"good".as_slice(), b"bad".as_slice());
    log.snapshots().put(&meta(1, "2026-01-01T00:00:00Z", good), good).await.unwrap();
    log.snapshots().put(&meta(2, "2026-01-02T00:00:00Z", b"something else"), bad).await.unwrap();
    let jetstream = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let bucket = jetstream.get_object_store("STHENO-snapshots").await.unwrap();
    bucket.put("world-nonsense", &mut &b"nonsense"[..]).await.unwrap();
    let (found, world) = log.snapshots().latest(u64::MAX, |_| true).await.unwrap();
    assert_eq!((found.sequence, world.as_slice()), (1, good));
    // The chunks of the good one go as well: the bucket's stream is emptied of them.
    let stream = jetstream.get_stream("OBJ_STHENO-snapshots").await.unwrap();
    stream.purge().filter("$O.STHENO-snapshots.C.>").await.unwrap();
    assert_eq!(log.snapshots().latest(u64::MAX, |_| true).await, None, "no error, and it does not hang");

    log.snapshots().put(&meta(3, "2026-01-03T00:00:00Z", good), good).await.unwrap();
    jetstream.delete_stream("STHENO").await.unwrap();
    let anew = open(&server.url()).await;
    assert_eq!(anew.snapshots().latest(u64::MAX, |_| true).await, None, "the log was made anew");
}
