//! One name, two contents: an object that an older manifest refers to is never overwritten.

use stheno_rpc::sidecar::node_state::Phase;

use super::ground::{Bucket, Sidecar, cassandra, files, phase, rows};
use super::medusa;

/// A node that was replaced counts its SSTables from one again: names of the pool come back with other content. Size is
/// all that Medusa compares, and it overwrites when the size differs.
async fn names_come_back(bucket: Bucket, table: &str, grow: bool) {
    let mut sidecar = Sidecar::launch(bucket, "").await;
    let node = cassandra().await.ip().to_string();
    rows(table, 0, 30, 200).await;
    let (first, second, third) = (format!("{table}-one"), format!("{table}-two"), format!("{table}-three"));
    assert_eq!(phase(&sidecar.backup(&first, false).await), Phase::Finished);

    // As if another node had written the pool: the objects of this table hold other bytes, and the volume is a new one.
    let mut others = Vec::new();
    for object in sidecar.manifest("", &first, &node) {
        if object.path.contains(&format!("/shop/{table}-")) && object.path.ends_with("Data.db") {
            let mut content: Vec<u8> = sidecar.object(&object.path).iter().map(|byte| !byte).collect();
            if grow {
                content.push(7);
            }
            put(&sidecar, &object.path, &content).await;
            others.push((object.path, content));
        }
    }
    assert!(others.len() >= 2, "a table and its index: {others:?}");
    sidecar.stop().await;
    std::fs::remove_dir_all(&sidecar.volume).unwrap();
    sidecar.start().await;

    let mut variants = Vec::new();
    for name in [&second, &third] {
        let state = sidecar.backup(name, false).await;
        assert_eq!(phase(&state), Phase::Finished, "{state:?}");
        let manifest = sidecar.manifest("", name, &node);
        let beside: Vec<_> = manifest.into_iter().filter(|object| object.path.contains("/.variants/")).collect();
        assert_eq!(beside.len(), others.len(), "{beside:?}");
        assert!(variants.is_empty() || variants == beside, "what was kept beside is not used again");
        variants = beside;
        for (key, content) in &others {
            assert_eq!(&sidecar.object(key), content, "{key} was overwritten");
            let manifest = sidecar.manifest("", name, &node);
            assert!(manifest.iter().all(|object| object.path != *key), "{name} refers to other content");
        }
        medusa::cli(&sidecar.ini, &["verify", "--backup-name", name, "--enable-md5-checks"]).await;
        restored_is_live(&sidecar, name, table).await;
    }
}

/// Overwrites an object, in the folder of a local store or through S3 (whose ETag must follow).
async fn put(sidecar: &Sidecar, key: &str, content: &[u8]) {
    match &sidecar.bucket {
        Bucket::Local => std::fs::write(sidecar.objects().join(key), content).unwrap(),
        Bucket::S3(server) => {
            let program = "import sys, boto3\n\
                boto3.client('s3', endpoint_url=sys.argv[1], region_name='us-east-1', aws_access_key_id=sys.argv[2],\n\
                \taws_secret_access_key=sys.argv[3]).put_object(Bucket='backups', Key=sys.argv[4], Body=open(sys.argv[5], 'rb').read())";
            let body = sidecar.run.path().join("body");
            std::fs::write(&body, content).unwrap();
            let (id, secret) = (stheno_local::s3::S3::ACCESS_KEY, stheno_local::s3::S3::SECRET_KEY);
            medusa::python(program, &[&server.url(), id, secret, key, body.to_str().unwrap()]).await;
        }
    }
}

/// What Medusa would restore of the table, the index in its place too, is what the node has.
async fn restored_is_live(sidecar: &Sidecar, name: &str, table: &str) {
    let target = sidecar.run.folder(&format!("restored-{name}")).unwrap();
    let arguments = ["download", "--backup-name", name, "--download-destination", target.to_str().unwrap()];
    medusa::cli(&sidecar.ini, &arguments).await;
    let live = cassandra().await.data_dir();
    let mut compared = 0;
    for file in files(&target.join("shop")) {
        let place = file.strip_prefix(&target).unwrap();
        if place.to_str().unwrap().starts_with(&format!("shop/{table}-")) && place.ends_with("nb-1-big-Data.db") {
            assert_eq!(std::fs::read(&file).unwrap(), std::fs::read(live.join(place)).unwrap(), "{}", place.display());
            compared += 1;
        }
    }
    assert_eq!(compared, 2, "a table and its index");
}

/// Hazard e.
#[tokio::test]
async fn other_content_of_equal_size_is_kept_beside_on_a_local_store() {
    names_come_back(Bucket::Local, "equal", false).await;
}

/// Hazard e.
#[tokio::test]
async fn other_content_of_another_size_is_kept_beside_on_s3() {
    names_come_back(Bucket::s3().await, "grown", true).await;
}

/// Hazard e.
#[tokio::test]
async fn other_content_of_equal_size_is_kept_beside_on_s3() {
    names_come_back(Bucket::s3().await, "samesize", false).await;
}
