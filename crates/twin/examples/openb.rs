//! Plays one list of the openb trace: `openb NODES.csv PODS.csv POLICY SEEDS`.
#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "an example reads files and prints")]

use dh_twin::openb::{Protocol, read};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, nodes, pods, policy, seeds] = arguments.as_slice() else {
        return Err("openb NODES.csv PODS.csv POLICY SEEDS".into());
    };
    let trace = read(&std::fs::read_to_string(nodes)?, &std::fs::read_to_string(pods)?)?;
    let policy = dh_policy::packing::by_name(policy).ok_or("there is no such policy")?;
    let protocol = Protocol::new(&trace, policy, 1.3)?;
    let runs = (42..42 + seeds.parse::<u64>()?).map(|seed| protocol.run(seed)).collect();
    println!("{} {:?}", policy.name(), protocol.summary(runs).allocation_pct);
    Ok(())
}
