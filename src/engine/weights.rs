//! Large weights, left where they are until they are packed.
//!
//! An embedding network's file is 99 % convolution weights. Decoding it whole holds them twice (the file, the protobuf),
//! tract's graph a third time and the packed form a fourth. So the file's protobuf is walked by hand: every big initializer is
//! cut out and only its place noted; tract sees its shape as one more input of the graph.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Initializers of at least this many bytes stay in the file.
const STORED_FROM: usize = 4096;

/// The bytes of a model file.
#[derive(Clone)]
pub(super) enum Bytes {
    Shared(Arc<[u8]>),
    Static(&'static [u8]),
}

impl std::ops::Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Shared(bytes) => bytes,
            Bytes::Static(bytes) => bytes,
        }
    }
}

struct Stored {
    name: String,
    shape: Vec<usize>,
    bytes: Range<usize>,
}

/// The weights that were cut out of a model file.
pub(super) struct Weights {
    file: Bytes,
    tensors: Vec<Stored>,
    by_name: HashMap<String, usize>,
}

impl Weights {
    /// Index of the weights called `name`.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub fn shape(&self, index: usize) -> &[usize] {
        &self.tensors[index].shape
    }

    pub fn name(&self, index: usize) -> &str {
        &self.tensors[index].name
    }

    /// Name and shape of all stored weights.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.tensors.iter().map(|t| (t.name.as_str(), t.shape.as_slice()))
    }

    /// Keeps the tensors whose names `keep` accepts.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.tensors.retain(|t| keep(&t.name));
        self.by_name = self.tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
    }

    /// The numbers of one tensor, row-major.
    pub fn read(&self, index: usize) -> Result<Vec<f32>, String> {
        let stored = &self.tensors[index];
        let bytes = self.file.get(stored.bytes.clone()).ok_or_else(|| format!("{}: the file is cut short", stored.name))?;
        Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }

    /// Splits a model file into its weights and the rest, which is a valid ONNX file but for the missing initializers.
    /// `None` when the bytes are no well-formed protobuf.
    pub fn split(file: Bytes) -> Option<(Weights, Vec<u8>)> {
        let mut tensors = vec![];
        let mut rest = vec![];
        for field in fields(&file, 0..file.len()) {
            let field = field?;
            if field.number != GRAPH || field.payload.is_empty() {
                rest.extend_from_slice(&file[field.whole]);
                continue;
            }
            let mut graph = vec![];
            for inner in fields(&file, field.payload) {
                let inner = inner?;
                let stored = if inner.number == INITIALIZER { stored_tensor(&file, inner.payload.clone()) } else { None };
                match stored {
                    Some(stored) => tensors.push(stored),
                    None => graph.extend_from_slice(&file[inner.whole]),
                }
            }
            rest.push(GRAPH << 3 | LENGTH_DELIMITED);
            push_varint(&mut rest, graph.len() as u64);
            rest.append(&mut graph);
        }
        let by_name = tensors.iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        Some((Weights { file, tensors, by_name }, rest))
    }
}

// Field numbers of onnx.proto and wire types of protobuf.
const GRAPH: u8 = 7; // ModelProto.graph
const INITIALIZER: u8 = 5; // GraphProto.initializer
const TENSOR_DIMS: u8 = 1;
const TENSOR_TYPE: u8 = 2;
const TENSOR_FLOATS: u8 = 4;
const TENSOR_NAME: u8 = 8;
const TENSOR_RAW: u8 = 9;
const TYPE_FLOAT: u64 = 1;
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LENGTH_DELIMITED: u8 = 2;
const FIXED32: u8 = 5;

/// One field of a protobuf message: its number, its payload (empty unless length-delimited), its place.
struct Field {
    number: u8,
    value: u64,
    payload: Range<usize>,
    whole: Range<usize>,
}

/// The fields of the message at `range`; `None` ends the walk where the bytes are malformed.
fn fields(bytes: &[u8], range: Range<usize>) -> impl Iterator<Item = Option<Field>> + '_ {
    let mut at = range.start;
    std::iter::from_fn(move || {
        if at >= range.end {
            return None;
        }
        let field = field(bytes, at, range.end);
        at = field.as_ref().map_or(range.end, |f| f.whole.end);
        Some(field)
    })
}

fn field(bytes: &[u8], start: usize, end: usize) -> Option<Field> {
    let mut at = start;
    let key = varint(bytes, &mut at, end)?;
    let mut payload = at..at;
    let mut value = 0;
    match (key & 7) as u8 {
        VARINT => value = varint(bytes, &mut at, end)?,
        FIXED64 => at += 8,
        FIXED32 => at += 4,
        LENGTH_DELIMITED => {
            let length = usize::try_from(varint(bytes, &mut at, end)?).ok()?;
            payload = at..at.checked_add(length)?;
            at = payload.end;
        }
        _ => return None,
    }
    (at <= end).then_some(Field { number: u8::try_from(key >> 3).unwrap_or(u8::MAX), value, payload, whole: start..at })
}

fn varint(bytes: &[u8], at: &mut usize, end: usize) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at).filter(|_| *at < end)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The tensor at `range`, if it is a large f32 tensor whose numbers are in this file.
fn stored_tensor(bytes: &[u8], range: Range<usize>) -> Option<Stored> {
    if range.len() < STORED_FROM {
        return None;
    }
    let (mut name, mut shape, mut data, mut is_float) = (String::new(), vec![], 0..0, false);
    for field in fields(bytes, range) {
        let field = field?;
        match field.number {
            TENSOR_DIMS if field.payload.is_empty() => shape.push(usize::try_from(field.value).ok()?),
            TENSOR_DIMS => {
                let mut at = field.payload.start;
                while at < field.payload.end {
                    shape.push(usize::try_from(varint(bytes, &mut at, field.payload.end)?).ok()?);
                }
            }
            TENSOR_TYPE => is_float = field.value == TYPE_FLOAT,
            TENSOR_NAME => name = std::str::from_utf8(&bytes[field.payload]).ok()?.to_string(),
            TENSOR_RAW | TENSOR_FLOATS if !field.payload.is_empty() => data = field.payload,
            _ => {}
        }
    }
    let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    (is_float && elements.checked_mul(4)? == data.len()).then_some(Stored { name, shape, bytes: data })
}
