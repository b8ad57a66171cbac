//! The wire between the hall and the API: it can be cut, and stay cut for a while.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct State {
    open: Vec<TcpStream>,
    cut: bool,
}

/// A listener that hands everything on.
pub(crate) struct Wire {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

impl Wire {
    pub(crate) fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let of_listener = Arc::clone(&state);
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let mut state = of_listener.lock().unwrap();
                let Ok(near) = near else { continue };
                if state.cut {
                    continue;
                }
                let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || copy(from, to));
                }
                state.open.extend([near, far]);
            }
        });
        Self { port, state }
    }

    /// Nothing goes through until it is mended.
    pub(crate) fn cut(&self) {
        let mut state = self.state.lock().unwrap();
        state.cut = true;
        for stream in state.open.drain(..) {
            // It may be closed already.
            stream.shutdown(Shutdown::Both).unwrap_or_default();
        }
    }

    pub(crate) fn mend(&self) {
        self.state.lock().unwrap().cut = false;
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    for stream in [from, to] {
        stream.shutdown(Shutdown::Both).unwrap_or_default();
    }
}
