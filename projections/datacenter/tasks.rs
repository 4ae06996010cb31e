//! Tasks of a datacenter: which are there, what purges ask for, and what syncs make of the inventory.

use super::{Backup, Datacenter, Forgotten, Object, Tombstone};
use crate::task::{self, FollowUp, Removal, Stage, Task};
use crate::world::Touched;
use std::sync::Arc;
use stheno_events::observed::{self, ObjectKind};
use stheno_events::task::{BackupCreated, Event, Found, Reconciled};
use stheno_events::{Time, Uid};

impl Datacenter {
    /// A task.
    #[must_use]
    pub fn task_of(&self, uid: &Uid) -> Option<&Task> {
        self.tasks.get(uid).map(AsRef::as_ref)
    }

    /// Tasks that have not ended, in order of request.
    pub fn tasks_open(&self) -> impl Iterator<Item = &Task> {
        self.open_tasks.iter().filter_map(|(_, uid)| self.task_of(uid))
    }

    /// A task appeared, or was edited.
    pub(super) fn tasked(&mut self, seen: &observed::Task, at: Time, touched: &mut Vec<Touched>) {
        let uid = seen.meta.uid.clone();
        self.malformed.remove(&uid);
        touched.push(Touched::Task(uid.clone()));
        if let Some(task) = self.tasks.get_mut(&uid) {
            let task = Arc::make_mut(task);
            (task.request, task.gone) = (seen.clone(), false);
            return;
        }
        let mut task = Task::requested(seen.clone(), at);
        if let Some(tombstone) = Forgotten::lift(&mut self.forgotten, &seen.meta) {
            // It came back from an older copy of the API server's store.
            let Tombstone { started, finished, outcome, message, adopted } = tombstone;
            task.stage = Stage::Ended { started, finished, outcome, message, adopted };
        } else {
            self.open_tasks.insert((seen.meta.created, uid.clone()));
        }
        self.tasks.insert(uid, Arc::new(task));
    }

    /// The status that another program left on a task.
    pub(super) fn adopted_task(&mut self, adopted: &observed::Adopted, at: Time, touched: &mut Vec<Touched>) {
        let Some(task) = self.tasks.get_mut(&adopted.uid) else { return };
        let task = Arc::make_mut(task);
        match &mut task.stage {
            Stage::Waiting { .. } => task.adopt(adopted, at),
            // It came back with the status of its end: that says more than what is remembered of it.
            Stage::Ended { adopted: seen, .. } if adopted.finished.is_some() => *seen = true,
            Stage::Running { .. } | Stage::Ended { .. } => self.illegal += 1,
        }
        self.close_task(&adopted.uid);
        touched.push(Touched::Task(adopted.uid.clone()));
    }

    pub(super) fn task_gone(&mut self, uid: &Uid, touched: &mut Vec<Touched>) {
        if let Some(task) = self.tasks.get_mut(uid) {
            Arc::make_mut(task).gone = true;
            touched.push(Touched::Task(uid.clone()));
        }
        self.forget_task(uid);
    }

    pub(super) fn task(&mut self, event: &Event, at: Time, touched: &mut Vec<Touched>) {
        let uid = event.task();
        match event {
            // What was created is known by its name: the task itself may have left the world.
            Event::SyncCreated(e) => {
                if self.follow_ups.get(&e.name).is_some_and(|wanted| wanted.task == *uid) {
                    self.follow_ups.remove(&e.name);
                }
                touched.push(Touched::Task(uid.clone()));
                return;
            }
            Event::BackupCreated(e) => {
                self.backup_created(e);
                touched.push(Touched::Backup(e.name.clone()));
                return;
            }
            Event::Queued(_)
            | Event::ApprovalNeeded(_)
            | Event::Started(_)
            | Event::EffectClaimed(_)
            | Event::ClaimAbandoned(_)
            | Event::NodeFinished(_)
            | Event::NodeFailed(_)
            | Event::NodeUnanswered(_)
            | Event::NodeLost(_)
            | Event::Listed(_)
            | Event::Planned(_)
            | Event::Reconciled(_)
            | Event::SyncRequested(_)
            | Event::Completed(_)
            | Event::Failed(_) => {}
        }
        if let Event::Reconciled(e) = event {
            self.reconcile(e, touched);
        }
        let legal = self.tasks.get_mut(uid).is_some_and(|task| Arc::make_mut(task).apply(event, at));
        if !legal {
            self.illegal += 1;
            return;
        }
        touched.push(Touched::Task(uid.clone()));
        if let (Event::SyncRequested(e), Some(task)) = (event, self.tasks.get(uid)) {
            let (dc, labels) = (task.request.dc.clone(), task.request.labels.clone());
            self.follow_ups.insert(e.name.clone(), Arc::new(FollowUp { task: uid.clone(), dc, labels }));
        }
        self.close_task(uid);
        self.forget_task(uid);
    }

    fn backup_created(&mut self, event: &BackupCreated) {
        if let Some(backup) = self.backups.get_mut(&event.name)
            && backup.maker() == Some(&event.task)
            && backup.object == Object::Wanted
        {
            let uid = event.uid.clone();
            Arc::make_mut(backup).object = if event.foreign { Object::Foreign { uid } } else { Object::Ours { uid } };
        }
    }

    /// What is known becomes what the bucket holds.
    fn reconcile(&mut self, event: &Reconciled, touched: &mut Vec<Touched>) {
        let Some(listing) = self.task_of(&event.task).and_then(|task| task.sync.listing.clone()) else { return };
        for found in event.created.iter().chain(&event.corrected).filter_map(|name| listing.found.get(name)) {
            self.take_in(&event.task, found);
            touched.push(Touched::Backup(found.name.clone()));
        }
        for name in event.removed.iter().filter(|name| listing.missing.contains(*name)) {
            self.remove(&event.task, name, touched);
        }
    }

    fn take_in(&mut self, task: &Uid, found: &Found) {
        let summary = Some(Arc::new(task::summary(task, found)));
        match self.backups.get_mut(&found.name) {
            None => {
                let backup = Backup {
                    operation: None,
                    sync: Some(task.clone()),
                    completeness: found.completeness,
                    backup_type: found.backup_type,
                    started: found.started,
                    finished: found.finished,
                    summary,
                    object: Object::Wanted,
                };
                self.backups.insert(found.name.clone(), Arc::new(backup));
            }
            Some(backup) => {
                let backup = Arc::make_mut(backup);
                backup.summary = summary;
                backup.completeness = found.completeness;
                if backup.operation.is_none() {
                    // Its times are the bucket's; those of a job are its own.
                    (backup.started, backup.finished) = (found.started, found.finished);
                    backup.sync.get_or_insert_with(|| task.clone());
                }
                if let Object::Foreign { uid } = &backup.object {
                    backup.object = Object::Ours { uid: uid.clone() };
                }
            }
        }
    }

    fn remove(&mut self, task: &Uid, name: &Arc<str>, touched: &mut Vec<Touched>) {
        let Some(backup) = self.backups.remove(name) else { return };
        touched.push(Touched::Backup(name.clone()));
        let removal = |kind| Removal { kind, name: name.clone(), task: task.clone() };
        if let Object::Ours { uid } | Object::Foreign { uid } = &backup.object {
            self.removals.insert(uid.clone(), removal(ObjectKind::MedusaBackup));
            touched.push(Touched::Removal(uid.clone()));
        }
        let job = self
            .operations
            .iter()
            .find(|(_, operation)| operation.request.meta.name == *name && operation.ended() && !operation.gone);
        if let Some((job, _)) = job {
            let job = job.clone();
            touched.push(Touched::Removal(job.clone()));
            self.removals.insert(job, removal(ObjectKind::MedusaBackupJob));
        }
    }

    fn close_task(&mut self, uid: &Uid) {
        if let Some(task) = self.tasks.get(uid).filter(|task| task.ended()) {
            self.open_tasks.remove(&(task.request.meta.created, uid.clone()));
            self.rest();
        }
    }

    /// A task that ended and whose custom resource is gone leaves the world, not the log.
    fn forget_task(&mut self, uid: &Uid) {
        if self.tasks.get(uid).is_some_and(|task| task.gone && task.ended())
            && let Some(task) = self.tasks.remove(uid)
            && let Stage::Ended { started, finished, outcome, message, adopted } = &task.stage
        {
            let (message, adopted) = (message.clone(), *adopted);
            let tombstone = Tombstone { started: *started, finished: *finished, outcome: *outcome, message, adopted };
            Arc::make_mut(&mut self.forgotten).lay(&task.request.meta, tombstone);
        }
    }
}
