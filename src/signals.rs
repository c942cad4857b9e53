//! SIGTERM and SIGINT: the first asks to stop, the second exits at once, even while telemetry is being flushed.

use std::future::Future;
use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Status after a second signal, as a shell reports SIGINT.
const EXIT_AT_ONCE: i32 = 130;

/// Listens from now on, on a thread of its own, because the flush at the end runs outside any runtime. The future is
/// ready at the first signal.
pub fn first() -> io::Result<impl Future<Output = ()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (tell, told) = oneshot::channel();
    let (mut terminate, mut interrupt) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        )
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                let mut next = async || {
                    tokio::select! {
                        _ = terminate.recv() => {}
                        _ = interrupt.recv() => {}
                    }
                };
                next().await;
                // Nobody waits any more when the server has ended by itself: then there is nothing to tell.
                let _ = tell.send(());
                next().await;
                std::process::exit(EXIT_AT_ONCE);
            });
        })?;
    Ok(async {
        let _ = told.await;
    })
}
