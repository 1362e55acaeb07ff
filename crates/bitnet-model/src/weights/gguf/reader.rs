//! Bytes to metadata and tensor infos; the data of the tensors is not touched.

use std::collections::HashSet;
use std::ops::Range;

use super::cursor::Cursor;
use super::layout::{self, Declared};
use super::{MAGIC, MAX_KEY, MAX_TENSOR_NAME, Metadata, Refusal, TensorInfo, codec};

/// Most pairs and most tensors; real files have some hundreds of each.
const MAX_COUNT: u64 = 1 << 16;
/// Smallest pair: length and one byte of the key, value type, one byte.
const LEAST_PAIR: usize = 8 + 1 + 4 + 1;
/// Smallest info: length and one byte of the name, dimension count, one dimension, type, offset.
const LEAST_INFO: usize = 8 + 1 + 4 + 8 + 4 + 8;

/// What a file says before its data.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) version: u32,
    pub(super) alignment: usize,
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<TensorInfo>,
}

pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, Refusal> {
    let mut from = Cursor::new(bytes);
    let version = read_version(&mut from, bytes)?;
    let tensor_count = from.u64("the number of tensors")?;
    let pair_count = from.u64("the number of keys")?;
    let tensor_count = from.count(tensor_count, "the number of tensors", LEAST_INFO, MAX_COUNT)?;
    let metadata = read_metadata(&mut from, pair_count)?;
    let alignment = metadata.alignment()?;
    metadata.check_readable_alone()?;
    let declared = read_infos(&mut from, tensor_count)?;
    let data = data_range(from.at(), bytes.len(), alignment, declared.is_empty())?;
    let tensors = layout::place(&declared, data, alignment)?;
    Ok(Parsed { version, alignment, metadata, tensors })
}

fn read_version(from: &mut Cursor<'_>, bytes: &[u8]) -> Result<u32, Refusal> {
    if !bytes.starts_with(MAGIC) {
        return Err(Refusal::Magic { got: bytes[..bytes.len().min(MAGIC.len())].to_vec() });
    }
    from.take(MAGIC.len() as u64, "the magic")?;
    match from.u32("the version")? {
        version @ (2 | 3) => Ok(version),
        got => match got.swap_bytes() {
            version @ 1..=3 => Err(Refusal::BigEndian { version }),
            _ => Err(Refusal::Version { got }),
        },
    }
}

fn read_metadata(from: &mut Cursor<'_>, count: u64) -> Result<Metadata, Refusal> {
    let count = from.count(count, "the number of keys", LEAST_PAIR, MAX_COUNT)?;
    let mut metadata = Metadata::default();
    for _ in 0..count {
        let offset = from.at();
        let key = from.string("a key", MAX_KEY)?;
        if key.is_empty() {
            return Err(Refusal::EmptyKey { offset });
        }
        let value = codec::read(from).map_err(|refusal| refusal.in_key(key))?;
        metadata.insert(key, value)?;
    }
    Ok(metadata)
}

fn read_infos(from: &mut Cursor<'_>, count: usize) -> Result<Vec<Declared>, Refusal> {
    let mut names = HashSet::new();
    let mut infos = Vec::new();
    for index in 0..count {
        let name = from.string("a tensor name", MAX_TENSOR_NAME)?;
        if name.is_empty() {
            return Err(Refusal::EmptyTensorName { index });
        }
        if !names.insert(name) {
            return Err(Refusal::DuplicateTensor { name: name.to_owned() });
        }
        infos.push(read_info(name, from).map_err(|refusal| refusal.in_tensor(name))?);
    }
    Ok(infos)
}

fn read_info(name: &str, from: &mut Cursor<'_>) -> Result<Declared, Refusal> {
    let rank = from.u32("the number of dimensions")?;
    if !(1..=4).contains(&rank) {
        return Err(Refusal::Dimensions { got: rank });
    }
    let mut shape = Vec::with_capacity(rank as usize);
    for _ in 0..rank {
        shape.push(usize::try_from(from.u64("a dimension")?).map_err(|_| Refusal::Overflow)?);
    }
    layout::check_shape(&shape)?;
    shape.reverse();
    let type_id = from.u32("a tensor type")?;
    let offset = from.u64("a tensor offset")?;
    Ok(Declared { name: name.to_owned(), shape, type_id, offset })
}

/// The data starts at the next multiple of the alignment; a file without tensors may end before it.
fn data_range(infos_end: usize, len: usize, alignment: usize, empty: bool) -> Result<Range<usize>, Refusal> {
    let start = infos_end.next_multiple_of(alignment);
    if start <= len {
        Ok(start..len)
    } else if empty {
        Ok(len..len)
    } else {
        let needed = (start - infos_end) as u64;
        Err(Refusal::Truncated {
            what: "the padding before the data",
            offset: infos_end,
            needed,
            left: len - infos_end,
        })
    }
}
