//! Bounds that only executors need, each with its reason. Times in milliseconds, sizes in bytes.

/// How long all wardens of a gang may take to report that they are ready, and then that their task runs.
/// A warden needs milliseconds; a laptop that swaps while 64 of them start needs seconds.
pub(crate) const START_TIMEOUT_MS: u64 = 30_000;

/// How long a task may take after a polite signal once nobody waits for it: its server is gone, or its main process is.
pub(crate) const ORPHAN_GRACE_MS: u64 = 300;

/// How long wardens that wind down are waited for, on top of the grace they give their tasks.
pub(crate) const WIND_DOWN_MS: u64 = 2_000;

/// How long a closing executor waits for its tasks, and a failed start for those that did start.
pub(crate) const STOP_WAIT_MS: u64 = dh_core::limits::STOP_GRACE_MS + WIND_DOWN_MS;

/// How long processes may take to vanish after they were killed without their warden.
pub(crate) const VANISH_MS: u64 = 2_000;

/// The least memory limit. Below it the warden itself, which starts under the same limit, cannot start the task.
pub(crate) const MEMORY_MIN: u64 = 16 << 20;

/// The least limit of open files: the warden's own, the log's and what a program needs to load its libraries.
pub(crate) const OPEN_FILES_MIN: u64 = 32;

/// The longest message kept in an exit record; it is shown in one line.
pub(crate) const MESSAGE_BYTES_MAX: usize = 2_048;

/// The secret half of a warden's input. Environments are bounded by the kernel's `ARG_MAX` of 2 MiB anyway.
pub(crate) const HEADER_BYTES_MAX: usize = 2 << 20;

/// Gangs larger than this get no `TF_CONFIG`: it names every rank, and one variable may hold 128 KiB at most.
pub(crate) const TENSORFLOW_RANKS_MAX: usize = 1_024;
