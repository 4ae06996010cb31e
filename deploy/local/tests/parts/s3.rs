//! The S3 server of the ground: objects with conditions, and a store that outlives a kill.

use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _, PutMode};
use stheno_local::s3::S3;
use stheno_local::testing;

#[tokio::test]
async fn objects_are_kept_and_conditions_hold() {
    let mut server = testing::s3().await.unwrap();
    let folder = server.create_bucket("backups").unwrap();
    let builder = AmazonS3Builder::new().with_endpoint(server.url()).with_allow_http(true).with_region(S3::REGION);
    let builder = builder.with_access_key_id(S3::ACCESS_KEY).with_secret_access_key(S3::SECRET_KEY);
    let store = builder.clone().with_bucket_name("backups").build().unwrap();
    let key = Path::from("dc1/node/data.db");

    store.put(&key, "one".into()).await.unwrap();
    assert_eq!(std::fs::read(folder.join(key.as_ref())).unwrap(), b"one");
    let again = store.put_opts(&key, "two".into(), PutMode::Create.into()).await.unwrap_err();
    assert!(matches!(again, object_store::Error::AlreadyExists { .. }), "{again}");

    server.kill();
    server.start().await.unwrap();
    assert_eq!(store.get(&key).await.unwrap().bytes().await.unwrap(), "one");

    let stranger = builder.with_secret_access_key("wrong").with_bucket_name("backups").build().unwrap();
    assert!(stranger.get(&key).await.is_err());
    let nowhere = store.head(&Path::from("missing")).await.unwrap_err();
    assert!(matches!(nowhere, object_store::Error::NotFound { .. }), "{nowhere}");
}
