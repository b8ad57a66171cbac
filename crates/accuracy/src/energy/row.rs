//! One row of a file of energy measurements, and what its notes say in words.
//!
//! Columns: `id`, `source`, `url_or_repo`, `kind`, `model`, `params_b` (billions), `accelerator`, `n_accel`, `precision`,
//! `batch_or_concurrency`, `input_len` and `output_len` (tokens), `power_cap_w`, `avg_power_w_per_accel`,
//! `joules_per_token` (of output), `joules_per_request`, `total_mwh`, `gpu_hours`, `throughput_tokens_s` (of output, all
//! accelerators), `slowdown_vs_uncapped`, `notes`. An empty cell: the source does not say.

use serde::Deserialize;

use crate::Error;

/// One published measurement.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Row {
    pub id: String,
    pub source: String,
    pub url_or_repo: String,
    pub model: String,
    pub params_b: Option<f64>,
    pub accelerator: String,
    pub n_accel: Option<u32>,
    pub precision: String,
    pub batch_or_concurrency: Option<f64>,
    pub output_len: Option<f64>,
    pub power_cap_w: Option<f64>,
    pub avg_power_w_per_accel: Option<f64>,
    pub joules_per_token: Option<f64>,
    pub joules_per_request: Option<f64>,
    pub total_mwh: Option<f64>,
    pub throughput_tokens_s: Option<f64>,
    pub slowdown_vs_uncapped: Option<f64>,
    pub notes: String,
}

/// The rows of `text`.
pub(super) fn read(text: &str) -> Result<Vec<Row>, Error> {
    const NEEDED: [&str; 18] = [
        "id",
        "source",
        "url_or_repo",
        "model",
        "params_b",
        "accelerator",
        "n_accel",
        "precision",
        "batch_or_concurrency",
        "output_len",
        "power_cap_w",
        "avg_power_w_per_accel",
        "joules_per_token",
        "joules_per_request",
        "total_mwh",
        "throughput_tokens_s",
        "slowdown_vs_uncapped",
        "notes",
    ];
    let mut table = csv::Reader::from_reader(text.as_bytes());
    let headers = table.headers()?.clone();
    if let Some(missing) = NEEDED.into_iter().find(|needed| !headers.iter().any(|header| header == *needed)) {
        return Err(Error::Column(missing));
    }
    table.deserialize().map(|row| row.map_err(Error::from)).collect()
}

impl Row {
    /// The number that follows `words` in the notes.
    pub(super) fn noted(&self, words: &str) -> Option<f64> {
        self.notes.match_indices(words).find_map(|(at, _)| number(self.notes.get(at + words.len()..)?))
    }

    /// The word that follows `words` in the notes.
    pub(super) fn noted_word(&self, words: &str) -> Option<&str> {
        let rest = self.notes.split_once(words)?.1.trim_start();
        rest.split([';', ' ']).next().filter(|word| !word.is_empty())
    }

    /// The accelerator's name in the catalogue.
    pub(super) fn accelerator(&self) -> Option<&'static str> {
        // A V100 of 250 W is the PCI Express card; its limit is taken from the trace. A bare A100 is the 40 GB part, which
        // the same authors name in full in their later table.
        Some(match self.accelerator.as_str() {
            "H100-SXM-80GB" | "H100" => "h100-80gb-sxm",
            "B200-SXM" => "b200-sxm",
            "H200-SXM" | "H200-SXM-141GB" => "h200-141gb-sxm",
            "A100-SXM4-40GB" | "A100" => "a100-40gb-sxm",
            "A100-SXM4-80GB" => "a100-80gb-sxm",
            "A40" => "a40",
            "V100" => "v100-32gb",
            "P100" => "p100-16gb-pcie",
            "RTX6000" | "Quadro RTX 6000" | "RTX 6000" => "quadro-rtx-6000",
            "L40S" => "l40s",
            _ => return None,
        })
    }
}

/// The number at the start of `text`, spaces before it allowed.
fn number(text: &str) -> Option<f64> {
    let text = text.trim_start();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    text.get(..end)?.trim_end_matches('.').parse().ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A row with `notes` and nothing else.
    pub(in crate::energy) fn noted(notes: &str) -> Row {
        let text = format!(
            "id,source,url_or_repo,model,params_b,accelerator,n_accel,precision,batch_or_concurrency,output_len,power_cap_w,\
             avg_power_w_per_accel,joules_per_token,joules_per_request,total_mwh,throughput_tokens_s,slowdown_vs_uncapped,notes\n\
             x,,,,,,,,,,,,,,,,,\"{notes}\"\n"
        );
        read(&text).unwrap().remove(0)
    }

    #[test]
    fn notes_are_read_by_their_words() {
        let row = noted("task gpqa; active_params_b 3.5; TP1 EP8 DP2; median ITL ms 33.63; s/epoch 103.455; x");
        assert_eq!(row.noted("median ITL ms"), Some(33.63));
        assert_eq!((row.noted(" TP"), row.noted(" EP"), row.noted(" DP")), (Some(1.0), Some(8.0), Some(2.0)));
        assert_eq!(row.noted("active_params_b"), Some(3.5));
        assert_eq!(row.noted("TPOT s"), None);
        assert_eq!(row.noted_word("task"), Some("gpqa"));
    }

    #[test]
    fn a_column_that_is_missing_is_named() {
        assert_eq!(read("id,source\n").map(|_| ()), Err(Error::Column("url_or_repo")));
        assert!(matches!(read(""), Err(Error::Column("id"))));
    }
}
