//! What a template or a blueprint becomes as a simulated hall, and a week of it: `site [TEMPLATE or FILE] [LOAD %] [DAYS]
//! [services]`; with the last, trainings are left out.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "an example for people, which reads a file")]

use std::time::Instant;

use dh_blueprint::{Blueprint, template};
use dh_core::SimTime;
use dh_core::time::Span;
use dh_twin::kernel::{Kernel, Reach};
use dh_twin::measure::{Measures, Setup, Tariff};
use dh_twin::site::{Drawn, Metered, Mix, Outages, Site};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let argument = |at: usize| std::env::args().nth(at);
    let name = argument(1).unwrap_or_else(|| "su127".to_owned());
    let load: u32 = argument(2).map_or(Ok(80), |text| text.parse())?;
    let days: u64 = argument(3).map_or(Ok(7), |text| text.parse())?;
    let text = match template(&name) {
        Some(text) => text.to_owned(),
        None => std::fs::read_to_string(&name)?,
    };
    let (settings, origins) = Blueprint::read("hall.toml", &text, |_, _| Err("bases are not read here".to_owned()))
        .map_err(|report| report.to_string())?;
    let began = Instant::now();
    let plan = dh_plan::plan(&settings, &origins)?;
    let planned = began.elapsed();
    let site = Site::of(&settings, &plan)?;
    println!("{}: {} nodes, {} accelerators for jobs", site.name, site.nodes.len(), site.accelerators());
    for class in &site.classes {
        println!("  class {}: speed {} millionths", class.name, class.speed);
    }
    let mut last = None;
    for (node, facts) in site.nodes.iter().zip(&site.settings.nodes) {
        let block = facts.path.get(..2).map(<[u32]>::to_vec);
        if block != last {
            let (cpu, memory) = (facts.cpu_milli / 1000, facts.memory_mib / 1024);
            let (path, slots) = (&facts.path, facts.accelerators);
            println!("  block {path:?} from {node}: {slots} accelerators, {cpu} cores, {memory} GiB");
            last = block;
        }
    }
    for (queue, rules) in site.queues.iter().zip(&site.settings.queues) {
        println!("  queue {}: {rules:?}, limit {:?}", queue.name, queue.limit);
    }
    for resource in &site.resources {
        let reach = match resource.reach {
            Reach::Hall => "the hall".to_owned(),
            Reach::Uplinks(level) => format!("each domain of level {level}"),
        };
        println!("  shared by {reach}: {} {:.1} GB/s", resource.name, dh_units::real(resource.capacity) / 1e9);
    }
    println!("  idle {:?}", site.power.idle());
    println!("  full {:?}, cap for gangs {:?} W", site.power.full(), site.cap);
    println!("  a node's eight: {} W on top of idle", site.rank_watts(8, 1000));

    let horizon = Span::from_secs(days * 86_400);
    let all = site.own(&settings, &plan, horizon);
    let own = if argument(4).as_deref() == Some("services") { all.only_services() } else { all };
    for arrival in &own.arrivals {
        let name = own.names.get(&arrival.submission.job).map_or("", String::as_str);
        let (need, hours) = (arrival.submission.gang.need, dh_units::real(arrival.work.length.0) / 3.6e12);
        let profile = own.profiles.get(usize::from(arrival.work.profile));
        let demands = own.demands.get(usize::from(arrival.work.profile));
        println!(
            "  {name}: {} x {} accelerators, {hours:.1} h, {:?}, {demands:?}",
            need.ranks,
            need.rank.accelerators,
            profile.map(|profile| profile.costs)
        );
    }
    for note in site.notes.iter().chain(&own.notes) {
        println!("  note: {note}");
    }

    let mix = Mix::philly(7, SimTime(0).after(horizon)).ok_or("no such cluster")?;
    let mixed = site.mix(Mix { load: f64::from(load) / 100.0, ..mix }, own.mean(horizon))?;
    let generated = match &mixed {
        Some(mixed) => {
            println!("  mix: {:?} asks for {:.0} accelerators on average", mixed.workload.arrivals.gap, mixed.wanted);
            mixed.arrivals(&site, own.next())?.collect()
        }
        None => Vec::new(),
    };
    let (many, faults) = (generated.len(), site.faults(&plan, Outages::default(), 7)?);
    let arrivals = own.arrivals.iter().copied().chain(generated);
    let mut kernel = Kernel::new(site.scheduler()?, arrivals, faults, own.profiles.clone()).sharing(own.sharing(&site));
    let carbon = site.carbon.as_ref().map(|curve| -> &dyn dh_twin::measure::Curve { curve });
    let tariff = Tariff { price: Some(&site.price), carbon, capital: None };
    let mut measures = Measures::new(Setup { tariff, ..Setup::default() });
    let mut metered = Metered::new(Drawn::new(&site.power, own.loads.clone()), |now, power| measures.power(now, power));
    let began = Instant::now();
    let stopped = kernel.run(SimTime(0).after(horizon), &mut metered);
    let played = began.elapsed();
    let outcome = measures.finish(SimTime(0).after(horizon));
    println!("  {many} generated jobs, {} events, {stopped:?}", kernel.events());
    println!("  {:?} {:?}", outcome.energy, outcome.cost);
    println!("  planned in {planned:.1?}, played in {played:.1?}");
    Ok(())
}
