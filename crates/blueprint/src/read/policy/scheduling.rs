//! Keys of `[policy]` that say how jobs are scheduled: policies by name, and the limits that go with them.
//!
//! Simulated and live halls are told exactly this. The words are the names of the policies; what each does is printed by
//! `datahall simulate --help` and in the documentation of the policies, which live in a layer above this one: a test there
//! compares the two lists.

use dh_units::Seconds;
use serde::{Deserialize, Serialize};

use crate::codes::Code;
use crate::docs::Doc;
use crate::section::Section;
use crate::write::Writer;

/// Orders of waiting jobs, the default first.
pub const ORDERS: &[&str] = &[
    "fifo",
    "shortest-remaining",
    "shortest-remaining-service",
    "least-attained",
    "gittins",
    "expected-service",
    "deadline",
    "multifactor",
];

/// Placements of gangs; `best` is the recommended one, and the default.
pub const PLACEMENTS: &[&str] = &["best", "topology", "best-fit", "data-local", "energy", "heterogeneity"];

/// Reservations where conservative backfill does not say how many.
pub const RESERVATIONS: u32 = 16;

/// Where jobs interleave and nothing else is said, all are arranged anew once in a minute at most: as long as a job runs at
/// least before another displaces it.
pub const ROUND: Seconds = Seconds(MINUTE);

/// After a week usage counts half: what was used last month does not decide today.
pub const HALF_LIFE: Seconds = Seconds(7.0 * DAY);

const MINUTE: f64 = 60.0;
const HOUR: f64 = 3_600.0;
const DAY: f64 = 86_400.0;

/// How jobs are scheduled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scheduling {
    /// A word of [`ORDERS`].
    pub order: String,
    /// A word of [`PLACEMENTS`].
    pub placement: String,
    /// What may run before a job that is ahead in the line and does not fit.
    pub backfill: Backfill,
    /// How capacity is divided among queues.
    pub sharing: Sharing,
    /// How long a job runs at least before one that is ahead in the order alone may displace it.
    pub quantum: Seconds,
    /// How long freed capacity belongs to the job for which others were stopped.
    pub claim: Seconds,
    /// How long a gang that lost ranks keeps its other nodes while it waits for a repair.
    pub repair: Seconds,
    /// An elastic gang is not resized more often than this.
    pub grow_after: Seconds,
    /// A job that has waited this long is not overtaken any more.
    pub patience: Option<Seconds>,
    /// A node that has been idle this long is sent to sleep.
    pub sleep_after: Option<Seconds>,
    /// All jobs are arranged anew in place of one displacement after another, no more often than this.
    pub rounds: Option<Seconds>,
    /// Whether jobs whose stages interleave share accelerators, in rounds.
    pub interleave: bool,
    /// How often plans of moves are made; those that pay are carried out.
    pub moves: Option<Seconds>,
    /// How lengths that nobody told are predicted, if they are.
    pub predict: Option<Predict>,
    /// The bound on how far the order may set a job back, if there is one.
    pub stretch: Option<Stretch>,
    /// When a node is kept away on evidence.
    pub health: Health,
}

/// What may run before a job that is ahead in the line and does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backfill {
    /// Nothing.
    None,
    /// Whatever fits: large jobs may starve.
    Any,
    /// Whatever does not delay the first of those that wait.
    Easy,
    /// Whatever delays none of the first so many that wait.
    Conservative {
        /// How many.
        reservations: u32,
    },
}

impl Backfill {
    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Any => "any",
            Self::Easy => "easy",
            Self::Conservative { .. } => "conservative",
        }
    }

    /// Every kind by its word; the default number of reservations.
    pub const ALL: &[(&str, Self)] = &[
        ("none", Self::None),
        ("any", Self::Any),
        ("easy", Self::Easy),
        ("conservative", Self::Conservative { reservations: RESERVATIONS }),
    ];
}

/// How capacity is divided among queues.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// All jobs stand in one line.
    OneLine,
    /// Each queue has its line; the one that has and had least of its share goes first.
    Fair {
        /// After this time usage counts half.
        half_life: Seconds,
    },
}

/// How lengths that nobody told are predicted: from jobs that are alike and ended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Predict {
    /// What a prediction is good for.
    pub good_for: GoodFor,
    /// The share of such jobs that are no longer than the answer; none asks for the best time of service per end.
    pub quantile: Option<f64>,
    /// Fewer jobs than this give no answer.
    pub samples_min: u32,
    /// So many are remembered well.
    pub samples_kept: u32,
}

/// What a prediction is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoodFor {
    /// The order of the line.
    Order,
    /// Reservations too.
    Plans,
}

const GOOD_FOR: &[(&str, GoodFor)] = &[("order", GoodFor::Order), ("plans", GoodFor::Plans)];

/// The bound on how far the order may set a job back, as times its own length.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stretch {
    /// A job goes first once it has waited this many times what it ran.
    pub due: f64,
    /// It does so no more when that is down to this.
    pub released: f64,
    /// Shorter jobs count as this long.
    pub floor: Seconds,
}

/// When a node is kept away on evidence.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// After this time a failure counts half.
    pub half_life: Seconds,
    /// So many failures, as they count, keep a node away.
    pub limit: f64,
    /// For how long, the first time.
    pub probation: Seconds,
}

impl Default for Scheduling {
    /// First in first out, topology packing, backfill with one reservation.
    fn default() -> Self {
        Self {
            order: "fifo".to_owned(),
            placement: "best".to_owned(),
            backfill: Backfill::Easy,
            sharing: Sharing::OneLine,
            quantum: Seconds(MINUTE),
            claim: Seconds(10.0 * MINUTE),
            repair: Seconds(30.0 * MINUTE),
            grow_after: Seconds(10.0 * MINUTE),
            patience: None,
            sleep_after: None,
            rounds: None,
            interleave: false,
            moves: None,
            predict: None,
            stretch: None,
            health: Health::default(),
        }
    }
}

impl Default for Predict {
    /// For the order alone, by the median of ten jobs or more.
    fn default() -> Self {
        Self { good_for: GoodFor::Order, quantile: Some(0.5), samples_min: 10, samples_kept: 500 }
    }
}

impl Default for Stretch {
    /// A finish time of 2.8 times the fair one at most.
    fn default() -> Self {
        Self { due: 1.8, released: 1.0, floor: Seconds(MINUTE) }
    }
}

impl Default for Health {
    /// Two failures within about a week keep a node away for six hours.
    fn default() -> Self {
        Self { half_life: Seconds(7.0 * DAY), limit: 1.5, probation: Seconds(6.0 * HOUR) }
    }
}

pub(crate) const PREDICT_DOC: Doc = Doc {
    pattern: "policy.predict",
    about: "Lengths that nobody told are predicted from jobs that are alike and ended.",
    keys: &[
        ("good_for", "What a prediction is good for: the order of the line, or plans (reservations) too."),
        (
            "quantile",
            "The share of such jobs that are no longer than the answer; 0 asks for the time of service per job that ends, which suits lengths that vary much.",
        ),
        ("samples_min", "Fewer jobs than this give no answer."),
        ("samples_kept", "So many jobs are remembered well; older ones count less."),
    ],
};

pub(crate) const STRETCH_DOC: Doc = Doc {
    pattern: "policy.stretch",
    about: "A bound on how far the order may set a job back.",
    keys: &[
        ("due", "A job goes first once it has waited this many times what it ran, on the clock of fair time."),
        ("released", "It does so no more when that is down to this; less than `due`."),
        ("floor", "Shorter jobs count as this long."),
    ],
};

pub(crate) const HEALTH_DOC: Doc = Doc {
    pattern: "policy.health",
    about: "When a node that works is kept away, because of what it did before.",
    keys: &[
        ("half_life", "After this time a failure counts half."),
        ("limit", "So many failures, as they count, keep a node away."),
        ("probation", "For how long, the first time; twice as long each time that follows at once."),
    ],
};

pub(super) fn read(section: &Section<'_>) -> Scheduling {
    let ordinary = Scheduling::default();
    let order = name(section, "order", ORDERS);
    let placement = name(section, "placement", PLACEMENTS);
    let time = |key| section.positive(key, Seconds(0.0)).map(|time| time.value);
    let bound = |key| section.bound(key, Seconds(0.0)).map(|time| time.value);
    let interleave = section.boolean("interleave").is_some_and(|flag| flag.value);
    let rounds = bound("rounds").or(interleave.then_some(ROUND));
    Scheduling {
        order: order.unwrap_or(ordinary.order),
        placement: placement.unwrap_or(ordinary.placement),
        backfill: backfill(section),
        sharing: sharing(section),
        quantum: section.quantity("quantum").map_or(ordinary.quantum, |time| time.value),
        claim: time("claim").unwrap_or(ordinary.claim),
        repair: time("repair").unwrap_or(ordinary.repair),
        grow_after: time("grow_after").unwrap_or(ordinary.grow_after),
        patience: bound("patience"),
        sleep_after: bound("sleep_after"),
        rounds,
        interleave,
        moves: bound("moves"),
        predict: section.table("predict").map(|table| predict(&table)),
        stretch: section.table("stretch").map(|table| stretch(&table)),
        health: section.table("health").map_or(ordinary.health, |table| health(&table)),
    }
}

/// One of a list of names.
fn name<'a>(section: &Section<'a>, key: &'a str, known: &'static [&'static str]) -> Option<String> {
    let words: Vec<(&str, &str)> = known.iter().map(|word| (*word, *word)).collect();
    section.word(key, &words).map(|word| word.value.to_owned())
}

/// A number of reservations alone means conservative.
fn backfill(section: &Section<'_>) -> Backfill {
    let backfill = section.word("backfill", Backfill::ALL).map(|word| word.value);
    // More than a thousand jobs ahead say nothing about tomorrow, and each is planned anew as jobs end.
    let reservations = section.integer("reservations", 1..=1_000).map(|count| count.value);
    match (backfill, reservations) {
        (None | Some(Backfill::Conservative { .. }), Some(reservations)) => Backfill::Conservative { reservations },
        (None, None) => Backfill::Easy,
        (Some(backfill @ Backfill::Conservative { .. }), None) => backfill,
        (Some(backfill @ (Backfill::None | Backfill::Any | Backfill::Easy)), _) => {
            elsewhere(section, "reservations", "belongs to `backfill = \"conservative\"`");
            backfill
        }
    }
}

/// A half-life alone means fair.
fn sharing(section: &Section<'_>) -> Sharing {
    const WORDS: &[(&str, Sharing)] =
        &[("one-line", Sharing::OneLine), ("fair", Sharing::Fair { half_life: HALF_LIFE })];
    let sharing = section.word("sharing", WORDS).map(|word| word.value);
    let half_life = section.positive("half_life", Seconds(0.0)).map(|time| time.value);
    match (sharing, half_life) {
        (None | Some(Sharing::Fair { .. }), Some(half_life)) => Sharing::Fair { half_life },
        (None, None) => Sharing::OneLine,
        (Some(sharing @ Sharing::Fair { .. }), None) => sharing,
        (Some(Sharing::OneLine), _) => {
            elsewhere(section, "half_life", "belongs to `sharing = \"fair\"`");
            Sharing::OneLine
        }
    }
}

/// Reports `key` if the file itself writes it; what a base wrote for another policy cannot be taken away.
fn elsewhere(section: &Section<'_>, key: &str, why: &str) {
    if !section.has(key) || section.inherits(key) {
        return;
    }
    section.problems.add(Code::ELSEWHERE, &section.key_at(key), format!("`{key}` {why}"), None);
}

fn predict(section: &Section<'_>) -> Predict {
    let ordinary = Predict::default();
    let good_for = section.word("good_for", GOOD_FOR);
    let quantile = section.real("quantile", "a share from 0 to 1", |share| (0.0..=1.0).contains(&share));
    let samples_min = section.integer("samples_min", 1..=100_000);
    let samples_kept = section.integer("samples_kept", 1..=100_000);
    section.finish();
    Predict {
        good_for: good_for.map_or(ordinary.good_for, |word| word.value),
        quantile: quantile.map_or(ordinary.quantile, |share| Some(share.value).filter(|share| *share > 0.0)),
        samples_min: samples_min.map_or(ordinary.samples_min, |count| count.value),
        samples_kept: samples_kept.map_or(ordinary.samples_kept, |count| count.value),
    }
}

fn stretch(section: &Section<'_>) -> Stretch {
    let ordinary = Stretch::default();
    let times = |key| section.real(key, "a number from 0.1 to 1000", |times| (0.1..=1_000.0).contains(&times));
    let (due, released) = (times("due"), times("released"));
    let floor = section.positive("floor", Seconds(0.0));
    section.finish();
    let stretch = Stretch {
        due: due.as_ref().map_or(ordinary.due, |times| times.value),
        released: released.as_ref().map_or(ordinary.released, |times| times.value),
        floor: floor.map_or(ordinary.floor, |time| time.value),
    };
    if stretch.released >= stretch.due {
        let at = released.or(due).map_or(section.at.clone(), |spot| spot.at);
        let message = format!("`released` is {}, expected less than `due`, which is {}", stretch.released, stretch.due);
        section.problems.add(Code::OUT_OF_RANGE, &at, message, None);
    }
    stretch
}

fn health(section: &Section<'_>) -> Health {
    let ordinary = Health::default();
    let half_life = section.positive("half_life", Seconds(0.0));
    let limit = section.real("limit", "failures from 0.001 to 1000", |count| (0.001..=1_000.0).contains(&count));
    let probation = section.positive("probation", Seconds(0.0));
    section.finish();
    Health {
        half_life: half_life.map_or(ordinary.half_life, |time| time.value),
        limit: limit.map_or(ordinary.limit, |count| count.value),
        probation: probation.map_or(ordinary.probation, |time| time.value),
    }
}

/// The keys of `[policy]` itself.
pub(super) fn write(out: &mut Writer<'_>, scheduling: &Scheduling) {
    out.text("order", &scheduling.order);
    out.text("placement", &scheduling.placement);
    out.text("backfill", scheduling.backfill.word());
    if let Backfill::Conservative { reservations } = scheduling.backfill {
        out.integer("reservations", reservations);
    }
    match scheduling.sharing {
        Sharing::OneLine => out.text("sharing", "one-line"),
        Sharing::Fair { half_life } => {
            out.text("sharing", "fair");
            out.quantity("half_life", half_life);
        }
    }
    out.quantity("quantum", scheduling.quantum);
    out.quantity("claim", scheduling.claim);
    out.quantity("repair", scheduling.repair);
    out.quantity("grow_after", scheduling.grow_after);
    out.maybe_quantity("patience", scheduling.patience);
    out.maybe_quantity("sleep_after", scheduling.sleep_after);
    out.maybe_quantity("rounds", scheduling.rounds);
    out.boolean("interleave", scheduling.interleave);
    out.maybe_quantity("moves", scheduling.moves);
}

/// The tables inside it, which come after all its keys.
pub(super) fn write_tables(out: &mut Writer<'_>, scheduling: &Scheduling) {
    if let Some(predict) = &scheduling.predict {
        out.section("policy", "predict");
        let word =
            GOOD_FOR.iter().find(|(_, good_for)| *good_for == predict.good_for).map_or("order", |(word, _)| word);
        out.text("good_for", word);
        out.real("quantile", predict.quantile.unwrap_or(0.0));
        out.integer("samples_min", predict.samples_min);
        out.integer("samples_kept", predict.samples_kept);
    }
    if let Some(stretch) = &scheduling.stretch {
        out.section("policy", "stretch");
        out.real("due", stretch.due);
        out.real("released", stretch.released);
        out.quantity("floor", stretch.floor);
    }
    out.section("policy", "health");
    out.quantity("half_life", scheduling.health.half_life);
    out.real("limit", scheduling.health.limit);
    out.quantity("probation", scheduling.health.probation);
}
