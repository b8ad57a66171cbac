//! Small files of every format, and that no text makes a reader panic.

use dh_core::time::{SimTime, Span};
use proptest::prelude::*;

use super::*;

fn of(name: &str, text: &str) -> Trace {
    read(by_name(name).unwrap(), text, Options { file: "f", ..Options::default() }).unwrap()
}

fn error(name: &str, text: &str) -> String {
    read(by_name(name).unwrap(), text, Options { file: "f.csv", ..Options::default() }).unwrap_err().to_string()
}

const PHILLY: &str = "job_id,submit_s,duration_s,gpus,vc,duration_last_s\n\
    4,10,3600,12,6214e9,\n5,10,0,1,,\n6,11.5,60.25,64,23dbec,9\n";
const SWF: &str = "; Version: 2.2\n; MaxNodes: 10\n; MaxProcs: 40\n;\n\
    1 0 5 100 6 -1 -1 6 200 1024 1 3 1 -1 2 -1 -1 -1\n\
    2 7 -1 -1 -1 -1 -1 -1 -1 -1 5 3 1 -1 2 -1 -1 -1\n\
    3 9 0 0.5 4 10.5 100 -1 -1 -1 0 4 1 7 -1 -1 1 0\n";
const SACCT: &str = "JobID|Submit|Start|End|AllocTRES|ReqTRES|NNodes|Partition|User|State|Timelimit\n\
    12|2026-01-01T00:00:10|2026-01-01T00:01:00|2026-01-01T01:01:00|cpu=128,gres/gpu:h100=16,gres/gpu=16,mem=1T,node=2|cpu=128,gres/gpu=16,mem=1T,node=2|2|train|ann|COMPLETED|1-00:00:00\n\
    12.batch|2026-01-01T00:00:10|2026-01-01T00:01:00|2026-01-01T01:01:00|cpu=64,mem=512G,node=1||1|||COMPLETED|\n\
    9_[3-7]|2026-01-01T00:00:00|Unknown|Unknown||cpu=4,mem=100M,node=1|1|debug|bob|CANCELLED by 7|UNLIMITED\n";

#[test]
fn philly_has_its_virtual_clusters_and_ranks_that_fit_a_node() {
    let trace = of("philly", PHILLY);
    assert_eq!((trace.cluster.count(), trace.cluster.accelerators(), trace.cluster.nodes.len()), (352, 2816, 11));
    let gangs: Vec<(u32, u32)> = trace.jobs.iter().map(|job| (job.gang.ranks, job.gang.per_rank_milli)).collect();
    assert_eq!(gangs, [(2, 6000), (1, 1000), (8, 8000)]);
    assert_eq!(trace.jobs[2].submit, SimTime(11_500_000_000));
    assert_eq!(trace.jobs[2].length(), Some(Span(60_250_000_000)));
    assert_eq!(trace.jobs[1].length(), Some(Span(0)), "a length of 0 is a length");
    assert_eq!(trace.queues.get(trace.jobs[1].queue), Some("unknown"));
    assert_eq!(trace.label(&trace.jobs[0]), "4");
    assert!(trace.notes.iter().any(|note| note.ends_with("nodes: 23dbec")), "{:?}", trace.notes);
}

#[test]
fn muri_keeps_stages_and_no_priorities() {
    let trace = of(
        "muri",
        "job_id,submit_s,duration_s,gpus,model,iterations,iter_ms,res_gpu_ms,res_io_ms,res_other_ms,priority\n\
         0,0.0,100.0,16,gpt2,200,500,0.6,410,0,1\n",
    );
    let stages = trace.extra(&trace.jobs[0]).unwrap().stages.unwrap();
    assert_eq!((stages.iterations, stages.iteration), (200, Span::from_millis(500)));
    assert_eq!(stages.parts, [Span(600_000), Span::from_millis(410), Span(0)]);
    assert_eq!((trace.jobs[0].priority, trace.jobs[0].gang.ranks, trace.cluster.accelerators()), (0, 2, 64));
}

#[test]
fn sia_lengths_follow_from_what_the_caller_says() {
    let text = "workload,name,submit_s,application,num_replicas,batch_size\n1,a,0,bert,12,384\n2,b,5,mine,4,64\n";
    let times = [("mine", Span::from_secs(400))];
    let options = Options { accelerator_time: &times, workload: Some(2), ..Options::default() };
    let trace = read(by_name("sia").unwrap(), text, options).unwrap();
    assert_eq!(trace.jobs.len(), 1);
    assert_eq!(trace.jobs[0].length(), Some(Span::from_secs(100)));
    assert_eq!(trace.extra(&trace.jobs[0]).unwrap().elastic, Some(Elastic { least: 1, most: 64 }));
    assert_eq!(trace.label(&trace.jobs[0]), "b");
    assert_eq!(error("sia", text), "f.csv:3: `application` is `mine`, expected one whose accelerator time is known");
}

#[test]
fn deadlines_and_times_on_classes_are_beside_the_job() {
    let trace = of(
        "pai-deadlines",
        "job_id,submit_s,deadline_s,runtime_a100_s,runtime_gtx2080ti_s,runtime_v100_s\nx,0,inf,10,26,15\ny,0,99.5,1,2,3\n",
    );
    assert_eq!(trace.cluster.accelerators(), 45);
    assert_eq!(trace.length_on(&trace.jobs[0], 1), Some(Span::from_secs(26)));
    assert_eq!(trace.jobs[0].length(), Some(Span::from_secs(10)));
    assert_eq!(trace.extra(&trace.jobs[1]).unwrap().deadline, Some(SimTime(99_500_000_000)));
    assert_eq!(trace.label(&trace.jobs[1]), "y");
}

#[test]
fn openb_joins_its_two_files() {
    let pods = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time\n\
                p,1000,2048,1,460,G2|H9,LS,Running,5,105,25\nq,1000,2048,0,,,BE,Failed,0,,\n";
    let nodes = "sn,cpu_milli,memory_mib,gpu,model\na,64000,262144,2,P100\nb,96000,393216,8,G2\nc,96000,393216,8,G2\n";
    let options = Options { nodes: Some(nodes), ..Options::default() };
    let trace = read(by_name("openb").unwrap(), pods, options).unwrap();
    assert_eq!((trace.cluster.count(), trace.cluster.accelerators(), trace.cluster.nodes.len()), (3, 18, 2));
    let [first, second] = [&trace.jobs[0], &trace.jobs[1]];
    assert_eq!((trace.label(first), first.length()), ("q".to_owned(), None));
    assert_eq!((second.gang.per_rank_milli, second.gang.classes), (460, (1 << 1) | (1 << 31)));
    assert_eq!((second.length(), second.submit), (Some(Span::from_secs(80)), SimTime(5_000_000_000)));
    let bad = Options { nodes: Some("sn,cpu_milli,memory_mib,gpu,model\na,64000,262144,x,P100\n"), ..options };
    let error = read(by_name("openb").unwrap(), pods, bad).unwrap_err().to_string();
    assert!(
        error.ends_with("line 2 of the list of nodes: `gpu` is `x`, expected a whole number up to 1024"),
        "{error}"
    );
    assert_eq!(of("openb-nodes", nodes).cluster, trace.cluster);
}

#[test]
fn swf_takes_its_cluster_from_comments_and_minus_one_for_missing() {
    let trace = of("swf", SWF);
    assert_eq!((trace.cluster.count(), trace.cluster.accelerators()), (10, 40));
    assert_eq!(trace.jobs.len(), 2);
    let [first, last] = [&trace.jobs[0], &trace.jobs[1]];
    assert_eq!((first.gang.ranks, first.gang.per_rank_milli, first.gang.memory_mib), (2, 3000, 3));
    assert_eq!((first.limit(), first.fate), (Some(Span::from_secs(200)), Fate::Completed));
    assert_eq!((last.length(), last.limit(), last.fate), (Some(Span::from_millis(500)), None, Fate::Failed));
    assert_eq!(trace.queues.get(last.queue), Some("all"));
    assert!(trace.notes.iter().any(|note| note.starts_with("1 rows without processors")));
    assert_eq!(error("swf", "1 2 3\n"), "f.csv:1: there are 3 cells, expected 18");
}

#[test]
fn sacct_starts_its_clock_at_the_first_submission_and_leaves_steps_out() {
    let trace = of("sacct", SACCT);
    let labels: Vec<String> = trace.jobs.iter().map(|job| trace.label(job)).collect();
    assert_eq!(labels, ["9_[3-7]", "12"]);
    let job = &trace.jobs[1];
    assert_eq!((job.submit, job.length()), (SimTime(10_000_000_000), Some(Span::from_secs(3600))));
    assert_eq!(job.gang, Gang { ranks: 2, per_rank_milli: 8000, cpu_milli: 64_000, memory_mib: 524_288, classes: 1 });
    assert_eq!((job.limit(), job.fate), (Some(Span::from_secs(86_400)), Fate::Completed));
    assert_eq!((trace.jobs[0].length(), trace.jobs[0].fate), (None, Fate::Cancelled));
    assert_eq!(trace.epoch, Some(SimTime(1_767_225_600_000_000_000)));
    assert_eq!(trace.cluster.classes, ["h100"]);
}

#[test]
fn lists_of_nodes_are_clusters_without_jobs() {
    let trace = of("pai2020-machines", "machine,gpu_type,cap_cpu,cap_mem_gb,cap_gpu\na,CPU,96,512,0\nb,T4,96,512,2\n");
    assert_eq!((trace.cluster.count(), trace.cluster.accelerators(), trace.jobs.len()), (2, 2, 0));
    assert_eq!((trace.cluster.nodes[0].class, trace.cluster.nodes[1].memory_mib), (None, 524_288));
    let trace = of("spot2026-nodes", "gpu_model,gpu_capacity_num,cpu_num,node_name\nA10,1,128,2\nA10,1,128,3\n");
    assert_eq!((trace.cluster.nodes.len(), trace.cluster.nodes[0].count), (1, 2));
}

#[test]
fn instances_of_services_have_their_cap_and_their_window() {
    let trace = of(
        "dlrm2025",
        "instance_sn,role,app_name,cpu_request,gpu_request,rdma_request,memory_request,disk_request,max_instance_per_node,creation_time,scheduled_time,deletion_time\n\
         i,HN,app,12,1,25,120.0,640.0,8,,,\nj,CN,app,96,0,1,480.0,425.0,-1,10.0,12.0,20.0\n",
    );
    assert_eq!(trace.extra(&trace.jobs[0]).unwrap().per_node_max, Some(8));
    assert_eq!((trace.jobs[0].length(), trace.extra(&trace.jobs[1])), (None, None));
    assert_eq!(trace.jobs[1].length(), Some(Span::from_secs(8)));
    assert_eq!(trace.jobs[1].gang.memory_mib, 491_520);
}

#[test]
fn a_bad_line_is_named_with_file_column_and_reason() {
    let head = "job_id,submit_s,duration_s,gpus,vc\n";
    let cases = [
        ("1,0,1,8\n", "f.csv:2: there are 4 cells, expected 5"),
        ("1,0,1,x,\n", "f.csv:2: `gpus` is `x`, expected a whole number up to 1000000"),
        ("1,-5,1,1,\n", "f.csv:2: `submit_s` is `-5`, expected seconds from 0 to 4294967295"),
        ("1,0,1e10,1,\n", "f.csv:2: `duration_s` is `1e10`, expected seconds from 0 to 4294967295"),
        ("1,0,1,2.5,\n", "f.csv:2: `gpus` is `2.5`, expected a whole number up to 1000000"),
        ("1,0,\"1,1,\n", "f.csv:2: a quoted cell does not end before the next separator"),
        ("", "f.csv:1: there are no rows"),
    ];
    for (rows, want) in cases {
        assert_eq!(error("philly", &format!("{head}{rows}")), want);
    }
    assert_eq!(error("philly", "a,b\n"), "f.csv:1: there is no column `job_id`");
}

#[test]
fn every_format_knows_its_own_head_and_no_other_does() {
    for text in [PHILLY, SWF, SACCT, "job_id,submit_s,duration_s,gpus\n", "sn,cpu_milli,memory_mib,gpu,model\n"] {
        let format = sniff(text, "f").unwrap();
        let head = text.lines().find(|line| !line.starts_with(';')).unwrap();
        let known: Vec<&str> = FORMATS.iter().filter(|format| format.sniff(head)).map(|format| format.name()).collect();
        assert_eq!(known, [format.name()]);
    }
    assert_eq!(sniff("a,b\n", "f").unwrap_err().to_string(), "f:1: no known format begins like this");
    let names: std::collections::BTreeSet<&str> = FORMATS.iter().map(|format| format.name()).collect();
    assert_eq!(names.len(), FORMATS.len());
}

#[test]
fn a_stream_gives_the_same_jobs_as_the_whole() {
    let mut lines = Lines::new(by_name("philly").unwrap(), Options::default());
    let jobs: Vec<TraceJob> =
        PHILLY.lines().filter_map(|line| lines.line(line).unwrap()).map(|entry| entry.job).collect();
    assert_eq!(jobs, of("philly", PHILLY).jobs);
    assert_eq!(lines.rows(), 3);
}

proptest! {
    /// Cells that are nearly right find more than bytes that are not: mix both.
    #[test]
    fn no_text_makes_a_reader_panic(
        format in 0..FORMATS.len(),
        cells in prop::collection::vec(prop_oneof![
            Just(String::new()), Just("-1".to_owned()), Just("1".to_owned()), Just("1.5".to_owned()), Just("inf".to_owned()),
            Just("18446744073709551615".to_owned()), Just("4294967295".to_owned()), Just("1000000".to_owned()),
            Just("2026-01-01T00:00:00".to_owned()), Just("cpu=9,gres/gpu=7,node=3,mem=9P".to_owned()), Just("\"".to_owned()),
            "[ -~\\n\\r,|;é]{0,12}",
        ], 0..40),
    ) {
        let format = FORMATS[format];
        let head = match format.name() {
            "philly" => "job_id,submit_s,duration_s,gpus,vc",
            "muri" => "job_id,submit_s,duration_s,gpus,model,iterations,iter_ms,res_gpu_ms,res_io_ms,res_other_ms,priority",
            "sia" => "workload,name,submit_s,application,num_replicas,batch_size",
            "crux" => "job_id,submit_s,duration_s,gpus",
            "pai-deadlines" => "job_id,submit_s,deadline_s,runtime_a100_s,runtime_gtx2080ti_s,runtime_v100_s",
            "openb" => "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time",
            "openb-nodes" => "sn,cpu_milli,memory_mib,gpu,model",
            "dlrm2025" => "instance_sn,role,app_name,cpu_request,gpu_request,rdma_request,memory_request,disk_request,max_instance_per_node,creation_time,scheduled_time,deletion_time",
            "pai2020-machines" => "machine,gpu_type,cap_cpu,cap_mem_gb,cap_gpu",
            "spot2026-nodes" => "gpu_model,gpu_capacity_num,cpu_num,node_name",
            "sacct" => "JobID|Submit|Start|End|AllocTRES|ReqTRES|NNodes|Partition|User|State|Timelimit",
            _ => "",
        };
        let (separator, columns) = match format.shape() {
            Shape::Csv => (",", head.split(',').count()),
            Shape::Bars => ("|", head.split('|').count()),
            Shape::Words => (" ", 18),
        };
        let mut text = format!("{head}\n");
        for row in cells.chunks(columns) {
            text.push_str(&row.join(separator));
            text.push('\n');
        }
        // Whatever comes of it, an error has a line that exists.
        for text in [text.clone(), cells.concat()] {
            match read(format, &text, Options { nodes: Some(&text), ..Options::default() }) {
                Ok(trace) => prop_assert!(trace.jobs.iter().all(|job| job.gang.ranks > 0)),
                Err(error) => prop_assert!(error.line <= u64::try_from(text.lines().count()).unwrap().max(1)),
            }
            prop_assert!(Throughputs::read(&text, "t").is_err() || text.contains("steps_per_s"));
        }
    }
}
