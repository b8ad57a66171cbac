//! Measures this machine as a training rank meets it.
//!
//! As many threads as the job has ranks run the training's own code at once: the products with the operands lying as
//! they lie there, Adam, a tiny network for the cost of an operation, the ranks' exchange over loopback. Operands rotate
//! through as much memory as a step touches, because a product on a warm cache would promise too much. Each figure is the
//! median over many repetitions, then over the ranks. Takes about five seconds; the machine should do nothing else.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use dh_core::{HasKind, Kind, Secret};
use dh_perf::{GemmRate, MachineProfile};
use dh_units::{Bytes, BytesPerSec, Flop, Seconds};

use crate::adam::{Adam, Moments};
use crate::collective::{self, Collective};
use crate::network::{self, Network};
use crate::number;
use crate::random::Generator;
use crate::threads::SingleThread;
use crate::train::{self, DataSize, Gemm, Product, StepShape, TrainConfig, World, train_shape};

/// Time for all products together, and for each other figure.
const PRODUCTS_FOR: Duration = Duration::from_secs(2);
const FIGURE_FOR: Duration = Duration::from_millis(400);

/// Bytes of the file that the disk is measured with, and how often.
const DISK_BYTES: usize = 16 << 20;
const DISK_TIMES: usize = 3;

/// Why the machine could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The run to measure for.
    #[error(transparent)]
    Train(#[from] train::Error),
    /// The network.
    #[error(transparent)]
    Network(#[from] network::Error),
    /// The exchange.
    #[error(transparent)]
    Collective(#[from] collective::Error),
    /// The disk.
    #[error("cannot measure the disk with {path}: {source}")]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A measuring thread died.
    #[error("a measuring thread ended early")]
    ThreadLost,
    /// No loopback.
    #[error("cannot listen on loopback: {0}")]
    Loopback(std::io::Error),
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Train(error) => error.kind(),
            Self::Network(error) => error.kind(),
            Self::Collective(error) => error.kind(),
            Self::Disk { .. } | Self::ThreadLost | Self::Loopback(_) => Kind::Internal,
        }
    }
}

/// What one rank measured, in seconds.
struct Measured {
    products: Vec<f64>,
    adam: f64,
    operation: f64,
    latency: f64,
    exchange: f64,
}

/// Measures this machine for `ranks` ranks that run `config`, and the disk under `directory`.
///
/// Matrix products of the whole process stay on single threads while this runs; call it in a process that does nothing
/// else.
///
/// # Errors
/// If the run is not possible, or loopback or disk fail.
pub fn probe(config: &TrainConfig, ranks: u32, directory: &Path) -> Result<MachineProfile, Error> {
    let shape = train_shape(config, DataSize::MNIST, ranks)?;
    let products = distinct(&shape);
    let _one_thread = SingleThread::enforce();
    let measured = measure_ranks(config, &shape, &products)?;
    let over_ranks = |figure: &dyn Fn(&Measured) -> f64| median(measured.iter().map(figure).collect());
    let gemm = products
        .iter()
        .enumerate()
        .map(|(place, product)| {
            let seconds = over_ranks(&|rank| rank.products.get(place).copied().unwrap_or(f64::NAN));
            let flop = 2.0 * f64::from(product.m) * f64::from(product.k) * f64::from(product.n);
            GemmRate { m: product.m, k: product.k, n: product.n, rate: Flop(flop) / Seconds(seconds) }
        })
        .collect();
    let latency = over_ranks(&|rank| rank.latency);
    // A single rank exchanges nothing; loopback is then measured with two.
    let pairs = f64::from(ranks.max(2));
    let sent = 2.0 * (pairs - 1.0) / pairs * 4.0 * number::real64(shape.parameters);
    let transfer = (over_ranks(&|rank| rank.exchange) - 2.0 * latency).max(1e-9);
    let (disk_write, disk_read) = measure_disk(directory)?;
    Ok(MachineProfile {
        ranks,
        gemm,
        memory: Bytes(Adam::bytes_touched(shape.parameters)) / Seconds(over_ranks(&|rank| rank.adam)),
        operation: Seconds(over_ranks(&|rank| rank.operation)),
        message_latency: Seconds(latency),
        message_bandwidth: BytesPerSec(sent / transfer),
        disk_write,
        disk_read,
    })
}

/// Every product of a step and of an evaluation once, small to large.
fn distinct(shape: &StepShape) -> Vec<Gemm> {
    let mut products: Vec<Gemm> = Vec::new();
    for product in shape.gemms.iter().chain(&shape.evaluation_gemms) {
        let same = |other: &Gemm| (other.m, other.k, other.n) == (product.m, product.k, product.n);
        if !products.iter().any(same) {
            products.push(*product);
        }
    }
    products.sort_by_key(|product| u64::from(product.m) * u64::from(product.k) * u64::from(product.n));
    products
}

fn measure_ranks(config: &TrainConfig, shape: &StepShape, products: &[Gemm]) -> Result<Vec<Measured>, Error> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(Error::Loopback)?;
    let address = listener.local_addr().map_err(Error::Loopback)?;
    let workers = shape.ranks.max(2);
    let busy = Barrier::new(shape.ranks as usize);
    let mut token = [0; 16];
    // Without randomness of the system the token is known, and a stranger on this machine could spoil the figures.
    let token = Secret::new(getrandom::fill(&mut token).map_or_else(|_| "probe".to_owned(), |()| hex::encode(token)));
    thread::scope(|scope| {
        let handles: Vec<_> = (0..workers)
            .map(|rank| {
                let world =
                    World { rank, ranks: workers, master: address.to_string(), token: token.clone(), ..World::alone() };
                let (listener, busy) = (&listener, &busy);
                scope.spawn(move || {
                    let collective =
                        if rank == 0 { Collective::gather(&world, listener) } else { Collective::join(&world) };
                    // A second worker beside a single rank only answers messages; it must not make the machine busier.
                    let computes = rank < shape.ranks;
                    let compute = if computes { Some(measure_compute(config, shape, products, busy)) } else { None };
                    let (latency, exchange) = measure_exchange(&mut collective?, shape)?;
                    compute.map(|compute| compute.map(|rest| Measured { latency, exchange, ..rest })).transpose()
                })
            })
            .collect();
        let mut measured = Vec::new();
        for handle in handles {
            measured.extend(handle.join().map_err(|_| Error::ThreadLost)??);
        }
        Ok(measured)
    })
}

/// Products, Adam and the cost of an operation, each while all ranks do the same.
fn measure_compute(
    config: &TrainConfig,
    shape: &StepShape,
    products: &[Gemm],
    busy: &Barrier,
) -> Result<Measured, Error> {
    let budget = PRODUCTS_FOR / number::small(products.len()).max(1);
    // Errors are kept until the last barrier, or the other ranks would wait for ever.
    let mut times: Vec<Result<f64, Error>> = Vec::new();
    for product in products {
        let operands = operands(product, shape.memory_bytes);
        busy.wait();
        times.push(operands.and_then(|sets| measure_product(&sets, budget)));
    }
    busy.wait();
    let adam = measure_adam(config, shape);
    busy.wait();
    let operation = measure_operation(shape);
    let products = times.into_iter().collect::<Result<Vec<f64>, Error>>()?;
    Ok(Measured { products, adam, operation: operation?, latency: 0.0, exchange: 0.0 })
}

/// Sets of operands that together fill what a step touches, so that each product finds its operands as cold as there.
fn operands(product: &Gemm, working_set: Bytes) -> Result<Vec<(Tensor, Tensor)>, Error> {
    let (m, k, n) = (product.m as usize, product.k as usize, product.n as usize);
    let bytes = number::wide(4 * (m * k + k * n)).max(1);
    let count = (working_set.0 / 4 / bytes).clamp(1, 64);
    let mut generator = Generator::new(1, &[]);
    let mut matrix = |rows: usize, columns: usize| {
        let values: Vec<f32> = (0..rows * columns).map(|_| generator.signed_unit()).collect();
        Tensor::from_vec(values, (rows, columns), &Device::Cpu)
    };
    let mut sets = Vec::new();
    for _ in 0..count {
        sets.push(match product.product {
            Product::Forward => (matrix(m, k).map_err(network::Error::from)?, transposed(matrix(n, k))?),
            Product::WeightGradient => (transposed(matrix(k, m))?, matrix(k, n).map_err(network::Error::from)?),
            Product::InputGradient => {
                (matrix(m, k).map_err(network::Error::from)?, matrix(k, n).map_err(network::Error::from)?)
            }
        });
    }
    Ok(sets)
}

fn transposed(matrix: candle_core::Result<Tensor>) -> Result<Tensor, Error> {
    Ok(matrix.and_then(|matrix| matrix.t()).map_err(network::Error::from)?)
}

fn measure_product(sets: &[(Tensor, Tensor)], budget: Duration) -> Result<f64, Error> {
    let mut rotation = sets.iter().cycle();
    repeat(budget, || {
        if let Some((left, right)) = rotation.next() {
            drop(left.matmul(right).map_err(network::Error::from)?);
        }
        Ok(())
    })
}

fn measure_adam(config: &TrainConfig, shape: &StepShape) -> f64 {
    let count = number::index(shape.parameters);
    let adam = Adam::new(config.learning_rate);
    let set = || (vec![0.5_f32; count], vec![0.01_f32; count], Moments::zero(count));
    let mut sets = [set(), set()];
    let mut step = 0;
    let timed = repeat(FIGURE_FOR, || {
        let place = number::index(step % 2);
        step += 1;
        if let Some((parameters, gradient, moments)) = sets.get_mut(place) {
            adam.update(step, parameters, gradient, moments);
        }
        Ok(())
    });
    timed.unwrap_or(f64::NAN)
}

/// A network so small that only issuing its operations costs.
fn measure_operation(shape: &StepShape) -> Result<f64, Error> {
    let network = Network::new(&[4, 4, 2])?;
    network.load(&network::initial_parameters(network.spans(), 1))?;
    let mut gradient = vec![0.0; network.parameters()];
    let seconds = repeat(FIGURE_FOR, || {
        network.loss_and_gradient(vec![0.5; 8], vec![0, 1], &mut gradient)?;
        Ok(())
    })?;
    // The same count as that of a step of a network with two layers.
    let tiny =
        TrainConfig { layers: vec![4, 4, 2], global_batch: 2 * shape.ranks as usize, ..TrainConfig::new("", "", "") };
    let operations = train_shape(&tiny, DataSize::MNIST, shape.ranks)?.small_operations;
    Ok(seconds / number::real64(operations))
}

/// One-way time of a small message, and the time of a whole exchange of gradients.
fn measure_exchange(collective: &mut Collective, shape: &StepShape) -> Result<(f64, f64), Error> {
    let ranks = collective.ranks() as usize;
    let small = lockstep(collective, &mut vec![1.0; ranks], 2_000)?;
    let large = lockstep(collective, &mut vec![1.0; number::index(shape.parameters)], 200)?;
    Ok((small / 2.0, large))
}

/// The median time of an exchange. All ranks must do equally many, so a count decides, not a clock.
fn lockstep(collective: &mut Collective, values: &mut [f32], times: u32) -> Result<f64, Error> {
    let mut seconds = Vec::new();
    for _ in 0..times {
        let start = Instant::now();
        collective.average(values)?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    Ok(median(seconds))
}

/// The median time of `work`, repeated for `budget` after a tenth of it to warm up.
fn repeat(budget: Duration, mut work: impl FnMut() -> Result<(), Error>) -> Result<f64, Error> {
    let start = Instant::now();
    let mut times = Vec::new();
    loop {
        let before = Instant::now();
        work()?;
        let after = Instant::now();
        if after - start > budget / 10 {
            times.push((after - before).as_secs_f64());
        }
        if after - start >= budget && !times.is_empty() {
            return Ok(median(times));
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Removes the file when measuring ends, however it ends.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing more can be done about a file that cannot be removed; its name says what it was.
        drop(fs::remove_file(&self.0));
    }
}

/// Durable sequential write and sequential read. The read comes from the page cache where the file still fits, as that
/// of a shard that was just written does.
fn measure_disk(directory: &Path) -> Result<(BytesPerSec, BytesPerSec), Error> {
    let scratch = Scratch(directory.join(format!("datahall-probe-{}.tmp", std::process::id())));
    let failed = |source| Error::Disk { path: scratch.0.clone(), source };
    let mut generator = Generator::new(2, &[]);
    // Random bytes, so that no layer below can save the work by compressing them.
    let block: Vec<u8> = (0..DISK_BYTES / 8).flat_map(|_| generator.bits().to_le_bytes()).collect();
    let (mut writes, mut reads) = (Vec::new(), Vec::new());
    for _ in 0..DISK_TIMES {
        let start = Instant::now();
        let mut file = File::create(&scratch.0).map_err(failed)?;
        file.write_all(&block).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        writes.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let mut back = Vec::with_capacity(DISK_BYTES);
        File::open(&scratch.0).map_err(failed)?.read_to_end(&mut back).map_err(failed)?;
        reads.push(start.elapsed().as_secs_f64());
        if back != block {
            return Err(failed(std::io::Error::other("what was read is not what was written")));
        }
    }
    let bytes = Bytes(number::wide(DISK_BYTES));
    Ok((bytes / Seconds(median(writes)), bytes / Seconds(median(reads))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_is_complete_and_plausible_and_leaves_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let config = TrainConfig::new("b", "d", "c");
        let start = Instant::now();
        let profile = probe(&config, 2, directory.path()).unwrap();
        assert!(start.elapsed() < Duration::from_mins(1), "{:?}", start.elapsed());
        assert_eq!(profile.ranks, 2);
        for product in train_shape(&config, DataSize::MNIST, 2).unwrap().gemms {
            let found = profile.gemm.iter().find(|rate| (rate.m, rate.k, rate.n) == (product.m, product.k, product.n));
            let rate = found.unwrap().rate.0;
            assert!((1e7..1e13).contains(&rate), "{product:?} {rate}");
        }
        assert!((1e8..1e13).contains(&profile.memory.0), "{profile:?}");
        assert!((1e-9..1e-3).contains(&profile.operation.0), "{profile:?}");
        assert!((1e-7..1e-1).contains(&profile.message_latency.0), "{profile:?}");
        assert!((1e6..1e12).contains(&profile.message_bandwidth.0), "{profile:?}");
        assert!(profile.disk_write.0 > 1e5 && profile.disk_read.0 > 1e6, "{profile:?}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_impossible_run_and_a_missing_directory_are_errors() {
        let config = TrainConfig::new("b", "d", "c");
        assert_eq!(probe(&config, 3, Path::new("/")).unwrap_err().kind(), Kind::Invalid);
        assert!(measure_disk(Path::new("/nowhere/at/all")).is_err());
    }
}
