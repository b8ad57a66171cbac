//! Batch scripts of Slurm as jobs: the `#SBATCH` lines become the job's fields, and `srun` in the script becomes the gang.
//!
//! Slurm runs the script once and `srun` runs its command in every task. Here a script with `srun` runs in every rank, and `srun` is
//! a function of its shell that drops its own options and runs the command once, as that rank; `-n` smaller than the gang leaves the
//! other ranks out. A script without `srun` is one rank that has all the slots. `SLURM_*` variables that scripts read are set from
//! ours. What no field exists for is refused if it would change what runs, and named if it would not.

use std::path::Path;

use dh_core::Kind;
use dh_server::wire::JobRequest;

use crate::failure::Failure;
use crate::secret_source;

/// One argument of a program holds 128 KiB at most; the shell's functions need some of it.
const SCRIPT_BYTES_MAX: usize = 100 << 10;

/// What stands before the script in its shell.
const BEFORE: &str = r#"export SLURM_JOB_ID=$DH_JOB SLURM_JOBID=$DH_JOB SLURM_JOB_NAME=$DH_NAME SLURM_RESTART_COUNT=$((DH_ATTEMPT - 1))
export SLURM_PROCID=$DH_RANK SLURM_NTASKS=$DH_RANKS SLURM_NPROCS=$DH_RANKS SLURM_LOCALID=$DH_LOCAL_RANK
export SLURM_NODEID=$DH_NODE_RANK SLURM_NNODES=$DH_NODES SLURM_JOB_NUM_NODES=$DH_NODES SLURM_SUBMIT_DIR="$PWD"
srun() {
  _n=$DH_RANKS
  while [ $# -gt 0 ]; do
    case "$1" in
      -n|--ntasks) _n=$2; shift 2 ;;
      --ntasks=*) _n=${1#*=}; shift ;;
      -n[0-9]*) _n=${1#-n}; shift ;;
      -[NcptJwoeGmCxdDiK]|--nodes|--cpus-per-task|--partition|--time|--job-name|--nodelist|--output|--error|--gpus|--gres|--mem|--mpi|--cpu-bind|--gpus-per-task|--gpus-per-node|--ntasks-per-node|--chdir|--export|--distribution) shift 2 ;;
      --) shift; break ;;
      -*) shift ;;
      *) break ;;
    esac
  done
  [ "$DH_RANK" -lt "$_n" ] || return 0
  "$@"
}
"#;

/// A job, and options of the script that have no effect here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) request: JobRequest,
    pub(crate) without_effect: Vec<String>,
}

/// What the `#SBATCH` lines ask for.
#[derive(Debug, Default)]
struct Asked {
    tasks: Option<u32>,
    nodes: Option<u32>,
    tasks_per_node: Option<u32>,
    gpus_per_task: Option<u32>,
    gpus_per_node: Option<u32>,
    gpus: Option<u32>,
    memory_per_node: Option<String>,
    memory_per_task: Option<String>,
    request: JobRequest,
    folder: Option<String>,
    without_effect: Vec<String>,
}

/// Whether a text is a script.
pub(crate) fn is_script(text: &str) -> bool {
    text.starts_with("#!")
}

/// The job of a script that would be handed to `sbatch` in `folder`.
pub(crate) fn read(name: &str, text: &str, folder: &Path) -> Result<Batch, Failure> {
    if text.len() > SCRIPT_BYTES_MAX {
        let message = format!("{name} has {} bytes; at most {SCRIPT_BYTES_MAX} are allowed", text.len());
        return Err(Failure::new(Kind::TooLarge, message).hint("let the script call a program that lies in a file"));
    }
    let mut asked = Asked::default();
    for (number, line) in text.lines().enumerate() {
        // What Slurm itself would not know stands behind a word of ours.
        let ours = line.strip_prefix("#SBATCH").or_else(|| line.strip_prefix("#DATAHALL"));
        if let Some(options) = ours.filter(|rest| rest.starts_with([' ', '\t'])) {
            let options = options.split(" #").next().unwrap_or(options);
            asked.line(options).map_err(|why| invalid(name, number + 1, &why))?;
        } else if !line.trim().is_empty() && !line.starts_with('#') {
            // Slurm, too, reads no option behind the first command.
            break;
        }
    }
    let parallel = text.lines().any(|line| {
        let line = line.trim_start();
        !line.starts_with('#') && line.split([' ', '\t', ';', '|', '&', '(']).any(|word| word == "srun")
    });
    let (ranks, slots) = asked.shape(parallel).map_err(|why| invalid(name, 1, &why))?;
    let memory = asked.memory(ranks).map_err(|why| invalid(name, 1, &why))?;
    let mut shell: Vec<String> = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("#!"))
        .map(|line| line.split_ascii_whitespace().map(str::to_owned).collect())
        .unwrap_or_default();
    if shell.is_empty() {
        shell.push("/bin/sh".to_owned());
    }
    let folder = match &asked.folder {
        Some(other) => folder.join(other),
        None => folder.to_owned(),
    };
    let folder = folder.to_string_lossy().replace('\'', r"'\''");
    shell.push("-c".to_owned());
    shell.push(format!("cd '{folder}' || exit 1\n{BEFORE}{text}"));
    shell.push(name.to_owned());
    let request = JobRequest {
        name: asked.request.name.or_else(|| Some(file_name(name))),
        command: Some(shell),
        ranks: Some(ranks),
        slots_per_rank: Some(slots),
        memory,
        ..asked.request
    };
    Ok(Batch { request, without_effect: asked.without_effect })
}

fn invalid(name: &str, line: usize, why: &str) -> Failure {
    Failure::new(Kind::Invalid, format!("{name}:{line}: {why}"))
}

fn file_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

impl Asked {
    /// One line of options, as on a command line.
    fn line(&mut self, options: &str) -> Result<(), String> {
        let mut words = options.split_ascii_whitespace().peekable();
        while let Some(word) = words.next() {
            let (name, given) = if let Some(long) = word.strip_prefix("--") {
                match long.split_once('=') {
                    Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                    None => (long.to_owned(), None),
                }
            } else {
                let short = word.strip_prefix('-').ok_or_else(|| format!("`{word}` is no option"))?;
                let (letter, rest) = short.split_at_checked(1).ok_or_else(|| format!("`{word}` is no option"))?;
                let value = (!rest.is_empty()).then(|| rest.trim_start_matches('=').to_owned());
                (long_name(letter).to_owned(), value)
            };
            if SWITCHES.contains(&name.as_str()) {
                self.without_effect.push(format!("--{name}"));
                continue;
            }
            let next = words.peek().filter(|next| !next.starts_with('-')).map(|next| (*next).to_owned());
            let value = if let Some(value) = given {
                value
            } else {
                words.next();
                next.ok_or_else(|| format!("`{word}` has no value"))?
            };
            self.option(&name, value.trim_matches('"'))?;
        }
        Ok(())
    }

    fn option(&mut self, name: &str, value: &str) -> Result<(), String> {
        let number = || value.parse::<u32>().map_err(|_| format!("`--{name}={value}` is no number"));
        match name {
            "job-name" => self.request.name = Some(value.to_owned()),
            "ntasks" => self.tasks = Some(number()?),
            "nodes" => {
                let least = value.split('-').next().unwrap_or(value);
                self.nodes = Some(least.parse().map_err(|_| format!("`--nodes={value}` is no number"))?);
            }
            "ntasks-per-node" => self.tasks_per_node = Some(number()?),
            "gpus-per-task" => self.gpus_per_task = Some(count(name, value)?),
            "gpus-per-node" => self.gpus_per_node = Some(count(name, value)?),
            "gpus" => self.gpus = Some(count(name, value)?),
            "gres" => match value.split(',').find(|one| one.starts_with("gpu")) {
                Some(gpus) => self.gpus_per_node = Some(count(name, gpus)?),
                None => return Err(format!("`--gres={value}`: only `gpu` is known here")),
            },
            "time" => self.request.time_limit = Some(time(value)?),
            "mem" => self.memory_per_node = Some(memory(value)?),
            "mem-per-cpu" | "mem-per-gpu" => self.memory_per_task = Some(memory(value)?),
            "partition" => self.request.queue = Some(value.to_owned()),
            "chdir" => self.folder = Some(value.to_owned()),
            "export" if value == "NONE" || value == "ALL" => self.without_effect.push(format!("--export={value}")),
            "export" => {
                for pair in value.split(',').filter(|pair| *pair != "ALL") {
                    let (name, value) = pair.split_once('=').ok_or_else(|| {
                        format!("`--export={pair}`: only NAME=VALUE is known here; the submitting shell's own variables stay there")
                    })?;
                    self.request.env.insert(name.to_owned(), value.to_owned());
                }
            }
            "nodelist" => self.request.nodes.push(value.to_owned()),
            "exclude" => self.request.avoid_nodes.push(value.to_owned()),
            "secret" => {
                let (name, source) = secret_source::pair(value).map_err(|failure| failure.message)?;
                self.request.secrets.insert(name, source);
            }
            "array" | "dependency" | "begin" | "het-group" => {
                return Err(format!("`--{name}` is not known here; submit such jobs one by one"));
            }
            _ => self.without_effect.push(format!("--{name}={value}")),
        }
        Ok(())
    }

    /// Ranks, and slots of each.
    fn shape(&self, parallel: bool) -> Result<(u32, u32), String> {
        let tasks = match (self.tasks, self.nodes, self.tasks_per_node) {
            (Some(tasks), _, _) => tasks,
            (None, nodes, each) => nodes.unwrap_or(1).saturating_mul(each.unwrap_or(1)),
        };
        if tasks == 0 {
            return Err("a job needs at least one task".to_owned());
        }
        let nodes = self.nodes.or_else(|| Some(tasks.div_ceil(self.tasks_per_node?))).unwrap_or(1).clamp(1, tasks);
        let all = self.gpus_per_task.map(|each| each.saturating_mul(tasks));
        let all = all.or_else(|| self.gpus_per_node.map(|each| each.saturating_mul(nodes))).or(self.gpus);
        let all = all.unwrap_or(tasks);
        if !parallel {
            if nodes > 1 {
                return Err(format!("{nodes} nodes are asked for, and no `srun` starts anything on them"));
            }
            return Ok((1, all.max(1)));
        }
        if !all.is_multiple_of(tasks) && all > tasks {
            return Err(format!("{all} GPUs cannot be divided among {tasks} tasks"));
        }
        Ok((tasks, (all / tasks).max(1)))
    }

    /// Memory of one rank.
    fn memory(&self, ranks: u32) -> Result<Option<String>, String> {
        if let Some(each) = &self.memory_per_task {
            return Ok(Some(each.clone()));
        }
        let Some(node) = &self.memory_per_node else { return Ok(None) };
        let bytes: dh_units::Bytes = node.parse().map_err(|error| format!("`--mem`: {error}"))?;
        let here = u64::from(ranks.div_ceil(self.nodes.unwrap_or(1).max(1)).max(1));
        // Zero means all of the node's, which is what a rank without a limit has.
        Ok((bytes.0 > 0).then(|| format!("{} B", bytes.0 / here)))
    }
}

/// Options without a value that change nothing here.
const SWITCHES: &[&str] = &[
    "exclusive",
    "requeue",
    "no-requeue",
    "overcommit",
    "oversubscribe",
    "contiguous",
    "hold",
    "verbose",
    "quiet",
    "wait",
];

fn long_name(letter: &str) -> &str {
    match letter {
        "J" => "job-name",
        "n" => "ntasks",
        "N" => "nodes",
        "G" => "gpus",
        "t" => "time",
        "p" => "partition",
        "D" => "chdir",
        "o" => "output",
        "e" => "error",
        "c" => "cpus-per-task",
        "a" => "array",
        "d" => "dependency",
        "A" => "account",
        "q" => "qos",
        "C" => "constraint",
        "w" => "nodelist",
        "x" => "exclude",
        "H" => "hold",
        "s" => "oversubscribe",
        other => other,
    }
}

/// `8`, `gpu:8`, `gpu:h100:8` or `h100:8`; a name alone is one.
fn count(name: &str, value: &str) -> Result<u32, String> {
    let last = value.rsplit(':').next().unwrap_or(value);
    match last.parse() {
        Ok(count) => Ok(count),
        Err(_) if last.chars().all(|c| c.is_ascii_alphanumeric()) && !last.is_empty() => Ok(1),
        Err(_) => Err(format!("`--{name}={value}` names no number")),
    }
}

/// `minutes`, `minutes:seconds`, `hours:minutes:seconds`, `days-hours[:minutes[:seconds]]`.
fn time(text: &str) -> Result<String, String> {
    let bad = || format!("`--time={text}` is no time");
    let read = |part: &str| part.parse::<u64>().map_err(|_| bad());
    let (days, rest) = match text.split_once('-') {
        Some((days, rest)) => (Some(read(days)?), rest),
        None => (None, text),
    };
    let parts: Vec<u64> = rest.split(':').map(read).collect::<Result<_, _>>()?;
    let seconds = match (days, parts.as_slice()) {
        (Some(_), [hours]) => hours * 3_600,
        (Some(_), [hours, minutes]) => hours * 3_600 + minutes * 60,
        (None, [minutes]) => minutes * 60,
        (None, [minutes, seconds]) => minutes * 60 + seconds,
        (_, [hours, minutes, seconds]) => hours * 3_600 + minutes * 60 + seconds,
        _ => return Err(bad()),
    };
    Ok(format!("{} s", days.unwrap_or(0) * 86_400 + seconds))
}

/// Slurm's `M` is what others write as MiB, and the unit where none is written.
fn memory(text: &str) -> Result<String, String> {
    let (digits, unit) = text.split_at(text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len());
    let unit = match unit.trim_end_matches(['B', 'b']) {
        "" | "M" | "m" => "MiB",
        "K" | "k" => "KiB",
        "G" | "g" => "GiB",
        "T" | "t" => "TiB",
        _ => return Err(format!("`{text}` is no amount of memory")),
    };
    Ok(format!("{digits} {unit}"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    fn batch(options: &str, commands: &str) -> Result<Batch, Failure> {
        let lines: String = options.lines().flat_map(|line| ["#SBATCH ", line.trim(), "\n"]).collect();
        read("train.sh", &format!("#!/bin/bash\n{lines}\n{commands}\n"), Path::new("/home/me"))
    }

    fn shape(options: &str, commands: &str) -> (Option<u32>, Option<u32>) {
        let request = batch(options, commands).unwrap().request;
        (request.ranks, request.slots_per_rank)
    }

    #[test]
    fn options_become_fields() {
        let text = "--job-name=llm -p batch\n-N 2\n--ntasks-per-node=4 # four a node\n--gres=gpu:h100:8\n-t 1-02:30\n--mem=64G";
        let found = batch(text, "module load x\nsrun -n 8 python train.py").unwrap();
        let request = found.request;
        assert_eq!((request.name.as_deref(), request.queue.as_deref()), (Some("llm"), Some("batch")));
        assert_eq!((request.ranks, request.slots_per_rank), (Some(8), Some(2)));
        assert_eq!(request.time_limit.as_deref(), Some("95400 s"));
        assert_eq!(request.memory.as_deref(), Some("17179869184 B"));
        let command = request.command.unwrap();
        assert_eq!((command[0].as_str(), command[1].as_str(), command[3].as_str()), ("/bin/bash", "-c", "train.sh"));
        assert!(
            command[2].starts_with("cd '/home/me' || exit 1\n") && command[2].ends_with("srun -n 8 python train.py\n")
        );
    }

    #[test]
    fn tasks_and_accelerators_are_counted_as_slurm_does() {
        assert_eq!(shape("-n4", "srun x"), (Some(4), Some(1)));
        assert_eq!(shape("-n 4 --gpus-per-task=2", "srun x"), (Some(4), Some(2)));
        assert_eq!(shape("-N2 --gpus-per-node=8 --ntasks-per-node=8", "srun x"), (Some(16), Some(1)));
        assert_eq!(shape("--gpus=8", "torchrun x"), (Some(1), Some(8)));
        assert_eq!(shape("-n 4", "mpirun x"), (Some(1), Some(4)));
        assert_eq!(shape("", "hostname"), (Some(1), Some(1)));
    }

    #[test]
    fn what_would_run_otherwise_is_refused_and_the_rest_is_named() {
        for (options, commands, part) in [
            ("-N2", "torchrun x", "no `srun`"),
            ("--array=1-9", "x", "one by one"),
            ("-n x", "x", "no number"),
            ("--export=HOME", "x", "NAME=VALUE"),
            ("--gpus=3 -n 2", "srun x", "divided"),
            ("--time=soon", "x", "no time"),
        ] {
            let failure = batch(options, commands).unwrap_err();
            assert!(failure.message.contains(part), "{options}: {}", failure.message);
        }
        let found = batch("--exclusive -A team --output=out.log\n--export=ALL,LR=0.1", "x").unwrap();
        assert_eq!(found.without_effect, ["--exclusive", "--account=team", "--output=out.log"]);
        assert_eq!(found.request.env["LR"], "0.1");
    }

    #[test]
    fn nodes_and_secrets_are_read() {
        let text =
            "#!/bin/sh\n#SBATCH -w gpu[1-2]\n#SBATCH --nodelist=gpu7 -x gpu3\n#DATAHALL --secret=TOKEN=env:HUB\nx\n";
        let found = read("a.sh", text, Path::new("/")).unwrap();
        assert_eq!(
            (found.request.nodes, found.request.avoid_nodes.join(" ")),
            (vec!["gpu[1-2]".to_owned(), "gpu7".to_owned()], "gpu3".to_owned())
        );
        assert_eq!(found.request.secrets["TOKEN"], dh_server::wire::SecretSource::Kept("env:HUB".to_owned()));
        assert!(found.without_effect.is_empty());
        let bad = batch("--secret=TOKEN", "x").unwrap_err();
        assert!(bad.message.contains("NAME=REF"), "{}", bad.message);
    }

    #[test]
    fn options_behind_the_first_command_are_not_read() {
        let found = read("a.sh", "#!/bin/sh\n#SBATCH -n 2\nsrun x\n#SBATCH -n 9\n", Path::new("/")).unwrap();
        assert_eq!(found.request.ranks, Some(2));
    }

    #[test]
    fn times_of_all_forms_are_read() {
        for (text, seconds) in [("10", 600), ("1:30", 90), ("2:00:00", 7_200), ("1-0", 86_400), ("1-1:1:1", 90_061)] {
            assert_eq!(time(text).unwrap(), format!("{seconds} s"));
        }
    }
}
