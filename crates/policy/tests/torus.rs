//! Boxes on small tori against brute force, and every placement against the links of its job.
#![expect(clippy::unwrap_used, clippy::many_single_char_names, reason = "tests fail by panicking; axes are letters")]

use dh_policy::torus::{
    Bad, Choice, Links, Misfit, Placement, Refused, Request, Rings, Service, Shaping, Torus, Twist, logical_links,
};

/// `SplitMix64`.
struct Stream(u64);

impl Stream {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn side(&mut self, bound: u16) -> u16 {
        u16::try_from(1 + self.below(u64::from(bound))).unwrap()
    }
}

fn at(placement: &Placement, place: u64) -> u32 {
    placement.vertices[usize::try_from(place).unwrap()]
}

/// All vertices free and different, all links of the job one hop long.
fn check(torus: &Torus, request: &Request, placement: &Placement) {
    let mut seen = placement.vertices.clone();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len() as u64, request.vertices());
    assert!(seen.iter().all(|vertex| torus.is_free(*vertex)));
    for (a, b) in logical_links(request, placement.closed) {
        let pair = (at(placement, a), at(placement, b));
        // With optical switches a vertex of a cube's whole width may be joined to itself only by a side of 1.
        assert!(torus.adjacent(pair), "{request:?}: {a} {b} are {pair:?} in {:?}", placement.size);
    }
    if request.rings == Rings::Closed {
        assert_eq!(placement.closed, [true; 3]);
    }
}

fn free_box(torus: &Torus, size: [u16; 3]) -> bool {
    let [x, y, z] = torus.dims().map(u32::from);
    let [p, q, r] = size.map(u32::from);
    if p > x || q > y || r > z {
        return false;
    }
    (0..x * y * z).any(|origin| {
        (0..p * q * r).all(|cell| {
            let i = (origin / z / y + cell / r / q) % x;
            let j = (origin / z % y + cell / r % q) % y;
            torus.is_free((i * y + j) * z + (origin % z + cell % r) % z)
        })
    })
}

/// Whether each axis of the box can be given to one axis of the shape so that the lengths multiply.
fn bends(shape: [u16; 3], size: [u16; 3], most: usize) -> bool {
    (0..27_usize).any(|code| {
        let owner = [code % 3, code / 3 % 3, code / 9];
        (0..3).all(|axis| {
            let own = || (0..3).filter(|at| owner[*at] == axis).map(|at| size[at]);
            own().product::<u16>() == shape[axis] && own().filter(|side| *side > 1).count() <= most
        })
    })
}

fn exists(torus: &Torus, request: &Request) -> bool {
    let most = if request.shaping == Shaping::Folded { 3 } else { 1 };
    let [x, y, z] = torus.dims();
    (1..=x).any(|p| {
        (1..=y).any(|q| {
            (1..=z).any(|r| {
                let size = [p, q, r];
                let bent = match request.shaping {
                    Shaping::AsGiven => size == request.shape,
                    Shaping::Rotated | Shaping::Folded => bends(request.shape, size, most),
                };
                bent && free_box(torus, size)
            })
        })
    })
}

#[test]
fn a_box_is_found_exactly_when_brute_force_finds_one_and_its_links_are_one_hop() {
    let mut stream = Stream(1);
    let (mut found, mut none) = (0, 0);
    for round in 0..1500 {
        let dims = [stream.side(4), stream.side(5), stream.side(4)];
        let mut torus = Torus::new(dims, Links::Fixed).unwrap();
        let busy = stream.below(5);
        let taken: Vec<u32> = (0..torus.vertices()).filter(|_| stream.below(8) < busy).collect();
        torus.take(&taken).unwrap();
        let shape = [stream.side(6), stream.side(4), stream.side(3)];
        let shaping = [Shaping::AsGiven, Shaping::Rotated, Shaping::Folded][round % 3];
        let request = Request { shaping, ..Request::new(shape) };
        for choice in [Choice::First, Choice::Snug] {
            let placed = torus.place(&request, choice);
            assert_eq!(placed.is_ok(), exists(&torus, &request), "{dims:?} {request:?}");
            match placed {
                Ok(placement) => {
                    found += 1;
                    check(&torus, &request, &placement);
                    assert_eq!(torus.clone().place(&request, choice), Ok(placement));
                }
                Err(_) => none += 1,
            }
        }
    }
    assert!(found > 500 && none > 500, "{found} {none}");
}

#[test]
fn a_ring_closes_in_every_even_box_of_two_axes_and_all_round_the_torus() {
    let torus = Torus::new([6, 5, 7], Links::Fixed).unwrap();
    for length in 1..=60 {
        let request = Request { rings: Rings::Closed, ..Request::new([1, length, 1]) };
        let ring = |p: u16, q: u16, r: u16| p * q * r == length && [p, q, r].iter().filter(|s| **s > 1).count() > 1;
        let even = length % 2 == 0 && (1..=6).any(|p| (1..=5).any(|q| (1..=7).any(|r| ring(p, q, r))));
        let placed = torus.place(&request, Choice::Snug);
        assert_eq!(placed.is_ok(), even || [1, 2, 5, 6, 7].contains(&length), "{length}");
        if let Ok(placement) = placed {
            check(&torus, &request, &placement);
        }
    }
}

#[test]
fn two_rings_close_beside_each_other() {
    let torus = Torus::new([8, 8, 8], Links::Fixed).unwrap();
    for shape in [[12, 1, 8], [2, 24, 1], [8, 8, 8], [2, 2, 8]] {
        let request = Request { rings: Rings::Closed, ..Request::new(shape) };
        check(&torus, &request, &torus.place(&request, Choice::Snug).unwrap());
    }
}

#[test]
fn cubes_join_in_any_order_with_rings_and_twists_closed() {
    let mut stream = Stream(3);
    let (mut twisted, mut found) = (0, 0);
    let shapes = [
        [4, 4, 8],
        [8, 4, 8],
        [4, 4, 12],
        [4, 4, 32],
        [2, 4, 8],
        [3, 2, 1],
        [16, 1, 1],
        [8, 8, 8],
        [1, 2, 4],
        [2, 16, 1],
    ];
    for round in 0..400 {
        let mut torus = Torus::new([8, 16, 8], Links::Optical { cube: 4 }).unwrap();
        // One vertex of some cubes, so that whole cubes remain.
        let taken: Vec<u32> = (0..torus.vertices()).filter(|_| stream.below(256) == 0).collect();
        torus.take(&taken).unwrap();
        let shape = shapes[round % shapes.len()];
        let twist = if round % 3 == 0 { Twist::Twisted } else { Twist::None };
        let request = Request { twist, ..Request::new(shape) };
        for choice in [Choice::First, Choice::Snug] {
            if let Ok(placement) = torus.place(&request, choice) {
                check(&torus, &request, &placement);
                found += 1;
                if twist == Twist::Twisted {
                    twisted += 1;
                    assert_eq!(placement.closed, [true; 3]);
                }
            }
        }
        let whole = u64::from(torus.dims().iter().map(|side| u32::from(side / 4)).product::<u32>());
        let broken: std::collections::BTreeSet<u32> =
            taken.iter().map(|v| v / 8 / 16 / 4 * 8 + v / 8 % 16 / 4 * 2 + v % 8 / 4).collect();
        if shape == [4, 4, 32] || shape == [8, 8, 8] {
            let fits = torus.place(&Request::new(shape), Choice::Snug).is_ok();
            assert_eq!(fits, whole - broken.len() as u64 >= 8, "any eight whole cubes will do");
        }
    }
    assert!(found > 200 && twisted > 20, "{found} {twisted}");
}

#[test]
fn the_snug_choice_leaves_less_open_surface_than_the_first() {
    let mut torus = Torus::new([8, 8, 1], Links::Fixed).unwrap();
    // A pit of 2 x 2 at (4, 4) in a wall of 4 x 4; the first free 2 x 2 is at the origin.
    let wall: Vec<u32> = (0..64).filter(|v| (3..7).contains(&(v / 8)) && (3..7).contains(&(v % 8))).collect();
    let wall: Vec<u32> =
        wall.into_iter().filter(|v| !((4..6).contains(&(v / 8)) && (4..6).contains(&(v % 8)))).collect();
    torus.take(&wall).unwrap();
    let request = Request::new([2, 2, 1]);
    assert_eq!(torus.place(&request, Choice::Snug).unwrap().vertices, vec![36, 37, 44, 45]);
    assert_eq!(torus.place(&request, Choice::First).unwrap().vertices, vec![0, 1, 8, 9]);
}

#[test]
fn a_misfit_names_the_first_condition_that_fails() {
    let mut torus = Torus::new([4, 4, 4], Links::Fixed).unwrap();
    let place = |torus: &Torus, shape| torus.place(&Request::new(shape), Choice::Snug).unwrap_err();
    assert_eq!(place(&torus, [0, 1, 1]), Misfit::Nothing);
    assert_eq!(place(&torus, [5, 5, 1]), Misfit::LargerThanTorus { vertices: 64, needed: 25 });
    let twisted = Request { twist: Twist::Twisted, ..Request::new([2, 2, 3]) };
    assert_eq!(torus.place(&twisted, Choice::Snug), Err(Misfit::NotTwistable));
    torus.set_in_service(&[0], Service::Out).unwrap();
    assert_eq!(place(&torus, [4, 4, 4]), Misfit::OutOfService { out: 1 });
    torus.set_in_service(&[0], Service::In).unwrap();
    let odd: Vec<u32> = (0..64).filter(|v| (v / 16 + v / 4 % 4 + v % 4) % 2 == 1).collect();
    torus.take(&odd).unwrap();
    assert_eq!(place(&torus, [4, 4, 4]), Misfit::TooFewFree { free: 32, needed: 64 });
    assert_eq!(place(&torus, [2, 2, 2]), Misfit::NoBox { free: 32 });
    assert_eq!(torus.smaller(&Request::new([2, 2, 2])), [1, 1, 1]);
}

#[test]
fn the_state_follows_a_naive_model_and_survives_saving() {
    let mut stream = Stream(7);
    let mut torus = Torus::new([3, 5, 4], Links::Fixed).unwrap();
    let (mut busy, mut out) = ([false; 60], [false; 60]);
    for _ in 0..3000 {
        let vertices: Vec<u32> = (0..=stream.below(3)).map(|_| u32::try_from(stream.below(61)).unwrap()).collect();
        let twice = |index: usize| vertices[..index].contains(&vertices[index]);
        let kind = stream.below(4);
        let mut refused = None;
        for (index, vertex) in vertices.iter().enumerate() {
            let v = *vertex as usize;
            refused = match kind {
                _ if v >= 60 => Some(Refused::Unknown(*vertex)),
                0 if busy[v] || out[v] || twice(index) => Some(Refused::NotFree(*vertex)),
                1 if !busy[v] || twice(index) => Some(Refused::NotBusy(*vertex)),
                _ => None,
            };
            if refused.is_some() {
                break;
            }
        }
        let done = match kind {
            0 => torus.take(&vertices),
            1 => torus.release(&vertices),
            2 => torus.set_in_service(&vertices, Service::Out),
            _ => torus.set_in_service(&vertices, Service::In),
        };
        assert_eq!(done, refused.map_or(Ok(()), Err));
        if refused.is_none() {
            for vertex in &vertices {
                match kind {
                    0 => busy[*vertex as usize] = true,
                    1 => busy[*vertex as usize] = false,
                    2 => out[*vertex as usize] = true,
                    _ => out[*vertex as usize] = false,
                }
            }
        }
        for vertex in 0..60 {
            assert_eq!(torus.is_free(vertex), !busy[vertex as usize] && !out[vertex as usize]);
        }
    }
    let saved = serde_json::to_string(&torus).unwrap();
    assert_eq!(serde_json::from_str::<Torus>(&saved).unwrap(), torus);
    assert!(serde_json::from_str::<Torus>(&saved.replace("[3,5,4]", "[3,4,4]")).is_err());
}

#[test]
fn sides_and_cubes_that_cannot_be_are_refused() {
    assert_eq!(Torus::new([4, 0, 4], Links::Fixed), Err(Bad::Side(0)));
    assert_eq!(Torus::new([4, 65, 4], Links::Fixed), Err(Bad::Side(65)));
    assert_eq!(Torus::new([4, 6, 4], Links::Optical { cube: 4 }), Err(Bad::Cube(4)));
    assert_eq!(Torus::new([10, 5, 5], Links::Optical { cube: 5 }), Err(Bad::Cube(5)));
}
