//! Where the tensors lie: sizes follow from types, and offsets have to agree with them to the byte.

use std::ops::Range;

use bitnet_quant::Format;

use super::{Refusal, types};

/// A tensor as the file declares it.
pub(super) struct Declared {
    pub(super) name: String,
    /// Outermost dimension first.
    pub(super) shape: Vec<usize>,
    pub(super) type_id: u32,
    /// From the start of the data.
    pub(super) offset: u64,
}

/// A tensor of a GGUF file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name, as in `blk.0.attn_q.weight`.
    pub name: String,
    /// Outermost dimension first: `[out, in]` for a matrix (the file has them the other way round).
    pub shape: Vec<usize>,
    /// The number of its type in the file; 36 and 42 have had more than one meaning.
    pub type_id: u32,
    /// How its values are stored.
    pub format: Format,
    /// Its bytes, counted from the start of the file.
    pub range: Range<usize>,
}

impl TensorInfo {
    /// Product of all dimensions but the innermost.
    pub fn rows(&self) -> usize {
        rows(&self.shape)
    }

    /// The innermost dimension: the length of a contiguous row.
    pub fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }
}

fn rows(shape: &[usize]) -> usize {
    shape.iter().rev().skip(1).product()
}

/// Number of bytes of a tensor in `format`.
pub(super) fn size(shape: &[usize], format: Format) -> Result<usize, Refusal> {
    // The reader and the writer have checked that the product fits.
    let cols = shape.last().copied().ok_or(Refusal::Dimensions { got: 0 })?;
    format.tensor_bytes(rows(shape), cols).map_err(Refusal::Format)
}

/// Checks dimensions (in any order) and that their product fits.
pub(super) fn check_shape(shape: &[usize]) -> Result<(), Refusal> {
    if !(1..=4).contains(&shape.len()) {
        return Err(Refusal::Dimensions { got: u32::try_from(shape.len()).unwrap_or(u32::MAX) });
    }
    if let Some(index) = shape.iter().position(|&dimension| dimension == 0) {
        return Err(Refusal::ZeroDimension { index });
    }
    let count = shape.iter().try_fold(1_usize, |product, &dimension| product.checked_mul(dimension));
    count.map(|_| ()).ok_or(Refusal::Overflow)
}

/// Gives every tensor its format and range, in the order of the file.
///
/// Type 42 has had two meanings. The sizes decide between them: the one for which every tensor of the file ends where the next begins.
pub(super) fn place(
    tensors: &[Declared],
    data: Range<usize>,
    alignment: usize,
) -> Result<Vec<TensorInfo>, Refusal> {
    let current = place_as(tensors, &data, alignment, Format::Q2_0);
    if tensors.iter().all(|tensor| tensor.type_id != types::Q2_0) {
        return current;
    }
    let legacy = place_as(tensors, &data, alignment, Format::Q2_0G128);
    match (current, legacy) {
        (Ok(_), Ok(_)) => Err(Refusal::AmbiguousQ2),
        (Err(_), Ok(placed)) => Ok(placed),
        (current, Err(_)) => current,
    }
}

fn place_as(
    tensors: &[Declared],
    data: &Range<usize>,
    alignment: usize,
    q2_0: Format,
) -> Result<Vec<TensorInfo>, Refusal> {
    let placed = tensors
        .iter()
        .map(|tensor| {
            place_alone(tensor, data, alignment, q2_0).map_err(|refusal| refusal.in_tensor(&tensor.name))
        })
        .collect::<Result<Vec<_>, _>>()?;
    check_spacing(&placed, data, alignment)?;
    Ok(placed)
}

fn place_alone(
    tensor: &Declared,
    data: &Range<usize>,
    alignment: usize,
    q2_0: Format,
) -> Result<TensorInfo, Refusal> {
    let format = types::format(tensor.type_id, q2_0)?;
    let needed = size(&tensor.shape, format)?;
    let offset = tensor.offset;
    if !offset.is_multiple_of(alignment as u64) {
        return Err(Refusal::Misaligned { offset, alignment: alignment as u64 });
    }
    let left = (data.len() as u64).checked_sub(offset).ok_or(Refusal::Offset { offset })?;
    if needed as u64 > left {
        return Err(Refusal::OutOfFile { format: format.name(), needed: needed as u64, left });
    }
    // Both fit now: they are bounded by the length of the file.
    let start = data.start + offset as usize;
    Ok(TensorInfo {
        name: tensor.name.clone(),
        shape: tensor.shape.clone(),
        type_id: tensor.type_id,
        format,
        range: start..start + needed,
    })
}

/// Every tensor begins where the one before it ends, up to padding. llama.cpp asks for the same; a file that breaks it has tensors that
/// are not what their types say.
fn check_spacing(placed: &[TensorInfo], data: &Range<usize>, alignment: usize) -> Result<(), Refusal> {
    let mut sorted: Vec<&TensorInfo> = placed.iter().collect();
    sorted.sort_by_key(|tensor| tensor.range.start);
    if let Some(first) = sorted.first()
        && first.range.start != data.start
    {
        let offset = (first.range.start - data.start) as u64;
        return Err(Refusal::FirstOffset { offset }.in_tensor(&first.name));
    }
    for pair in sorted.windows(2) {
        let (tensor, next) = (pair[0], pair[1]);
        let needed = tensor.range.len().next_multiple_of(alignment);
        let given = next.range.start - tensor.range.start;
        if needed != given {
            let (needed, given) = (needed as u64, given as u64);
            let spacing =
                Refusal::Spacing { format: tensor.format.name(), needed, given, next: next.name.clone() };
            return Err(spacing.in_tensor(&tensor.name));
        }
    }
    match sorted.last() {
        Some(last) if data.end - last.range.end >= alignment => {
            Err(Refusal::Trailing { name: last.name.clone(), left: (data.end - last.range.end) as u64 })
        }
        _ => Ok(()),
    }
}
