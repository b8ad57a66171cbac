//! A throwaway Slurm cluster: munge, a controller and eight nodes with eight GPU files each, all on loopback, all in one folder.

use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const NODES: usize = 8;
const GPUS: usize = 8;
const PROGRAMS: &[&str] = &["slurmctld", "slurmd", "munged", "sbatch", "scontrol"];

/// A running cluster.
pub(crate) struct Cluster {
    folder: tempfile::TempDir,
    daemons: Vec<Child>,
}

impl Cluster {
    /// Starts it; `None` where that was skipped on purpose.
    pub(crate) fn start() -> Option<Self> {
        if std::env::var("DATAHALL_TEST_SERVERS").is_ok_and(|value| value == "skip") {
            return None;
        }
        let missing =
            PROGRAMS.iter().find(|name| !["/usr/bin", "/usr/sbin"].iter().any(|at| Path::new(at).join(name).exists()));
        let root = rustix::process::getuid().is_root();
        assert!(
            missing.is_none() && root,
            "Slurm is missing ({missing:?}) or this is not root: `cargo xtask servers` as root installs it (or `apt-get install \
             slurmctld slurmd slurm-client munge slurm-wlm-basic-plugins`); DATAHALL_TEST_SERVERS=skip leaves this test out"
        );
        let folder = tempfile::Builder::new().prefix("dh-slurm").tempdir_in("/tmp").unwrap();
        let mut cluster = Self { folder, daemons: Vec::new() };
        cluster.bring_up();
        Some(cluster)
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn bring_up(&mut self) {
        // Munge refuses a folder that others may write to, and one that they may not pass.
        std::fs::set_permissions(self.folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["run", "log", "state", "spool", "dev"] {
            std::fs::create_dir(self.folder.path().join(name)).unwrap();
        }
        let mut random = vec![0_u8; 1024];
        getrandom::fill(&mut random).unwrap();
        std::fs::write(self.path("munge.key"), &random).unwrap();
        std::fs::set_permissions(self.path("munge.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
        let (key, socket) = (self.path("munge.key"), self.path("run/munge.sock"));
        let (pid, log, seed) = (self.path("run/munged.pid"), self.path("log/munged.log"), self.path("munge.seed"));
        self.daemon(
            "munged",
            &[
                "--foreground",
                "--force",
                "--key-file",
                &key,
                "--socket",
                &socket,
                "--pid-file",
                &pid,
                "--log-file",
                &log,
                "--seed-file",
                &seed,
            ],
        );
        self.wait("munge", |cluster| Path::new(&cluster.path("run/munge.sock")).exists());
        for gpu in 0..GPUS {
            let made = Command::new("mknod").args([&self.path(&format!("dev/gpu{gpu}")), "c", "1", "3"]).status();
            assert!(made.unwrap().success());
        }
        self.configure();
        self.daemon("slurmctld", &["-D", "-c"]);
        for node in 0..NODES {
            std::fs::create_dir(self.folder.path().join(format!("spool/node{node}"))).unwrap();
            self.daemon("slurmd", &["-D", "-N", &format!("node{node}")]);
        }
        self.wait("the nodes", |cluster| {
            let answer = cluster.command("sinfo").args(["-h", "-N", "-t", "idle", "-o", "%N"]).output();
            answer.is_ok_and(|answer| String::from_utf8_lossy(&answer.stdout).lines().count() == NODES)
        });
    }

    fn configure(&self) {
        // Ports of loopback that are free at this moment, one after the other for the nodes.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let chosen = listener.local_addr().unwrap().port();
        let first = 21_000 + chosen % 8_000;
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let host = host.split('.').next().unwrap().to_owned();
        let folder = self.folder.path().display();
        let mut text = format!(
            "ClusterName=lab\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort={first}\nSlurmUser=root\nSlurmdUser=root\n\
             AuthType=auth/munge\nAuthInfo=socket={folder}/run/munge.sock\nCredType=cred/munge\n\
             StateSaveLocation={folder}/state\nSlurmdSpoolDir={folder}/spool/%n\n\
             SlurmctldPidFile={folder}/run/slurmctld.pid\nSlurmdPidFile={folder}/run/%n.pid\n\
             SlurmctldLogFile={folder}/log/slurmctld.log\nSlurmdLogFile={folder}/log/%n.log\n\
             ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nMpiDefault=none\nReturnToService=2\n\
             SlurmdTimeout=10\nKillWait=2\nSlurmdParameters=config_overrides\nSchedulerType=sched/backfill\n\
             SchedulerParameters=sched_min_interval=0,bf_interval=1\nSelectType=select/cons_tres\n\
             SelectTypeParameters=CR_Core\nGresTypes=gpu\nAccountingStorageType=accounting_storage/none\n\
             JobAcctGatherType=jobacct_gather/none\n"
        );
        let (low, high) = (usize::from(first) + 10, usize::from(first) + 10 + NODES - 1);
        let last = NODES - 1;
        writeln!(
            text,
            "NodeName=node[0-{last}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{low}-{high}] CPUs=16 RealMemory=65536 Gres=gpu:h100:{GPUS} State=UNKNOWN\n\
             PartitionName=batch Nodes=ALL Default=YES MaxTime=INFINITE State=UP"
        )
        .unwrap();
        std::fs::write(self.path("slurm.conf"), text).unwrap();
        let gres = format!("NodeName=node[0-{last}] Name=gpu Type=h100 File={folder}/dev/gpu[0-{}]\n", GPUS - 1);
        std::fs::write(self.path("gres.conf"), gres).unwrap();
    }

    /// A command that speaks to this cluster.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("SLURM_CONF", self.path("slurm.conf")).stdin(Stdio::null());
        command
    }

    fn daemon(&mut self, program: &str, arguments: &[&str]) {
        let log = std::fs::File::create(self.path(&format!("log/{program}-{}.out", self.daemons.len()))).unwrap();
        let again = log.try_clone().unwrap();
        let program =
            ["/usr/sbin", "/usr/bin"].map(|at| Path::new(at).join(program)).into_iter().find(|at| at.exists());
        let mut command = self.command(program.unwrap().to_str().unwrap());
        self.daemons.push(command.args(arguments).stdout(log).stderr(again).spawn().unwrap());
    }

    fn wait(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !holds(self) {
            assert!(begin.elapsed() < Duration::from_mins(1), "{what} did not come up; see {:?}", self.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The last words of every daemon.
    fn logs(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.path("log")).unwrap().flatten();
        let last = |text: String| text.lines().last().map(str::to_owned);
        files.filter_map(|file| last(std::fs::read_to_string(file.path()).ok()?)).collect()
    }

    /// Runs an ignored test of this file as a process of its own, whose commands all speak to this cluster.
    pub(crate) fn run_test(&self, name: &str) {
        let status = self
            .command(std::env::current_exe().unwrap().to_str().unwrap())
            .args(["--ignored", "--exact", name, "--nocapture"])
            .env("DH_SLURM_STATE", self.path("hall"))
            .status();
        assert!(status.unwrap().success(), "{name} failed; see {:?}", self.logs());
    }
}

/// Runs a command that speaks to the cluster of `SLURM_CONF`; what it printed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let answer = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(answer.status.success(), "{answer:?}");
    String::from_utf8_lossy(&answer.stdout).into_owned()
}

/// The names of the jobs that wait or run.
pub(crate) fn jobs() -> String {
    run("squeue", &["-h", "-o", "%j"])
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.command("scancel").args(["--quiet", "--user=root", "--signal=KILL"]).status());
        drop(self.command("scancel").args(["--quiet", "--user=root"]).status());
        std::thread::sleep(Duration::from_millis(500));
        // The nodes first, munge last; each a child of ours.
        for daemon in self.daemons.iter_mut().rev() {
            drop(daemon.kill());
            drop(daemon.wait());
        }
        self.sweep();
    }
}

impl Cluster {
    /// Ends the steps of nodes that were taken down: they outlive their daemon. Ours are those that speak to this cluster.
    fn sweep(&self) {
        let conf = format!("SLURM_CONF={}", self.path("slurm.conf"));
        let ours = |process: &std::path::PathBuf| {
            std::fs::read(process.join("comm")).is_ok_and(|name| name.starts_with(b"slurmstepd"))
                && std::fs::read(process.join("environ"))
                    .is_ok_and(|text| text.split(|byte| *byte == 0).any(|one| one == conf.as_bytes()))
        };
        let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        for process in processes.filter(ours) {
            drop(Command::new("kill").arg("-KILL").arg(process.file_name().unwrap()).status());
        }
    }
}
