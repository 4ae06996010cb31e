//! Three NATS servers with three copies of the log: the one that leads it is killed in the middle of each backup.

use super::house::House;
use super::truth;
use tokio::time::{Duration, Instant, sleep};

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_of_the_stream_is_killed_in_the_middle_of_each_backup() {
    let mut house = House::replicated("replicas").await;
    for operator in &mut house.operators {
        operator.start();
    }
    let mut jobs = Vec::new();
    let mut killed = std::collections::BTreeSet::new();
    for round in 0..4 {
        let name = format!("replicas-{round}");
        house.ground.job(&name).await;
        jobs.push(name.clone());
        let started = |job: &stheno_crds::MedusaBackupJob| job.status.as_ref().is_some_and(|s| s.start_time.is_some());
        house.ground.job_once(&name, started).await;
        sleep(Duration::from_millis(400 * round)).await;
        let cluster = house.cluster.as_mut().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let leader = loop {
            if let Some(leader) = cluster.leader_of("STHENO").await {
                break leader;
            }
            assert!(Instant::now() < deadline, "the stream has no leader");
            sleep(Duration::from_millis(100)).await;
        };
        cluster.servers()[leader].kill();
        killed.insert(leader);
        house.ground.finished(&name).await;
        let cluster = house.cluster.as_mut().unwrap();
        cluster.servers()[leader].start().await.unwrap();
        cluster.servers()[leader].ready().await.unwrap();
        house.tend().await;
    }
    println!("killed in turn: {killed:?}");
    truth::told(&mut house, &jobs).await;
}
