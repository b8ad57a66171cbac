//! `datahall beside-pod`: runs a program in a rank's container on Kubernetes. Started by the server only.

use std::path::PathBuf;

use clap::Args;
use dh_core::Kind;
use dh_exec::kubernetes::beside::{InPod, main};

use super::{Globals, Verb};
use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct BesidePod {
    /// A kubeconfig file
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// The context of that file
    #[arg(long)]
    context: Option<String>,
    /// Where the pod is
    #[arg(long)]
    namespace: Option<String>,
    /// The rank's pod
    pod: String,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl Verb for BesidePod {
    const NAME: &'static str = "beside-pod";
    const ABOUT: &'static str = "Run a program in a rank's container (started by the server)";
    const HIDDEN: bool = true;

    fn run(self, _globals: &Globals) -> Result<u8, Failure> {
        let Self { kubeconfig, context, namespace, pod, command } = self;
        main(&InPod { kubeconfig, context, namespace, pod }, &command).map_err(|why| Failure::new(Kind::Conflict, why))
    }
}
