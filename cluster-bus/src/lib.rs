//! Who is in the cluster and who owns which of its 16384 slots.
pub mod ids;
pub mod slots;
pub mod wire;
pub use ids::*;
pub use slots::SlotSet;
