//! What others on the machine can get at of a server that is a process of its own.

use std::{
    fs,
    os::unix::{fs::MetadataExt, process::ExitStatusExt},
};

use rustix::process::{Resource, Rlimit, Signal, prlimit};

use crate::support::{Backend, app::TestApp};

/// Raises the limit that the process has set itself, as only root may: what is left is that it is not dumpable, which holds wherever
/// the kernel sends cores. The kernel says of others by the owner of its files that a process is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_breaks_down_leaves_no_core() {
    let mut t = TestApp::spawn_apart(Backend::Sqlite, "info", |_| {}).await.unwrap();
    let id = t.process().id;
    let place = format!("/proc/{}", id.as_raw_nonzero());
    let limits = fs::read_to_string(format!("{place}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
    let unlimited = Rlimit { current: None, maximum: None };
    let raised = prlimit(Some(id), Resource::Core, unlimited).is_ok();
    assert!(
        raised || fs::metadata(format!("{place}/mem")).unwrap().uid() == 0,
        "others of its user can read its memory"
    );
    let status = t.process().ended_by(Signal::ABORT).await;
    assert!(status.signal() == Some(6) && !status.core_dumped(), "{status}");
    let left: Vec<_> = fs::read_dir(t.home.path("")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("core")), "{left:?}");
}
