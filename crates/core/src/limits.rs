//! Every bound on what comes from outside, each with its reason. Sizes in bytes, times in milliseconds.

/// A blueprint file. A 16,384-accelerator hall is one page; a megabyte is a mistake or an attack.
pub const BLUEPRINT_BYTES_MAX: usize = 1 << 20;

/// A file of measurements. The largest that ships has a megabyte; a spreadsheet of a million rows fits.
pub const MEASUREMENTS_BYTES_MAX: u64 = 64 << 20;

/// Rows of such a file. Each takes some hundred bytes of memory and is predicted, so this bounds the time to seconds.
pub const MEASUREMENTS_ROWS_MAX: usize = 1_000_000;

/// A job, as JSON. Environment and command together; the kernel's own `ARG_MAX` is 2 MiB.
pub const JOB_BYTES_MAX: usize = 256 << 10;

/// Ranks of one gang. The largest published jobs use 16,384 accelerators; this leaves room for four times that.
pub const GANG_RANKS_MAX: u32 = 65_536;

/// Jobs that may wait or run at once in one hall.
pub const JOBS_OPEN_MAX: usize = 100_000;

/// Attempts of one job that may fail before it is given up.
pub const ATTEMPTS_MAX: u32 = 100;

/// A chat request. 128k tokens of six bytes, and room for images as data URLs.
pub const CHAT_BYTES_MAX: usize = 16 << 20;

/// An object of a single `PUT`; S3's own limit is 5 GiB.
pub const OBJECT_PUT_BYTES_MAX: u64 = 5 << 30;

/// Parts of one multipart upload; S3's own limit.
pub const PARTS_MAX: u32 = 10_000;

/// Keys in one page of a listing; S3's own limit.
pub const LIST_KEYS_MAX: u32 = 1_000;

/// An object key; S3's own limit, in bytes of UTF-8.
pub const KEY_BYTES_MAX: usize = 1_024;

/// One log line that is shown; longer ones are cut when displayed, never in the file.
pub const LOG_LINE_BYTES_MAX: usize = 64 << 10;

/// Open connections of one listener. Beyond it new ones wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 4_096;

/// How long a client may take to send a request head.
pub const HEAD_TIMEOUT_MS: u64 = 10_000;

/// How long an idle upstream connection is kept.
pub const UPSTREAM_IDLE_MS: u64 = 30_000;

/// How long a model may take to the first byte of its answer. Prefill of a long prompt on a laptop takes a minute.
pub const UPSTREAM_FIRST_BYTE_MS: u64 = 300_000;

/// How long a task may take to end after a polite signal before it is killed.
pub const STOP_GRACE_MS: u64 = 3_000;
