//! `datahall up`: runs a hall on this machine, in this process, until Ctrl-C or `datahall down`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use dh_core::{Kind, Role};
use dh_server::{Endpoint, Server, ServerConfig};

use super::{Globals, Verb};
use crate::failure::{Failure, OrFail};
use crate::logging::{self, LogFormat};
use crate::{blueprint_file, output, place};

/// How long a server may take to start. Recovery after a crash waits for what it had left running.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(40);

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// The blueprint
    blueprint: Option<PathBuf>,
    /// Start in the background and return when it answers
    #[arg(long)]
    detach: bool,
    /// Listen on any free ports instead of the blueprint's
    #[arg(long)]
    any_port: bool,
    /// How the server writes about its own work on standard error; `RUST_LOG` says how much
    #[arg(long, value_enum, default_value_t = LogFormat::Text, env = "DATAHALL_LOG_FORMAT")]
    log_format: LogFormat,
    /// Send traces to this OpenTelemetry collector (OTLP over HTTP), such as `http://127.0.0.1:4318`
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp: Option<String>,
    /// End when standard input ends: for programs that start a hall and must not leave it behind
    #[arg(long, hide = true)]
    lifeline: bool,
}

impl Verb for Up {
    const NAME: &'static str = "up";
    const ABOUT: &'static str = "Run a hall on this machine: store, scheduler, model gateway";

    fn run(self, globals: &Globals) -> Result<u8, Failure> {
        let path = blueprint_file::path(globals, self.blueprint.as_deref());
        let mut settings = blueprint_file::load(&path)?;
        if self.any_port {
            (settings.target.api_port, settings.target.gateway_port, settings.target.store_port) = (0, 0, 0);
        }
        let data = place::of_hall(globals, &settings.name)?;
        if self.detach {
            match detach(&path, &data, &self)? {
                Background::Leads(endpoint) if !globals.quiet => {
                    output::note(format!("hall `{}` runs in the background; `datahall down` ends it", endpoint.name));
                    listeners(&endpoint);
                }
                Background::Follows { leader, pid } if !globals.quiet => {
                    output::note(format!(
                        "{leader} leads this hall; process {pid} follows in the background and takes over when it is needed"
                    ));
                }
                Background::Leads(_) | Background::Follows { .. } => {}
            }
            return Ok(0);
        }
        logging::begin(self.log_format);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().build().or_fail("start the async runtime")?;
        let config =
            ServerConfig { settings, data: data.clone(), warden_command: warden_command()?, otlp: self.otlp.clone() };
        runtime.block_on(async {
            let server = Server::start(config).await?;
            if !globals.quiet {
                screen(&server, &data);
            }
            service_manager("READY=1");
            let asked = async {
                shutdown(self.lifeline).await;
                service_manager("STOPPING=1");
            };
            server.run(asked).await?;
            if !globals.quiet {
                output::note("stopped; everything is kept in the data directory");
            }
            Ok(0)
        })
    }
}

/// What was started: what listens where, who may enter, what is declared only.
fn screen(server: &Server, data: &Path) {
    output::note(format!("{} {}", output::bold("hall"), output::bold(&server.endpoint.name)));
    listeners(&server.endpoint);
    output::note(format!("  data      {}", data.display()));
    if server.keys_are_new {
        output::note("  keys      shown this once; kept in keys.json, which only you can read");
        for (name, role, what) in
            [(dh_server::ADMIN_KEY, Role::Admin, "everything"), (dh_server::MODEL_KEY, Role::Model, "models only")]
        {
            if let Some(key) = server.keys.find(name, role) {
                output::note(format!("            {name:<6} {}  {} ({what})", key.id, key.secret.expose()));
            }
        }
    } else {
        output::note("  keys      as before; `datahall env` prints them");
    }
    for one in server.not_enforced() {
        output::note(output::dim(format!("  declared, not enforced: {one}")));
    }
    output::note("Ctrl-C or `datahall down` stops it");
}

pub(crate) fn listeners(endpoint: &Endpoint) {
    output::note(format!("  jobs      {}", endpoint.listeners.api));
    output::note(format!("  models    {}/v1", endpoint.listeners.gateway));
    output::note(format!("  store     {} (S3)", endpoint.listeners.store));
}

/// Ends on Ctrl-C, on a polite signal, and, if asked for, at the end of standard input.
async fn shutdown(lifeline: bool) {
    use tokio::signal::unix::{SignalKind, signal};
    let end_of_input = async move {
        if lifeline {
            // A thread of its own: a blocked read cannot be taken back, and must not hold the runtime up at its end.
            let (ended, at_end) = tokio::sync::oneshot::channel::<()>();
            let watching = std::thread::Builder::new().name("lifeline".to_owned()).spawn(move || {
                drop(std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()));
                drop(ended);
            });
            if let Err(error) = watching {
                tracing::error!(%error, "the lifeline cannot be watched");
            }
            drop(at_end.await);
        } else {
            std::future::pending::<()>().await;
        }
    };
    let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = (interrupt, terminate) else {
        tracing::error!("signals cannot be listened to; only `datahall down` ends this hall in order");
        return end_of_input.await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = end_of_input => {}
    }
}

/// Tells systemd, if it started us and wants to know, how far we are. Source: `sd_notify(3)`: a datagram to the socket that
/// `NOTIFY_SOCKET` names, `@` before a name without a file.
fn service_manager(state: &str) {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&name),
    };
    let told = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = told {
        tracing::warn!(%error, "the service manager was not told");
    }
}

/// How the executor runs our own hidden `warden` command.
pub(crate) fn warden_command() -> Result<Vec<OsString>, Failure> {
    Ok(vec![own_program()?.into_os_string(), "warden".into()])
}

/// The program that runs at this moment.
pub(crate) fn own_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().or_fail("find our own program")
}

/// What a server in the background does.
enum Background {
    Leads(Endpoint),
    /// Another server leads; this one waits, for as long as it takes.
    Follows {
        leader: String,
        pid: u32,
    },
}

fn detach(blueprint: &Path, data: &Path, flags: &Up) -> Result<Background, Failure> {
    place::make_private(data)?;
    let log_path = data.join("server.log");
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(&log_path)
        .or_fail(format!("open {}", log_path.display()))?;
    let log_again = log.try_clone().or_fail("copy the log's handle")?;
    let mut child = Command::new(own_program()?)
        .arg("up")
        .arg(blueprint)
        .arg("--quiet")
        .arg("--data")
        .arg(data)
        .args(flags.any_port.then_some("--any-port"))
        .args((flags.log_format == LogFormat::Json).then_some("--log-format=json"))
        .args(flags.otlp.as_ref().map(|url| format!("--otlp={url}")))
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(log_again)
        .process_group(0)
        .spawn()
        .or_fail("start the server")?;
    wait_for(data, &mut child, &format!("see {}", log_path.display()))
}

/// Waits until the server that `child` is answers from `data`; it must lead.
pub(crate) fn wait_until_up(data: &Path, child: &mut std::process::Child, hint: &str) -> Result<Endpoint, Failure> {
    match wait_for(data, child, hint)? {
        Background::Leads(endpoint) => Ok(endpoint),
        Background::Follows { leader, .. } => {
            Err(Failure::new(Kind::Conflict, format!("{leader} leads this hall")).hint(hint))
        }
    }
}

/// Waits until the server that `child` is answers from `data`, or follows another.
fn wait_for(data: &Path, child: &mut std::process::Child, hint: &str) -> Result<Background, Failure> {
    let deadline = Instant::now() + START_TIMEOUT;
    let pid = i32::try_from(child.id()).or_fail("the server's process id")?;
    loop {
        if let Some(endpoint) = Endpoint::read(data)?.filter(|endpoint| endpoint.pid == pid && endpoint.alive())
            && answers(&endpoint.listeners.api)
        {
            return Ok(Background::Leads(endpoint));
        }
        if let Some(leader) = Endpoint::followed(data, pid) {
            return Ok(Background::Follows { leader, pid: child.id() });
        }
        if let Some(status) = child.try_wait().or_fail("look after the server")? {
            return Err(Failure::new(Kind::Internal, format!("the server ended at once ({status})")).hint(hint));
        }
        if Instant::now() > deadline {
            return Err(Failure::new(Kind::Timeout, "the server does not answer").hint(hint));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn answers(api: &str) -> bool {
    let agent =
        ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(1))).proxy(None).build().new_agent();
    agent.get(format!("{api}/healthz")).call().is_ok()
}
