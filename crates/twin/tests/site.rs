//! Every template becomes a hall that can be simulated, with the numbers of its plan.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::collections::BTreeMap;

use dh_blueprint::{Blueprint, Settings, Shape, template};
use dh_core::time::Span;
use dh_core::{NodeId, SimTime};
use dh_hall::scheduler::{Gang, Grace, Scheduler};
use dh_plan::Plan;
use dh_policy::fleet::Service;
use dh_policy::packing::{Request, WHOLE};
use dh_policy::placement::{Need, Rails};
use dh_twin::kernel::{Arrival, Costs, Fault, Kernel, Reach, Stopped};
use dh_twin::measure::Power;
use dh_twin::play::{Scene, Slices};
use dh_twin::site::{Drawn, Metered, Mix, Outages, Own, Profiles, Site};
use dh_twin::trace::{OnClass, slices};
use dh_units::Bytes;

const DAY: Span = Span::from_secs(86_400);

struct Hall {
    settings: Settings,
    plan: Plan,
    site: Site,
}

fn read(text: &str) -> Hall {
    let (settings, origins) = Blueprint::read("hall.toml", text, |_, _| Err(String::new())).unwrap();
    let plan = dh_plan::plan(&settings, &origins).unwrap();
    let site = Site::of(&settings, &plan).unwrap();
    Hall { settings, plan, site }
}

fn hall(name: &str) -> Hall {
    read(template(name).unwrap())
}

impl Hall {
    fn own(&self) -> Own {
        self.site.own(&self.settings, &self.plan, DAY)
    }
}

/// A hall without trainings, so that nothing has to be searched.
fn small(more: &str) -> Hall {
    read(&format!(
        "schema = 1\nname = \"small\"\n[site.main]\npue = 1.5\nprice = \"$0.10/kWh\"\n\
         [pool.train]\nnodes = 64\nnode = \"dgx-h100\"\nnodes_per_rack = 4\nunit = 16\nidle = \"2 kW\"\nspares = 2\n{more}"
    ))
}

#[test]
fn a_laboratory_has_its_nodes_queues_store_and_work() {
    let hall = hall("lab");
    let site = &hall.site;
    assert_eq!((site.nodes.len(), site.accelerators()), (4, 32));
    assert_eq!(site.nodes[3], "train-4");
    assert_eq!(site.classes[0].name, "h100-80gb-sxm");
    let facts = &site.settings.nodes[0];
    assert_eq!((facts.class, facts.accelerators, facts.cpu_milli), (0, 8, 112_000));
    assert!((1_800_000..2_000_000).contains(&facts.memory_mib), "2 TB in MiB: {}", facts.memory_mib);
    let urgent = usize::from(site.queue("urgent").unwrap());
    assert_eq!((site.settings.queues[urgent].priority, site.settings.queues[urgent].preempts), (10, true));
    let names: Vec<&str> = site.resources.iter().map(|resource| resource.name.as_str()).collect();
    assert_eq!(names, ["store.main.read", "store.main.write"], "a network that does not block is not shared");
    let own = hall.own();
    let jobs: Vec<&str> = own.names.values().map(String::as_str).collect();
    assert_eq!(jobs.last(), Some(&"finetune"));
    assert!(jobs.len() > 1 && jobs[0].starts_with("chat-"));
    let finetune = own.arrivals.last().unwrap();
    let training = &hall.plan.trainings[0];
    assert!(finetune.work.length.0 > dh_units::whole(training.time.0 * 1e9), "checkpoints take their time");
    assert!(own.arrivals.iter().map(|arrival| arrival.submission.gang.need.ranks).sum::<u32>() <= 4, "all fit at once");
    let hours = dh_units::real(finetune.work.length.0) / 3.6e12;
    let training = f64::from(finetune.submission.gang.need.ranks) * 8.0;
    let mean = hall.own().mean(Span(7 * DAY.0));
    // Services of a day and the training, over a week.
    let services = 8.0 * dh_units::real(u64::try_from(jobs.len()).unwrap() - 1);
    assert!((dh_units::real(mean) - services / 7.0 - training * hours / 168.0).abs() < 1.0, "{mean}");
    let services = hall.own().only_services();
    assert_eq!((services.arrivals.len(), services.names.len()), (jobs.len() - 1, jobs.len() - 1));
}

#[test]
fn a_laptop_is_one_node_of_slots() {
    let hall = hall("laptop");
    assert_eq!((hall.site.nodes.len(), hall.site.accelerators()), (1, 4));
    assert!(hall.site.scheduler().is_ok());
    let own = hall.own();
    assert_eq!(own.names.values().collect::<Vec<_>>(), ["chat-1"]);
    assert!(hall.site.faults(&hall.plan, Outages::default(), 1).unwrap().next().is_none(), "nothing is known of it");
    let mix = hall.site.mix(Mix::philly(1, SimTime(0).after(DAY)).unwrap(), own.mean(DAY)).unwrap().unwrap();
    assert!(mix.arrivals(&hall.site, own.next()).unwrap().count() > 0);
}

#[test]
fn blocks_and_racks_are_those_of_the_floor() {
    let hall = small("");
    let paths: Vec<&[u32]> = hall.site.settings.nodes.iter().map(|node| node.path.as_slice()).collect();
    assert_eq!(paths.iter().map(|path| path[1]).max(), Some(3), "four units of sixteen");
    let racks: std::collections::BTreeSet<u32> = paths.iter().map(|path| path[2]).collect();
    assert_eq!(racks.len(), 16);
    let scheduler = hall.site.scheduler().unwrap();
    let tree = scheduler.fleet().tree();
    assert_eq!((tree.domains(1), tree.domains(2), tree.domains(3)), (1, 4, 16));
    let spares: Vec<u32> = (0..64).filter(|node| scheduler.fleet().service(NodeId(*node)) == Service::Spare).collect();
    assert_eq!(spares, [62, 63]);
    assert_eq!(hall.site.accelerators(), 62 * 8);
}

#[test]
fn a_network_that_blocks_has_uplinks_of_its_oversubscription() {
    let hall = small("[fabric.compute]\ntopology = \"fat-tree\"\nswitch = \"qm9700\"\noversubscription = 3\n");
    let uplinks = hall.site.resources.iter().find(|one| one.name == "fabric.compute.uplinks").unwrap();
    assert_eq!(uplinks.reach, Reach::Uplinks(2));
    // 16 nodes of 8 x 50 GB/s, a third of it upwards.
    assert_eq!(uplinks.capacity, 16 * 8 * 50_000_000_000 / 3);
}

#[test]
fn a_cap_leaves_gangs_what_idle_nodes_do_not_draw() {
    let hall = small("[policy]\npower_cap = \"228 kW\"\n");
    // 64 x 2 kW idle.
    assert_eq!(hall.site.cap, Some(100_000));
    // 0.8 x 10.2 kW less 2 kW, over eight accelerators, rounded up.
    assert_eq!(hall.site.rank_watts(8, 1000), 6_160);
    assert_eq!(hall.site.rank_watts(1, 500), 385);
    let hall = small("[policy]\npower_cap = \"100 kW\"\n");
    assert_eq!(hall.site.cap, Some(0));
    assert!(hall.site.notes.iter().any(|note| note.contains("no job can start")));
}

/// Plays jobs and sums what is drawn, in joules of the whole building.
fn joules(site: &Site, arrivals: Vec<Arrival>, faults: Vec<Fault>, until: SimTime) -> (f64, f64) {
    let mut told: Vec<(SimTime, Power)> = Vec::new();
    let scheduler = site.scheduler().unwrap();
    let mut kernel = Kernel::new(scheduler, arrivals.into_iter(), faults.into_iter(), Vec::new());
    let mut metered = Metered::new(Drawn::new(&site.power, BTreeMap::new()), |now, power| told.push((now, power)));
    assert_eq!(kernel.run(until, &mut metered), Stopped::Done);
    let ends = told.iter().skip(1).map(|(at, _)| *at).chain([until]);
    let sum =
        told.iter().zip(ends).map(|((from, power), to)| power.facility.0 * dh_units::real(to.since(*from).0) / 1e9);
    (sum.sum(), told.last().unwrap().1.it.0)
}

#[test]
fn energy_is_idle_and_busy_times_time() {
    let hall = small("");
    let mut mixed = hall.site.mix(Mix::philly(3, SimTime(0).after(DAY)).unwrap(), 0).unwrap().unwrap();
    mixed.workload.durations = dh_twin::generate::Durations::Fixed(Span::from_secs(3_600));
    let arrivals: Vec<Arrival> = mixed.arrivals(&hall.site, 1).unwrap().collect();
    assert!(arrivals.len() > 100);
    let hours: u64 = arrivals
        .iter()
        .map(|arrival| {
            let need = arrival.submission.gang.need;
            u64::from(need.ranks) * need.rank.demand()
        })
        .sum();
    let until = SimTime(10 * DAY.0);
    let (sum, last) = joules(&hall.site, arrivals, Vec::new(), until);
    let idle = 64.0 * 2_000.0 * 864_000.0;
    let busy = dh_units::real(hours) / 1000.0 * 3_600.0 * (8_160.0 - 2_000.0) / 8.0;
    assert!((sum / 1.5 / (idle + busy) - 1.0).abs() < 1e-9, "{sum} for {}", idle + busy);
    assert!((last - 128_000.0).abs() < 1e-6, "what stopped draws nothing any more");
}

#[test]
fn a_mix_asks_for_its_load_and_follows_from_its_seed() {
    let hall = small("");
    let week = SimTime(28 * DAY.0);
    let mix = |seed, load| hall.site.mix(Mix { load, ..Mix::philly(seed, week).unwrap() }, 0).unwrap().unwrap();
    let jobs = |seed| mix(seed, 0.8).arrivals(&hall.site, 1).unwrap().collect::<Vec<_>>();
    assert_eq!(jobs(1), jobs(1));
    assert_ne!(jobs(1), jobs(2));
    // Lengths have a heavy tail: many jobs for a mean.
    let (mut asked, mut seconds) = (0.0, 0.0);
    for seed in 0..8 {
        for arrival in jobs(seed) {
            let need = arrival.submission.gang.need;
            asked +=
                f64::from(need.ranks) * f64::from(need.rank.accelerators) * dh_units::real(arrival.work.length.0) / 1e9;
        }
        seconds += 28.0 * 86_400.0;
    }
    let load = asked / seconds / dh_units::real(hall.site.accelerators());
    assert!((0.7..0.9).contains(&load), "{load}");
    assert!(
        hall.site.mix(Mix { load: 0.5, ..Mix::philly(1, week).unwrap() }, 300).unwrap().is_none(),
        "held is enough"
    );
}

#[test]
fn nodes_fail_as_often_as_the_rates_say_and_come_back() {
    let hall = small("");
    let outages = Outages { lemons: None, rack: None, feed: None, switch: None };
    let year = SimTime(365 * DAY.0);
    let (mut losses, mut down) = (0.0, 0_i64);
    for seed in 0..8 {
        let mut now = SimTime(0);
        for fault in hall.site.faults(&hall.plan, outages, seed).unwrap().take_while(|fault| fault.at < year) {
            assert!(fault.at >= now, "faults are in order");
            now = fault.at;
            match fault.service {
                Service::Down => {
                    losses += 1.0 / 8.0;
                    down += 1;
                }
                Service::Up => down -= 1,
                Service::Spare => {
                    assert!(fault.node.0 >= 62);
                    down -= 1;
                }
                Service::Asleep | Service::Drained | Service::Quarantined => unreachable!(),
            }
        }
    }
    assert!(down >= 0);
    let population = dh_facility::failures::Population { accelerators: 512, nodes: 64 };
    let rates = dh_facility::failures::Rates::llama_3_405b();
    let cables = rates.rates.iter().filter(|rate| rate.scope == dh_facility::failures::Scope::Network);
    let cables: f64 = cables.map(|rate| rate.expected(population, dh_units::Seconds(365.0 * 86_400.0))).sum();
    let want = rates.node_losses_per_second(population) * 365.0 * 86_400.0 + cables;
    assert!((losses / want - 1.0).abs() < 0.15, "{losses} for {want}");
}

#[test]
fn mixed_pools_run_at_the_speeds_of_their_peaks_or_of_lengths_that_are_known() {
    let hall = small("[pool.old]\nnodes = 4\nnode = \"dgx-a100\"\n");
    let names: Vec<&str> = hall.site.classes.iter().map(|class| class.name.as_str()).collect();
    assert_eq!(names.len(), 2);
    let old = usize::from(hall.site.settings.nodes[0].class);
    let peak = |at: usize| hall.settings.catalog.accelerator(names[at]).unwrap().bf16.as_ref().unwrap().value.0;
    let share = peak(old) / peak(1 - old) * 1e6;
    assert!((f64::from(hall.site.classes[old].speed) - share).abs() <= 1.0);
    let mut lengths = [None, None];
    lengths[old] = Some(Span::from_secs(40));
    lengths[1 - old] = Some(Span::from_secs(10));
    let speeds = hall.site.speeds(&lengths);
    assert_eq!((speeds[old], speeds[1 - old]), (250_000, 1_000_000));
    // A trace that numbers the classes its own way and has one that is not here.
    let theirs = ["abacus", names[1 - old], names[old]].map(str::to_owned);
    let mut profiles = Profiles::new(&hall.site, hall.own().profiles, &theirs);
    let before = profiles.clone().list().len();
    let on = |class, seconds| OnClass { class, length: Span::from_secs(seconds) };
    let first = profiles.of(&hall.site, &[on(1, 10), on(2, 40), on(0, 1)]).unwrap();
    let second = profiles.of(&hall.site, &[on(1, 100), on(2, 400)]).unwrap();
    assert_eq!((first.0, first.1, second.1), (second.0, Span::from_secs(10), Span::from_secs(100)));
    assert_eq!(profiles.of(&hall.site, &[on(0, 5)]), None);
    let bit = |class: usize| 1_u32 << class;
    let models = [0, 0b10, 0b110, 0b001].map(|classes| profiles.models(classes));
    assert_eq!(models, [0, bit(1 - old), bit(0) | bit(1), 1 << 31]);
    let list = profiles.list();
    assert_eq!((list.len(), &list[usize::from(first.0)].speeds), (before + 1, &speeds));
}

#[test]
fn a_day_of_the_small_templates_can_be_played() {
    for name in ["laptop", "lab"] {
        let hall = hall(name);
        let own = hall.own();
        let mixed = hall.site.mix(Mix::philly(1, SimTime(0).after(DAY)).unwrap(), own.mean(DAY)).unwrap();
        let generated: Vec<Arrival> =
            mixed.iter().flat_map(|mixed| mixed.arrivals(&hall.site, own.next()).unwrap()).collect();
        let arrivals = own.arrivals.iter().copied().chain(generated);
        let faults = hall.site.faults(&hall.plan, Outages::default(), 1).unwrap();
        let scheduler = hall.site.scheduler().unwrap();
        let mut kernel =
            Kernel::new(scheduler, arrivals, faults, own.profiles.clone()).sharing(own.sharing(&hall.site));
        kernel.run(SimTime(0).after(DAY), &mut ());
        assert!(kernel.events() > 1, "{name}");
    }
}

#[test]
fn large_templates_give_a_site() {
    for (name, nodes, accelerators) in [("su127", 127, 1_016), ("tpu-pod", 64, 4_096)] {
        let hall = hall(name);
        assert_eq!((hall.site.nodes.len(), hall.site.accelerators()), (nodes, accelerators), "{name}");
        assert!(hall.site.scheduler().is_ok(), "{name}");
        let expected = hall.plan.ledger.get("power.it.expected").unwrap().value.number().unwrap();
        let full = hall.site.power.full().it.0;
        assert!((full / expected - 1.0).abs() < 1e-6, "{name}: {full} W at work, the plan says {expected}");
        assert_eq!(hall.own().names.values().last().map(String::as_str), Some("llm"), "{name}");
    }
}

/// A torus of sixteen cubes, without a training, so that nothing has to be searched.
fn torus() -> Hall {
    read(
        "schema = 1\nname = \"torus\"\n[site.main]\npue = 1.1\nprice = \"$0.06/kWh\"\n[pool.cubes]\nnodes = 16\n\
         node = \"tpu-v4-cube\"\n[fabric.compute]\ntopology = \"torus\"\ndims = [8, 8, 16]\ncube = 4\nswitch = \"palomar-ocs\"\n",
    )
}

#[test]
fn slices_of_a_torus_run_as_boxes() {
    let hall = torus();
    let wiring = hall.site.settings.tori[0];
    assert_eq!((wiring.dims, wiring.node, wiring.nodes()), ([8, 8, 16], [4, 4, 4], 0..16));
    let text = "topology,shape,prob_pct\ntorus,1x1x2,10\ntorus,4x4x4,20\ntwisted_torus,4x4x8,30\ntorus,8x8x16,5\ntorus,4x4x128,5\n";
    let shapes = slices(text, "s").unwrap();
    let mut site = hall.site.clone();
    site.settings.order = "fifo".to_owned();
    let lengths = [Span::from_secs(600), Span::from_secs(7_200)];
    let gaps = [(Span::from_secs(60), 1), (Span::from_secs(900), 3)];
    let mix = Slices { shapes: &shapes, gaps: &gaps, lengths: &lengths, jobs: 300, seed: 1 };
    let scene = Scene::of_slices(&site, &mix, Costs::default()).unwrap();
    assert!(
        scene.notes.iter().any(|note| note == "the torus does not hold 7 % of the slices of the mix"),
        "{:?}",
        scene.notes
    );
    let boxes = scene.jobs.iter().filter(|job| job.submission.gang.need.asked().is_some()).count();
    assert_eq!(boxes, 300);
    let scheduler = Scheduler::new(scene.base.clone()).unwrap();
    let jobs = scene.jobs.clone().into_iter();
    let mut kernel = Kernel::new(scheduler, jobs, std::iter::empty(), scene.profiles.clone());
    assert_eq!(kernel.run(SimTime(u64::MAX), &mut ()), Stopped::Done);
    assert!(kernel.scheduler().is_empty(), "a box never ran");
}

#[test]
fn a_blueprint_asks_for_a_box_a_share_or_a_slice() {
    let hall = torus();
    let rank = Request { cpu_milli: 0, memory_mib: 0, accelerators: 1, milli: WHOLE, models: 0 };
    let need = Need { ranks: 1, rank, within: 0, rails: Rails::Any };
    let gang = Gang { need, least_ranks: 1, dataset: None, speeds: 0, rank_watts: 0, grace: Grace::Preemptible };
    let boxed = hall.site.shaped(&hall.settings, gang, &Shape::Box([4, 4, 8])).unwrap();
    assert_eq!((boxed.need.ranks, boxed.need.rank.accelerators), (2, 64));
    assert!(hall.site.shaped(&hall.settings, gang, &Shape::Box([4, 4, 128])).is_none());
    assert!(hall.site.shaped(&hall.settings, gang, &Shape::Slice("1g.10gb".to_owned())).is_none());
    let hall = small("");
    let slice = hall.site.shaped(&hall.settings, gang, &Shape::Slice("3g.40gb".to_owned())).unwrap().need;
    assert_eq!((slice.rank.milli, slice.rank.models), (428, 1));
    assert!(matches!(slice.rails, Rails::Slice(slice) if slice.size == 4 && slice.starts == 0b0001_0001));
    let shape = Shape::Share { milli: 100, memory: Some(Bytes(20_000_000_000)) };
    let share = hall.site.shaped(&hall.settings, gang, &shape).unwrap().need;
    assert_eq!(share.rank.milli, 250, "a quarter of the memory is a quarter of the accelerator");
}
