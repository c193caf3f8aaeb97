//! What the system may do with the memory of this process, which holds keys and what patients are told, and how much it lets the
//! process have.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

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

/// Lets this process have as many descriptors as it may at all. What the system begins with is meant for programs that wait by
/// select(2), which knows 1,024; each connection takes one. Where it does not allow that, there are as many as before.
pub(super) fn have_all_descriptors() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
