//! No text makes a reader panic: bytes by chance, and rows that are nearly right.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use dh_twin::curve::{Curve, Of};
use dh_twin::trace::{
    FORMATS, Lines, Options, Requests, Summary, Throughputs, images, intervals, rates, read, slices, sniff,
};
use proptest::prelude::*;

const HEADS: [&str; 7] = [
    "t_s,input_tokens,output_tokens,prefix_block_ids",
    "model,client,window_start_s,req_per_s,interarrival_cv",
    "gmt_create,predict_status,exec_time_seconds,prompt_length,num_images_per_prompt,num_inference_steps,checkpoint_model_version_id,num_lora",
    "topology,shape,prob_pct",
    "iat_s,prob_pct",
    "gpu,job,colocated_with,steps_per_s,steps_per_s_colocated",
    "seconds,value",
];

/// Everything that reads text, whatever comes of it; how many rows were understood.
fn all(text: &str) -> usize {
    let mut rows = 0;
    rows += Requests::new(text, "f").map_or(0, |all| all.flatten().count());
    rows +=
        Requests::new(text, "f").and_then(Summary::of).map_or(0, |summary| usize::try_from(summary.requests).unwrap());
    rows += rates(text, "f").map_or(0, |all| all.flatten().count());
    rows += images(text, "f").map_or(0, |all| all.flatten().count());
    rows += slices(text, "f").map_or(0, |all| all.len());
    rows += intervals(text, "f").map_or(0, |all| all.len());
    rows += Throughputs::read(text, "f").map_or(0, |table| table.rows());
    rows += usize::from(Curve::read(Of::Celsius, text, "f", None).is_ok());
    rows +=
        sniff(text, "f").map_or(0, |format| read(format, text, Options::default()).map_or(0, |trace| trace.jobs.len()));
    for format in FORMATS {
        let mut lines = Lines::new(*format, Options::default());
        // A caller may go on after a bad line.
        rows += text.lines().filter(|line| lines.line(line).is_ok_and(|entry| entry.is_some())).count();
    }
    rows
}

fn cell() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("0".to_owned()),
        Just("1.5e3".to_owned()),
        Just("4294967295".to_owned()),
        Just("18446744073709551615".to_owned()),
        Just("4x4x8".to_owned()),
        Just("torus".to_owned()),
        Just("\"('A', 1)\"".to_owned()),
        Just("2024-12-31 23:59:59".to_owned()),
        Just("1 2 99999999999999999999".to_owned()),
        "\\PC{0,8}",
    ]
}

proptest! {
    #[test]
    fn bytes_by_chance(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        all(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn rows_that_are_nearly_right(head in 0..HEADS.len(), cells in prop::collection::vec(cell(), 0..40)) {
        let mut text = HEADS[head].to_owned();
        for row in cells.chunks(HEADS[head].split(',').count()) {
            text.push('\n');
            text.push_str(&row.join(","));
        }
        all(&text);
    }
}

#[test]
fn a_row_that_is_right_is_understood() {
    let rows = [
        "0,1,2,3 4",
        "m,1,0,1.5,1",
        "2024-12-31 23:59:59,SUCCEED,1,,1,1,m,0",
        "torus,4x4x8,1",
        "5,1",
        "k80,\"('A', 1)\",,1,",
        "0,5",
    ];
    for (head, row) in HEADS.iter().zip(rows) {
        assert!(all(&format!("{head}\n{row}\n")) > 0, "{row}");
    }
}
