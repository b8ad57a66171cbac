//! Prefill and decode on replicas of their own, with the cache sent between them.
//!
//! Invariant: the rate is the lesser of both sides'. Source: Zhong et al. 2024 (`DistServe`) section 3.

use super::pass::{Engine, Tokens};
use super::steady::{check, fresh, outside, room};
use super::{Deployment, Load, Profile, Steady, Within};
use crate::error::Error;
use crate::hardware::Machine;
use crate::power::Activity;

/// Both sides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Disaggregated<'a> {
    /// A replica that prefills.
    pub prefill: Deployment<'a>,
    /// Replicas that prefill.
    pub prefill_replicas: f64,
    /// A replica that decodes.
    pub decode: Deployment<'a>,
    /// Replicas that decode.
    pub decode_replicas: f64,
}

/// All replicas of `sides` together under `load`; activity is that of the side that decodes.
/// # Errors
/// As [`super::steady`].
pub fn disaggregated(
    sides: &Disaggregated<'_>,
    load: &Load,
    machine: &Machine,
    profile: &Profile,
) -> Result<Steady, Error> {
    check(load)?;
    let first = Engine::new(&sides.prefill, machine, profile)?;
    let second = Engine::new(&sides.decode, machine, profile)?;
    let (fillers, decoders) = (sides.prefill_replicas.max(1.0), sides.decode_replicas.max(1.0));
    let most = room(&sides.decode, &second, machine, load.input + load.output)? * decoders;
    let accepted = load.accepted.max(1.0);
    let fresh = fresh(load);
    let budget = dh_units::real(sides.prefill.layout.tokens_per_pass).max(1.0);
    let passes = (fresh / budget).ceil();
    let prompt = fresh / passes;
    let seen = load.input - fresh / 2.0;
    let groups = dh_units::real(sides.prefill.attention_replicas);
    let own = first.pass(Tokens { prompt, seen, prompts: prompt, ..Tokens::default() })?.seconds * passes;
    // Replicas of attention prefill side by side, and a pass takes as many short prompts as it has room for.
    let full = budget.min(fresh * (load.concurrency / (fillers * groups)).max(1.0));
    let filled = first.pass(Tokens { prompt: full, seen, prompts: full * groups, ..Tokens::default() })?.seconds;
    let each = filled * fresh / (full * groups) + profile.arrival;
    // Each accelerator of the prefilling side sends its part of the cache over its own port.
    let sent = first.sequence_bytes(load.input);
    let port = machine
        .fabric
        .scale_out
        .map_or(machine.fabric.scale_up.bandwidth.0, |network| network.bandwidth.0 * network.profile.share);
    let transfer = sent / port;
    let (mut batch, mut ttft, mut step) = (load.concurrency.min(most), 0.0, second.pass(Tokens::default())?);
    // The batch that decodes is what does not wait for its prompt; a few rounds find it.
    for _ in 0..6 {
        let context = load.input + load.output / 2.0;
        step = second.pass(Tokens {
            sequences: batch / decoders,
            checked: accepted.ceil(),
            context,
            ..Tokens::default()
        })?;
        let answer = (load.output - 1.0).max(1.0) * step.seconds / accepted;
        let flow = load.concurrency / (ttft + answer);
        let capacity = fillers / each;
        let busy = (flow / capacity).min(0.95);
        let others = (load.concurrency / fillers - 1.0).max(0.0);
        let wait = (each * busy / (2.0 * (1.0 - busy))).min(each * others) + profile.burst * others * each;
        // Where prompts are the narrow side, requests pile up before it: Little's law.
        let piled = (load.concurrency / capacity - answer).max(0.0);
        ttft = profile.first + own + transfer + step.seconds + wait.max(piled);
        batch = (load.concurrency * answer / (ttft + answer)).min(most).max(1.0);
    }
    let tpot = step.seconds / accepted;
    let answer = (load.output - 1.0).max(1.0) * tpot;
    let rate = (load.concurrency / (ttft + answer)).min(most / answer).min(fillers / each);
    let mut outside = outside(&sides.decode, load, machine);
    outside.push("prefill apart from decode");
    let share = |ideal: f64| (ideal / step.seconds).min(1.0);
    Ok(Steady {
        ttft: Within::factor(ttft, profile.ttft_spread * 1.5),
        tpot: Within::factor(tpot, profile.tpot_spread * 1.2),
        output_per_second: rate * load.output,
        rate_spread: profile.rate_spread * 1.2,
        batch,
        most,
        outside,
        activity: Activity {
            compute: share(step.ideal.compute),
            memory: share(step.ideal.memory),
            links: share(step.ideal.links),
            busy: share(step.ideal.busy),
        },
    })
}
