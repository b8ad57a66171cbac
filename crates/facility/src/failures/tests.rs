//! The outlook of a hall: its numbers agree with the models they come from, and each can be followed down to its source.

use super::*;

fn question(rates: &Rates) -> Question<'_> {
    Question {
        rates,
        hall: LLAMA_POPULATION,
        duration: Seconds(54.0 * 86_400.0),
        state: Bytes(6_480_000_000_000),
        bandwidth: BytesPerSec(2e12),
        restart: Seconds(360.0),
        repair: Seconds(2.0 * 86_400.0),
        certainty: 0.99,
    }
}

#[test]
fn the_outlook_of_the_published_run_is_what_its_table_says() {
    let rates = Rates::published("llama-3-405b").unwrap();
    let mut ledger = Ledger::new();
    let outlook = outlook(&question(&rates), "failures", &mut ledger).unwrap();
    assert_eq!((outlook.expected.unexpected, outlook.expected.planned), (419.0, 47.0));
    assert_eq!(format!("{}", outlook.mtbf.unwrap()), "3.09 h");
    assert!((outlook.checkpoint.0 - 3.24).abs() < 1e-12);
    assert!(outlook.ettr > 0.93 && outlook.ettr < 0.95, "{}", outlook.ettr);
    // 321 of the 419 take a node with them: 321 / 54 x 2 = 11.9 are away at a time.
    assert!((ledger.get("failures.in_repair").unwrap().value.number().unwrap() - 321.0 / 27.0).abs() < 1e-9);
    assert_eq!(outlook.spares, 21);
    assert_eq!(ledger.get("failures.spares").unwrap().value, 21_u64.into());
}

#[test]
fn every_number_leads_down_to_a_source() {
    let rates = Rates::published("llama-3-405b").unwrap();
    let mut ledger = Ledger::new();
    outlook(&question(&rates), "job.train.failures", &mut ledger).unwrap();
    for number in ledger.numbers() {
        assert!(number.id.starts_with("job.train.failures."), "{}", number.id);
        assert!(number.source.is_some() == number.inputs.is_empty(), "{}", number.id);
    }
    assert_eq!(ledger.get("job.train.failures.expected").unwrap().inputs.len(), 18);
}

#[test]
fn a_hall_where_nothing_fails_works_all_the_time() {
    let rates = Rates { name: "none".into(), source: "test".into(), reading: Reading::Read, rates: Vec::new() };
    let outlook = outlook(&question(&rates), "failures", &mut Ledger::new()).unwrap();
    assert_eq!((outlook.mtbf, outlook.interval, outlook.ettr, outlook.spares), (None, None, 1.0, 0));
}

#[test]
fn nothing_is_entered_for_a_question_without_sense() {
    let rates = Rates::published("rsc-1").unwrap();
    let mut ledger = Ledger::new();
    let mut twice = rates.clone();
    twice.rates.extend_from_slice(&rates.rates);
    for wrong in [
        question(&twice),
        Question { duration: Seconds(0.0), ..question(&rates) },
        Question { bandwidth: BytesPerSec(0.0), ..question(&rates) },
        Question { repair: Seconds(f64::NAN), ..question(&rates) },
        Question { certainty: 1.0, ..question(&rates) },
    ] {
        assert!(outlook(&wrong, "failures", &mut ledger).is_err());
    }
    assert!(ledger.numbers().is_empty());
}
