//! The head of the page, and the figures of the run with what they mean.

use dh_units::{Grams, Seconds, significant};

use super::Page;
use super::markup::{Column, at, count, escape, percent, table};
use crate::comparison::Unit;
use crate::measure::{Outcome, Times};

/// What was simulated, and its main numbers.
pub(crate) fn head(page: &Page<'_>) -> String {
    let mut text = format!(
        "<header class=\"top\"><p class=\"kind\">Simulated hall</p><h1>{}</h1><p class=\"lead\">{}</p><dl class=\"facts\">",
        escape(page.title),
        escape(page.lead)
    );
    for (term, what) in page.facts {
        put!(text, "<div><dt>{}</dt><dd>{}</dd></div>", escape(term), escape(what));
    }
    text.push_str("</dl><ul class=\"tiles\">");
    for (value, name) in tiles(page.outcome) {
        put!(text, "<li><b>{}</b><span>{name}</span></li>", escape(value));
    }
    text.push_str("</ul></header>\n");
    text
}

fn seconds(value: f64) -> String {
    Seconds(value).to_string()
}

fn tiles(run: &Outcome) -> Vec<(String, &'static str)> {
    let mut tiles = Vec::new();
    let mut add = |value: Option<String>, name| tiles.extend(value.map(|value| (value, name)));
    add(run.jct.map(|jct| count(jct.count)), "jobs over");
    add(run.jct.map(|jct| seconds(jct.mean_s)), "JCT, mean");
    add(run.jct.map(|jct| seconds(jct.p99_s)), "JCT, p99");
    add(run.queueing.map(|queueing| seconds(queueing.mean_s)), "queueing, mean");
    add(run.jct.map(|_| seconds(run.makespan_s)), "makespan");
    add(run.utilisation.map(percent), "utilisation");
    add(run.goodput.map(percent), "goodput");
    add(run.fairness.map(|fairness| significant(fairness.ratio.max)), "worst finish-time fairness");
    add(run.energy.map(|energy| Unit::Mwh.show(energy.facility_mwh)), "energy");
    add(run.cost.map(|cost| Unit::Usd.show(cost.total_usd)), "cost");
    tiles
}

type Rows = Vec<Vec<String>>;

fn row(rows: &mut Rows, name: &str, value: Option<String>, meaning: &str) {
    rows.extend(value.map(|value| vec![name.to_owned(), value, meaning.to_owned()]));
}

pub(crate) fn section(page: &Page<'_>) -> Option<String> {
    let run = page.outcome;
    if run.jobs.submitted == 0 && run.accelerator_hours.installed <= 0.0 {
        return None;
    }
    let columns = [Column::Words("figure"), Column::Numbers("value"), Column::Words("what it is")];
    let mut text = String::from("<div class=\"two means\"><div>");
    text.push_str(&times(run));
    text.push_str(&table("Jobs", &columns, &jobs(run)));
    text.push_str("</div><div>");
    text.push_str(&table("Accelerators", &columns, &accelerators(run)));
    text.push_str(&table("Energy and money", &columns, &money(run)));
    text.push_str("</div></div>");
    text.push_str(&spent(run));
    Some(text)
}

/// How long things took, beside each other.
fn times(run: &Outcome) -> String {
    let columns = ["time of a job", "mean", "median", "p90", "p99", "longest"];
    let columns: Vec<Column<'_>> = columns
        .iter()
        .enumerate()
        .map(|(place, name)| if place == 0 { Column::Words(name) } else { Column::Numbers(name) })
        .collect();
    let row = |name: &str, times: Option<Times>| {
        let times = times?;
        let values = [times.mean_s, times.p50_s, times.p90_s, times.p99_s, times.max_s].map(seconds);
        Some([name.to_owned()].into_iter().chain(values).collect::<Vec<String>>())
    };
    let rows: Rows = [row("completion (JCT)", run.jct), row("queueing", run.queueing)].into_iter().flatten().collect();
    table("How long jobs took", &columns, &rows)
}

fn jobs(run: &Outcome) -> Rows {
    let mut rows = Rows::new();
    let jobs = &run.jobs;
    row(&mut rows, "Submitted", Some(count(jobs.submitted)), "in the time that counts");
    row(&mut rows, "Completed", Some(count(jobs.completed)), "did all their work");
    for (name, number, meaning) in [
        ("Failed", jobs.failed, "by themselves"),
        ("Cancelled", jobs.cancelled, "by somebody"),
        ("Rejected", jobs.rejected, "can never run here"),
        ("Unfinished", jobs.unfinished, "not over when the run was"),
    ] {
        row(&mut rows, name, (number > 0).then(|| count(number)), meaning);
    }
    let stops = &run.stops;
    row(&mut rows, "Preemptions", Some(count(stops.preemptions)), "gangs that made way for others");
    row(&mut rows, "Evictions", Some(count(stops.evictions)), "gangs that lost a node");
    row(&mut rows, "Restarts", Some(count(stops.restarts)), "starts after the first");
    row(&mut rows, "Waiting, all attempts", run.waiting_mean_s.map(seconds), "mean of jobs that started");
    let slowdown = run.slowdown.map(|slowdown| significant(slowdown.mean));
    row(&mut rows, "Bounded slowdown", slowdown, "mean of JCT over length, at least 10 s");
    if let Some(fairness) = run.fairness {
        let meaning = "JCT over JCT alone on a 1/n share";
        row(&mut rows, "Finish-time fairness, p99", Some(significant(fairness.ratio.p99)), meaning);
        row(
            &mut rows,
            "Finish-time fairness, worst",
            Some(significant(fairness.ratio.max)),
            "the largest of these ratios",
        );
        row(&mut rows, "Slower than on their share", Some(percent(fairness.unfair_share)), "jobs with a ratio above 1");
    }
    let pending = &run.pending;
    row(&mut rows, "Pending jobs", Some(significant(pending.mean)), "mean over time");
    row(&mut rows, "Pending jobs, most", Some(count(pending.max)), "at once");
    rows
}

fn accelerators(run: &Outcome) -> Rows {
    let mut rows = Rows::new();
    row(&mut rows, "Utilisation", run.utilisation.map(percent), "time that ran work, of that in service");
    row(&mut rows, "Allocation", run.allocation.map(percent), "time held by gangs, of that installed");
    row(&mut rows, "Goodput", run.goodput.map(percent), "time of work that counts, of that in service");
    row(&mut rows, "ETTR", run.ettr.map(percent), "time of work that counts, of that held");
    let meaning = "free, of no use to the expected jobs, of that installed";
    row(&mut rows, "Fragmentation", run.fragmentation.map(percent), meaning);
    row(&mut rows, "Makespan", run.jct.map(|_| seconds(run.makespan_s)), "first submission to last end");
    row(&mut rows, "Time that counts", Some(seconds(run.counted_s)), "without warm-up and cool-down");
    rows
}

fn money(run: &Outcome) -> Rows {
    let mut rows = Rows::new();
    if let Some(energy) = run.energy {
        row(&mut rows, "Energy", Some(Unit::Mwh.show(energy.facility_mwh)), "of the whole hall");
        row(&mut rows, "Energy, IT", Some(Unit::Mwh.show(energy.it_mwh)), "of machines and networks");
        row(&mut rows, "PUE", energy.pue.map(significant), "the one over the other");
        row(&mut rows, "Peak power", Some(dh_units::Watts(energy.peak_kw * 1_000.0).to_string()), "of the whole hall");
        let useful = energy.kwh_per_useful_accelerator_hour.map(|kwh| format!("{} kWh", significant(kwh)));
        row(&mut rows, "Energy of a useful accelerator-hour", useful, "with all that was idle and lost");
        let carbon = energy.carbon_kg.map(|carbon| Grams(carbon * 1_000.0).to_string());
        row(&mut rows, "Carbon", carbon, "of the electricity, when it was used");
    }
    if let Some(cost) = run.cost {
        let usd = |usd: f64| Unit::Usd.show(usd);
        row(&mut rows, "Cost", Some(usd(cost.total_usd)), "what is known of energy and capital");
        row(&mut rows, "Cost of energy", cost.energy_usd.map(usd), "at the price when it was used");
        row(&mut rows, "Cost of the hall", cost.capital_usd.map(usd), "by the hour, used or not");
        row(&mut rows, "Cost of a useful accelerator-hour", cost.usd_per_useful_accelerator_hour.map(usd), "all of it");
    }
    rows
}

/// Where the time of accelerators went, as a bar with its table.
fn spent(run: &Outcome) -> String {
    let hours = &run.accelerator_hours;
    if hours.installed <= 0.0 {
        return String::new();
    }
    let parts = [
        ("useful work", hours.useful, "c2"),
        ("work done again", hours.lost, "c3"),
        ("writing checkpoints", hours.checkpoints, "c4"),
        ("starting and loading", hours.starting, "c5"),
        ("idle", hours.idle, "rest"),
        ("asleep", hours.asleep, "sleep"),
        ("down", hours.down, "bad"),
    ];
    let mut text =
        String::from("<h3>Where the time of the accelerators went</h3><div class=\"stack\" aria-hidden=\"true\">");
    let mut legend = String::from("<ul class=\"legend\">");
    for (name, part, class) in parts.into_iter().filter(|(_, part, _)| *part > 0.0) {
        let share = part / hours.installed;
        put!(text, "<i class=\"f-{class}\" style=\"width:{}%\" title=\"{name}\"></i>", at(share.min(1.0) * 100.0));
        let amount = Unit::Count.show(part);
        put!(legend, "<li><i class=\"f-{class}\"></i>{name}: {} ({amount} h)</li>", percent(share));
    }
    text + "</div>" + &legend + "</ul>\n"
}
