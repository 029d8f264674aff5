//! The engine's memory: operators that can spill share most of it evenly; a quarter is kept from them, so that those that
//! cannot spill (merging what was spilled, the small side of a join) always find some. `DataFusion`'s own fair pool lets
//! the first kind take everything, and a sort then fails at its last step.

use std::fmt::{Display, Formatter};

use datafusion::common::{Result, resources_datafusion_err};
use datafusion::execution::memory_pool::{
    FairSpillPool, GreedyMemoryPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};

#[derive(Debug)]
pub struct SharedPool {
    bytes: usize,
    spilling: FairSpillPool,
    other: GreedyMemoryPool,
}

impl SharedPool {
    pub fn new(bytes: usize) -> Self {
        Self { bytes, spilling: FairSpillPool::new(bytes / 4 * 3), other: GreedyMemoryPool::new(bytes) }
    }

    fn of(&self, consumer: &MemoryConsumer) -> &dyn MemoryPool {
        if consumer.can_spill() { &self.spilling } else { &self.other }
    }
}

impl MemoryPool for SharedPool {
    fn name(&self) -> &'static str {
        "shared"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.of(consumer).register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.of(consumer).unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.of(reservation.consumer()).grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.of(reservation.consumer()).shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let free = self.bytes.saturating_sub(self.reserved());
        if additional > free {
            return Err(resources_datafusion_err!(
                "{} needs {additional} bytes more, {free} of {} are free",
                reservation.consumer().name(),
                self.bytes
            ));
        }
        self.of(reservation.consumer()).try_grow(reservation, additional)
    }

    fn reserved(&self) -> usize {
        self.spilling.reserved() + self.other.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.bytes)
    }
}

impl Display for SharedPool {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "shared(pool_size: {})", self.bytes)
    }
}
