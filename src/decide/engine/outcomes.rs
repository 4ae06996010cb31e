//! What effects and publishing find out: facts that wait for the next message.

use super::{Engine, effects::Running};
use crate::EffectKey;
use crate::listing::fit;
use stheno_events::backup;
use stheno_events::{DcKey, Event, schedule, task};
use stheno_projections::datacenter::Object;

impl Engine {
    /// What an effect found out: facts, now.
    pub fn outcome(&mut self, key: &EffectKey, dc: &DcKey, events: Vec<Event>) {
        if !self.effects.get(key).is_some_and(Running::runs) {
            return;
        }
        let mut events = events;
        for event in &mut events {
            if let Event::Backup(backup::Event::NodeUnanswered(unanswered)) = event {
                unanswered.heard = unanswered.heard.map(|wall| self.by_our_time(wall));
            }
        }
        let room = self.rooms.entry(dc.clone()).or_default();
        room.dirty = true;
        for mut event in events {
            if let Event::Backup(backup::Event::Summarised(summary)) = &mut event {
                fit(&mut summary.nodes);
            }
            if let Event::Backup(backup::Event::Progress(progress)) = event {
                let nodes = room.progress.entry(progress.job).or_default();
                nodes.extend(progress.nodes.into_iter().map(|node| (node.pod.clone(), node)));
            } else {
                room.outcomes.push(event);
            }
        }
    }

    /// What publishing found out and no claimed effect reports: that an object was created, or was there before.
    /// Dropped unless this process leads and the log still waits for it; the next attempt to create it says it again.
    pub fn published(&mut self, key: &DcKey, event: Event) {
        let wanted = self.world.datacenter(key).is_some_and(|dc| match &event {
            Event::Backup(backup::Event::ObjectCreated(created)) => {
                dc.operation(&created.job).is_some_and(|operation| {
                    dc.backups.get(&operation.request.meta.name).is_some_and(|backup| {
                        backup.operation.as_ref() == Some(&created.job) && backup.object == Object::Wanted
                    })
                })
            }
            Event::Schedule(schedule::Event::ObjectCreated(created)) => dc
                .scheduled
                .get(&created.name)
                .is_some_and(|made| made.schedule == created.schedule && made.object == Object::Wanted),
            Event::Task(task::Event::SyncCreated(created)) => {
                dc.follow_ups.get(&created.name).is_some_and(|wanted| wanted.task == created.task)
            }
            Event::Task(task::Event::BackupCreated(created)) => dc
                .backups
                .get(&created.name)
                .is_some_and(|backup| backup.maker() == Some(&created.task) && backup.object == Object::Wanted),
            Event::Observed(_)
            | Event::Backup(_)
            | Event::Schedule(_)
            | Event::Task(_)
            | Event::Datacenter(_)
            | Event::Operator(_) => false,
        });
        if !self.leads() || !wanted {
            return;
        }
        let room = self.rooms.entry(key.clone()).or_default();
        if !room.outcomes.contains(&event) {
            room.outcomes.push(event);
            room.dirty = true;
        }
    }
}
