//! Rows of a stored matrix.

use crate::{DType, Error, PackedTensor, Result, Tensor};

/// Rows `ids` of a stored matrix `[V, C]` -> `[T, C]` in f32.
///
/// # Errors
/// Where an id has no row, the matrix is ternary, or the device fails.
pub fn embedding(table: &PackedTensor, ids: &[u32]) -> Result<Tensor> {
    if let Some(&id) = ids.iter().find(|&&id| id as usize >= table.rows()) {
        return Err(Error::Range { op: "embedding", start: id as usize, len: 1, extent: table.rows() });
    }
    if table.scales().is_some() {
        return Err(Error::Format { op: "embedding", format: table.format() });
    }
    let mut y = Tensor::empty(table.device(), [ids.len(), table.cols()], DType::F32)?;
    table.device().backend().embedding(table.view(), ids, y.view_mut("embedding")?)?;
    Ok(y)
}
