//! Slot migration in the server: what drives `holdfast-slot-migration` over real logs, engines and connections.

pub mod records;
