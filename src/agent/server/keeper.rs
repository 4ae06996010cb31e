//! What is done with backups that are there: cancelled, listed, verified, and what a purge would take.

use std::pin::Pin;

use futures::Stream;
use stheno_rpc::sidecar::keeper_server::Keeper;
use stheno_rpc::sidecar::{
    CancelRequest, CancelResponse, ListBackupsRequest, ListBackupsResponse, PlanPurgeRequest, PlannedDeletion,
    PurgePlan, PurgeTotals, VerifyRequest, VerifyState,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Face, claimed, keeping_trouble, store_trouble};
use crate::jobs::sentence;
use crate::verify;

/// Backups of a page, unless the client says otherwise.
const PAGE: usize = 100;
/// Deletions of one message.
const DELETIONS: usize = 500;

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Keeper for Face {
    type VerifyStream = Streamed<VerifyState>;
    type PlanPurgeStream = Streamed<PurgePlan>;

    async fn cancel(&self, request: Request<CancelRequest>) -> Result<Response<CancelResponse>, Status> {
        let request = request.into_inner();
        let state = self.jobs.cancel_backup(&claimed(request.claim), &request.name).await?;
        let state = state.ok_or_else(|| Status::not_found("no such operation on this node"))?;
        Ok(Response::new(CancelResponse { state: Some(state) }))
    }

    async fn list_backups(
        &self,
        request: Request<ListBackupsRequest>,
    ) -> Result<Response<ListBackupsResponse>, Status> {
        let request = request.into_inner();
        let size = usize::try_from(request.page_size).unwrap_or(PAGE);
        let size = if size == 0 { PAGE } else { size.min(10 * PAGE) };
        let after = match request.page_token.split_once('/') {
            None if request.page_token.is_empty() => None,
            Some((started, name)) if started.parse::<i64>().is_ok() => {
                Some((started.parse().unwrap_or_default(), name.to_owned()))
            }
            Some(_) | None => return Err(Status::invalid_argument("page_token is not one of this service")),
        };
        let failed = self.jobs.failed_names().await;
        let page = self.jobs.catalogue().page(after, size, |name| failed.contains(name)).await;
        let (backups, next) = page.map_err(|error| store_trouble(&error))?;
        let next_page_token = next.map(|(started, name)| format!("{started}/{name}")).unwrap_or_default();
        Ok(Response::new(ListBackupsResponse { backups, next_page_token }))
    }

    async fn verify(&self, request: Request<VerifyRequest>) -> Result<Response<Self::VerifyStream>, Status> {
        let request = request.into_inner();
        let check = verify::Check { read: request.read, bandwidth: request.bandwidth };
        let work = verify::Verify::open(self.jobs.tools(), &request.name, check).await;
        let work = work.map_err(|error| match &error {
            verify::Error::Store(error) => store_trouble(error),
            verify::Error::Name(_) => Status::invalid_argument(sentence(&error)),
            verify::Error::Absent { .. } => Status::not_found(sentence(&error)),
            verify::Error::Manifest { .. } => Status::data_loss(sentence(&error)),
        })?;
        let (sender, receiver) = mpsc::channel(4);
        let jobs = self.jobs.clone();
        tokio::spawn(async move {
            let trouble = tokio::select! {
                outcome = work.run(&jobs.tools().store, &sender) => outcome.err().map(|error| store_trouble(&error)),
                () = sender.closed() => None,
                () = jobs.cancel().cancelled() => Some(Status::unavailable("the sidecar is stopping: try again")),
            };
            if let Some(trouble) = trouble {
                // Who asked may be gone too; then nobody needs the sentence.
                let _ = sender.send(Err(trouble)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn plan_purge(&self, request: Request<PlanPurgeRequest>) -> Result<Response<Self::PlanPurgeStream>, Status> {
        let name = request.into_inner().name;
        let name = (!name.is_empty()).then_some(name.as_str());
        let plan = self.jobs.plan_purge(name).await.map_err(|error| keeping_trouble(&error))?;
        let all: Vec<PlannedDeletion> = plan
            .each()
            .map(|(key, bytes, reason)| PlannedDeletion { key: key.to_owned(), bytes, reason: reason.to_string() })
            .collect();
        let totals = plan.totals();
        let totals = PurgeTotals {
            backups: totals.backups,
            objects: totals.objects,
            bytes: totals.bytes,
            within_grace: totals.within_grace,
            pool_left_alone: plan.left_alone.unwrap_or_default().to_owned(),
        };
        let mut messages: Vec<Result<PurgePlan, Status>> =
            all.chunks(DELETIONS).map(|some| Ok(PurgePlan { deletions: some.to_vec(), totals: None })).collect();
        messages.push(Ok(PurgePlan { deletions: Vec::new(), totals: Some(totals) }));
        Ok(Response::new(Box::pin(futures::stream::iter(messages))))
    }
}
