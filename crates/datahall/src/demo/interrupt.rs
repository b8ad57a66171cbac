//! Ctrl-C: stops the hall in order and ends the program, wherever the demo stands.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::hall_process::HallProcess;
use crate::failure::{Failure, OrFail};
use crate::output;

/// Handles Ctrl-C and polite signals; knows the hall once there is one.
pub(super) struct Interrupt {
    hall: Arc<Mutex<Option<HallProcess>>>,
    /// Set before anything is stopped.
    came: Arc<AtomicBool>,
}

impl Interrupt {
    /// Listens from now on.
    pub(super) fn listen() -> Result<Self, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().or_fail("start the signal handler")?;
        let (mut interrupt, mut terminate) = {
            let _inside = runtime.enter();
            (
                signal(SignalKind::interrupt()).or_fail("listen for Ctrl-C")?,
                signal(SignalKind::terminate()).or_fail("listen for the end")?,
            )
        };
        let hall: Arc<Mutex<Option<HallProcess>>> = Arc::default();
        let held = Arc::clone(&hall);
        let came = Arc::new(AtomicBool::new(false));
        let coming = Arc::clone(&came);
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                });
                coming.store(true, Ordering::SeqCst);
                let hall = held.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(hall) = hall {
                    output::note("\nstopping the hall and all that it started");
                    if let Err(failure) = hall.stop() {
                        output::failure(&failure);
                    }
                }
                // A hall that is just being started has its lifeline in our hands: it ends with us.
                end();
            })
            .or_fail("start the signal handler")?;
        Ok(Self { hall, came })
    }

    /// From now on Ctrl-C stops this hall first.
    pub(super) fn stops(&self, hall: HallProcess) {
        self.hall.lock().unwrap_or_else(PoisonError::into_inner).replace(hall);
    }

    /// The demo stops the hall itself. If Ctrl-C came before, it is being stopped already, and this never returns.
    pub(super) fn release(&self) {
        while self.came.load(Ordering::SeqCst) {
            // The thread that handles the signal ends the program.
            std::thread::park();
        }
        self.hall.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

#[expect(clippy::exit, reason = "Ctrl-C ends the program while the main thread is in the middle of something")]
fn end() -> ! {
    std::process::exit(i32::from(dh_core::Kind::Interrupted.exit_code()))
}
