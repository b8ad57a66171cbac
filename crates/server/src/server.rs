//! Start, recover, serve, stop.
//!
//! Start-up order: lock the data directory, replay the log, end what an earlier server left running, tell the hall what
//! became of it, open the listeners, and only then let the hall place gangs. The order of stopping is the reverse.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use dh_blueprint::{ServiceSource, Settings};
use dh_core::{AttemptId, Authenticate, HasKind, Kind, Rank, Role, TaskId};
use dh_exec::{Executor, Fate};
use dh_gateway::{BatchConfig, EngineKind, EngineTarget, Gateway, GatewayConfig, LedgerConfig};
use dh_guard::KeyRing;
use dh_hall::{Action, End, EndCause, Event, Hall};
use dh_store::{Store, StoreConfig};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::actuator::{Actuator, deal, end_of};
use crate::api::{self, Api};
use crate::body::{Body, Handle, SystemClock};
use crate::endpoint::{Endpoint, started};
use crate::log::{ASK, EventLog, Lease, LogPlace, Replay};
use crate::meter::Meter;
use crate::scaling;
use crate::secrets::{self, Secrets};
use crate::services::Services;
use crate::trace::Tracer;
use crate::wire::{Listeners, ServiceRequest};
use crate::{Error, devices, executor, gateway_settings, job_access, launch, nodes, store_place};

/// The file of keys in a data directory.
pub const KEYS_FILE: &str = "keys.json";
/// The folder of a data directory with what keys have used of their bounds, and the file in it, which may be copied at any moment.
pub const ACCOUNTS: (&str, &str) = ("accounts", dh_gateway::LEDGER_FILE);
/// The name of the key for everything.
pub const ADMIN_KEY: &str = "admin";
/// The name of the key for applications.
pub const MODEL_KEY: &str = "model";

/// Gangs of this machine's processes that are started at once.
const LOCAL_HANDS: usize = 8;

/// How long running gangs may take to stop before the server ends anyway. Their wardens kill them in any case.
const WIND_DOWN: Duration = Duration::from_secs(8);

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The blueprint.
    pub settings: Settings,
    /// The data directory; made if it does not exist.
    pub data: PathBuf,
    /// How to run our own program's hidden `warden` command.
    pub warden_command: Vec<OsString>,
    /// The OpenTelemetry collector that gets traces, such as `http://127.0.0.1:4318`; nobody does without.
    pub otlp: Option<String>,
}

/// A running server.
pub struct Server {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Whether the keys were made by this start, so that they are to be shown once.
    pub keys_are_new: bool,
    /// The keys.
    pub keys: KeyRing,
    not_enforced: Vec<String>,
    /// Turns true when a caller asks for the end.
    asked: watch::Sender<bool>,
    /// Turns true when the listeners are to end, which is after the gangs: those keep their last work in the store.
    stop: watch::Sender<bool>,
    hall: Handle,
    body_ended: tokio::sync::oneshot::Receiver<Result<(), Error>>,
    listeners: tokio::task::JoinSet<Result<(), Error>>,
    store: Store,
    /// Held for as long as the server runs.
    _lock: File,
}

impl Server {
    /// Starts everything.
    /// # Errors
    /// Whatever stands in the way; nothing runs then.
    #[expect(
        clippy::too_many_lines,
        reason = "the order of starting is one story, and each step is a function of its own"
    )]
    pub async fn start(config: ServerConfig) -> Result<Self, Error> {
        let ServerConfig { settings, data, warden_command, otlp } = config;
        private_folder(&data)?;
        let lock = lock(&data).await?;
        let keys_path = data.join(KEYS_FILE);
        let keys_are_new = !keys_path.exists();
        let keys = KeyRing::load_or_create(&keys_path)?;
        for (name, role) in [(ADMIN_KEY, Role::Admin), (MODEL_KEY, Role::Model)] {
            if keys.find(name, role).is_none() {
                keys.issue(role, name)?;
            }
        }

        let place = LogPlace::of(&settings.target.state, &data);
        let (log, hall, replay, lease) = lead(&place, &data).await?;
        if let Some((seq, ..)) = &replay.differs {
            tracing::warn!(
                seq,
                "this version decides differently from the one that wrote the log; the log's events stand"
            );
        }
        let open_attempts = open_attempts(&hall);
        let (actions, carried_out) = channel();
        let shared = log.shared();
        let (body, handle) = Body::new(log, hall, actions, Box::new(SystemClock));
        let tracer = otlp.map(|url| Tracer::begin(&url, &settings.name)).transpose()?.unwrap_or_default();
        tracer.follow(&handle, &settings.name);
        let secrets = Arc::new(Secrets::new(place.clone(), lease.term(), &keys)?);
        if shared {
            keep_lease(&place, &lease, &handle)?;
        }
        let own_program = warden_command.first().cloned().unwrap_or_default();
        let executor = executor::open(&settings, &data, warden_command, &handle, &lease).await?;

        let store = open_store(&settings, &data).await?;
        make_buckets(&store).await?;
        let auth: Arc<dyn Authenticate> = Arc::new(keys.clone());
        let batch = Some(BatchConfig::in_folder(data.join("batches")));
        let ledger = Some(LedgerConfig::Keep { folder: data.join(ACCOUNTS.0) });
        let gateway =
            Gateway::new(GatewayConfig { batch, ledger, ..gateway_settings::config(&settings) }, Arc::clone(&auth))?;
        let facts = scaling::facts_of_models(&settings);
        let services = Arc::new(Services::new(gateway.clone(), external_engines(&settings), facts));

        let earlier = Endpoint::read(&data)?.map(|endpoint| endpoint.listeners);
        let target = settings.target.clone();
        let port = |wanted: u16, earlier: Option<&String>| {
            (target.listen, wanted, earlier.and_then(|url| Endpoint::port_of(url)))
        };
        let (api_listener, api_url) = listen(port(target.api_port, earlier.as_ref().map(|e| &e.api))).await?;
        let (gateway_listener, gateway_url) =
            listen(port(target.gateway_port, earlier.as_ref().map(|e| &e.gateway))).await?;
        let (store_listener, store_url) = listen(port(target.store_port, earlier.as_ref().map(|e| &e.store))).await?;
        let listeners = Listeners { api: api_url, gateway: gateway_url, store: store_url.clone() };

        let (asked, _) = watch::channel(false);
        let (stop, stopped) = watch::channel(false);
        let (ended, body_ended) = tokio::sync::oneshot::channel();
        spawn_thread("hall", move || drop(ended.send(body.run())))?;
        let workdir = data.join("work");
        private_folder(&workdir)?;
        let mut behind = devices::behind(&settings).await;
        let meter = Arc::new(Meter::new(&data, behind.take_drivers()));
        let behind = Arc::new(behind);
        // What runs on from before has its keys already; the same ones count again.
        let issued = job_access::issue_again(&keys, &handle, &open_attempts)?;
        let hands = Actuator {
            tracer: tracer.clone(),
            name: settings.name.clone(),
            behind: Arc::clone(&behind),
            meter: Arc::clone(&meter),
            hall: handle.clone(),
            lease,
            executor: Arc::clone(&executor),
            keys: keys.clone(),
            secrets: Arc::clone(&secrets),
            services,
            store_url: match &target.reached_at {
                Some(name) => format!("http://{name}:{}", Endpoint::port_of(&store_url).unwrap_or(target.store_port)),
                None => store_url,
            },
            workdir: workdir.clone(),
            devices: launch::devices(&settings),
            runtime: tokio::runtime::Handle::current(),
            issued,
        };
        start_hands(&hands, carried_out, hands_of(&settings))?;

        recover(&handle, &executor, &open_attempts).await?;

        let laid_out = nodes::nodes(&settings);
        let shared = Arc::new(Api {
            settings: settings.clone(),
            hall: handle.clone(),
            log: place.clone(),
            executor,
            store: store.clone(),
            tracer,
            meter,
            workdir,
            own_program,
            auth: Arc::clone(&auth),
            keys: keys.clone(),
            secrets: Arc::clone(&secrets),
            listeners: listeners.clone(),
            started: Instant::now(),
            not_enforced: not_enforced(&settings).into_iter().chain(laid_out.notes).chain(behind.notes()).collect(),
            stop: asked.clone(),
        });
        let mut tasks = tokio::task::JoinSet::new();
        let router = api::router(Arc::clone(&shared));
        let api_stop = stopped.clone();
        tasks.spawn(async move {
            let address = "the job API".to_owned();
            api::serve(router, api_listener, api_stop).await.map_err(|source| Error::Listen { address, source })
        });
        let (gateway_stop, scaled_gateway) = (until(stopped.clone()), gateway.clone());
        tasks.spawn(async move { Ok(gateway.serve(gateway_listener, gateway_stop).await?) });
        let stopped_too = until(stopped.clone());
        let served_store = store.clone();
        // No route of a hall is open, and neither are the health of the store and lists of no buckets.
        let options = settings.stores.values().next().map(store_place::options).unwrap_or_default();
        let options = dh_store::S3Options { strangers: dh_store::Strangers::Refused, ..options };
        tasks.spawn(async move {
            Ok(dh_store::serve_with(served_store, store_listener, auth, options, until(stopped)).await?)
        });

        let pid = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
        let database = match &place {
            LogPlace::File(_) => None,
            LogPlace::Database(address) => Some(address.clone()),
        };
        let pid_started = started(pid).unwrap_or(0);
        tasks.spawn(secrets::keep_swept(secrets, handle.clone(), stopped_too));
        let endpoint = Endpoint { name: settings.name.clone(), pid, pid_started, listeners, database };
        endpoint.write(&data)?;

        // From here on gangs start: everything that they need is there.
        handle
            .ask(Event::Configured {
                nodes: laid_out.specs,
                queues: dh_hall::rules::queues(&settings),
                policy: Box::new(laid_out.policy),
            })
            .await?;
        executor::report_nodes(&handle, shared.executor.as_ref());
        start_declared_services(&shared).await;
        scaling::declare(&shared, &scaled_gateway)?;
        let (scaled, stop_scaling) = (Arc::clone(&shared), until(stop.subscribe()));
        tasks.spawn(async move {
            tokio::select! {
                () = scaling::run(scaled, scaled_gateway) => {}
                () = stop_scaling => {}
            }
            Ok(())
        });
        let listeners = tasks;
        let not_enforced = not_enforced(&settings);
        Ok(Self {
            endpoint,
            keys_are_new,
            keys,
            not_enforced,
            asked,
            stop,
            hall: handle,
            body_ended,
            listeners,
            store,
            _lock: lock,
        })
    }

    /// What the blueprint says and this hall does not hold anybody to, a sentence each.
    pub fn not_enforced(&self) -> &[String] {
        &self.not_enforced
    }

    /// Runs until `shutdown` ends, a caller asks for the end over the API, or something breaks.
    /// # Errors
    /// What broke.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let mut asked = self.asked.subscribe();
        let broke = tokio::select! {
            () = shutdown => None,
            _ = asked.wait_for(|stop| *stop) => None,
            outcome = &mut self.body_ended => Some(outcome.unwrap_or(Err(Error::Stopping))),
            Some(outcome) = self.listeners.join_next() => {
                Some(outcome.unwrap_or(Err(Error::Stopping)).and(Err(Error::Stopping)))
            }
        };
        if let Some(Err(error)) = broke {
            // The log or a listener failed: nothing can be promised any more. The next start recovers from the log.
            return Err(error);
        }
        self.wind_down().await
    }

    async fn wind_down(mut self) -> Result<(), Error> {
        self.hall.ask(Event::ServerStopping).await?;
        let deadline = Instant::now() + WIND_DOWN;
        while !open_attempts(&self.hall.read()).is_empty() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.stop.send_replace(true);
        while let Some(outcome) = self.listeners.join_next().await {
            if let Ok(Err(error)) = outcome {
                tracing::warn!(%error, "a listener ended badly");
            }
        }
        self.hall.end();
        let ended = (&mut self.body_ended).await.unwrap_or(Err(Error::Stopping));
        self.store.close().await;
        ended
    }
}

/// Follows the log until this server leads. Blocks a thread of its own: a database's client does.
async fn lead(place: &LogPlace, data: &Path) -> Result<(EventLog, Hall, Replay, Lease), Error> {
    let (place, who, data) = (place.clone(), server_name(data)?, data.to_owned());
    let leading = move || {
        let mut log = EventLog::new(place.open()?);
        let (mut hall, mut replay) = (Hall::default(), Replay::default());
        let mut told = None;
        loop {
            log.follow(&mut hall, &mut replay)?;
            match log.lead(&who)? {
                Ok(lease) => {
                    // What the last leader wrote before the lease changed hands.
                    log.follow(&mut hall, &mut replay)?;
                    Endpoint::follows(&data, None);
                    return Ok((log, hall, replay, lease));
                }
                Err(leader) => {
                    if told.as_ref() != Some(&leader) {
                        tracing::warn!(leader, "another server leads this hall; following its log until it is needed");
                        Endpoint::follows(&data, Some(&leader));
                        told = Some(leader);
                    }
                    std::thread::sleep(ASK);
                }
            }
        }
    };
    let leading = tokio::task::spawn_blocking(leading).await;
    leading.map_err(|error| Error::Invalid(format!("the log could not be followed: {error}")))?
}

/// What this data directory's server is called among those that share a log. Whoever holds the directory's lock is the only one of
/// that name, so its lease may be taken again at once after a crash.
fn server_name(data: &Path) -> Result<String, Error> {
    let path = data.join("server-name");
    let failed = |source| Error::File { what: "read or write", path: path.clone(), source };
    if let Ok(name) = std::fs::read_to_string(&path) {
        return Ok(name.trim().to_owned());
    }
    let mut random = [0_u8; 8];
    getrandom::fill(&mut random).map_err(|error| failed(std::io::Error::other(error)))?;
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name = format!("{host}/{}", hex::encode(random));
    let fresh = data.join("server-name.new");
    std::fs::write(&fresh, &name).and_then(|()| std::fs::rename(&fresh, &path)).map_err(failed)?;
    Ok(name)
}

/// Renews the lease on a thread of its own, with a connection of its own: a long commit must not hold it up.
fn keep_lease(place: &LogPlace, lease: &Lease, hall: &Handle) -> Result<(), Error> {
    let (place, lease, hall) = (place.clone(), lease.clone(), hall.clone());
    spawn_thread("lease", move || match place.open() {
        Ok(journal) => {
            let of_end = hall.clone();
            lease.keep(journal, move || of_end.ended(), |error| hall.lost(error));
        }
        Err(error) => hall.lost(error),
    })
}

/// The buckets that workloads and services count on.
async fn make_buckets(store: &Store) -> Result<(), Error> {
    let there: Vec<String> = store.buckets().await?.into_iter().map(|bucket| bucket.name).collect();
    for name in [launch::DATASETS, launch::CHECKPOINTS, launch::MODELS, launch::JOBS] {
        if !there.iter().any(|bucket| bucket == name) {
            store.create_bucket(name).await?;
        }
    }
    Ok(())
}

/// Attempts that own slots, each with its number of ranks.
fn open_attempts(hall: &Hall) -> Vec<(AttemptId, u32)> {
    hall.open_attempts()
        .into_iter()
        .filter_map(|attempt| {
            let placed = hall.job(attempt.job)?.active()?.placement.len();
            Some((attempt, u32::try_from(placed).unwrap_or(u32::MAX)))
        })
        .collect()
}

/// Ends or adopts what an earlier server left, and tells the hall what became of each rank that is gone.
async fn recover(handle: &Handle, executor: &Arc<dyn Executor>, open: &[(AttemptId, u32)]) -> Result<(), Error> {
    handle.ask(Event::ServerStarted).await?;
    let known: Vec<AttemptId> = open.iter().map(|(attempt, _)| *attempt).collect();
    let executor = Arc::clone(executor);
    let recovered = tokio::task::spawn_blocking(move || executor.recover(&known))
        .await
        .map_err(|error| Error::Invalid(format!("the recovery was cut off: {error}")))??;
    for (attempt, ranks) in open {
        let found = recovered.iter().find(|one| one.attempt == *attempt);
        if found.is_some_and(|one| one.fate == Fate::Alive) {
            // Adopted: its events go on as they come.
            continue;
        }
        let outcomes: BTreeMap<Rank, _> = found.into_iter().flat_map(|one| one.outcomes().iter().cloned()).collect();
        for rank in (0..*ranks).map(Rank) {
            let end = outcomes.get(&rank).cloned().map_or_else(lost, end_of);
            handle.ask(Event::TaskEnded { task: TaskId { attempt: *attempt, rank }, end }).await?;
        }
    }
    Ok(())
}

/// The end of a task that an earlier server had decided to start and never did.
fn lost() -> End {
    End { code: None, signal: None, cause: EndCause::Lost, message: String::new() }
}

async fn start_declared_services(api: &Arc<Api>) {
    for (name, service) in &api.settings.services {
        if matches!(service.source, ServiceSource::Url(_)) {
            continue;
        }
        // One whose replicas follow the load begins with the fewest.
        let replicas = service.scale.map(|scale| scale.min);
        if replicas == Some(0) {
            continue;
        }
        let request = ServiceRequest { service: name.clone(), model: None, source: None, protocol: None, replicas };
        // A model that is not there yet is no fault: `status` says that the service is declared, and what is missing.
        if let Err(error) = api::start_service(api, &request, "blueprint").await {
            tracing::debug!(service = name, %error, "not started");
        }
    }
}

/// Opens the store; its own lock may linger for a moment longer than ours.
async fn open_store(settings: &Settings, data: &Path) -> Result<Store, Error> {
    let deadline = Instant::now() + LOCK_LINGERS;
    loop {
        match Store::open(store_config(settings, data)?).await {
            Err(error) if error.kind() == Kind::Conflict && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            outcome => return Ok(outcome?),
        }
    }
}

fn store_config(settings: &Settings, data: &Path) -> Result<StoreConfig, Error> {
    let dir = data.join("store");
    match settings.stores.values().next() {
        Some(store) => Ok(store_place::config(store, dir)?),
        None => Ok(StoreConfig::new(dir)),
    }
}

fn external_engines(settings: &Settings) -> Vec<EngineTarget> {
    settings
        .services
        .iter()
        .filter_map(|(name, service)| match &service.source {
            ServiceSource::Url(url) => Some(EngineTarget {
                id: format!("service/{name}"),
                model: service.facts.serves.clone().unwrap_or_else(|| name.clone()),
                kind: EngineKind::Chat,
                url: url.clone(),
                key: None,
                facts: scaling::facts(&service.facts),
            }),
            ServiceSource::Model(_) | ServiceSource::Workload(_) => None,
        })
        .collect()
}

/// What the blueprint says and this version, on this machine, does not hold anybody to.
fn not_enforced(settings: &Settings) -> Vec<String> {
    let mut list = Vec::new();
    let here = settings.pools.values().map(|pool| u64::from(pool.nodes)).sum::<u64>();
    // What is behind slots of this machine is said by those who looked.
    let mut slots = "";
    match settings.target.executor {
        dh_blueprint::Executor::Local if here > 1 => {
            list.push(format!("{here} nodes are declared; all of them run as processes of this one machine"));
        }
        dh_blueprint::Executor::Local => {}
        dh_blueprint::Executor::Sim => {
            list.push("tasks are simulated: nothing runs, and no limit of a task holds anything".to_owned());
        }
        dh_blueprint::Executor::Kubernetes => {
            slots = "memory, cores and devices of a rank are bounded by its pod, as the cluster is configured";
            if settings.target.listen.is_loopback() && settings.target.reached_at.is_none() {
                list.push(
                    "pods do not reach a store that listens on loopback: `listen` with `expose`, and `reached_at`, make it so"
                        .to_owned(),
                );
            }
        }
        dh_blueprint::Executor::Slurm => {
            slots = "memory, cores and devices of a rank are bounded as Slurm is configured, not by the hall";
        }
    }
    let declared = settings.not_enforced();
    if !declared.is_empty() {
        list.push(format!("declared, not enforced by a running hall: {}", declared.join(", ")));
    }
    if !slots.is_empty() {
        list.push(slots.to_owned());
    }
    list.push("traffic on loopback is not encrypted; every request is signed or carries a key".to_owned());
    list
}

/// How long a dead server's lock may linger: a child that it was just starting holds a copy until it runs.
const LOCK_LINGERS: Duration = Duration::from_secs(5);

/// The data directory belongs to one server at a time; the lock goes with the process, however it ends.
async fn lock(data: &Path) -> Result<File, Error> {
    let path = data.join("lock");
    let failed = |source| Error::File { what: "lock", path: path.clone(), source };
    let mut file = File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(failed)?;
    let deadline = Instant::now() + LOCK_LINGERS;
    while rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut owner = String::new();
        file.rewind().and_then(|()| file.read_to_string(&mut owner)).map_err(failed)?;
        let pid = owner.trim().to_owned();
        let alive = pid.parse().ok().and_then(started).is_some();
        if alive || Instant::now() > deadline {
            return Err(Error::InUse { path: data.to_owned(), pid });
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}

/// Makes a folder that only its owner may enter.
fn private_folder(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| Error::File {
        what: "make the folder",
        path: path.to_owned(),
        source,
    })
}

/// Listens on the wanted port; if any will do, first on the one that the earlier server had.
async fn listen((ip, wanted, earlier): (IpAddr, u16, Option<u16>)) -> Result<(TcpListener, String), Error> {
    let candidates = match (wanted, earlier) {
        (0, Some(earlier)) => vec![earlier, 0],
        (port, _) => vec![port],
    };
    let mut failure = None;
    for port in candidates {
        let address = SocketAddr::new(ip, port);
        match TcpListener::bind(address).await.and_then(|listener| Ok((listener.local_addr()?, listener))) {
            Ok((bound, listener)) => return Ok((listener, format!("http://{bound}"))),
            Err(source) => failure = Some(Error::Listen { address: address.to_string(), source }),
        }
    }
    Err(failure.unwrap_or(Error::Stopping))
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // A dropped sender means that the server is going, too.
    drop(stopped.wait_for(|stop| *stop).await);
}

/// How many gangs are started at once. Processes of this machine wait for each other's disk and little else; other systems are
/// asked one thing at a time, as they always were.
fn hands_of(settings: &Settings) -> usize {
    if settings.target.executor == dh_blueprint::Executor::Local { LOCAL_HANDS } else { 1 }
}

/// The threads that carry actions out, and one that deals them out.
fn start_hands(hands: &Actuator, actions: Receiver<Action>, threads: usize) -> Result<(), Error> {
    let mut inboxes = Vec::with_capacity(threads);
    for _ in 0..threads {
        let (inbox, received) = channel();
        inboxes.push(inbox);
        let hands = hands.clone();
        spawn_thread("hands", move || hands.run(&received))?;
    }
    spawn_thread("dealer", move || deal(&actions, &inboxes))
}

/// All threads are detached: they end with the channels that feed them.
fn spawn_thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop).map_err(|source| Error::File {
        what: "start the thread",
        path: PathBuf::from(name),
        source,
    })
}
