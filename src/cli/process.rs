//! What the system may do with the memory of this process, which holds keys and what patients are told.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

/// From here on nothing of it is written into a core file, whatever ends it, and no other process of the same user may trace it or
/// read its memory. Both are kept by the processes that it makes, which are none.
///
/// # Errors
/// When the system does not take it.
pub(super) fn keep_private() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // Beside the limit: a kernel that pipes cores to a program of its own ignores that (core(5)).
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}
