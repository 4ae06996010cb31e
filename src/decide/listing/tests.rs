//! Whose a backup is, and what of a listing is news.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use super::*;
use stheno_events::observed::BackupType;

const TASK: &str = "task-1";

fn node(host: &str, datacenter: &str) -> BackupNode {
    BackupNode { host: host.into(), tokens: vec![1, 2], datacenter: datacenter.into(), rack: "r1".into() }
}

fn found(name: &str, host: &str, datacenter: &str) -> Found {
    Found {
        name: name.into(),
        backup_type: BackupType::Full,
        started: None,
        finished: None,
        total_nodes: 1,
        finished_nodes: 1,
        nodes: vec![node(host, datacenter)],
        files: 3,
        bytes: 300,
        completeness: Completeness::Complete,
    }
}

fn summary(of: &Found) -> Option<Arc<Summarised>> {
    Some(Arc::new(Summarised {
        job: "job".into(),
        started: None,
        finished: None,
        total_nodes: of.total_nodes,
        finished_nodes: of.finished_nodes,
        nodes: of.nodes.clone(),
        files: of.files,
        bytes: of.bytes,
        complete: true,
    }))
}

fn asked(known: impl IntoIterator<Item = (&'static str, Option<Arc<Summarised>>)>) -> Asked {
    Asked {
        datacenter: "dc1".into(),
        own: "shop-dc1-".into(),
        others: vec!["shop-dc2-".into(), "other-dc1-".into(), "shop-dc1-b-".into()],
        known: Arc::new(known.into_iter().map(|(name, known)| (name.into(), known)).collect()),
    }
}

fn compared(asked: &Asked, listed: Vec<Found>) -> Listed {
    let (task, pod) = (Uid::from(TASK), PodName::from("shop-dc1-r1-sts-0"));
    let mut pages = compare(asked, Origin { task: &task, pod: &pod, serial: 1, epoch: Epoch(1) }, listed);
    assert_eq!((pages.len(), pages[0].page, pages[0].last), (1, 0, true));
    pages.remove(0)
}

fn names(found: &[Found]) -> Vec<&str> {
    found.iter().map(|found| &*found.name).collect()
}

#[test]
fn a_backup_is_whose_its_nodes_are() {
    let listed = vec![
        found("own", "shop-dc1-r1-sts-0", "dc1"),
        found("own-by-address", "10.0.0.7", "dc1"),
        found("of-a-pod-that-is-gone", "shop-dc1-r9-sts-7", "dc1"),
        found("of-a-cluster-that-nobody-here-knows", "former-dc1-r1-sts-0", "dc1"),
        found("another-datacenter", "shop-dc2-r1-sts-0", "dc2"),
        found("another-cluster-of-the-same-datacenter-name", "other-dc1-r1-sts-0", "dc1"),
        found("a-name-that-begins-alike", "shop-dc1-b-r1-sts-0", "dc1"),
        Found { nodes: Vec::new(), ..found("nobody's", "", "") },
    ];
    let page = compared(&asked([]), listed);
    assert_eq!((page.total, page.ours), (8, 4));
    assert_eq!(
        names(&page.found),
        ["of-a-cluster-that-nobody-here-knows", "of-a-pod-that-is-gone", "own", "own-by-address"]
    );
}

#[test]
fn only_what_is_known_otherwise_is_news() {
    let host = "shop-dc1-r1-sts-0";
    let (same, grown) = (found("same", host, "dc1"), found("grown", host, "dc1"));
    let unsaid = found("unsaid", host, "dc1");
    let known = asked([
        ("same", summary(&same)),
        ("grown", summary(&grown)),
        ("unsaid", None),
        ("gone", summary(&same)),
        ("taken", summary(&same)),
    ]);
    let begun = Found { completeness: Completeness::Unfinished, ..found("begun", host, "dc1") };
    let listed = vec![
        same,
        Found { bytes: 400, ..grown },
        unsaid,
        begun,
        // Of this name there is one of another datacenter: it is not missing, and not ours to correct.
        found("taken", "shop-dc2-r1-sts-0", "dc2"),
        found("new", host, "dc1"),
        Found { bytes: 1, ..found("new", host, "dc1") },
    ];
    let page = compared(&known, listed);
    assert_eq!(names(&page.found), ["grown", "new", "unsaid"]);
    assert_eq!(page.found[1].bytes, 300, "of a name that comes twice the first counts");
    assert_eq!(page.missing, [Arc::from("gone")]);
    assert_eq!(page.ours, 5);
}

#[test]
fn a_consent_is_bound_to_what_is_there_and_what_is_missing() {
    let host = "shop-dc1-r1-sts-0";
    let known = asked([("a", None), ("b", None)]);
    let digest = |listed: Vec<Found>| compared(&known, listed).digest;
    let one = digest(vec![found("a", host, "dc1")]);
    assert_eq!(one, digest(vec![Found { bytes: 1, ..found("a", host, "dc1") }]), "sizes do not matter");
    assert_ne!(one, digest(vec![found("a", host, "dc1"), found("c", host, "dc1")]));
    assert_ne!(one, digest(Vec::new()));
    let broken = Found { completeness: Completeness::Unfinished, ..found("a", host, "dc1") };
    assert_ne!(one, digest(vec![broken]));
}

#[test]
fn a_long_listing_is_told_in_pages_and_an_empty_one_in_one() {
    let host = "shop-dc1-r1-sts-0";
    let many: Vec<Found> = (0..2_000).map(|number| found(&format!("backup-{number:04}"), host, "dc1")).collect();
    let (task, pod) = (Uid::from(TASK), PodName::from(host));
    let origin = Origin { task: &task, pod: &pod, serial: 1, epoch: Epoch(1) };
    let pages = compare(&asked([]), origin, many);
    assert!(pages.len() > 3);
    assert_eq!(pages.iter().map(|page| page.found.len()).sum::<usize>(), 2_000);
    assert!((0..).zip(&pages).all(
        |(number, page)| page.page == number && page.last == (page.page + 1 == u32::try_from(pages.len()).unwrap())
    ));
    for page in &pages {
        let bytes = stheno_events::Event::from(page.clone()).encoded_len();
        assert!(bytes < 2 * policy::PAGE_BYTES, "{bytes}");
    }
    let empty = compared(&asked([("a", None)]), Vec::new());
    assert_eq!((empty.ours, empty.missing.len()), (0, 1));
}
