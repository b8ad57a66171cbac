//! Causal attention with grouped queries over the cache of one layer.
//!
//! Two paths with one meaning: many rows (prefill) go through two matrix products per layer, a single row (decode) is read
//! straight from the cache without copies. Cost: `2 * heads * head_dim * positions` multiplications per row.

use std::sync::Mutex;

use candle_core::utils::barrier_pool;
use candle_core::{Storage, Tensor};

use super::Error;
use super::kv_cache::{Layer, heads_first, rows_first};
use super::weights::DEVICE;
use crate::numeric::{add_scaled, count, dot, softmax};

/// Multiplications below which a second thread costs more than it saves.
const PARALLEL_MIN: usize = 1 << 16;

/// The shape of one attention layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
}

impl Shape {
    const fn group(self) -> usize {
        self.heads / self.kv_heads
    }
}

/// Attends from `queries` (`[rows, heads, head_dim]`, the last of them at position `before + rows - 1`) to the first
/// `before + rows` positions of `layer`. Gives `[rows, heads, head_dim]`.
pub(super) fn attend(shape: Shape, queries: &[f32], layer: &Layer, before: usize) -> Result<Vec<f32>, Error> {
    if queries.len() == shape.heads * shape.head_dim {
        attend_one(shape, queries, layer, before + 1)
    } else {
        attend_many(shape, queries, layer, before)
    }
}

fn attend_one(shape: Shape, query: &[f32], layer: &Layer, positions: usize) -> Result<Vec<f32>, Error> {
    let Shape { head_dim, .. } = shape;
    let scale = 1.0 / count(head_dim).sqrt();
    let mut out = vec![0.0; query.len()];
    let (keys, _) = layer.keys.storage_and_layout();
    let (values, _) = layer.values.storage_and_layout();
    let (keys, values) = (floats(&keys)?, floats(&values)?);
    // Keys and values of one head are contiguous over all of the capacity.
    let stride = keys.len() / shape.kv_heads;
    let outputs: Vec<Mutex<&mut [f32]>> = out.chunks_exact_mut(head_dim).map(Mutex::new).collect();
    let one_head = |head: usize| {
        let start = head / shape.group() * stride;
        let place = start..start + positions * head_dim;
        let (Some(query), Some(keys), Some(values), Some(output)) = (
            query.get(head * head_dim..(head + 1) * head_dim),
            keys.get(place.clone()),
            values.get(place),
            outputs.get(head),
        ) else {
            return;
        };
        let mut scores: Vec<f32> = keys.chunks_exact(head_dim).map(|key| dot(query, key)).collect();
        softmax(&mut scores, scale);
        if let Ok(mut output) = output.lock() {
            for (value, score) in values.chunks_exact(head_dim).zip(&scores) {
                add_scaled(&mut output, value, *score);
            }
        }
    };
    in_parallel(shape.heads, positions * query.len(), one_head);
    drop(outputs);
    Ok(out)
}

fn attend_many(shape: Shape, queries: &[f32], layer: &Layer, before: usize) -> Result<Vec<f32>, Error> {
    let Shape { heads, kv_heads, head_dim } = shape;
    let rows = queries.len() / (heads * head_dim);
    let positions = before + rows;
    // Queries that share a key head stand below each other: `[kv_heads, group * rows, head_dim]`.
    let grouped = heads_first(queries, heads, head_dim);
    let grouped = Tensor::from_vec(grouped, (kv_heads, shape.group() * rows, head_dim), &DEVICE)?;
    let keys = layer.keys.narrow(1, 0, positions)?;
    let mut scores: Vec<f32> = grouped.matmul(&keys.t()?)?.flatten_all()?.to_vec1()?;
    let scale = 1.0 / count(head_dim).sqrt();
    {
        let per_head: Vec<Mutex<&mut [f32]>> = scores.chunks_exact_mut(rows * positions).map(Mutex::new).collect();
        let one_head = |head: usize| {
            let Some(Ok(mut scores)) = per_head.get(head).map(Mutex::lock) else { return };
            for (row, scores) in scores.chunks_exact_mut(positions).enumerate() {
                let (seen, future) = scores.split_at_mut(before + row + 1);
                softmax(seen, scale);
                future.fill(0.0);
            }
        };
        in_parallel(heads, scores_cost(rows, positions, heads), one_head);
    }
    let scores = Tensor::from_vec(scores, (kv_heads, shape.group() * rows, positions), &DEVICE)?;
    let mixed: Vec<f32> = scores.matmul(&layer.values.narrow(1, 0, positions)?)?.flatten_all()?.to_vec1()?;
    Ok(rows_first(&mixed, heads, head_dim))
}

/// An exponential is taken to cost as much as eight multiplications: an estimate, it only decides about a second thread.
const fn scores_cost(rows: usize, positions: usize, heads: usize) -> usize {
    8 * rows * positions * heads
}

fn in_parallel(items: usize, cost: usize, work: impl Fn(usize) + Sync) {
    if cost < PARALLEL_MIN {
        (0..items).for_each(work);
    } else {
        barrier_pool().execute_chunked(items, |range| range.for_each(&work));
    }
}

fn floats(storage: &Storage) -> Result<&[f32], Error> {
    match storage {
        Storage::Cpu(storage) => Ok(storage.as_slice()?),
        Storage::Cuda(_) | Storage::Metal(_) => {
            Err(candle_core::Error::Msg("the cache left the processor".to_owned()).into())
        }
    }
}
