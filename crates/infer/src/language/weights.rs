//! Tensors from the file into memory, one at a time.
//!
//! Formats for which the tensor library has a fast kernel are kept; the others are requantised to `Q8_0`, chunk by chunk,
//! so that beside the finished tensor only one chunk is alive. Measured on 2026-11-24 with SmolLM2-135M `Q4_1`, two AVX2
//! cores, one undisturbed pair of runs of `examples/chat.rs`: loading 0.67 s instead of 0.13 s and 160 MB instead of 116 MB,
//! for 90 instead of 24 tokens/s of decoding and 143 instead of 22 tokens/s of prefill (41 tokens).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use candle_core::quantized::k_quants::BlockQ8_0;
use candle_core::quantized::{GgmlDType, GgmlType, QMatMul, QStorage, QTensor};
use candle_core::{CpuStorage, Device};

use super::Error;
use super::gguf::TensorInfo;

/// Elements that are in the middle of being requantised: 1 MiB as floats. A multiple of every format's block.
const CHUNK_ELEMENTS: usize = 1 << 18;

/// The tensors of one file, taken one by one.
pub(super) struct Weights<F> {
    file: F,
    tensors: BTreeMap<String, TensorInfo>,
}

impl<F: Read + Seek> Weights<F> {
    pub(super) const fn new(file: F, tensors: BTreeMap<String, TensorInfo>) -> Self {
        Self { file, tensors }
    }

    /// A matrix of `[rows, columns]`, which multiplies from the right, transposed.
    pub(super) fn matrix(&mut self, name: &str, rows: usize, columns: usize) -> Result<Arc<QTensor>, Error> {
        let info = self.take(name, &[rows, columns])?;
        self.read_matrix(&info).map(Arc::new)
    }

    /// The same, ready to multiply.
    pub(super) fn multiplier(&mut self, name: &str, rows: usize, columns: usize) -> Result<QMatMul, Error> {
        Ok(QMatMul::from_arc(self.matrix(name, rows, columns)?)?)
    }

    /// A vector of floats.
    pub(super) fn vector(&mut self, name: &str, length: usize) -> Result<Vec<f32>, Error> {
        let info = self.take(name, &[length])?;
        let raw = self.read_at(info.offset, info.bytes)?;
        floats(info.dtype, &raw, length)
    }

    /// Whether the file has a tensor of this name that is not taken yet.
    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Refuses a file with tensors that nothing took: leaving them out would answer wrongly without a word.
    pub(super) fn finish(&self) -> Result<(), Error> {
        match self.tensors.keys().next() {
            None => Ok(()),
            Some(name) => Err(Error::not_a_model(format!("this engine does not know what to do with tensor `{name}`"))),
        }
    }

    fn take(&mut self, name: &str, dims: &[usize]) -> Result<TensorInfo, Error> {
        let info =
            self.tensors.remove(name).ok_or_else(|| Error::not_a_model(format!("tensor `{name}` is missing")))?;
        if info.dims != dims {
            return Err(Error::not_a_model(format!(
                "tensor `{name}` is {:?}, the metadata asks for {dims:?}",
                info.dims
            )));
        }
        Ok(info)
    }

    fn read_at(&mut self, offset: u64, bytes: usize) -> Result<Vec<u8>, Error> {
        let mut raw = vec![0; bytes];
        self.file.seek(SeekFrom::Start(offset)).map_err(Error::Read)?;
        self.file.read_exact(&mut raw).map_err(Error::Read)?;
        Ok(raw)
    }

    fn read_matrix(&mut self, info: &TensorInfo) -> Result<QTensor, Error> {
        let columns = info.dims.last().copied().unwrap_or(0);
        if has_fast_kernel(info.dtype) || !columns.is_multiple_of(GgmlDType::Q8_0.block_size()) {
            let raw = self.read_at(info.offset, info.bytes)?;
            return Ok(QTensor::new(QStorage::Cpu(info.dtype.from_data(Cow::Borrowed(&raw))), info.dims.as_slice())?);
        }
        let elements: usize = info.dims.iter().product();
        let mut blocks = vec![BlockQ8_0::zeros(); elements / BlockQ8_0::BLCK_SIZE];
        let chunk_bytes = CHUNK_ELEMENTS / info.dtype.block_size() * info.dtype.type_size();
        let mut offset = info.offset;
        let mut left = info.bytes;
        for chunk in blocks.chunks_mut(CHUNK_ELEMENTS / BlockQ8_0::BLCK_SIZE) {
            let raw = self.read_at(offset, left.min(chunk_bytes))?;
            BlockQ8_0::from_float(&floats(info.dtype, &raw, chunk.len() * BlockQ8_0::BLCK_SIZE)?, chunk);
            offset = offset.saturating_add(raw.len() as u64);
            left -= raw.len();
        }
        Ok(QTensor::new(QStorage::Cpu(Box::new(blocks)), info.dims.as_slice())?)
    }
}

/// Whether multiplying by this format is vectorised. Source: the `vec_dot` functions of candle 0.11.1 (`quantized/avx.rs`,
/// `quantized/neon.rs`). `F16` and wider would be held as `f32`, four times the memory of `Q8_0`.
const fn has_fast_kernel(dtype: GgmlDType) -> bool {
    matches!(
        dtype,
        GgmlDType::Q4_0
            | GgmlDType::Q8_0
            | GgmlDType::Q2K
            | GgmlDType::Q3K
            | GgmlDType::Q4K
            | GgmlDType::Q5K
            | GgmlDType::Q6K
    )
}

fn floats(dtype: GgmlDType, raw: &[u8], elements: usize) -> Result<Vec<f32>, Error> {
    let CpuStorage::F32(floats) = dtype.from_data(Cow::Borrowed(raw)).dequantize(elements)? else {
        return Err(Error::Compute(candle_core::Error::Msg("dequantising did not give f32".to_owned())));
    };
    Ok(floats)
}

/// The one device this engine computes on.
pub(super) const DEVICE: Device = Device::Cpu;
