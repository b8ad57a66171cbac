//! One thread that waits for the end of every warden and reports it. A warden's report pipe ends when the warden does.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdout};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dh_core::TaskId;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::Shared;
use super::start::Warden;
use crate::Error;
use crate::executor::{TaskEvent, What};
use crate::limits::STOP_WAIT_MS;

/// The tag of the pipe that wakes the thread; those of wardens count from 1.
const WAKE: u64 = 0;

/// What the watching thread waits for.
pub(super) struct Watch {
    poll: OwnedFd,
    watched: Mutex<BTreeMap<u64, Watched>>,
    next: AtomicU64,
    closing: AtomicBool,
    wake: UnixStream,
    woken: UnixStream,
}

struct Watched {
    task: TaskId,
    mark: String,
    child: Child,
    reports: ChildStdout,
}

impl Watch {
    pub(super) fn new() -> Result<Self, Error> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| Error::doing("watch tasks", error))?;
        let (wake, woken) = UnixStream::pair().map_err(|error| Error::doing("watch tasks", error))?;
        epoll::add(&poll, &woken, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)
            .map_err(|error| Error::doing("watch tasks", error))?;
        Ok(Self {
            poll,
            watched: Mutex::new(BTreeMap::new()),
            next: AtomicU64::new(WAKE + 1),
            closing: AtomicBool::new(false),
            wake,
            woken,
        })
    }

    fn watched(&self) -> MutexGuard<'_, BTreeMap<u64, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the thread end once nothing is left to watch.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        // The socket holds far more than this one byte.
        (&self.wake).write_all(&[0]).unwrap_or(());
    }
}

impl Shared {
    /// Leaves started wardens to the watching thread, or none of them if one cannot be watched. Their `started`
    /// events are sent under the lock that the thread needs, so that none comes after the task's end.
    pub(super) fn hand_over(&self, wardens: &mut Vec<Warden>, started: Vec<TaskEvent>) -> Result<(), Error> {
        let mut watched = self.watch.watched();
        let mut tags = Vec::with_capacity(wardens.len());
        for warden in wardens.iter() {
            let tag = self.watch.next.fetch_add(1, Ordering::Relaxed);
            let data = epoll::EventData::new_u64(tag);
            if let Err(error) = epoll::add(&self.watch.poll, &warden.reports, data, epoll::EventFlags::IN) {
                for earlier in wardens.iter().take(tags.len()) {
                    if let Err(error) = epoll::delete(&self.watch.poll, &earlier.reports) {
                        tracing::error!(task = %earlier.task, %error, "a task cannot be unwatched");
                    }
                }
                return Err(Error::doing("watch a task", error));
            }
            tags.push(tag);
        }
        for event in started {
            (self.events)(event);
        }
        for (tag, Warden { task, mark, child, reports, .. }) in tags.into_iter().zip(wardens.drain(..)) {
            watched.insert(tag, Watched { task, mark, child, reports });
        }
        Ok(())
    }

    /// The thread's body. After `close` it waits for what still runs, but not for ever.
    pub(super) fn watch_tasks(&self) {
        let mut deadline = None;
        let mut events = Vec::with_capacity(64);
        loop {
            if self.watch.closing.load(Ordering::SeqCst) {
                let until = *deadline.get_or_insert_with(|| Instant::now() + Duration::from_millis(STOP_WAIT_MS));
                let left = self.watch.watched().len();
                if left == 0 {
                    return;
                }
                if Instant::now() >= until {
                    tracing::error!(left, "tasks are still ending; their wardens go on without this server");
                    return;
                }
            }
            let second = Timespec { tv_sec: 1, tv_nsec: 0 };
            let timeout = deadline.is_some().then_some(&second);
            events.clear();
            match epoll::wait(&self.watch.poll, spare_capacity(&mut events), timeout) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "tasks can no longer be watched");
                    return;
                }
            }
            for event in &events {
                match event.data.u64() {
                    WAKE => self.unwake(),
                    tag => self.look_at(tag),
                }
            }
        }
    }

    fn unwake(&self) {
        // Left readable it would wake the thread for ever.
        if let Err(error) = epoll::delete(&self.watch.poll, &self.watch.woken) {
            tracing::debug!(%error, "the wake pipe was gone already");
        }
    }

    /// The warden with this tag said something, which nobody expects, or ended.
    fn look_at(&self, tag: u64) {
        let ended = {
            let mut watched = self.watch.watched();
            let Some(one) = watched.get(&tag) else { return };
            let mut buffer = [0_u8; 512];
            match rustix::io::read(&one.reports, &mut buffer) {
                Ok(0) => {}
                Ok(_) | Err(Errno::INTR | Errno::AGAIN) => return,
                Err(error) => tracing::error!(task = %one.task, %error, "a warden cannot be read"),
            }
            watched.remove(&tag)
        };
        // Closing the pipe takes it out of the poll.
        if let Some(Watched { task, mark, mut child, reports }) = ended {
            drop(reports);
            if let Err(error) = child.wait() {
                tracing::error!(%task, %error, "a warden cannot be waited for");
            }
            let end = self.end_of(task, &mark);
            self.forget(task);
            (self.events)(TaskEvent { task, what: What::Exited(end.into()) });
        }
    }

    /// The task is gone; with the last of a gang its ports are free again.
    fn forget(&self, task: TaskId) {
        let mut gangs = self.gangs();
        let Some(gang) = gangs.get_mut(&task.attempt) else {
            return;
        };
        let index = usize::try_from(task.rank.0).unwrap_or(usize::MAX);
        if let Some(slot) = gang.tasks.get_mut(index) {
            *slot = None;
        }
        if gang.tasks.iter().all(Option::is_none) {
            gangs.remove(&task.attempt);
        }
    }
}
