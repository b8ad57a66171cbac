//! The idx format of MNIST, raw or gzipped.
//!
//! Layout (the MNIST page): two zero bytes, a type byte (8 = unsigned byte), the number of dimensions, each dimension
//! as a big-endian u32, then the data. Images have three dimensions, labels one. Files may come from anywhere, so sizes
//! are bounded and checked before anything is allocated for them.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use dh_core::{HasKind, Kind};
use flate2::read::GzDecoder;

use super::{Dataset, Origin, Samples};

/// The largest file after unpacking: 512 MiB, ten times MNIST.
const FILE_BYTES_MAX: u64 = 512 << 20;

/// The largest image side.
const SIDE_MAX: u32 = 4_096;

/// The four files of an MNIST-format set, without `.gz`: train images, train labels, test images, test labels.
pub const FILE_NAMES: [&str; 4] =
    ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

/// Why files are not an image set.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system says no.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of the set is not there.
    #[error("{directory} holds neither {name} nor {name}.gz")]
    Missing {
        /// Where it was looked for.
        directory: PathBuf,
        /// What was looked for.
        name: &'static str,
    },
    /// The content is not an idx file of the wanted kind.
    #[error("{path} is not a usable idx file: {why}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl HasKind for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Io { .. } => Kind::Internal,
            Self::Missing { .. } => Kind::NotFound,
            Self::Format { .. } => Kind::Invalid,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { .. } => {
                Some("on Debian, `apt install dataset-fashion-mnist` brings the four files".to_owned())
            }
            Self::Io { .. } | Self::Format { .. } => None,
        }
    }
}

/// Reads the four files of a set from `directory`.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn load(directory: &Path, name: &str, origin: Origin) -> Result<Dataset, Error> {
    let [train_images, train_labels, test_images, test_labels] = FILE_NAMES;
    let train = load_split(directory, train_images, train_labels)?;
    let test = load_split(directory, test_images, test_labels)?;
    if train.shape != test.shape {
        return Err(Error::Format {
            path: directory.join(test_images),
            why: format!("its images are {:?} and those to train on {:?}", test.shape, train.shape),
        });
    }
    let highest = train.labels.iter().chain(&test.labels).max().copied().unwrap_or(0);
    let classes = origin.class_names((usize::from(highest) + 1).max(2));
    Ok(Dataset { name: name.to_owned(), origin, classes, train, test })
}

fn load_split(directory: &Path, images: &'static str, labels: &'static str) -> Result<Samples, Error> {
    let (image_path, image_bytes) = read_file(directory, images)?;
    let (label_path, label_bytes) = read_file(directory, labels)?;
    let format = |path: &Path, why: String| Error::Format { path: path.to_owned(), why };
    let (shape, pixels) = parse_images(image_bytes).map_err(|why| format(&image_path, why))?;
    let labels = parse_labels(label_bytes).map_err(|why| format(&label_path, why))?;
    let samples = Samples { shape, pixels, labels };
    if samples.len() * samples.pixels_per_sample() != samples.pixels.len() {
        let images = samples.pixels.len() / samples.pixels_per_sample().max(1);
        return Err(format(&label_path, format!("it has {} labels for {images} images", samples.len())));
    }
    Ok(samples)
}

/// The unpacked content of `name` or `name.gz`.
fn read_file(directory: &Path, name: &'static str) -> Result<(PathBuf, Vec<u8>), Error> {
    let plain = directory.join(name);
    let packed = directory.join(format!("{name}.gz"));
    let path = [plain, packed]
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| Error::Missing { directory: directory.to_owned(), name })?;
    let io = |source| Error::Io { path: path.clone(), source };
    let mut raw = Vec::new();
    File::open(&path).map_err(io)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut raw).map_err(io)?;
    let bytes = unpack(raw).map_err(|why| Error::Format { path: path.clone(), why })?;
    Ok((path, bytes))
}

/// Undoes gzip if the bytes begin with its magic; bounded.
fn unpack(raw: Vec<u8>) -> Result<Vec<u8>, String> {
    let bytes = if raw.starts_with(&[0x1f, 0x8b]) {
        let mut bytes = Vec::new();
        GzDecoder::new(raw.as_slice())
            .take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| format!("gzip: {error}"))?;
        bytes
    } else {
        raw
    };
    if crate::number::wide(bytes.len()) > FILE_BYTES_MAX {
        return Err(format!("it is larger than {FILE_BYTES_MAX} bytes"));
    }
    Ok(bytes)
}

/// The shape and pixels of an image file.
fn parse_images(bytes: Vec<u8>) -> Result<([u32; 2], Vec<u8>), String> {
    let ([count, rows, columns], header) = dimensions::<3>(&bytes)?;
    if rows == 0 || columns == 0 || rows > SIDE_MAX || columns > SIDE_MAX {
        return Err(format!("images of {rows} x {columns} pixels"));
    }
    let expected = u64::from(count) * u64::from(rows) * u64::from(columns);
    Ok(([rows, columns], payload(bytes, header, expected)?))
}

/// The labels of a label file.
fn parse_labels(bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    let ([count], header) = dimensions::<1>(&bytes)?;
    payload(bytes, header, u64::from(count))
}

/// The dimensions of a file of unsigned bytes, and the length of its header.
fn dimensions<const N: usize>(bytes: &[u8]) -> Result<([u32; N], usize), String> {
    let header = 4 + 4 * N;
    let head = bytes.get(..header).ok_or_else(|| format!("it ends inside its header ({} bytes)", bytes.len()))?;
    let (magic, rest) = head.split_at(4);
    if magic != [0, 0, 8, crate::number::small(N).to_be_bytes()[3]] {
        return Err(format!("it begins with {magic:02x?}, not with 00 00 08 0{N} (unsigned bytes, {N} dimensions)"));
    }
    let mut sizes = [0; N];
    for (size, field) in sizes.iter_mut().zip(rest.as_chunks::<4>().0) {
        *size = u32::from_be_bytes(*field);
    }
    if sizes.first() == Some(&0) {
        return Err("it holds no sample".to_owned());
    }
    Ok((sizes, header))
}

/// The bytes after the header, if they are exactly as many as announced.
fn payload(mut bytes: Vec<u8>, header: usize, expected: u64) -> Result<Vec<u8>, String> {
    let got = crate::number::wide(bytes.len().saturating_sub(header));
    if got != expected {
        return Err(format!("its header announces {expected} bytes of data and {got} follow"));
    }
    drop(bytes.drain(..header));
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn images(count: u32) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, 3];
        for size in [count, 2, 3] {
            bytes.extend(size.to_be_bytes());
        }
        bytes.extend((0..count * 6).map(|value| u8::try_from(value % 251).unwrap()));
        bytes
    }

    fn labels(count: u32) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, 1];
        bytes.extend(count.to_be_bytes());
        bytes.extend((0..count).map(|value| u8::try_from(value % 3).unwrap()));
        bytes
    }

    #[test]
    fn a_set_loads_raw_and_gzipped_alike() {
        let directory = tempfile::tempdir().unwrap();
        for (name, bytes) in FILE_NAMES.iter().zip([images(5), labels(5), images(2), labels(2)]) {
            if name.contains("labels") {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(&bytes).unwrap();
                std::fs::write(directory.path().join(format!("{name}.gz")), encoder.finish().unwrap()).unwrap();
            } else {
                std::fs::write(directory.path().join(name), bytes).unwrap();
            }
        }
        let set = load(directory.path(), "small", Origin::IdxFiles).unwrap();
        assert_eq!((set.train.len(), set.test.len(), set.classes.len()), (5, 2, 3));
        assert_eq!(set.train.shape, [2, 3]);
        assert_eq!(set.train.get(1).unwrap(), (&[6, 7, 8, 9, 10, 11][..], 1));
        assert!(set.train.get(5).is_none());
    }

    #[test]
    fn a_missing_file_is_named_with_a_hint() {
        let directory = tempfile::tempdir().unwrap();
        let error = load(directory.path(), "x", Origin::IdxFiles).unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        assert!(error.to_string().contains("train-images-idx3-ubyte"));
        assert!(error.hint().is_some());
    }

    #[test]
    fn every_truncation_is_an_error() {
        let whole = images(3);
        for length in 0..whole.len() {
            assert!(parse_images(whole[..length].to_vec()).is_err(), "{length}");
        }
        let whole = labels(9);
        for length in 0..whole.len() {
            assert!(parse_labels(whole[..length].to_vec()).is_err(), "{length}");
        }
    }

    #[test]
    fn every_flip_in_a_header_is_an_error_and_none_panics() {
        for bit in 0..8 {
            let whole = images(3);
            for place in 0..16 {
                let mut bytes = whole.clone();
                bytes[place] ^= 1 << bit;
                assert!(parse_images(bytes).is_err(), "byte {place} bit {bit}");
            }
            for place in 0..8 {
                let mut bytes = labels(9);
                bytes[place] ^= 1 << bit;
                assert!(parse_labels(bytes).is_err(), "byte {place} bit {bit}");
            }
        }
    }

    #[test]
    fn a_broken_gzip_is_an_error() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&images(3)).unwrap();
        let packed = encoder.finish().unwrap();
        for length in 2..packed.len() {
            assert!(unpack(packed[..length].to_vec()).is_err(), "{length}");
        }
        // Flips of the header's time stamp, flags or name leave the data whole; no flip may panic or change the data.
        for place in 2..packed.len() {
            let mut bytes = packed.clone();
            bytes[place] ^= 0x10;
            if let Ok(unpacked) = unpack(bytes) {
                assert_eq!(unpacked, images(3), "{place}");
            }
        }
    }
}
