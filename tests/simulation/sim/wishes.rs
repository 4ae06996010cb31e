//! What a person does to a job on its way.

use super::{Happening, Sim, Wish};
use crate::api::Change;
use stheno_events::Uid;
use stheno_events::observed::CANCEL;

impl Sim {
    /// Some time after the job was asked for; another one comes soon after it.
    pub(super) fn plan_wish(&mut self, asked: &Change) {
        let (Some(wish), Change::Is(body)) = (self.plan.wish, asked) else { return };
        let uid = body.meta().uid.clone();
        if wish != Wish::Patience {
            let delay = 1_000 + self.below(60_000);
            self.after(delay, Happening::Wished(uid));
        }
        let delay = 2_000 + self.below(30_000);
        self.after(delay, Happening::Next);
    }

    pub(super) fn wished(&mut self, uid: &Uid) {
        self.note(|| format!("a person wishes {:?} of {uid:?}", self.plan.wish));
        let change = match self.plan.wish {
            Some(Wish::Cancel) => self.api.edit(uid, |job| {
                job.annotations.insert(CANCEL.into(), "wrong bucket".into());
            }),
            Some(Wish::Delete) => self.api.delete(uid),
            Some(Wish::Suspend) => {
                let suspend = self.suspends;
                if suspend {
                    let delay = 5_000 + self.below(60_000);
                    self.after(delay, Happening::Wished(uid.clone()));
                }
                self.suspends = false;
                self.api.edit(uid, |job| job.rules.suspended = suspend)
            }
            Some(Wish::Patience) | None => None,
        };
        if let Some(change) = change {
            self.tell(&change);
        }
    }
}
