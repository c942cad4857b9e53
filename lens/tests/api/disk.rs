//! A disk that is full, on a small file system of the test's own where it may mount one.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::support::{JSON, Lens, now_ns};

/// A mounted file system of 6 MiB; unmounted when dropped.
struct Small(PathBuf);

impl Small {
    /// `None` where the test may not mount.
    fn mount(at: &Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=6m", "tmpfs"])
            .arg(at);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then(|| Self(at.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Status and, if it is asked to come back, after how many seconds.
async fn send(lens: &Lens) -> (u16, Option<String>) {
    let records: Vec<_> = (0..20)
        .map(|_| json!({"timeUnixNano": now_ns().to_string(), "body": {"stringValue": "x".repeat(2000)}}))
        .collect();
    let body = json!({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]});
    let body = body.to_string().into_bytes();
    let response = lens.post("/v1/logs", JSON, body).await;
    let retry = response.headers().get("retry-after");
    let retry = retry.map(|after| after.to_str().expect("text").to_owned());
    (response.status().as_u16(), retry)
}

#[tokio::test]
async fn a_stop_folds_the_write_ahead_log_into_the_file() {
    let lens = Lens::start().await;
    assert_eq!(send(&lens).await.0, 200);
    let directory = lens.stop().await;
    let log = directory.path().join("lens-4.db-wal");
    let left = std::fs::metadata(log).map_or(0, |log| log.len());
    assert_eq!(left, 0, "bytes of the log that are not in the file");
    let again = Lens::start_in(directory, |_| {}).await;
    let exported = again.text("/api/export?signal=logs").await;
    assert_eq!(exported.matches("\"stringValue\"").count(), 20);
}

#[tokio::test]
async fn a_full_disk_loses_nothing_that_was_acknowledged_and_recovers_by_itself() {
    let at = tempfile::tempdir().expect("a directory");
    let Some(_small) = Small::mount(at.path()) else {
        eprintln!("skipped: this user may not mount a file system");
        return;
    };
    let directory = tempfile::tempdir_in(at.path()).expect("a directory");
    let lens = Lens::start_in(directory, |_| {}).await;
    assert_eq!(lens.status("/readyz").await, 200);
    let filler = at.path().join("filler");
    let mut acknowledged = 0;
    assert_eq!(send(&lens).await.0, 200);
    acknowledged += 20;
    // Takes what is left; the write itself fails for want of room.
    let _ = std::fs::write(&filler, vec![1; 8 << 20]);
    let mut refused = 0;
    for _ in 0..50 {
        match send(&lens).await {
            (200, _) => acknowledged += 20,
            answer => {
                assert_eq!(answer, (503, Some("1".to_owned())));
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "the disk was never full");
    let ready = lens.get("/readyz").await;
    assert_eq!(ready.status(), 503);
    std::fs::remove_file(&filler).expect("a filler");
    assert_eq!(lens.status("/readyz").await, 200);
    assert_eq!(send(&lens).await.0, 200);
    acknowledged += 20;
    let directory = lens.stop().await;
    let again = Lens::start_in(directory, |_| {}).await;
    let exported = again.text("/api/export?signal=logs").await;
    assert_eq!(
        exported.matches("\"stringValue\"").count(),
        acknowledged,
        "all that was acknowledged, and nothing else"
    );
}
