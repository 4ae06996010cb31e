//! Messages in a real log that no operator of this build would write: chained and fenced as theirs are.

use super::house::House;
use std::sync::Arc;
use stheno::audit::Source;
use stheno::log::{Credentials, Endpoint, Log, Outcome, Patience, Settings};
use stheno_events::{Aggregate, DcKey, Digest, Envelope, Epoch, Event, Fact, LAYOUT, Process, Time};
use stheno_projections::World;

pub struct Writer {
    pub log: Log,
    pub world: World,
}

impl Writer {
    /// Reads the log of a house to its end.
    pub async fn new(house: &House) -> Self {
        let settings = Settings {
            endpoint: Endpoint::External { url: house.ground.nats.url(), credentials: Credentials::None },
            stream: "STHENO".into(),
            cluster: None,
            allow_relaxed: true,
            clock: Arc::new(stheno::runtime::wall),
            patience: Patience::default(),
        };
        let source = Source::Nats(Log::open(settings).await.unwrap());
        let mut world = World::default();
        let mut reader = source.read(1, Default::default()).await.unwrap();
        while let Some(entry) = reader.next().await.unwrap() {
            entry.fold(entry.digest(), &mut world);
        }
        let Source::Nats(log) = source else { unreachable!() };
        Self { log, world }
    }

    pub fn datacenter(house: &House) -> Aggregate {
        Aggregate::Datacenter(DcKey::new(house.ground.namespace.as_str(), "dc1"))
    }

    /// Appends a message; it must be taken.
    pub async fn say(&mut self, aggregate: &Aggregate, process: Process, at: Time, epoch: Epoch, events: Vec<Fact>) {
        let (ns, dc): (Arc<str>, Arc<str>) = match aggregate {
            Aggregate::Datacenter(key) => (key.namespace.clone(), key.name.clone()),
            Aggregate::Location(_) | Aggregate::Operator => ("".into(), "".into()),
        };
        let head = self.world.head(aggregate);
        let envelope = Envelope {
            v: LAYOUT,
            id: stheno::runtime::new_id(),
            at,
            wall: at,
            seen: self.world.position,
            epoch,
            ns,
            dc,
            dc_uid: None,
            prev: head.digest,
            cause: None,
            corr: None,
            by: "another build".into(),
            events,
        };
        let payload = envelope.encode().unwrap();
        let digest = Digest::of(&payload);
        let outcome = self.log.append(aggregate, process, head.sequence, &envelope).await.unwrap();
        let Outcome::Committed(sequence) = outcome else { panic!("{outcome:?}") };
        let message = stheno_projections::Message { sequence, aggregate, digest, envelope: Ok(&envelope) };
        self.world.apply(message);
    }
}

pub fn fact(event: impl Into<Event>) -> Fact {
    Fact::Known(event.into())
}
