//! A packer that lives: requests come and end, nodes leave and return, against a model that counts every accelerator by hand.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use dh_policy::packing::{Choice, Detail, Mix, Node, POLICIES, Packer, Place, Refused, Request, Saved, by_name};

fn request(cpu: u32, accelerators: u8, milli: u16) -> Request {
    Request { cpu_milli: cpu, memory_mib: cpu / 2, accelerators, milli, models: 0 }
}

struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    fn request(&mut self) -> Request {
        let (accelerators, milli) =
            [(0, 0), (1, 250), (1, 300), (1, 500), (1, 1000), (2, 500), (2, 1000), (4, 1000), (16, 1000)]
                [self.below(9)];
        let cpu = 1000 + 500 * u32::try_from(self.below(6)).unwrap() * u32::from(accelerators.max(1));
        let models = if self.below(5) == 0 { 0b10 } else { 0 };
        Request { models, ..request(cpu, accelerators, milli) }
    }
}

/// Nodes, counted by hand.
struct Model {
    nodes: Vec<(Node, bool)>,
    running: Vec<Place>,
}

impl Model {
    fn free(&self, node: usize) -> (u32, u32, Vec<u16>) {
        let whole = &self.nodes[node].0;
        let mut free = vec![1000; whole.free().iter().filter(|free| **free > 0).count()];
        let (mut cpu, mut memory) = (whole.cpu_milli, whole.memory_mib);
        for place in self.running.iter().filter(|place| place.node == node) {
            cpu = cpu.checked_sub(place.request.cpu_milli).unwrap();
            memory = memory.checked_sub(place.request.memory_mib).unwrap();
            assert_eq!(place.indices().count(), usize::from(place.request.accelerators));
            for at in place.indices() {
                free[at] = u16::checked_sub(free[at], place.request.milli).unwrap();
            }
        }
        (cpu, memory, free)
    }

    fn fits(&self, node: usize, request: &Request) -> bool {
        let (cpu, memory, free) = self.free(node);
        let enough = free.iter().filter(|free| **free >= request.milli.max(1)).count();
        let accepts = request.accelerators == 0 || request.accepts(self.nodes[node].0.model);
        let (whole, service) = &self.nodes[node];
        assert!(whole.cpu_milli >= cpu);
        *service
            && request.cpu_milli <= cpu
            && request.memory_mib <= memory
            && enough >= usize::from(request.accelerators)
            && accepts
    }
}

fn world() -> Vec<Node> {
    (0..12)
        .map(|n| {
            Node::empty(40_000 + 1000 * n, 64_000, u8::from(n % 3 == 0), [4, 8, 16][usize::try_from(n % 3).unwrap()])
        })
        .collect()
}

fn packer(policy: &str, detail: Detail, nodes: &[Node]) -> Packer {
    let mut draw = Draw(3);
    let mix = Mix::of((0..8).map(|_| draw.request()));
    let mut packer = Packer::seen(by_name(policy).unwrap(), mix, detail);
    let racks = [packer.open_rack(), packer.open_rack()];
    for (at, node) in nodes.iter().enumerate() {
        match racks.get(at % 3) {
            Some(rack) => packer.add_in(*node, *rack),
            None => packer.add(*node),
        };
    }
    packer
}

/// One step of the world; what was placed.
fn step(packer: &mut Packer, model: &mut Model, draw: &mut Draw) -> Option<Place> {
    match draw.below(10) {
        0..=5 => {
            let request = draw.request();
            packer.arrived(&request);
            let placed = packer.place(&request);
            let fits = (0..model.nodes.len()).any(|node| model.fits(node, &request));
            assert_eq!(placed.is_some(), fits, "{request:?}");
            if let Some(place) = placed {
                assert!(model.fits(place.node, &request), "{place:?}");
                assert_eq!(place.request, request);
                model.running.push(place);
            }
            placed
        }
        6..=8 if !model.running.is_empty() => {
            let ended = model.running.swap_remove(draw.below(model.running.len()));
            packer.release(&ended).unwrap();
            None
        }
        _ => {
            let node = draw.below(model.nodes.len());
            let service = model.nodes[node].1;
            if service { packer.take_out(node) } else { packer.bring_back(node) }.unwrap();
            model.nodes[node].1 = !service;
            None
        }
    }
}

#[test]
fn whatever_happens_every_accelerator_is_accounted_for() {
    for policy in POLICIES {
        for detail in [Detail::Exact, Detail::Bits(2)] {
            let nodes = world();
            let mut packer = packer(policy.name(), detail, &nodes);
            let mut model = Model { nodes: nodes.into_iter().map(|node| (node, true)).collect(), running: Vec::new() };
            let mut draw = Draw(7);
            for _ in 0..500 {
                step(&mut packer, &mut model, &mut draw);
            }
            for node in 0..model.nodes.len() {
                let (cpu, memory, mut free) = model.free(node);
                free.sort_unstable();
                let seen = packer.node(node).unwrap();
                assert_eq!((seen.cpu_milli, seen.memory_mib), (cpu, memory));
                assert_eq!(seen.free()[16 - free.len()..], free);
                assert_eq!(packer.serves(node), model.nodes[node].1);
            }
            let serving = (0..model.nodes.len()).filter(|node| model.nodes[*node].1);
            let free: u64 = serving.map(|node| packer.node(node).unwrap().free_milli()).sum();
            assert_eq!(packer.free_milli(), free);
        }
    }
}

#[test]
fn a_restored_packer_decides_as_the_saved_one_would_have() {
    for detail in [Detail::Exact, Detail::Bits(2)] {
        let nodes = world();
        let mut first = packer("best", detail, &nodes);
        let mut model = Model { nodes: nodes.into_iter().map(|node| (node, true)).collect(), running: Vec::new() };
        let mut draw = Draw(11);
        for _ in 0..300 {
            step(&mut first, &mut model, &mut draw);
        }
        let text = serde_json::to_string(&first.saved()).unwrap();
        let mut second = Packer::restored(&serde_json::from_str::<Saved>(&text).unwrap()).unwrap();
        assert_eq!(second.saved(), first.saved());
        let mut again = Model { nodes: model.nodes.clone(), running: model.running.clone() };
        let mut draw_again = Draw(draw.0);
        for _ in 0..200 {
            let placed = step(&mut first, &mut model, &mut draw);
            assert_eq!(step(&mut second, &mut again, &mut draw_again), placed);
        }
        assert_eq!(second.saved(), first.saved());
    }
}

#[test]
fn what_is_saved_wrongly_is_not_restored() {
    let saved = serde_json::to_value(packer("best", Detail::Exact, &world()).saved()).unwrap();
    let restored = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut saved = saved.clone();
        change(&mut saved);
        Packer::restored(&serde_json::from_value(saved).unwrap()).is_some()
    };
    assert!(restored(&|_| {}));
    assert!(!restored(&|saved| saved["policy"] = "none".into()));
    assert!(!restored(&|saved| saved["nodes"][0]["free"][0] = 1001.into()));
    assert!(!restored(&|saved| saved["nodes"][0]["cpu_milli_free"] = 1_000_000.into()));
    assert!(!restored(&|saved| saved["nodes"][0]["rack"] = 99.into()));
}

#[test]
fn small_requests_fill_the_fullest_rack_and_leave_whole_racks_whole() {
    for racks in [4_usize, 40] {
        let one = request(1000, 1, 1000);
        let mut packer = Packer::new(by_name("best").unwrap(), Mix::of([one, request(8000, 8, 1000)]));
        for _ in 0..racks {
            let rack = packer.open_rack();
            for _ in 0..4 {
                packer.add_in(Node::empty(64_000, 65_536, 0, 8), rack);
            }
        }
        let whole = |packer: &Packer| {
            let free = |rack: usize| (0..4).map(|n| packer.node(rack * 4 + n).unwrap().free_milli()).sum::<u64>();
            (0..racks).filter(|rack| free(*rack) == 32_000).count()
        };
        // Something stands in the middle: that rack is the fullest.
        packer.put(&Place { node: racks * 2 + 1, accelerators: 1, request: one }).unwrap();
        for placed in 1..racks * 32 {
            packer.place(&one).unwrap();
            assert_eq!(whole(&packer), racks - (placed + 1).div_ceil(32), "{placed}");
        }
        assert_eq!(packer.place(&one), None);
    }
}

struct Odd;

impl Choice for Odd {
    fn allows(&self, node: usize) -> bool {
        node % 2 == 1
    }

    fn rank(&self, node: usize) -> u64 {
        u64::try_from(100 - node).unwrap()
    }
}

#[test]
fn a_choice_is_kept_and_the_least_rank_comes_first() {
    let one = request(1000, 1, 1000);
    let mut packer = Packer::new(by_name("best").unwrap(), Mix::of([one]));
    for _ in 0..10 {
        packer.add(Node::empty(64_000, 65_536, 0, 2));
    }
    let nodes: Vec<Option<usize>> = (0..11).map(|_| packer.place_by(&one, &Odd).map(|place| place.node)).collect();
    let expected = [9, 9, 7, 7, 5, 5, 3, 3, 1, 1].map(Some);
    assert_eq!(nodes[..10], expected);
    assert_eq!(nodes[10], None);
    assert_eq!(packer.place_by(&one, &|node| node == 4).map(|place| place.node), Some(4));
    assert_eq!(packer.place_among(&one, &[6, 1, 4]).map(|place| place.node), Some(4), "the one that is begun");
    assert_eq!(packer.place_among(&one, &[1, 3, 99]), None);
    assert_eq!(packer.place(&one).map(|place| place.node), Some(0));
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let one = request(1000, 1, 1000);
    let mut packer = Packer::new(by_name("best").unwrap(), Mix::of([one]));
    packer.add(Node::empty(64_000, 65_536, 0, 2));
    let place = packer.place(&one).unwrap();
    let before = packer.saved();
    assert_eq!(packer.put(&place), Err(Refused::Taken));
    assert_eq!(packer.release(&Place { accelerators: 0b10, ..place }), Err(Refused::NotHeld));
    assert_eq!(packer.release(&Place { accelerators: 0b100, ..place }), Err(Refused::NotHeld));
    assert_eq!(packer.release(&Place { accelerators: 0b11, ..place }), Err(Refused::NotHeld));
    assert_eq!(packer.release(&Place { node: 1, ..place }), Err(Refused::NoNode));
    assert_eq!(packer.bring_back(0), Err(Refused::Service));
    assert_eq!(packer.saved(), before);
    packer.take_out(0).unwrap();
    assert_eq!((packer.place(&one), packer.free_milli()), (None, 0));
    assert_eq!(packer.put(&Place { accelerators: 0b10, ..place }), Err(Refused::Service));
    packer.release(&place).unwrap();
    packer.bring_back(0).unwrap();
    assert_eq!(packer.free_milli(), 2000);
}

/// Requests that never repeat, on nodes that are never twice in a state: what is remembered stays bounded.
#[test]
fn what_is_old_is_forgotten() {
    let mut packer = Packer::new(by_name("best-fit").unwrap(), Mix::of([]));
    for _ in 0..20 {
        packer.add(Node::empty(10_000_000, 10_000_000, 0, 8));
    }
    let (mut draw, mut running, mut most) = (Draw(5), Vec::new(), 0);
    for _ in 0..20_000 {
        running.extend(packer.place(&request(u32::try_from(draw.below(100_000)).unwrap(), 1, 250)));
        most = most.max(packer.states());
        if running.len() > 200 {
            packer.release(&running.swap_remove(draw.below(200))).unwrap();
        }
    }
    assert!(most <= 33_000, "{most}");
}
