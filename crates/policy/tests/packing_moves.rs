//! Plans of moves: they can be done in their order, are worth their price, and are found where one move does.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use dh_policy::packing::{Mix, Node, Packer, Place, Request, Running, by_name};

fn request(cpu: u32, accelerators: u8, milli: u16) -> Request {
    Request { cpu_milli: cpu, memory_mib: 1024, accelerators, milli, models: 0 }
}

struct Pods {
    on: Vec<Vec<Place>>,
    price: Option<u64>,
}

impl Running for Pods {
    fn on(&self, node: usize) -> &[Place] {
        &self.on[node]
    }

    fn price(&self, _place: &Place) -> Option<u64> {
        self.price
    }
}

fn draw(state: &mut u64, bound: usize) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*state >> 33).unwrap() % bound
}

const KINDS: [(u32, u8, u16); 6] =
    [(9000, 0, 0), (2000, 1, 300), (4000, 1, 500), (6000, 1, 1000), (3000, 2, 1000), (8000, 4, 1000)];

/// Six nodes of four, filled until a request is refused; that request.
fn full(seed: u64) -> (Packer, Pods, Request) {
    let kinds = KINDS.map(|(cpu, accelerators, milli)| request(cpu, accelerators, milli));
    let mut packer = Packer::new(by_name("fragmentation").unwrap(), Mix::of(kinds));
    for _ in 0..6 {
        packer.add(Node::empty(24_000, 65_536, 0, 4));
    }
    let mut pods = Pods { on: vec![Vec::new(); 6], price: Some(100) };
    let mut state = seed;
    loop {
        let request = kinds[draw(&mut state, kinds.len())];
        let node = draw(&mut state, 6);
        // Half of them anywhere, so that there is something to repair.
        let placed = packer.place_among(&request, &[node]).or_else(|| packer.place(&request));
        match placed {
            Some(place) => pods.on[place.node].push(place),
            None if request.accelerators > 0 => return (packer, pods, request),
            None => {}
        }
    }
}

/// Whether one move lets `request` in, by trying each to each node.
fn one_move_does(packer: &Packer, pods: &Pods, request: &Request) -> bool {
    let mut copy = Packer::restored(&packer.saved()).unwrap();
    for place in pods.on.iter().flatten() {
        for node in (0..6).filter(|node| *node != place.node) {
            let Some(to) = copy.place_among(&place.request, &[node]) else { continue };
            copy.release(place).unwrap();
            let fits = copy.place_among(request, &[place.node]);
            if let Some(there) = fits {
                copy.release(&there).unwrap();
            }
            copy.put(place).unwrap();
            copy.release(&to).unwrap();
            if fits.is_some() {
                return true;
            }
        }
    }
    false
}

#[test]
fn a_plan_can_be_done_in_its_order_and_planning_changes_nothing() {
    let (mut planned, mut more) = (0, 0);
    for seed in 0..300 {
        let (mut packer, pods, request) = full(seed);
        let before = packer.saved();
        let plan = packer.plan_moves(&request, &pods, 3);
        assert_eq!(packer.saved(), before);
        assert!(plan.is_some() || !one_move_does(&packer, &pods, &request), "seed {seed}: one move does");
        let Some(plan) = plan else { continue };
        assert!(plan.gain > plan.price && plan.moves.len() <= 3 && !plan.moves.is_empty());
        assert_eq!((plan.gain, plan.price), (request.demand(), 100 * u64::try_from(plan.moves.len()).unwrap()));
        // Step by step: each place is free before it is taken, and what is moved was there.
        let mut running: Vec<Place> = pods.on.iter().flatten().copied().collect();
        for step in &plan.moves {
            packer.put(&step.to).unwrap();
            packer.release(&step.from).unwrap();
            let at = running.iter().position(|place| *place == step.from).unwrap();
            running[at] = step.to;
        }
        packer.put(&plan.place).unwrap();
        running.push(plan.place);
        for place in &running {
            packer.release(place).unwrap();
        }
        assert_eq!(packer.free_milli(), 24_000, "seed {seed}");
        planned += 1;
        more += usize::from(plan.moves.len() > 1);
    }
    assert!(planned > 50 && more > 3, "{planned} {more}");
}

#[test]
fn a_plan_that_is_not_worth_its_price_is_not_made() {
    let (mut packer, mut pods, request) =
        (0..300).map(full).find(|(packer, pods, request)| one_move_does(packer, pods, request)).unwrap();
    assert!(packer.plan_moves(&request, &pods, 1).is_some());
    assert_eq!(packer.plan_moves(&request, &pods, 0), None);
    for price in [None, Some(request.demand())] {
        pods.price = price;
        assert_eq!(packer.plan_moves(&request, &pods, 9), None, "{price:?}");
    }
}

#[test]
fn a_plan_is_carried_out_or_refused() {
    let (mut packer, pods, request) =
        (0..300).map(full).find(|(packer, pods, request)| one_move_does(packer, pods, request)).unwrap();
    let plan = packer.plan_moves(&request, &pods, 1).unwrap();
    let free = packer.free_milli();
    packer.carry_out(&plan).unwrap();
    assert_eq!(packer.free_milli(), free - request.demand());
    assert!(packer.carry_out(&plan).is_err(), "it has been done");
}
