//! Keys and values of the tokens seen so far, for one conversation.
//!
//! Layout per layer: `[kv_heads, capacity, head_dim] f32`, twice. Invariant: positions `0..length` are valid in every layer
//! between two forward passes. Cost: memory grows by doubling to what is used; the operating system gives pages only when
//! they are written.

use candle_core::{DType, Tensor};

use super::Error;
use super::weights::DEVICE;

/// Positions of the first allocation.
const CAPACITY_MIN: usize = 256;

/// One layer's keys and values.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) keys: Tensor,
    pub(super) values: Tensor,
}

/// All layers.
#[derive(Debug)]
pub(super) struct KvCache {
    layers: Vec<Layer>,
    kv_heads: usize,
    head_dim: usize,
    capacity: usize,
    length: usize,
}

impl KvCache {
    pub(super) fn new(layers: usize, kv_heads: usize, head_dim: usize) -> Result<Self, Error> {
        let empty = || Tensor::zeros((kv_heads, 0, head_dim), DType::F32, &DEVICE);
        let layers =
            (0..layers).map(|_| Ok(Layer { keys: empty()?, values: empty()? })).collect::<Result<_, Error>>()?;
        Ok(Self { layers, kv_heads, head_dim, capacity: 0, length: 0 })
    }

    /// Tokens that every layer holds.
    pub(super) const fn length(&self) -> usize {
        self.length
    }

    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets the positions from `length` on.
    pub(super) fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Makes room for `more` tokens after those it holds.
    pub(super) fn reserve(&mut self, more: usize) -> Result<(), Error> {
        let needed = self.length + more;
        if needed <= self.capacity {
            return Ok(());
        }
        let capacity = needed.next_power_of_two().max(CAPACITY_MIN);
        for layer in &mut self.layers {
            for held in [&mut layer.keys, &mut layer.values] {
                let grown = Tensor::zeros((self.kv_heads, capacity, self.head_dim), DType::F32, &DEVICE)?;
                if self.length > 0 {
                    grown.slice_set(&held.narrow(1, 0, self.length)?.contiguous()?, 1, 0)?;
                }
                *held = grown;
            }
        }
        self.capacity = capacity;
        Ok(())
    }

    /// Writes `[rows, kv_heads, head_dim]` keys and values of `layer` behind the valid positions, and gives the layer.
    pub(super) fn append(&self, layer: usize, keys: &[f32], values: &[f32]) -> Result<&Layer, Error> {
        let layer =
            self.layers.get(layer).ok_or_else(|| candle_core::Error::Msg(format!("no layer {layer} in the cache")))?;
        for (held, fresh) in [(&layer.keys, keys), (&layer.values, values)] {
            let rows = fresh.len() / (self.kv_heads * self.head_dim);
            let by_head = heads_first(fresh, self.kv_heads, self.head_dim);
            held.slice_set(&Tensor::from_vec(by_head, (self.kv_heads, rows, self.head_dim), &DEVICE)?, 1, self.length)?;
        }
        Ok(layer)
    }

    /// Declares `rows` appended positions valid, after all layers have them.
    pub(super) const fn advance(&mut self, rows: usize) {
        self.length += rows;
    }
}

/// `[rows, heads, head_dim]` to `[heads, rows, head_dim]`.
pub(super) fn heads_first(values: &[f32], heads: usize, head_dim: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for head in 0..heads {
        for row in values.chunks_exact(heads * head_dim) {
            out.extend(row.iter().skip(head * head_dim).take(head_dim));
        }
    }
    out
}

/// `[heads, rows, head_dim]` to `[rows, heads, head_dim]`.
pub(super) fn rows_first(values: &[f32], heads: usize, head_dim: usize) -> Vec<f32> {
    let rows = values.len() / (heads * head_dim);
    let mut out = Vec::with_capacity(values.len());
    for row in 0..rows {
        for head in values.chunks_exact(rows * head_dim) {
            out.extend(head.iter().skip(row * head_dim).take(head_dim));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growing_keeps_what_is_held() {
        let mut cache = KvCache::new(1, 2, 2).unwrap();
        cache.reserve(1).unwrap();
        cache.append(0, &[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0, 7.0, 8.0]).unwrap();
        cache.advance(1);
        cache.reserve(CAPACITY_MIN).unwrap();
        assert_eq!(cache.capacity(), 2 * CAPACITY_MIN);
        let layer = cache.append(0, &[9.0; 4], &[9.0; 4]).unwrap();
        let keys: Vec<f32> =
            layer.keys.narrow(1, 0, 2).unwrap().contiguous().unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(keys, [1.0, 2.0, 9.0, 9.0, 3.0, 4.0, 9.0, 9.0]);
    }

    #[test]
    fn the_two_orders_are_inverse() {
        let values: Vec<f32> = (0..24u8).map(f32::from).collect();
        let by_head = heads_first(&values, 3, 2);
        assert_eq!(by_head[..4], [0.0, 1.0, 6.0, 7.0]);
        assert_eq!(rows_first(&by_head, 3, 2), values);
    }
}
