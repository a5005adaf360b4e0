//! What runs on a machine of the node subject: the server itself.

use super::world::Machine;
use crate::plan::Plan;
use crate::record::Recorder;

/// One process, from start to exit.
pub async fn process(_plan: Plan, record: Recorder, machine: Machine) {
    record.note(
        0,
        format_args!("n{}: the node cannot be started yet", machine.index),
    );
}
