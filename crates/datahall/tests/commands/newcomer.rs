//! The first minutes: init, check, explain, plan; and every way to be told what is wrong.

use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::support::{command_at_home, failure};

fn datahall(home: &Path, arguments: &[&str]) -> Output {
    command_at_home(home).args(arguments).output().unwrap()
}

fn fails(home: &Path, arguments: &[&str]) -> (i32, String) {
    failure(arguments, &datahall(home, arguments))
}

fn json(output: &Output) -> Value {
    let value: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(value["schema_version"], 1, "{value}");
    value
}

#[test]
fn a_newcomer_writes_checks_and_plans_a_blueprint() {
    let home = tempfile::tempdir().unwrap();
    let written = datahall(home.path(), &["init"]);
    assert!(written.status.success() && written.stdout.is_empty(), "{written:?}");
    let blueprint = home.path().join("hall.toml");
    let text = std::fs::read_to_string(&blueprint).unwrap();
    assert!(text.contains("schema = 1") && text.contains("[pool."), "{text}");

    std::fs::write(&blueprint, format!("{text}\n# mine\n")).unwrap();
    let (code, said) = fails(home.path(), &["init"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("error: ") && said.contains("hint: "), "{said}");
    assert!(std::fs::read_to_string(&blueprint).unwrap().ends_with("# mine\n"), "a file was overwritten");

    let checked = datahall(home.path(), &["check"]);
    assert!(checked.status.success() && checked.stdout.is_empty(), "{checked:?}");
    assert!(datahall(home.path(), &["check", "-q"]).stderr.is_empty());
    assert_eq!(json(&datahall(home.path(), &["check", "-o", "json"]))["problems"], serde_json::json!([]));

    let plan = datahall(home.path(), &["plan", "--no-probe", "-o", "json"]);
    assert!(plan.status.success(), "{plan:?}");
    let plan = json(&plan);
    assert_eq!(plan["name"], "laptop");
    assert_eq!(plan["power"]["slots"]["value"], 4, "{plan}");
    assert!(plan["machine"].is_null(), "nothing was measured: {plan}");
    let screen = datahall(home.path(), &["plan", "--no-probe", "--basis"]);
    assert!(String::from_utf8_lossy(&screen.stdout).contains("pool.local.nodes"), "{screen:?}");
    assert!(!screen.stdout.contains(&0x1b), "colours go to terminals only");
}

#[test]
fn all_templates_are_sound_and_a_name_of_none_is_told() {
    let home = tempfile::tempdir().unwrap();
    for (template, _) in dh_blueprint::TEMPLATES {
        let file = format!("{template}.toml");
        assert!(datahall(home.path(), &["init", "--template", template, &file]).status.success());
        assert!(datahall(home.path(), &["check", &file]).status.success());
    }
    let (code, said) = fails(home.path(), &["init", "--template", "castle", "castle.toml"]);
    assert_eq!(code, 7, "{said}");
    assert!(said.contains("hint: ") && said.contains("laptop"), "{said}");
    assert!(!home.path().join("castle.toml").exists());
}

#[test]
fn every_problem_of_a_broken_blueprint_is_reported_with_its_place() {
    let home = tempfile::tempdir().unwrap();
    let broken =
        "schema = 1\nname = \"broken\"\n\n[pool.local]\nnodes = 1\nslotz = 4\n\n[store.main]\ncapacity = \"2\"\n";
    std::fs::write(home.path().join("hall.toml"), broken).unwrap();
    let (code, said) = fails(home.path(), &["check"]);
    assert_eq!(code, 3, "{said}");
    for part in ["hall.toml:6:", "slotz", "slots", "hall.toml:9:", "error: ", "hint: "] {
        assert!(said.contains(part), "`{part}` is missing in: {said}");
    }

    let output = datahall(home.path(), &["check", "-o", "json"]);
    assert_eq!(output.status.code(), Some(3));
    let report = json(&output);
    let problems = report["problems"].as_array().unwrap();
    assert!(problems.len() >= 2, "{report}");
    for problem in problems {
        let code = problem["code"].as_str().unwrap();
        assert!(said.contains(code), "{code} is not in the report for people");
        let explained = datahall(home.path(), &["explain", code]);
        assert!(explained.status.success() && explained.stdout.len() > 40, "{explained:?}");
    }
    let (code, said) = fails(home.path(), &["explain", "DH9999"]);
    assert_eq!(code, 7, "{said}");

    // The same blueprint starts nothing, and says the same.
    for command in [&["up"][..], &["up", "--detach"], &["plan", "--no-probe"], &["demo", "--exit"]] {
        let (code, said) = fails(home.path(), &[command, &["-f", "hall.toml"]].concat());
        assert!(code == 3 && said.contains("slotz"), "{command:?}: {code} {said}");
    }
}

#[test]
fn a_blueprint_may_come_from_standard_input() {
    use std::io::Write;
    let home = tempfile::tempdir().unwrap();
    for (text, code) in [("schema = 1\nname = \"x\"\n[pool.a]\nnodes = 1\nslots = 1\n", 0), ("nonsense", 3)] {
        let mut child = command_at_home(home.path())
            .args(["check", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{text}");
    }
}

#[test]
fn usage_mistakes_are_exit_code_2_and_help_is_an_answer() {
    let home = tempfile::tempdir().unwrap();
    for mistake in [
        &[][..],
        &["frobnicate"],
        &["status", "--frobnicate"],
        &["submit"],
        &["submit", "--ranks", "many", "--", "true"],
        &["submit", "--env", "NOVALUE", "--", "true"],
        &["why", "seven"],
        &["cancel"],
        &["status", "-o", "xml"],
        &["probe", "--ranks", "0"],
    ] {
        let (code, said) = fails(home.path(), mistake);
        assert_eq!(code, 2, "{mistake:?}: {said}");
        assert!(!said.is_empty(), "{mistake:?} is refused without a word");
    }
    for answer in [&["--help"][..], &["help", "submit"], &["--version"]] {
        let output = datahall(home.path(), answer);
        assert!(output.status.success() && !output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    }
}

#[test]
fn without_a_hall_commands_are_exit_code_8_and_say_how_to_start_one() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("nothing").display().to_string();
    for command in [
        &["status"][..],
        &["jobs"],
        &["logs", "1"],
        &["why", "1"],
        &["cancel", "1"],
        &["fault", "1"],
        &["submit", "fashion"],
        &["serve", "chat"],
        &["chat", "hello"],
        &["env"],
        &["down"],
    ] {
        for place in [&[][..], &["--data", &data]] {
            let (code, said) = fails(home.path(), &[command, place].concat());
            assert_eq!(code, 8, "{command:?}: {said}");
            assert!(said.contains("error: ") && said.contains("hint: ") && said.contains("datahall up"), "{said}");
        }
    }
}

#[test]
fn what_does_not_exist_is_exit_code_7() {
    let home = tempfile::tempdir().unwrap();
    for command in [
        &["check", "missing.toml"][..],
        &["check", "missing.toml", "-o", "json"],
        &["plan", "missing.toml"],
        &["up"],
        &["replay", "missing.sqlite"],
        &["submit", "./missing.toml"],
    ] {
        let (code, said) = fails(home.path(), command);
        assert_eq!(code, 7, "{command:?}: {said}");
        assert!(said.contains("error: "), "{said}");
    }
}

#[test]
fn the_doctor_looks_at_this_machine() {
    let home = tempfile::tempdir().unwrap();
    let output = datahall(home.path(), &["doctor", "-o", "json"]);
    let findings = json(&output);
    let missing =
        findings["findings"].as_array().unwrap().iter().any(|one| one["needed"] == true && one["good"] == false);
    assert_eq!(output.status.code(), Some(i32::from(missing)), "{findings}");
    assert!(String::from_utf8_lossy(&datahall(home.path(), &["doctor"]).stdout).contains("cores"));
}
