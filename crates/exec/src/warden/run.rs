//! From the task's start to the end of its last descendant: one loop over the lifeline, signals and deadlines.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::time::{Duration, Instant};

use dh_core::limits::STOP_GRACE_MS;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process_group, wait};

use super::complain;
use crate::Error;
use crate::cgroup::ControlGroups;
use crate::lifeline::Request;
use crate::limits::ORPHAN_GRACE_MS;
use crate::process::descendants;
use crate::record::{ExitReason, ExitRecord, TaskRecord, now, short};

/// What can wake the warden.
pub(super) struct Wakes {
    lifeline: std::io::Stdin,
    children: UnixStream,
    terminations: UnixStream,
}

/// What did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    Request(Request),
    LifelineLost,
    /// Some child ended.
    Child,
    /// Somebody asked the warden itself to end, for instance because the machine shuts down.
    Terminated,
    Timeout,
}

/// Why the task is being ended. The first cause is the one that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Its main process ended by itself.
    Itself,
    Stopped,
    LifelineLost,
    /// Its server said nothing: it was stopped, or is deposed and another may start the same task.
    Silence,
    TimeLimit(u64),
}

impl Cause {
    pub(super) const fn reason(self) -> ExitReason {
        match self {
            Self::Itself => ExitReason::Exited,
            Self::Stopped => ExitReason::Killed,
            Self::LifelineLost | Self::Silence => ExitReason::LifelineLost,
            Self::TimeLimit(_) => ExitReason::TimeLimit,
        }
    }

    pub(super) fn message(self) -> String {
        match self {
            Self::Itself => String::new(),
            Self::Stopped => "stopped on request".to_owned(),
            Self::LifelineLost => "stopped because its server went away".to_owned(),
            Self::Silence => "stopped because its server did not say in time that it still leads".to_owned(),
            Self::TimeLimit(ms) => {
                format!("stopped because its time limit of {} was up", dh_core::time::Span::from_millis(ms))
            }
        }
    }
}

impl Wakes {
    pub(super) fn new() -> Result<Self, Error> {
        use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
        let pipe = |signals: &[i32]| -> std::io::Result<UnixStream> {
            let (read, write) = UnixStream::pair()?;
            read.set_nonblocking(true)?;
            for signal in signals {
                signal_hook::low_level::pipe::register(*signal, write.try_clone()?)?;
            }
            Ok(read)
        };
        let made = pipe(&[SIGCHLD]).and_then(|children| Ok((children, pipe(&[SIGTERM, SIGINT, SIGHUP])?)));
        let (children, terminations) = made.map_err(|error| Error::doing("watch for signals", error))?;
        Ok(Self { lifeline: std::io::stdin(), children, terminations })
    }

    pub(super) fn lifeline(&self) -> BorrowedFd<'_> {
        self.lifeline.as_fd()
    }

    /// Sleeps until something happens or `deadline`; requests before anything else.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> Result<Wake, Error> {
        self.wait_for(deadline, true)
    }

    /// With `lifeline` false its end, which was seen already, does not wake again.
    fn wait_for(&self, deadline: Option<Instant>, lifeline: bool) -> Result<Wake, Error> {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            // Rounded up to a millisecond, so that a deadline never spins.
            let timeout = left.map(|left| left + Duration::from_micros(999)).map(|left| Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            });
            let interest = if lifeline { PollFlags::IN } else { PollFlags::empty() };
            let mut fds = [
                PollFd::new(&self.children, PollFlags::IN),
                PollFd::new(&self.terminations, PollFlags::IN),
                PollFd::new(&self.lifeline, interest),
            ];
            // A hangup is reported even without interest, so a lost lifeline is left out altogether.
            let watched = if lifeline { fds.as_mut_slice() } else { fds.split_at_mut(2).0 };
            match poll(watched, timeout.as_ref()) {
                Ok(0) => return Ok(Wake::Timeout),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(Error::doing("wait", error)),
            }
            let [children, terminations, line] = fds.map(|fd| !fd.revents().is_empty());
            if lifeline && line {
                let mut byte = [0_u8];
                match rustix::io::read(&self.lifeline, &mut byte) {
                    Ok(0) => return Ok(Wake::LifelineLost),
                    Ok(_) => match byte.first().copied().and_then(Request::from_byte) {
                        Some(request) => return Ok(Wake::Request(request)),
                        None => complain("an unknown request was ignored"),
                    },
                    Err(Errno::INTR | Errno::AGAIN) => {}
                    Err(error) => return Err(Error::doing("read the lifeline", error)),
                }
            }
            if drained(&self.terminations, terminations) {
                return Ok(Wake::Terminated);
            }
            if drained(&self.children, children) {
                return Ok(Wake::Child);
            }
        }
    }
}

/// Empties the pipe if it is `ready`; whether there was anything.
fn drained(mut pipe: &UnixStream, ready: bool) -> bool {
    let mut buffer = [0_u8; 64];
    let mut any = false;
    while ready && matches!(pipe.read(&mut buffer), Ok(read) if read > 0) {
        any = true;
    }
    any
}

/// How far the ending is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// The polite signal was sent; at this moment the kill follows.
    Ending(Instant),
    /// The kill was sent; it is repeated at this moment for what was forked meanwhile.
    Killing {
        again: Instant,
        pause: Duration,
    },
}

struct Overseer {
    main: Pid,
    /// The status of the main process once it was reaped.
    status: Option<WaitStatus>,
    phase: Phase,
    cause: Option<Cause>,
    lifeline: bool,
}

/// Watches until nothing is left of the task, then says how it ended.
pub(super) fn to_the_end(
    record: &TaskRecord,
    child: &Child,
    wakes: &Wakes,
    groups: &ControlGroups,
) -> Result<ExitRecord, Error> {
    let time_up = record.time_ms.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
    let beat = record.beat_ms.map(Duration::from_millis);
    let silent = || beat.and_then(|beat| Instant::now().checked_add(beat));
    let mut silent_at = silent();
    let mut overseer =
        Overseer { main: Pid::from_child(child), status: None, phase: Phase::Running, cause: None, lifeline: true };
    loop {
        let anything_left = overseer.reap()?;
        if !anything_left {
            break;
        }
        if overseer.status.is_some() && overseer.phase == Phase::Running {
            overseer.end_politely(Cause::Itself, ORPHAN_GRACE_MS);
        }
        let deadline = match overseer.phase {
            Phase::Running => time_up.into_iter().chain(silent_at).min(),
            Phase::Ending(kill_at) => Some(kill_at),
            Phase::Killing { again, .. } => Some(again),
        };
        match wakes.wait_for(deadline, overseer.lifeline)? {
            Wake::Request(Request::Beat) => silent_at = silent(),
            Wake::Request(request) => overseer.obey(request),
            Wake::LifelineLost => {
                overseer.lifeline = false;
                overseer.end_politely(Cause::LifelineLost, ORPHAN_GRACE_MS);
            }
            Wake::Terminated => overseer.end_politely(Cause::Stopped, STOP_GRACE_MS),
            Wake::Child => {}
            Wake::Timeout => match overseer.phase {
                Phase::Running if time_up.is_none_or(|time_up| Instant::now() < time_up) => {
                    overseer.end_politely(Cause::Silence, ORPHAN_GRACE_MS);
                }
                Phase::Running => {
                    overseer.end_politely(Cause::TimeLimit(record.time_ms.unwrap_or(0)), STOP_GRACE_MS);
                }
                Phase::Ending(_) | Phase::Killing { .. } => overseer.kill(),
            },
        }
    }
    Ok(overseer.exit_record(record, groups))
}

impl Overseer {
    /// Collects every child that ended; `false` when there are none left, which for a subreaper means no descendants.
    fn reap(&mut self) -> Result<bool, Error> {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    if pid == self.main {
                        self.status = Some(status);
                    }
                }
                Ok(None) => return Ok(true),
                Err(Errno::CHILD) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::doing("wait for the task", error)),
            }
        }
    }

    fn obey(&mut self, request: Request) {
        match request {
            Request::Go | Request::Beat => {}
            Request::StopPolitely => self.end_politely(Cause::Stopped, STOP_GRACE_MS),
            Request::StopNow => {
                self.cause.get_or_insert(Cause::Stopped);
                self.kill();
            }
            // Not a cause: the death is to look like one that nobody asked for.
            Request::Fault => self.signal_group(Signal::KILL),
        }
    }

    /// Sends the polite signal and sets the moment of the kill; a second call can only bring that moment nearer.
    fn end_politely(&mut self, cause: Cause, grace_ms: u64) {
        self.cause.get_or_insert(cause);
        let kill_at = Instant::now() + Duration::from_millis(grace_ms);
        match self.phase {
            Phase::Running => {
                self.signal_all(Signal::TERM);
                // A stopped process cannot act on a signal before it goes on.
                self.signal_all(Signal::CONT);
                self.phase = Phase::Ending(kill_at);
            }
            Phase::Ending(earlier) => self.phase = Phase::Ending(earlier.min(kill_at)),
            Phase::Killing { .. } => {}
        }
    }

    /// Kills everything there is. What escapes by forking at this very moment is caught by the next round.
    fn kill(&mut self) {
        const PAUSE_MAX: Duration = Duration::from_millis(500);
        self.signal_all(Signal::KILL);
        let pause = match self.phase {
            Phase::Killing { pause, .. } => (pause * 2).min(PAUSE_MAX),
            Phase::Running | Phase::Ending(_) => Duration::from_millis(5),
        };
        self.phase = Phase::Killing { again: Instant::now() + pause, pause };
    }

    /// The group of the main process, as long as that was not reaped: until then its number cannot be another's.
    fn signal_group(&self, signal: Signal) {
        if self.status.is_none() {
            match kill_process_group(self.main, signal) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => complain(&format!("cannot signal the task: {error}")),
            }
        }
    }

    fn signal_all(&self, signal: Signal) {
        self.signal_group(signal);
        let main = u32::try_from(self.main.as_raw_pid()).unwrap_or(0);
        let signalled = self.status.is_none().then_some(main);
        for stat in descendants(std::process::id()) {
            if !stat.is_gone()
                && Some(stat.group) != signalled
                && let Err(error) = stat.identity().signal(signal)
            {
                complain(&format!("cannot signal process {}: {error}", stat.pid));
            }
        }
    }

    fn exit_record(&self, record: &TaskRecord, groups: &ControlGroups) -> ExitRecord {
        let status = self.status;
        let signal = status.and_then(WaitStatus::terminating_signal);
        let cause = self.cause.unwrap_or(Cause::Itself);
        let (mut reason, mut message) = (cause.reason(), cause.message());
        let kills = groups.out_of_memory_kills();
        if reason == ExitReason::Exited && kills > 0 {
            let limit = record.memory_bytes.unwrap_or(0);
            if signal == Some(Signal::KILL.as_raw()) {
                reason = ExitReason::MemoryLimit;
                message = format!("killed by the kernel: it used more than its memory limit of {limit} bytes");
            } else {
                message = format!("the kernel killed {kills} of its processes at the memory limit of {limit} bytes");
            }
        }
        ExitRecord {
            task: record.task,
            code: status.and_then(WaitStatus::exit_status),
            signal,
            reason,
            message: short(message),
            finished_at: now(),
        }
    }
}
