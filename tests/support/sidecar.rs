//! A false sidecar that speaks Medusa's contract over real gRPC, and our extension when it is ours. It does what the
//! script says: accepts, hangs, answers late, knows nothing yet, fails, or goes away.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use stheno_rpc::medusa::medusa_server::{Medusa, MedusaServer};
use stheno_rpc::medusa::{self as wire, StatusType};
use stheno_rpc::sidecar as ours;
use stheno_rpc::sidecar::keeper_server::{Keeper, KeeperServer};
use stheno_rpc::sidecar::node_state::Phase;
use stheno_rpc::sidecar::sidecar_server::{Sidecar, SidecarServer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{TcpListenerStream, WatchStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// A false sidecar; clones are the same one. It remembers what it was asked, through restarts.
#[derive(Clone)]
pub struct FalseSidecar {
    script: Arc<Mutex<Script>>,
    state: watch::Sender<ours::NodeState>,
}

/// What it does.
#[derive(Default)]
pub struct Script {
    /// Every call, as `Method argument`.
    pub calls: Vec<String>,
    /// When each method was first called.
    pub first: BTreeMap<&'static str, tokio::time::Instant>,
    /// Methods that never answer.
    pub hangs: BTreeSet<&'static str>,
    /// Answers that come before the usual ones.
    pub errors: BTreeMap<&'static str, VecDeque<Status>>,
    /// What BackupStatus says; none is NOT_FOUND.
    pub status: Option<StatusType>,
    /// What it lists.
    pub backups: Vec<wire::BackupSummary>,
    /// What each purge removed.
    pub purged: wire::PurgeBackupsResponse,
    /// The pod that it says it is in.
    pub pod: String,
    /// The highest term that it has served: a lower one is refused, as by the real one.
    pub term: u64,
    /// Done once, when the method is called and before it is answered.
    pub meanwhile: BTreeMap<&'static str, Meanwhile>,
}

type Meanwhile = Box<dyn FnOnce() + Send>;

/// It listens; dropped, its connections break as when its process dies.
pub struct Serving {
    pub address: SocketAddr,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl FalseSidecar {
    pub fn new() -> Self {
        Self { script: Arc::default(), state: watch::Sender::new(ours::NodeState::default()) }
    }

    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    pub fn calls(&self) -> Vec<String> {
        self.script().calls.clone()
    }

    /// How often a method was called.
    pub fn count(&self, method: &str) -> usize {
        self.script().calls.iter().filter(|call| call.split(' ').next() == Some(method)).count()
    }

    /// What our own sidecar reports from now on.
    pub fn report(&self, change: impl FnOnce(&mut ours::NodeState)) {
        self.state.send_modify(change);
    }

    pub fn phase(&self, phase: Phase) {
        self.report(|state| state.set_phase(phase));
    }

    /// Serves as our sidecar, on a free port.
    pub fn serve_ours(&self) -> Serving {
        self.serve(true, ([127, 0, 0, 1], 0).into())
    }

    /// Serves as stock Medusa, on a free port.
    pub fn serve_stock(&self) -> Serving {
        self.serve(false, ([127, 0, 0, 1], 0).into())
    }

    pub fn serve(&self, ours: bool, address: SocketAddr) -> Serving {
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let (stopped, fake) = (stop.clone(), self.clone());
        // A runtime of its own: with it every connection ends, as when a process dies.
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                let mut server = tonic::transport::Server::builder();
                let router = server.add_service(MedusaServer::new(fake.clone()));
                let router = if ours {
                    router.add_service(SidecarServer::new(fake.clone())).add_service(KeeperServer::new(fake))
                } else {
                    router
                };
                tokio::select! {
                    () = stopped.cancelled() => {}
                    served = router.serve_with_incoming(TcpListenerStream::new(listener)) => served.unwrap(),
                }
            });
        });
        Serving { address, stop, thread: Some(thread) }
    }

    /// Notes a call; an error that is due comes back, and a method that hangs never does.
    async fn called(&self, method: &'static str, argument: &str) -> Result<(), Status> {
        let (hangs, error) = {
            let mut script = self.script();
            if let Some(happens) = script.meanwhile.remove(method) {
                happens();
            }
            script.first.entry(method).or_insert_with(tokio::time::Instant::now);
            script.calls.push(format!("{method} {argument}").trim_end().to_owned());
            let error = script.errors.get_mut(method).and_then(VecDeque::pop_front);
            (script.hangs.contains(method), error)
        };
        match error {
            Some(status) => Err(status),
            None if hangs => std::future::pending().await,
            None => Ok(()),
        }
    }
}

impl Serving {
    /// Goes away, as when its process dies.
    pub fn end(mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn unimplemented<T>(method: &str) -> Result<Response<T>, Status> {
    Err(Status::unimplemented(format!("{method} is not part of this test")))
}

#[tonic::async_trait]
impl Medusa for FalseSidecar {
    async fn backup(&self, _: Request<wire::BackupRequest>) -> Result<Response<wire::BackupResponse>, Status> {
        unimplemented("Backup")
    }

    async fn async_backup(
        &self,
        request: Request<wire::BackupRequest>,
    ) -> Result<Response<wire::BackupResponse>, Status> {
        let request = request.into_inner();
        self.called("AsyncBackup", &format!("{} {}", request.name, request.mode().as_str_name())).await?;
        let status = StatusType::InProgress.into();
        Ok(Response::new(wire::BackupResponse { backup_name: request.name, status }))
    }

    async fn backup_status(
        &self,
        request: Request<wire::BackupStatusRequest>,
    ) -> Result<Response<wire::BackupStatusResponse>, Status> {
        let name = request.into_inner().backup_name;
        self.called("BackupStatus", &name).await?;
        match self.script().status {
            Some(status) => {
                Ok(Response::new(wire::BackupStatusResponse { status: status.into(), ..Default::default() }))
            }
            None => Err(Status::not_found(format!("backup <{name}> does not exist"))),
        }
    }

    async fn delete_backup(
        &self,
        _: Request<wire::DeleteBackupRequest>,
    ) -> Result<Response<wire::DeleteBackupResponse>, Status> {
        unimplemented("DeleteBackup")
    }

    async fn get_backup(
        &self,
        request: Request<wire::GetBackupRequest>,
    ) -> Result<Response<wire::GetBackupResponse>, Status> {
        let name = request.into_inner().backup_name;
        self.called("GetBackup", &name).await?;
        let backup = self.script().backups.iter().find(|backup| backup.backup_name == name).cloned();
        match backup {
            Some(backup) => {
                let status = backup.status;
                Ok(Response::new(wire::GetBackupResponse { backup: Some(backup), status }))
            }
            // As Medusa says it.
            None => {
                Err(Status::internal(format!("Failed to get backup due to error: 'The backup {name} does not exist'")))
            }
        }
    }

    async fn get_backups(
        &self,
        _: Request<wire::GetBackupsRequest>,
    ) -> Result<Response<wire::GetBackupsResponse>, Status> {
        self.called("GetBackups", "").await?;
        let backups = self.script().backups.clone();
        Ok(Response::new(wire::GetBackupsResponse { backups, overall_status: StatusType::Success.into() }))
    }

    async fn purge_backups(
        &self,
        _: Request<wire::PurgeBackupsRequest>,
    ) -> Result<Response<wire::PurgeBackupsResponse>, Status> {
        self.called("PurgeBackups", "").await?;
        let purged = self.script().purged;
        Ok(Response::new(purged))
    }

    async fn prepare_restore(
        &self,
        request: Request<wire::PrepareRestoreRequest>,
    ) -> Result<Response<wire::PrepareRestoreResponse>, Status> {
        let wire::PrepareRestoreRequest { backup_name, datacenter, restore_key } = request.into_inner();
        self.called("PrepareRestore", &format!("{backup_name} {datacenter} {restore_key}")).await?;
        Ok(Response::new(wire::PrepareRestoreResponse {}))
    }
}

#[tonic::async_trait]
impl Sidecar for FalseSidecar {
    async fn capabilities(
        &self,
        _: Request<ours::CapabilitiesRequest>,
    ) -> Result<Response<ours::CapabilitiesResponse>, Status> {
        self.called("Capabilities", "").await?;
        let pod = self.script().pod.clone();
        Ok(Response::new(ours::CapabilitiesResponse { version: "0.1.0".into(), pod, ..Default::default() }))
    }

    async fn start_backup(
        &self,
        request: Request<ours::StartBackupRequest>,
    ) -> Result<Response<ours::StartBackupResponse>, Status> {
        let request = request.into_inner();
        let claim = request.claim.unwrap_or_default();
        let argument = format!("{} {} {} {}", request.name, claim.operation, claim.attempt, claim.epoch);
        let term = self.script().term;
        if claim.epoch < term {
            self.called("refused StartBackup", &argument).await?;
            return Err(Status::failed_precondition(format!("term {term} has been served, not {}", claim.epoch)));
        }
        self.script().term = claim.epoch;
        self.called("StartBackup", &argument).await?;
        self.report(|state| {
            state.name = request.name;
            (state.operation, state.attempt) = (claim.operation, claim.attempt);
            if state.phase() == Phase::Unspecified {
                state.set_phase(Phase::Starting);
            }
        });
        Ok(Response::new(ours::StartBackupResponse { state: Some(self.state.borrow().clone()) }))
    }

    type WatchStream = Pin<Box<dyn tokio_stream::Stream<Item = Result<ours::NodeState, Status>> + Send>>;

    async fn watch(&self, request: Request<ours::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.called("Watch", &request.into_inner().name).await?;
        let mut over = false;
        let states = WatchStream::new(self.state.subscribe()).take_while(move |state| {
            // The last state is part of the stream.
            !std::mem::replace(&mut over, matches!(state.phase(), Phase::Finished | Phase::Failed))
        });
        Ok(Response::new(Box::pin(states.map(Ok))))
    }
}

type Streamed<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Keeper for FalseSidecar {
    type VerifyStream = Streamed<ours::VerifyState>;
    type PlanPurgeStream = Streamed<ours::PurgePlan>;

    /// What has ended stays what it is.
    async fn cancel(&self, request: Request<ours::CancelRequest>) -> Result<Response<ours::CancelResponse>, Status> {
        let request = request.into_inner();
        let claim = request.claim.unwrap_or_default();
        let argument = format!("{} {} {} {}", request.name, claim.operation, claim.attempt, claim.epoch);
        self.called("Cancel", &argument).await?;
        if self.state.borrow().operation != claim.operation {
            return Err(Status::not_found("no such operation on this node"));
        }
        self.report(|state| {
            if !matches!(state.phase(), Phase::Finished | Phase::Failed) {
                state.set_phase(Phase::Failed);
                state.reason = "the backup was cancelled".into();
            }
        });
        Ok(Response::new(ours::CancelResponse { state: Some(self.state.borrow().clone()) }))
    }

    async fn list_backups(
        &self,
        _: Request<ours::ListBackupsRequest>,
    ) -> Result<Response<ours::ListBackupsResponse>, Status> {
        unimplemented("ListBackups")
    }

    async fn verify(&self, _: Request<ours::VerifyRequest>) -> Result<Response<Self::VerifyStream>, Status> {
        unimplemented("Verify")
    }

    async fn plan_purge(&self, _: Request<ours::PlanPurgeRequest>) -> Result<Response<Self::PlanPurgeStream>, Status> {
        unimplemented("PlanPurge")
    }
}
