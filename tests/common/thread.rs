//! Threads inside a namespace and on a chosen core.

use super::netns::Namespace;
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns};
use nix::unistd::Pid;
use std::thread::JoinHandle;

/// Runs `work` on a new thread inside `namespace`, pinned to `core` when given.
///
/// # Panics
/// In the thread, when it cannot join the namespace or be pinned.
pub fn spawn_in<T: Send + 'static>(
    namespace: &Namespace,
    core: Option<usize>,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let file = namespace.file();
    std::thread::spawn(move || {
        setns(file, CloneFlags::CLONE_NEWNET).unwrap();
        if let Some(core) = core {
            let mut set = CpuSet::new();
            set.set(core).unwrap();
            sched_setaffinity(Pid::from_raw(0), &set).unwrap();
        }
        work()
    })
}
