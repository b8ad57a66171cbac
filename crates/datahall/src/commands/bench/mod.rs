//! `datahall bench`: loads for a gateway or an engine, and engines that compute nothing to put behind one.

mod gateway;
mod stub;

use clap::{Args, Subcommand};

use super::{Globals, Verb};
use crate::failure::{Failure, OrFail};

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    verb: BenchVerb,
}

#[derive(Debug, Subcommand)]
enum BenchVerb {
    /// Load a gateway or an engine and measure its answers
    Gateway(gateway::Load),
    /// Serve stub engines, which take time and keep caches like real ones and compute nothing
    Stub(stub::Stub),
}

impl Verb for Bench {
    const NAME: &'static str = "bench";
    const ABOUT: &'static str = "Measure a model gateway or an engine";
    const AFTER: &'static str = "Examples:\n  datahall bench stub --engines 2 --port 9101\n  datahall bench gateway 127.0.0.1:9101 --model stub --connections 64\n  datahall bench gateway 127.0.0.1:4600 --model stub --trace mooncake_conversation.csv.gz --speed 10\nThe key comes from --key or DATAHALL_BENCH_KEY.";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().or_fail("start the async runtime")?;
        runtime.block_on(async {
            match self.verb {
                BenchVerb::Gateway(load) => load.run(globals).await,
                BenchVerb::Stub(stub) => stub.run(globals).await,
            }
        })
    }
}
