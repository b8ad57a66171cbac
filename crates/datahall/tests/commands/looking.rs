//! What people do with a job that runs: see where it starts, watch it, look into it, carry files, ask what it used.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{BLUEPRINT, PATIENCE, TestHall, processes_of};

fn submit(hall: &TestHall, flags: &[&str], script: &str) -> Value {
    let output = hall.submit(&[flags, &["-o", "json"]].concat(), &["sh", "-c", script]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn runs(hall: &TestHall, job: u64, ranks: u64) {
    hall.wait_for_job(job, "running", |view| view["ranks_running"] == ranks);
}

#[test]
fn a_submission_says_where_and_when_the_job_starts() {
    let hall = TestHall::start(BLUEPRINT);
    let plan = &submit(&hall, &["--ranks", "3", "--time-limit", "1 h"], "sleep 600")["plan"];
    assert_eq!((&plan["starts"], &plan["nodes"][0]["ranks"]), (&"now".into(), &3.into()), "{plan}");
    assert_eq!(plan["nodes"][0]["node"], "local-0");
    // Two ranks wait for the hour of the three.
    let waits = &submit(&hall, &["--ranks", "2"], "true")["plan"];
    assert_eq!((&waits["starts"], &waits["state"]), (&"expected".into(), &"waiting".into()), "{waits}");
    let left = waits["at_ns"].as_u64().unwrap().saturating_sub(plan["at_ns"].as_u64().unwrap());
    assert_eq!(left, 3_600_000_000_000, "{waits}");
    assert!(waits["because"].as_str().unwrap().contains("1 of its 2 ranks"), "{waits}");
    assert_eq!(waits["nodes"][0]["node"], "local-0");
    let said = hall.submit(&["--ranks", "4"], &["true"]);
    assert_eq!(String::from_utf8_lossy(&said.stdout), "job/3\n");
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("expected to start in") && said.contains("jobs ahead of it"), "{said}");
    let said = hall.submit(&["--quiet"], &["true"]);
    assert!(said.status.success() && said.stderr.is_empty(), "{said:?}");
    let (status, again) = hall.api("GET", "/v1/jobs/1/plan", None);
    assert!(status == 200 && again["starts"] == "now", "{again}");
    assert_eq!(hall.api("GET", "/v1/jobs/99/plan", None).0, 404);
}

#[test]
fn a_program_runs_beside_a_rank_with_its_variables_and_in_its_folder() {
    let hall = TestHall::start(BLUEPRINT);
    submit(&hall, &["--ranks", "2", "--env", "COLOUR=blue"], "sleep 600");
    runs(&hall, 1, 2);
    let script = "echo $COLOUR $DH_RANK of $DH_RANKS in $(pwd); echo oops >&2; exit 5";
    let output = hall.run(&["exec", "1.1", "--", "sh", "-c", script]);
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    let work = hall.data().join("work").canonicalize().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("blue 1 of 2 in {}\n", work.display()));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "oops\n");
    // Signals are told as shells tell them, and much output comes whole.
    assert_eq!(hall.run(&["exec", "1", "--", "sh", "-c", "kill -9 $$"]).status.code(), Some(137));
    let many = hall.run(&["exec", "1", "--", "seq", "1", "100000"]);
    assert_eq!(many.stdout.split(|byte| *byte == b'\n').count() - 1, 100_000);
    for (arguments, code, why) in [
        (&["exec", "1.2", "--", "true"][..], 7, "rank 2"),
        (&["exec", "9", "--", "true"], 7, "job/9"),
        (&["exec", "1", "--", "no-such-program"], 1, "no-such-program"),
    ] {
        let output = hall.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(code) && said.contains(why), "{arguments:?}: {output:?}");
    }
    // Without the hall's own key nobody runs anything.
    let url = format!("{}/v1/jobs/1/ranks/0/exec", hall.url("api"));
    let model = format!("Bearer {}", hall.key("model"));
    for headers in [&[][..], &[("authorization", model.as_str())]] {
        let headers = [headers, &[("content-type", "application/json")]].concat();
        let (status, _) = crate::support::http("POST", &url, &headers, Some(r#"{"command":["true"]}"#));
        assert!(status == 401 || status == 403, "{status}");
    }
}

#[test]
fn a_program_beside_a_rank_ends_with_the_rank_and_with_its_caller() {
    let hall = TestHall::start(BLUEPRINT);
    submit(&hall, &[], "sleep 600");
    runs(&hall, 1, 1);
    let here = hall.path(".").canonicalize().unwrap();
    // The program itself, not those that name it: the caller, and the process that looks after it.
    let is_it = |process: &&String| process.split_once(' ').is_some_and(|(_, line)| line.trim() == "sleep 54321");
    let beside = || processes_of(&here).iter().filter(is_it).count();
    let wait = |count: usize| {
        let begin = Instant::now();
        while beside() != count {
            assert!(begin.elapsed() < PATIENCE, "{:?}", processes_of(&here));
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let start = || {
        let mut command: Command = hall.command();
        command.arg("--data").arg(hall.data()).args(["exec", "1", "--", "sleep", "54321"]).spawn().unwrap()
    };
    let mut caller = start();
    wait(1);
    caller.kill().unwrap();
    caller.wait().unwrap();
    wait(0);
    let mut caller = start();
    wait(1);
    hall.ok(&["cancel", "1"]);
    wait(0);
    assert_eq!(caller.wait().unwrap().code(), Some(137));
}

#[test]
fn files_are_copied_out_of_and_into_the_folder_of_a_job_and_nowhere_else() {
    let hall = TestHall::start(BLUEPRINT);
    submit(
        &hall,
        &["--wait"],
        "mkdir -p out && seq 1 50000 > out/numbers && ln -s /etc out/etc && ln -s /etc/hostname out/name",
    );
    let numbers = hall.path("numbers");
    hall.ok(&["cp", "1:out/numbers", &hall.path(".").to_string_lossy()]);
    let expected = (1..=50_000).map(|number| number.to_string()).collect::<Vec<_>>().join("\n") + "\n";
    assert_eq!(std::fs::read_to_string(&numbers).unwrap(), expected);
    let copied = hall.json(&["cp", &numbers.to_string_lossy(), "1:out/a b&c"]);
    assert_eq!(copied["bytes"], expected.len());
    assert_eq!(std::fs::read_to_string(hall.data().join("work/out/a b&c")).unwrap(), expected);
    hall.ok(&["cp", &numbers.to_string_lossy(), "1:"]);
    assert!(hall.data().join("work/numbers").exists());
    let here = numbers.to_string_lossy().into_owned();
    for path in ["../keys.json", "/etc/passwd", "out/../../keys.json", "out/etc/passwd", "out/name", "out", ""] {
        let (code, said) = hall.fails(&["cp", &format!("1:{path}"), &here]);
        assert!(code != 0 && said.contains("error: "), "{path}: {said}");
    }
    for path in ["../evil", "/tmp/evil", "out/etc/evil", "no-such-folder/evil", "out/../../evil"] {
        let (code, said) = hall.fails(&["cp", &here, &format!("1:{path}")]);
        assert!(code != 0 && said.contains("error: "), "{path}: {said}");
    }
    assert!(!hall.data().join("evil").exists());
    // A link is replaced, not followed.
    hall.ok(&["cp", &here, "1:out/name"]);
    assert!(hall.data().join("work/out/name").symlink_metadata().unwrap().is_file());
    let (code, said) = hall.fails(&["cp", "s3://bucket/key", &here]);
    assert!(code != 0 && said.contains("datahall store cp"), "{said}");
    assert_eq!(hall.fails(&["cp", "9:out/numbers", &here]).0, 7);
    assert_eq!(hall.fails(&["cp", "1:no-such-file", &here]).0, 7);
    let left = std::fs::read_dir(hall.data().join("work")).unwrap().flatten();
    assert!(left.into_iter().all(|entry| !entry.file_name().to_string_lossy().starts_with(".part-")));
}

#[test]
fn energy_is_estimated_where_no_driver_counts_it() {
    let site = "[site.here]\nprice = \"0.20 USD/kWh\"\ncarbon = \"400 g/kWh\"\npue = 1.5\n";
    let pool = "nodes = 1\nslots = 4\nrated = \"1000 W\"\nload = 0.5\nsite = \"here\"\n";
    let hall = TestHall::start(&format!("{}{site}", BLUEPRINT.replace("nodes = 1\nslots = 4\n", pool)));
    submit(&hall, &["--ranks", "2", "--wait"], "sleep 0.5");
    let energy = hall.json(&["energy", "1"]);
    let number = |name: &str| energy[name].as_f64().unwrap();
    assert_eq!((&energy["schema_version"], &energy["source"]), (&1.into(), &"estimated".into()), "{energy}");
    // Two of four slots of a node of 1 kW at half of its load: 250 W.
    let seconds = number("slot_seconds") / 2.0;
    assert!(seconds >= 0.5, "{energy}");
    let near = |value: f64, wanted: f64| (value - wanted).abs() <= 1e-9 * wanted.abs();
    assert!(near(number("joules"), 250.0 * seconds), "{energy}");
    assert!(near(number("kilowatt_hours"), 250.0 * seconds * 1.5 / 3.6e6), "{energy}");
    assert!(near(number("usd"), number("kilowatt_hours") * 0.2), "{energy}");
    assert!(near(number("co2_grams"), number("kilowatt_hours") * 400.0), "{energy}");
    let said = hall.ok(&["energy", "job/1"]);
    assert!(said.contains("estimated") && said.contains("g of CO2") && said.contains("0.2 USD/kWh"), "{said}");
    assert_eq!(hall.fails(&["energy", "9"]).0, 7);
}

#[test]
fn top_shows_one_frame_to_programs_and_pipes() {
    let hall = TestHall::start(BLUEPRINT);
    submit(&hall, &["--ranks", "3", "--name", "busy", "--time-limit", "1 h"], "while :; do :; done");
    runs(&hall, 1, 3);
    submit(&hall, &["--ranks", "2", "--name", "later"], "true");
    let frame = hall.json(&["top"]);
    assert_eq!((&frame["schema_version"], &frame["slots"], &frame["slots_taken"]), (&1.into(), &4.into(), &3.into()));
    let (busy, later) = (&frame["running"][0], &frame["next"][0]);
    assert_eq!((&busy["name"], &later["name"]), (&"busy".into(), &"later".into()), "{frame}");
    assert!(busy["cores"].as_f64().unwrap() > 0.0 && busy["resident_bytes"].as_u64().unwrap() > 0, "{frame}");
    assert!(busy["progress"].as_f64().unwrap() < 0.9 && later["cores"].is_null(), "{frame}");
    let shown = hall.ok(&["top", "--once"]);
    assert!(shown.contains("busy") && shown.contains("3 of 4") && !shown.contains('\x1b'), "{shown}");
}

#[test]
fn a_unit_for_systemd_is_one_that_systemd_takes() {
    let hall = TestHall::start(BLUEPRINT);
    let blueprint = hall.path("hall.toml").to_string_lossy().into_owned();
    let unit = hall.ok(&["render", "systemd", &blueprint, "--user", "root"]);
    for line in ["Type=notify", "Restart=on-failure", "KillMode=mixed", "User=root", "NoNewPrivileges=yes"] {
        assert!(unit.lines().any(|there| there == line), "{line}: {unit}");
    }
    assert!(unit.contains(&blueprint) && unit.contains(&*hall.data().to_string_lossy()), "{unit}");
    let of_user = hall.ok(&["render", "systemd", &blueprint, "--for-user"]);
    assert!(of_user.contains("WantedBy=default.target") && !of_user.contains("User="), "{of_user}");
    let path = hall.path("datahall.service");
    std::fs::write(&path, unit).unwrap();
    match Command::new("systemd-analyze").arg("verify").arg(&path).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let ours: Vec<&str> = said.lines().filter(|line| line.contains("datahall.service")).collect();
            assert!(ours.is_empty(), "{said}");
        }
        Err(error) => eprintln!("systemd-analyze is not here ({error}): the unit was not verified"),
    }
}

#[test]
fn a_server_tells_its_service_manager_when_it_is_ready_and_logs_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let socket = std::os::unix::net::UnixDatagram::bind(folder.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    std::fs::write(folder.path().join("hall.toml"), BLUEPRINT).unwrap();
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let mut server = crate::support::command_at_home(folder.path())
        .args(["up", "hall.toml", "--quiet", "--lifeline", "--log-format", "json", "--data"])
        .arg(folder.path().join("data"))
        .env("NOTIFY_SOCKET", folder.path().join("notify"))
        .env("RUST_LOG", "debug")
        .stdin(std::process::Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut told = [0_u8; 64];
    let read = socket.recv(&mut told).unwrap();
    assert_eq!(&told[..read], b"READY=1");
    drop(server.stdin.take());
    assert!(server.wait().unwrap().success());
    let read = socket.recv(&mut told).unwrap();
    assert_eq!(&told[..read], b"STOPPING=1");
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.lines().count() > 0);
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["at_ns"].is_u64() && line["level"].is_string() && line["target"].is_string(), "{line}");
    }
}
