//! The control thread: bus, log, migrations. It is there only where one of them is.

use crate::config::Config;
use crate::seam::{ControlInbox, ControlOut, ExecutorHandle, ToControl, ToExecutor, control_queue};
use std::io;

/// Starts the control thread if the configuration needs one, and returns the executor's way to it.
///
/// # Errors
/// The thread cannot be started.
pub fn start(config: &Config, executor: &ExecutorHandle) -> io::Result<ControlOut> {
    if !config.yes("cluster-enabled") && config.get("durability") != "quorum" {
        return Ok(ControlOut::default());
    }
    let (out, inbox) = control_queue();
    let (config, executor) = (config.clone(), executor.clone());
    std::thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            let runtime = match tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
            {
                Ok(r) => r,
                Err(e) => {
                    tracing::error!("The control thread cannot run: {e}");
                    std::process::abort();
                }
            };
            runtime.block_on(run(config, executor, inbox));
        })?;
    Ok(out)
}

/// The control thread's work, as a task.
pub async fn run(config: Config, executor: ExecutorHandle, mut inbox: ControlInbox) {
    #[cfg(not(madsim))]
    if config.yes("cluster-enabled") && config.get("durability") != "quorum" {
        let disk = std::sync::Arc::new(holdfast_raft_log::disk::StdDisk::new());
        if let Err(e) = crate::cluster::serve(&config, disk, executor, &mut inbox).await {
            // Without its bus a node would serve slots that may be another's by now.
            tracing::error!("{e}");
            eprintln!("{e}");
            std::process::exit(1);
        }
        return;
    }
    while let Some(message) = inbox.recv().await {
        let answer = match message {
            ToControl::Command { token, .. } => {
                let bytes = b"-ERR this command is not supported yet\r\n".to_vec();
                ToExecutor::Reply { token, bytes }
            }
            ToControl::Shutdown => ToExecutor::Exit,
            ToControl::Propose { .. } | ToControl::Publish { .. } | ToControl::Config(_) => {
                continue;
            }
        };
        if executor.send(answer).await.is_err() {
            return;
        }
    }
}
