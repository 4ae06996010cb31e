//! What vouches for a log finds what the chain alone cannot: a log that was rewritten as a whole, or lost its end.

use crate::story::{Story, audit, dc, two_backups};
use std::collections::BTreeMap;
use stheno::audit::verify::{Report, verify_with};
use stheno::audit::vouch::Vouchers;
use stheno::log::Witness;
use stheno::log::checkpoint::{Signer, Verifier};
use stheno_events::chain::Heads;
use stheno_events::datacenter::Led;
use stheno_events::operator::Checkpoint;
use stheno_events::{Aggregate, Digest, Envelope, Epoch, Process};

pub(crate) fn signer() -> Signer {
    Signer::from_hex(&"0a".repeat(32)).unwrap()
}

pub(crate) fn heads(story: &Story, until: usize) -> (BTreeMap<std::sync::Arc<str>, Digest>, Digest) {
    let (mut heads, mut named) = (Heads::default(), BTreeMap::new());
    for (subject, _, payload) in &story.messages[..until] {
        let (aggregate, _) = Aggregate::parse(&story.log, subject).unwrap();
        heads.push(&aggregate, payload);
        named.insert(aggregate.filter(&story.log).into(), Digest::of(payload));
    }
    (named, heads.root(&story.log))
}

/// A checkpoint of everything so far, signed.
pub(crate) fn checkpoint(story: &mut Story, signer: &Signer) {
    let sequence = story.messages.len() as u64;
    let (heads, root) = heads(story, story.messages.len());
    let signature = Some(signer.sign(sequence, &root));
    let checkpoint = Checkpoint { sequence, heads, root, signature };
    story.say(&Aggregate::Operator, Process::Operator, vec![checkpoint.into()]);
}

pub(crate) fn witness(story: &Story) -> Witness {
    Witness {
        stream: "STHENO".into(),
        stream_id: "one".into(),
        created: story.now,
        cluster: crate::story::CLUSTER.into(),
        last_sequence: story.messages.len() as u64,
        root: heads(story, story.messages.len()).1,
        epoch: Epoch(1),
    }
}

async fn report(story: &Story, witness: Option<Witness>, key: bool) -> Report {
    let key = key.then(|| Verifier::from_hex(&signer().public_hex()).unwrap());
    verify_with(&story.source(), Vouchers { key, witness }).await.unwrap()
}

fn vouched() -> Story {
    let mut story = two_backups();
    checkpoint(&mut story, &signer());
    story
}

/// The same history with one word changed, and every link made anew: what somebody with all rights on the server does.
fn rewritten(story: &Story, target: usize) -> Story {
    let mut forged = Story::new();
    forged.log = story.log.clone();
    for (index, (subject, stored, payload)) in story.messages.iter().enumerate() {
        let (aggregate, process) = Aggregate::parse(&story.log, subject).unwrap();
        let mut envelope = Envelope::decode(payload).unwrap();
        forged.now = *stored;
        envelope.prev = forged.envelope(&aggregate, Vec::new()).prev;
        if index == target {
            envelope.by = "nobody".into();
        }
        forged.append(&aggregate, process.unwrap(), envelope.encode().unwrap());
    }
    forged
}

#[tokio::test]
async fn a_log_that_was_rewritten_with_its_chain_does_not_agree_with_a_checkpoint() {
    let story = vouched();
    let whole = report(&story, Some(witness(&story)), true).await;
    assert_eq!((&whole.fault, whole.vouched.checkpoints, whole.vouched.checkpointed), (&None, 1, 17));
    assert_eq!((whole.vouched.witnessed, whole.vouched.signed), (18, true));
    for target in 0..17 {
        let forged = rewritten(&story, target);
        let fault = report(&forged, None, true).await.fault.expect("a fault");
        // Every later message of the aggregate names another one: the last of them is the one that was vouched for.
        assert!(fault.sequence > target as u64 && fault.sequence <= 17, "{fault} for {target}");
        assert!(fault.what.contains("vouches for"), "{fault}");
        let fault = report(&forged, Some(witness(&story)), false).await.fault.expect("a fault");
        assert!(fault.sequence > target as u64, "{fault} for {target}");
    }
}

#[tokio::test]
async fn the_key_decides_whose_checkpoints_they_are() {
    let mut story = two_backups();
    let other = Signer::from_hex(&"0b".repeat(32)).unwrap();
    checkpoint(&mut story, &other);
    assert_eq!(report(&story, None, false).await.fault, None);
    let fault = report(&story, None, true).await.fault.unwrap();
    assert_eq!(
        (fault.sequence, fault.what.as_str()),
        (18, "the checkpoint's signature does not fit its content and this key")
    );

    let fault = report(&two_backups(), None, true).await.fault.unwrap();
    assert!(fault.what.starts_with("there is no checkpoint in the log that the key could prove"), "{fault}");
}

#[tokio::test]
async fn a_cut_end_is_found_by_the_witness_alone() {
    let story = vouched();
    for kept in 0..18 {
        let mut cut = story.clone();
        cut.messages.truncate(kept);
        let fault = report(&cut, Some(witness(&story)), false).await.fault.expect("a fault");
        assert_eq!(fault.sequence, kept as u64 + 1);
        assert!(fault.what.contains("but 18 was witnessed: an older copy was put back"), "{fault}");
    }
    // What came after the witness is none of its business.
    let mut longer = story.clone();
    let led = Led { epoch: longer.epoch, quiet_until: None };
    longer.say(&dc("dc1"), Process::Datacenter, vec![led.into()]);
    assert_eq!(report(&longer, Some(witness(&story)), true).await.fault, None);
}

#[tokio::test]
async fn files_and_sentences() {
    let story = vouched();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let key = at("key", &signer().public_hex());
    let witness = witness(&story);
    let map = at(
        "witness.yaml",
        &format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: stheno-log\ndata:\n  stream: STHENO\n  streamId: one\n\
             \x20 created: \"2026-03-01T02:00:00Z\"\n  clusterUid: {}\n  lastSequence: \"18\"\n  root: {}\n  epoch: \"1\"\n",
            witness.cluster, witness.root
        ),
    );
    let verify = async |arguments: &[&str]| {
        let arguments: Vec<&str> = ["verify"].iter().chain(arguments).copied().collect();
        audit(&story.source(), &arguments).await
    };
    let with_both = ["--key", &key, &format!("--witness={map}")];
    let nothing = at("nothing", "none");
    let half = at("half.yaml", "apiVersion: v1\nkind: ConfigMap\ndata:\n  stream: STHENO\n");
    let (no_map, half_map) = (format!("--witness={nothing}"), format!("--witness={half}"));
    let with_json = [&with_both[..], &["-o", "json"]].concat();
    let mut said = String::new();
    for arguments in
        [&with_both[..], &with_json, &[], &["--key", &nothing], &["--key", "/nowhere"], &[&no_map], &[&half_map]]
    {
        let answer = verify(arguments).await.unwrap_or_else(|error| format!("stheno: {error}\n"));
        let line = format!("$ stheno audit verify {}\n{answer}\n", arguments.join(" "));
        said.push_str(&line.replace(&format!("{}/", folder.path().display()), ""));
    }
    insta::assert_snapshot!("vouched", said);
}
