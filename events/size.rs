//! How much room an event takes in a message: what keeps messages below the server's limit.

use crate::{Event, Fact};

impl Event {
    /// Bytes of the event in a message.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        rmp_serde::to_vec_named(&Fact::Known(self.clone())).map_or(0, |bytes| bytes.len())
    }
}
