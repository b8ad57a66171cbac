//! Packing on small worlds: what must hold of every policy, and what the recommended one does better.
#![allow(clippy::unwrap_used, clippy::panic, clippy::allow_attributes, reason = "a test")]

use dh_policy::packing::{Mix, Node, POLICIES, Packer, Request, by_name};

fn request(cpu: u32, accelerators: u8, milli: u16) -> Request {
    Request { cpu_milli: cpu, memory_mib: 1024, accelerators, milli, models: 0 }
}

/// What is allocated when `requests` come in order.
fn allocated(policy: &str, nodes: &[Node], requests: &[Request]) -> u64 {
    let mix = Mix::of(requests.iter().copied());
    let mut packer = Packer::new(by_name(policy).unwrap(), mix);
    for node in nodes {
        packer.add(*node);
    }
    requests.iter().filter(|request| packer.place(request).is_some()).map(Request::demand).sum()
}

#[test]
fn every_policy_places_what_fits_and_never_more() {
    let nodes = [Node::empty(16_000, 65_536, 0, 4), Node::empty(64_000, 65_536, 1, 8)];
    let capacity: u64 = nodes.iter().map(Node::free_milli).sum();
    for policy in POLICIES {
        // 30 halves fill 12 accelerators with 24 of them; the processors have room for all.
        let halves = vec![request(1000, 1, 500); 30];
        assert_eq!(allocated(policy.name(), &nodes, &halves), capacity, "{}", policy.name());
        assert_eq!(allocated(policy.name(), &nodes, &[request(1000, 9, 1000)]), 0, "{}", policy.name());
    }
}

#[test]
fn a_request_goes_to_nodes_of_its_models_only() {
    let nodes = [Node::empty(64_000, 65_536, 0, 1), Node::empty(64_000, 65_536, 1, 1)];
    let only_second = Request { models: 0b10, ..request(1000, 1, 1000) };
    for policy in POLICIES {
        let mix = Mix::of([only_second, only_second]);
        let mut packer = Packer::new(*policy, mix);
        for node in nodes {
            packer.add(node);
        }
        assert_eq!(packer.place(&only_second).unwrap().node, 1);
        assert_eq!(packer.place(&only_second), None);
        assert_eq!(packer.free_milli(), 1000);
    }
}

/// A part must not break up the one node that a whole-node request needs.
#[test]
fn parts_leave_whole_nodes_alone() {
    let nodes = [Node::empty(64_000, 65_536, 0, 8), Node::empty(64_000, 65_536, 0, 8)];
    let requests = [request(1000, 1, 500), request(1000, 1, 500), request(8000, 8, 1000)];
    for policy in POLICIES {
        assert_eq!(allocated(policy.name(), &nodes, &requests), 9000, "{}", policy.name());
    }
}

/// Requests that insist on a model find it free, because those that take any are sent elsewhere.
#[test]
fn scarce_models_are_kept_for_those_who_insist() {
    let nodes = [Node::empty(64_000, 65_536, 0, 2), Node::empty(64_000, 65_536, 1, 2)];
    let insists = Request { models: 0b01, ..request(1000, 1, 1000) };
    let requests = [request(1000, 1, 1000), request(1000, 1, 1000), insists, insists];
    assert_eq!(allocated("best", &nodes, &requests), 4000);
    assert!(allocated("best-fit", &nodes, &requests) < 4000, "the baseline gives the scarce model away");
}

#[test]
fn the_same_requests_get_the_same_places() {
    let nodes: Vec<Node> = (0..20).map(|n| Node::empty(32_000 + n * 1000, 65_536, 0, 4)).collect();
    let requests: Vec<Request> = (0..60_u16)
        .map(|n| request(1000 + u32::from(n % 7) * 500, 1 + u8::try_from(n % 2).unwrap(), 250 * (1 + n % 4)))
        .collect();
    for policy in POLICIES {
        let run = || {
            let mix = Mix::of(requests.iter().copied());
            let mut packer = Packer::new(*policy, mix);
            for node in &nodes {
                packer.add(*node);
            }
            requests.iter().map(|request| packer.place(request)).collect::<Vec<_>>()
        };
        assert_eq!(run(), run(), "{}", policy.name());
    }
}
