//! Where axes have their labels.

use dh_units::significant;

/// Seconds between labels of time, and what a label of them is counted in.
const STEPS: [(f64, f64, &str); 33] = [
    (0.001, 0.001, "ms"),
    (0.01, 0.001, "ms"),
    (0.1, 0.001, "ms"),
    (0.2, 1.0, "s"),
    (0.5, 1.0, "s"),
    (1.0, 1.0, "s"),
    (2.0, 1.0, "s"),
    (5.0, 1.0, "s"),
    (10.0, 1.0, "s"),
    (20.0, 1.0, "s"),
    (30.0, 1.0, "s"),
    (60.0, 60.0, "min"),
    (120.0, 60.0, "min"),
    (300.0, 60.0, "min"),
    (600.0, 60.0, "min"),
    (900.0, 60.0, "min"),
    (1_800.0, 60.0, "min"),
    (3_600.0, 3_600.0, "h"),
    (7_200.0, 3_600.0, "h"),
    (10_800.0, 3_600.0, "h"),
    (21_600.0, 3_600.0, "h"),
    (43_200.0, 3_600.0, "h"),
    (86_400.0, 86_400.0, "d"),
    (172_800.0, 86_400.0, "d"),
    (432_000.0, 86_400.0, "d"),
    (864_000.0, 86_400.0, "d"),
    (1_728_000.0, 86_400.0, "d"),
    (2_592_000.0, 86_400.0, "d"),
    (5_184_000.0, 86_400.0, "d"),
    (8_640_000.0, 86_400.0, "d"),
    (17_280_000.0, 86_400.0, "d"),
    (31_536_000.0, 31_536_000.0, "y"),
    (315_360_000.0, 31_536_000.0, "y"),
];

/// Labels of time, at most.
const MOST: f64 = 6.0;

/// Labels of the time from 0 to `length_s`: place from 0 to 1, text.
pub(crate) fn time(length_s: f64) -> Vec<(f64, String)> {
    if length_s.is_nan() || length_s <= 0.0 {
        return Vec::new();
    }
    let fits = |(step, _, _): &&(f64, f64, &str)| length_s / step <= MOST;
    let (step, unit, name) = STEPS.iter().find(fits).copied().unwrap_or((length_s, length_s, ""));
    let mut labels = Vec::new();
    for number in 0..8_u32 {
        let value = f64::from(number) * step;
        // A label at the very end would stick out.
        if value > length_s * 0.97 {
            break;
        }
        let text = if number == 0 { "0".to_owned() } else { format!("{} {name}", significant(value / unit)) };
        labels.push((value / length_s, text));
    }
    labels
}

/// Times that a logarithmic axis names.
const DECADES: [(f64, &str); 20] = [
    (1.0, "1 s"),
    (3.0, "3 s"),
    (10.0, "10 s"),
    (30.0, "30 s"),
    (60.0, "1 min"),
    (180.0, "3 min"),
    (600.0, "10 min"),
    (1_800.0, "30 min"),
    (3_600.0, "1 h"),
    (10_800.0, "3 h"),
    (36_000.0, "10 h"),
    (86_400.0, "1 d"),
    (259_200.0, "3 d"),
    (864_000.0, "10 d"),
    (2_592_000.0, "30 d"),
    (8_640_000.0, "100 d"),
    (31_536_000.0, "1 y"),
    (94_608_000.0, "3 y"),
    (315_360_000.0, "10 y"),
    (3_153_600_000.0, "100 y"),
];

/// Labels of a logarithmic axis from `from_s` to `to_s`: place from 0 to 1, text; those that would touch the last are left out.
pub(crate) fn decades(from_s: f64, to_s: f64) -> Vec<(f64, &'static str)> {
    let width = (to_s / from_s).ln();
    let mut labels: Vec<(f64, &'static str)> = Vec::new();
    for (value, text) in DECADES {
        let place = (value / from_s).ln() / width;
        let free = labels.last().is_none_or(|(last, _)| place - last > 0.14);
        if (-0.01..=0.95).contains(&place) && free {
            labels.push((place.max(0.0), text));
        }
    }
    labels
}

/// The least of 1, 2, 2.5, 5 and 10 times a power of ten that `most` is not above; 1 for what is not above 0.
pub(crate) fn round_up(most: f64) -> f64 {
    if !most.is_finite() || most <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(most.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0].into_iter().find(|step| most <= step * power * (1.0 + 1e-9));
    step.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_labelled_in_round_units() {
        let texts = |length| time(length).into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(texts(86_400.0 * 129.0), ["0", "30 d", "60 d", "90 d", "120 d"]);
        assert_eq!(texts(7_200.0), ["0", "30 min", "60 min", "90 min"]);
        assert_eq!(texts(0.0), [""; 0]);
        for length in [1e-4, 0.02, 1.0, 77.0, 4e5, 1e7, 1e10, 1e12] {
            let labels = time(length);
            assert!((1..=7).contains(&labels.len()), "{length}: {labels:?}");
            assert!(labels.iter().all(|(place, _)| (0.0..1.0).contains(place)), "{length}: {labels:?}");
        }
    }

    #[test]
    fn scales_end_at_round_numbers() {
        let ends = [(0.0, 1.0), (0.7, 1.0), (1.0, 1.0), (1_234.0, 2_000.0), (2_100.0, 2_500.0), (6_000.0, 10_000.0)];
        for (most, end) in ends {
            assert!((round_up(most) / end - 1.0).abs() < 1e-12, "{most}");
        }
    }

    #[test]
    fn decades_do_not_touch() {
        let labels = decades(1.07, 4e6);
        assert!(labels.len() >= 4 && labels.windows(2).all(|pair| pair[1].0 - pair[0].0 > 0.14), "{labels:?}");
    }
}
