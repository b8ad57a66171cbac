//! The published files, where the environment variable `DATAHALL_TRACES` names their folder: every row is read.
//!
//! Without it there is nothing to check, and the tests pass: the files are not ours to give away.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests fail by panicking and read files"
)]

use std::io::Read;
use std::path::PathBuf;

use dh_twin::generate::{RequestSource, Tokens, clients};
use dh_twin::trace::{
    Options, Requests, Summary, Throughputs, Trace, WINDOW, images, intervals, rates, read, slices, sniff,
};

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("DATAHALL_TRACES").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("DATAHALL_TRACES is not set: nothing is checked");
    }
    folder
}

fn text(folder: &std::path::Path, name: &str) -> String {
    let bytes = std::fs::read(folder.join(format!("{name}.csv.gz"))).unwrap();
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
    text
}

fn trace(folder: &std::path::Path, name: &str) -> Trace {
    let text = text(folder, name);
    read(sniff(&text, name).unwrap(), &text, Options { file: name, ..Options::default() }).unwrap()
}

#[test]
fn every_row_of_every_trace_of_jobs_is_a_job() {
    let Some(folder) = folder() else { return };
    let known = [
        ("philly_jobs", "philly", 78_085),
        ("muri_philly_trace1", "muri", 1_494),
        ("muri_philly_trace1_pr", "muri", 1_494),
        ("muri_philly_trace3", "muri", 992),
        ("muri_philly_trace3_pr", "muri", 992),
        ("muri_philly_trace4", "muri", 2_638),
        ("muri_philly_trace4_pr", "muri", 2_638),
        ("crux_jobs", "crux", 1_749),
        ("pai2020_deadline_jobs", "pai-deadlines", 3_500),
        ("sia_philly_workloads", "sia", 800),
        ("sia_saturn_workloads", "sia", 1_120),
        ("sia_newtrace_workloads", "sia", 6_720),
        ("openb/openb_pod_list_default", "openb", 8_152),
        ("alibaba_dlrm2025_instances", "dlrm2025", 16_633),
    ];
    for (name, format, rows) in known {
        let trace = trace(&folder, name);
        assert_eq!((trace.format, trace.jobs.len()), (format, rows), "{name}");
    }
}

#[test]
fn every_list_of_pods_is_read() {
    let Some(folder) = folder() else { return };
    let lists: Vec<String> = std::fs::read_dir(folder.join("openb"))
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .filter(|name| name.starts_with("openb_pod_list"))
        .collect();
    for list in &lists {
        let trace = trace(&folder, &format!("openb/{}", list.trim_end_matches(".csv.gz")));
        let timed = trace.notes.iter().all(|note| !note.contains("no times"));
        assert!(trace.jobs.iter().all(|job| job.length().is_some() == timed), "{list}");
    }
    assert!(!lists.is_empty());
}

#[test]
fn lists_of_nodes_have_their_published_accelerators() {
    let Some(folder) = folder() else { return };
    let known = [
        ("openb/openb_node_list_gpu_node", 1_213, Some(6_212)),
        ("openb/openb_node_list_all_node", 1_523, Some(6_212)),
        ("alibaba_spot2026_nodes", 4_278, None),
        ("alibaba_pai2020_machines", 1_897, None),
    ];
    for (name, nodes, accelerators) in known {
        let cluster = trace(&folder, name).cluster;
        assert_eq!(cluster.count(), nodes, "{name}");
        assert!(accelerators.is_none_or(|published| cluster.accelerators() == published), "{name}");
    }
}

#[test]
fn openb_asks_for_the_published_share_of_accelerators() {
    let Some(folder) = folder() else { return };
    let trace = trace(&folder, "openb/openb_pod_list_default");
    let milli: u64 = trace.jobs.iter().map(|job| job.gang.milli()).sum();
    assert_eq!(milli / 100, 60_868, "6,086.8 accelerators");
}

#[test]
fn every_row_of_tables_and_requests_is_read() {
    let Some(folder) = folder() else { return };
    let table = Throughputs::read(&text(&folder, "gavel_throughputs"), "gavel").unwrap();
    assert_eq!((table.rows(), table.jobs.len(), table.accelerators.list().len()), (10_830, 83, 6));
    let known = [
        ("azure_llm2023_conv", 13_557),
        ("azure_llm2023_code", 6_174),
        ("mooncake_conversation", 8_422),
        ("mooncake_synthetic", 2_796),
    ];
    for (name, rows) in known {
        let text = text(&folder, name);
        assert_eq!(Summary::of(Requests::new(&text, name).unwrap()).unwrap().requests, rows, "{name}");
    }
    let count = rates(&text(&folder, "servegen_client_rates"), "r").unwrap().map(Result::unwrap).count();
    assert_eq!(count, 171_909);
    let count = images(&text(&folder, "alibaba_genai2026_requests"), "i").unwrap().map(Result::unwrap).count();
    assert_eq!(count, 18_777);
}

#[test]
fn the_mix_of_slices_and_the_histogram_of_gaps_are_whole() {
    let Some(folder) = folder() else { return };
    let plain = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let mix = slices(&plain("tpu_slice_mix.csv"), "s").unwrap();
    assert_eq!((mix.len(), mix.iter().map(|(slice, _)| slice.chips()).max()), (30, Some(3072)));
    let total: u64 = mix.iter().map(|(_, weight)| weight).sum();
    // The published shares add up to 97.5 %.
    assert_eq!(total, 97_500_000);
    assert_eq!(intervals(&plain("tpu_interarrival_dist.csv"), "i").unwrap().len(), 60);
}

#[test]
fn drawn_requests_have_the_published_rates() {
    let Some(folder) = folder() else { return };
    let text = text(&folder, "servegen_client_rates");
    let one_model =
        |rate: &Result<dh_twin::trace::Rate, _>| rate.as_ref().is_ok_and(|rate| rate.model == "deepseek-r1");
    let rates = rates(&text, "r").unwrap().filter(one_model);
    let clients = clients(rates, &Tokens::Fixed(100), &Tokens::Fixed(10)).unwrap();
    let windows = clients.iter().flat_map(|client| &client.windows);
    let expected = windows.map(|window| window.per_million_s).sum::<u64>() * WINDOW.as_secs() / 1_000_000;
    let mut drawn = 0_u64;
    let mut last = dh_core::time::SimTime(0);
    for request in RequestSource::new(&clients, 5).unwrap() {
        assert!(request.at >= last);
        last = request.at;
        drawn += 1;
    }
    eprintln!("{} clients: {drawn} requests drawn, {expected} published", clients.len());
    assert!(drawn.abs_diff(expected) * 100 < expected * 2, "{drawn} for {expected}");
}
