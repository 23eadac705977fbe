//! Large weights, which remain in the model file until they are packed.
//!
//! The file of an embedding network is 99 % convolution weights. A complete decoding would hold them in memory twice
//! (file and protobuf), tract's graph a third time and the packed form a fourth time. So this module reads the protobuf
//! itself: it removes every large initializer and records its position; tract sees its shape as an additional input of
//! the graph.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use crate::error::ImportError;
use crate::lock::Lock;

/// Minimum size of an initializer that remains in the file, in bytes.
const MIN_STORED_BYTES: u64 = 4096;
/// Maximum length of a field that is copied, in bytes.
const MAX_FIELD_BYTES: u64 = 1 << 30;

/// The bytes of a model file.
#[derive(Clone)]
pub(crate) enum ModelBytes {
    Shared(Arc<[u8]>),
    Static(&'static [u8]),
    /// Read in pieces. Reading fails if the file was changed since it was opened; a file that was replaced or removed
    /// remains readable.
    File(Arc<Lock<OpenFile>>),
}

/// A file, with its length and modification time when it was opened.
pub(crate) struct OpenFile {
    file: File,
    length: u64,
    modified: Option<SystemTime>,
}

impl OpenFile {
    /// Errs if the file was changed.
    fn check(&self) -> io::Result<()> {
        let now = self.file.metadata()?;
        match now.len() == self.length && now.modified().ok() == self.modified {
            true => Ok(()),
            false => Err(io::Error::other("the file was changed while it was in use")),
        }
    }
}

impl ModelBytes {
    pub fn open(path: &Path) -> io::Result<ModelBytes> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let opened = OpenFile { length: metadata.len(), modified: metadata.modified().ok(), file };
        Ok(ModelBytes::File(Arc::new(Lock::new(opened))))
    }

    /// The little-endian floats in a range of the file.
    fn read(&self, range: Range<u64>) -> io::Result<Vec<f32>> {
        let floats =
            |bytes: &[u8]| bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        let bytes: &[u8] = match self {
            ModelBytes::Shared(bytes) => bytes,
            ModelBytes::Static(bytes) => bytes,
            ModelBytes::File(file) => {
                let mut values = Vec::with_capacity((range.end - range.start) as usize / 4);
                let mut piece = [0u8; 1 << 16];
                let mut opened = file.lock();
                opened.check()?;
                let file = &mut opened.file;
                file.seek(SeekFrom::Start(range.start))?;
                let mut left = (range.end - range.start) as usize;
                while left > 0 {
                    let piece = &mut piece[..left.min(1 << 16)];
                    file.read_exact(piece)?;
                    left -= piece.len();
                    values.extend(piece.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
                }
                return Ok(values);
            }
        };
        let range = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let part = range.and_then(|(start, end)| bytes.get(start..end));
        part.map(floats).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// A tensor in the model file.
struct StoredTensor {
    name: String,
    shape: Vec<usize>,
    bytes: Range<u64>,
}

/// The weights that remain in a model file.
pub(crate) struct Weights {
    file: ModelBytes,
    tensors: Vec<StoredTensor>,
    by_name: HashMap<String, usize>,
}

impl Weights {
    /// Index of the tensor `name`.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Shape of one tensor.
    pub fn shape(&self, index: usize) -> &[usize] {
        &self.tensors[index].shape
    }

    /// Name and shape of all tensors, in the order of their indices.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.tensors.iter().map(|t| (t.name.as_str(), t.shape.as_slice()))
    }

    /// Keeps the tensors whose names `keep` accepts.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.tensors.retain(|t| keep(&t.name));
        self.by_name = self.tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
    }

    /// The values of one tensor, row-major.
    pub fn read(&self, index: usize) -> Result<Vec<f32>, ImportError> {
        let stored = &self.tensors[index];
        let failed = |source| ImportError::Weights { name: stored.name.clone(), source };
        self.file.read(stored.bytes.clone()).map_err(failed)
    }

    /// Splits a model file into its large weights and a valid ONNX file without these initializers. Errs if the bytes
    /// cannot be read or are not well-formed protobuf. Also returns the length of the file.
    pub fn split(file: ModelBytes) -> (u64, io::Result<(Weights, Vec<u8>)>) {
        let (length, parts) = match &file {
            ModelBytes::Shared(bytes) => (bytes.len() as u64, split(Cursor::new(&bytes[..]), bytes.len() as u64)),
            ModelBytes::Static(bytes) => (bytes.len() as u64, split(Cursor::new(*bytes), bytes.len() as u64)),
            ModelBytes::File(shared) => {
                let file = &shared.lock().file;
                match file.metadata() {
                    Ok(metadata) => (metadata.len(), split(BufReader::new(file), metadata.len())),
                    Err(error) => (0, Err(error)),
                }
            }
        };
        let weights = parts.map(|(tensors, rest)| {
            let by_name = tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
            (Weights { file, tensors, by_name }, rest)
        });
        (length, weights)
    }
}

// Field numbers of onnx.proto and wire types of protobuf.
const GRAPH: u64 = 7; // ModelProto.graph
const INITIALIZER: u64 = 5; // GraphProto.initializer
const TENSOR_DIMS: u64 = 1;
const TENSOR_TYPE: u64 = 2;
const TENSOR_FLOATS: u64 = 4;
const TENSOR_NAME: u64 = 8;
const TENSOR_RAW: u64 = 9;
const TYPE_FLOAT: u64 = 1;
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const FIXED32: u64 = 5;

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The large weights of a file of `length` bytes, and the file without them.
fn split(reader: impl Read + Seek, length: u64) -> io::Result<(Vec<StoredTensor>, Vec<u8>)> {
    let mut reader = ProtobufReader { reader, at: 0, length };
    let (mut tensors, mut rest) = (vec![], vec![]);
    while reader.at < length {
        let (number, wire) = reader.key()?;
        if (number, wire) != (GRAPH, LENGTH_DELIMITED) {
            reader.copy_field(number, wire, &mut rest)?;
            continue;
        }
        let size = reader.varint()?;
        let end = reader.end(size)?;
        let mut graph = vec![];
        while reader.at < end {
            let (number, wire) = reader.key()?;
            if (number, wire) != (INITIALIZER, LENGTH_DELIMITED) {
                reader.copy_field(number, wire, &mut graph)?;
                continue;
            }
            let size = reader.varint()?;
            let start = reader.at;
            let end = reader.end(size)?;
            match if size >= MIN_STORED_BYTES { reader.stored_tensor(end)? } else { None } {
                Some(stored) => tensors.push(stored),
                None => {
                    reader.skip_to(start)?;
                    push_varint(&mut graph, INITIALIZER << 3 | LENGTH_DELIMITED);
                    push_varint(&mut graph, size);
                    reader.copy(size, &mut graph)?;
                }
            }
            reader.skip_to(end)?;
        }
        push_varint(&mut rest, GRAPH << 3 | LENGTH_DELIMITED);
        push_varint(&mut rest, graph.len() as u64);
        rest.append(&mut graph);
    }
    Ok((tensors, rest))
}

/// Reader of the fields of protobuf messages.
struct ProtobufReader<R> {
    reader: R,
    /// Position in the file.
    at: u64,
    length: u64,
}

impl<R: Read + Seek> ProtobufReader<R> {
    fn varint(&mut self) -> io::Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.reader.read_exact(&mut byte)?;
            self.at += 1;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(malformed("a number is too long"))
    }

    /// Number and wire type of the next field.
    fn key(&mut self) -> io::Result<(u64, u64)> {
        let key = self.varint()?;
        Ok((key >> 3, key & 7))
    }

    /// End of a field of `size` bytes.
    fn end(&self, size: u64) -> io::Result<u64> {
        let end = self.at.checked_add(size).filter(|&end| end <= self.length);
        end.ok_or_else(|| malformed("the file is truncated"))
    }

    fn skip_to(&mut self, to: u64) -> io::Result<()> {
        self.reader.seek_relative(to as i64 - self.at as i64)?;
        self.at = to;
        Ok(())
    }

    fn copy(&mut self, size: u64, out: &mut Vec<u8>) -> io::Result<()> {
        self.end(size)?;
        if size > MAX_FIELD_BYTES {
            return Err(malformed("a field is too long"));
        }
        let before = out.len();
        out.resize(before + size as usize, 0);
        self.reader.read_exact(&mut out[before..])?;
        self.at += size;
        Ok(())
    }

    fn copy_field(&mut self, number: u64, wire: u64, out: &mut Vec<u8>) -> io::Result<()> {
        push_varint(out, number << 3 | wire);
        match wire {
            VARINT => push_varint(out, self.varint()?),
            FIXED64 => self.copy(8, out)?,
            FIXED32 => self.copy(4, out)?,
            LENGTH_DELIMITED => {
                let size = self.varint()?;
                push_varint(out, size);
                self.copy(size, out)?;
            }
            _ => return Err(malformed("unknown type of a field")),
        }
        Ok(())
    }

    /// The tensor that ends at `end`; `None` if it is not f32 or if its values are not in this file.
    fn stored_tensor(&mut self, end: u64) -> io::Result<Option<StoredTensor>> {
        let (mut name, mut shape, mut data, mut is_float) = (String::new(), vec![], 0..0, false);
        while self.at < end {
            let (number, wire) = self.key()?;
            match (number, wire) {
                (TENSOR_DIMS, VARINT) => shape.push(self.varint()?),
                (TENSOR_TYPE, VARINT) => is_float = self.varint()? == TYPE_FLOAT,
                (_, LENGTH_DELIMITED) => {
                    let size = self.varint()?;
                    let after = self.end(size)?;
                    match number {
                        TENSOR_DIMS => {
                            while self.at < after {
                                shape.push(self.varint()?);
                            }
                        }
                        TENSOR_NAME => {
                            let mut bytes = vec![];
                            self.copy(size, &mut bytes)?;
                            name = String::from_utf8(bytes).map_err(|_| malformed("a name is not UTF-8"))?;
                        }
                        TENSOR_RAW | TENSOR_FLOATS => data = self.at..after,
                        _ => {}
                    }
                    self.skip_to(after)?;
                }
                _ => self.copy_field(number, wire, &mut vec![])?,
            }
        }
        let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d)).and_then(|n| n.checked_mul(4));
        let is_complete = is_float && elements == Some(data.end - data.start);
        let shape = shape.into_iter().map(|d| d as usize).collect();
        Ok(is_complete.then_some(StoredTensor { name, shape, bytes: data }))
    }
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u64, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![];
        push_varint(&mut out, number << 3 | LENGTH_DELIMITED);
        push_varint(&mut out, payload.len() as u64);
        out.extend_from_slice(payload);
        out
    }

    fn tensor(name: &str, shape: &[u64], value: f32) -> Vec<u8> {
        let mut out = vec![];
        for &d in shape {
            push_varint(&mut out, TENSOR_DIMS << 3);
            push_varint(&mut out, d);
        }
        out.extend([(TENSOR_TYPE << 3) as u8, TYPE_FLOAT as u8]);
        out.extend(field(TENSOR_NAME, name.as_bytes()));
        let values: Vec<u8> = (0..shape.iter().product()).flat_map(|_| value.to_le_bytes()).collect();
        out.extend(field(TENSOR_RAW, &values));
        out
    }

    fn model() -> Vec<u8> {
        let graph = [
            field(1, b"a node"),
            field(INITIALIZER, &tensor("large", &[40, 50], 0.5)),
            field(INITIALIZER, &tensor("small", &[3], 2.0)),
            field(2, b"the name"),
        ];
        [vec![8, 7], field(GRAPH, &graph.concat()), field(8, b"opset")].concat()
    }

    #[test]
    fn split_removes_large_weights_only() {
        let path = std::env::temp_dir().join(format!("ifr-weights-{}", std::process::id()));
        std::fs::write(&path, model()).unwrap();
        for bytes in
            [ModelBytes::Shared(model().into()), ModelBytes::Static(model().leak()), ModelBytes::open(&path).unwrap()]
        {
            let (length, parts) = Weights::split(bytes);
            let (weights, rest) = parts.unwrap();
            assert_eq!(length, model().len() as u64);
            assert_eq!(weights.iter().collect::<Vec<_>>(), [("large", &[40, 50][..])]);
            assert_eq!(weights.read(0).unwrap(), vec![0.5; 2000]);
            let graph = [field(1, b"a node"), field(INITIALIZER, &tensor("small", &[3], 2.0)), field(2, b"the name")];
            assert_eq!(rest, [vec![8, 7], field(GRAPH, &graph.concat()), field(8, b"opset")].concat());
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn split_rejects_truncated_files() {
        let whole = model();
        for length in [1, 3, 20, 100, 5000, whole.len() - 1] {
            assert!(Weights::split(ModelBytes::Shared(whole[..length].into())).1.is_err(), "{length}");
        }
    }
}
