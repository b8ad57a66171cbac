//! Rates of a production service by client and window, and requests of an image service.
//!
//! Both are iterators over the rows of a text. Sources: Xiang et al. 2025, "`ServeGen`" (rates with the coefficient of variation
//! of the gaps between requests); alibaba/clusterdata, cluster-trace-v2026-`GenAI` (diffusion with adapters).

use dh_core::time::{SimTime, Span};

use super::requests::Rows;
use super::slurm::wall;
use super::{Column, Error, Fate, Fault, Row};

/// The rate of one client in one window, which lasts until its next or for [`WINDOW`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rate {
    /// The model.
    pub model: String,
    /// The client, a number within its model.
    pub client: u32,
    /// When the window begins.
    pub start: SimTime,
    /// Requests per million seconds.
    pub per_million_s: u64,
    /// Standard deviation of the gaps over their mean, in thousandths; 1000 is a Poisson stream.
    pub cv_milli: u32,
}

/// The length of a published window.
pub const WINDOW: Span = Span(600_000_000_000);

/// A request for images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRequest {
    /// When it came, as a wall clock without zone showed it, since 1970; the file is not sorted.
    pub at: SimTime,
    /// How it ended.
    pub fate: Fate,
    /// How long it ran.
    pub length: Option<Span>,
    /// Characters of the prompt.
    pub prompt: u32,
    /// Images.
    pub images: u32,
    /// Steps of each.
    pub steps: u32,
    /// The model.
    pub model: String,
    /// Adapters beside it.
    pub adapters: u32,
}

/// Numbers of one row, at most.
const COUNT_MAX: u32 = 100_000_000;
/// Requests per million seconds of one client, at most: a million a second.
const RATE_MAX: u64 = 1_000_000_000_000;

/// The rates of `text`; `file` is what errors call it.
/// # Errors
/// If the head lacks a column.
pub fn rates<'a>(text: &'a str, file: &'a str) -> Result<impl Iterator<Item = Result<Rate, Error>> + 'a, Error> {
    let columns = |head: &Row<'_>| -> Result<[Column; 5], Fault> {
        Ok([
            head.column("model")?,
            head.column("client")?,
            head.column("window_start_s")?,
            head.column("req_per_s")?,
            head.column("interarrival_cv")?,
        ])
    };
    let (mut rows, [model, client, start, rate, cv]) = Rows::new(text, file, columns)?;
    Ok(std::iter::from_fn(move || {
        rows.next(|row| {
            Ok(Rate {
                model: row.text(model).to_owned(),
                client: row.small(client, COUNT_MAX)?,
                start: row.moment(start)?,
                per_million_s: row.fixed(rate, 6, RATE_MAX)?,
                cv_milli: u32::try_from(row.fixed(cv, 3, u64::from(COUNT_MAX))?).unwrap_or(u32::MAX),
            })
        })
    }))
}

/// The requests for images of `text`; `file` is what errors call it.
/// # Errors
/// If the head lacks a column.
pub fn images<'a>(
    text: &'a str,
    file: &'a str,
) -> Result<impl Iterator<Item = Result<ImageRequest, Error>> + 'a, Error> {
    let columns = |head: &Row<'_>| -> Result<[Column; 8], Fault> {
        Ok([
            head.column("gmt_create")?,
            head.column("predict_status")?,
            head.column("exec_time_seconds")?,
            head.column("prompt_length")?,
            head.column("num_images_per_prompt")?,
            head.column("num_inference_steps")?,
            head.column("checkpoint_model_version_id")?,
            head.column("num_lora")?,
        ])
    };
    let (mut rows, [at, status, length, prompt, images, steps, model, adapters]) = Rows::new(text, file, columns)?;
    Ok(std::iter::from_fn(move || {
        rows.next(|row| {
            let stamp = row.text(at);
            let count = |column| if row.text(column).is_empty() { Ok(0) } else { row.small(column, COUNT_MAX) };
            Ok(ImageRequest {
                at: wall(stamp).ok_or_else(|| Fault::cell("gmt_create", stamp, "2026-01-31 23:59:59"))?,
                fate: match row.text(status) {
                    "SUCCEED" => Fate::Completed,
                    "FAILED" => Fate::Failed,
                    _ => Fate::Unknown,
                },
                length: row.maybe_span(length)?,
                prompt: count(prompt)?,
                images: count(images)?,
                steps: count(steps)?,
                model: row.text(model).to_owned(),
                adapters: count(adapters)?,
            })
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_whole_numbers() {
        let text = "model,client,window_start_s,req_per_s,interarrival_cv\nm-large,3,600,0.2733,6.02\n";
        let all: Vec<Rate> = rates(text, "r").unwrap().collect::<Result<_, _>>().unwrap();
        let start = SimTime(600_000_000_000);
        let model = "m-large".to_owned();
        assert_eq!(all, [Rate { model, client: 3, start, per_million_s: 273_300, cv_milli: 6020 }]);
    }

    #[test]
    fn image_requests_carry_their_wall_clock() {
        let head = "gmt_create,predict_type,predict_status,exec_time_seconds,groupId,prompt_length,num_images_per_prompt,num_inference_steps,checkpoint_model_version_id,num_lora\n";
        let text = format!("{head}2024-11-15 16:57:50,TXT,SUCCEED,32.0,G0,63.0,1.0,30.0,M0,2\nx,,,,,,,,,\n");
        let mut all = images(&text, "r").unwrap();
        let first = all.next().unwrap().unwrap();
        assert_eq!((first.fate, first.length, first.adapters), (Fate::Completed, Some(Span::from_secs(32)), 2));
        assert_eq!(first.at, SimTime(1_731_689_870_000_000_000));
        assert_eq!(
            all.next().unwrap().unwrap_err().to_string(),
            "r:3: `gmt_create` is `x`, expected 2026-01-31 23:59:59"
        );
        assert!(all.next().is_none());
    }
}
