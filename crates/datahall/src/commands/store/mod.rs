//! `datahall store`: the object store alone, without a hall, and a client for this and any other S3 endpoint.

mod bench;
mod files;
mod remote;
mod serve;
mod state;

use clap::{Args, Subcommand};

use super::{Globals, Verb};
use crate::failure::{Failure, OrFail};

#[derive(Debug, Args)]
pub(crate) struct Store {
    #[command(subcommand)]
    verb: StoreVerb,
}

#[derive(Debug, Subcommand)]
enum StoreVerb {
    /// Serve S3 from a directory until Ctrl-C
    Up(serve::StoreUp),
    /// Make an account and its key, take accounts from a file, or list them
    Keys(serve::Keys),
    /// List buckets, or what is in one
    Ls(files::Ls),
    /// Copy files and objects, checked by checksum
    Cp(files::Cp),
    /// Remove objects
    Rm(files::Rm),
    /// Make a bucket
    Mb(files::Mb),
    /// Remove an empty bucket
    Rb(files::Rb),
    /// Show how a running store is
    Status(state::Status),
    /// Show the drives of a running store
    Drives(state::Drives),
    /// Read everything that a running store holds and check it
    Scrub(state::Scrub),
    /// Fill a replaced drive from the others
    Heal(state::Heal),
    /// Measure a store: throughput, latencies, the server's CPU per operation
    Bench(bench::Bench),
}

impl Verb for Store {
    const NAME: &'static str = "store";
    const ABOUT: &'static str = "Run the object store alone; list, copy, check and measure any S3 store";
    const AFTER: &'static str = "Examples:\n  datahall store keys ./objects --add ann\n  datahall store up ./objects --listen 127.0.0.1:9000\n  datahall store up ./objects --drive /mnt/a --drive /mnt/b --drive /mnt/c --parity 1\n  datahall store mb s3://data\n  datahall store cp -r ./photos s3://data/photos\n  datahall store bench http://127.0.0.1:9000 --op get --size 64KiB\nThe key of a client comes from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or from --keys FILE.";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().build().or_fail("start the async runtime")?;
        runtime.block_on(async {
            match self.verb {
                StoreVerb::Up(up) => serve::serve(up, globals).await,
                StoreVerb::Keys(keys) => serve::accounts(keys, globals).await,
                StoreVerb::Ls(ls) => ls.run(globals).await,
                StoreVerb::Cp(cp) => cp.run(globals).await,
                StoreVerb::Rm(rm) => rm.run(globals).await,
                StoreVerb::Mb(mb) => mb.run(globals).await,
                StoreVerb::Rb(rb) => rb.run(globals).await,
                StoreVerb::Status(status) => status.run(globals).await,
                StoreVerb::Drives(drives) => drives.run(globals).await,
                StoreVerb::Scrub(scrub) => scrub.run(globals).await,
                StoreVerb::Heal(heal) => heal.run(globals).await,
                StoreVerb::Bench(bench) => bench.run(globals).await,
            }
        })
    }
}
