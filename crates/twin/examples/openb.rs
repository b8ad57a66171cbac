//! Plays one list of the openb trace: `openb NODES.csv PODS.csv POLICY SEEDS [MOVES_PER_MILLION [PRICE_MILLI]]`.
#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "an example reads files and prints")]

use dh_twin::openb::{Moves, Protocol, Run, read};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let (nodes, pods, policy, seeds, per_million, price) = match arguments.as_slice() {
        [_, nodes, pods, policy, seeds] => (nodes, pods, policy, seeds, 0, 0),
        [_, nodes, pods, policy, seeds, per_million] => {
            (nodes, pods, policy, seeds, per_million.parse()?, Moves::PRICE)
        }
        [_, nodes, pods, policy, seeds, per_million, price] => {
            (nodes, pods, policy, seeds, per_million.parse()?, price.parse()?)
        }
        _ => return Err("openb NODES.csv PODS.csv POLICY SEEDS [MOVES_PER_MILLION [PRICE_MILLI]]".into()),
    };
    let ratio = std::env::var("RATIO").map_or(Ok(1.3), |text| text.parse())?;
    let trace = read(&std::fs::read_to_string(nodes)?, &std::fs::read_to_string(pods)?)?;
    let policy = dh_policy::packing::by_name(policy).ok_or("there is no such policy")?;
    let protocol = Protocol::new(&trace, policy, ratio)?.moving(Moves { per_million, price });
    let runs: Vec<Run> = (42..42 + seeds.parse::<u64>()?).map(|seed| protocol.run(seed)).collect();
    println!("moves {:?}", runs.iter().map(|run| (run.moves, run.placed)).collect::<Vec<_>>());
    println!("{} {:?}", policy.name(), protocol.summary(runs).allocation_pct);
    Ok(())
}
