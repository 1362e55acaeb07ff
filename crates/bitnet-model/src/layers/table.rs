//! The embedding and the head: a row for each token.

use bitnet_core::{Device, Error, PackedTensor, Result, Tensor, ops};

/// `[V, C]`.
#[derive(Clone, Debug)]
pub enum Table {
    /// As stored in a file.
    Stored(Box<PackedTensor>),
    /// Trainable floats.
    Latent(Tensor),
}

impl Table {
    /// Rows `ids` -> `[T, C]`.
    ///
    /// # Errors
    /// Where an id has no row or the device fails.
    pub fn rows(&self, ids: &[u32]) -> Result<Tensor> {
        match self {
            Self::Stored(table) => ops::embedding(table, ids),
            Self::Latent(table) => {
                let rows = table.shape().rows();
                if let Some(&id) = ids.iter().find(|&&id| id as usize >= rows) {
                    return Err(Error::Range { op: "embedding", start: id as usize, len: 1, extent: rows });
                }
                let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
                table.index_select(0, &Tensor::from_slice(table.device(), [ids.len()], &ids)?)
            }
        }
    }

    /// Products of `x: [T, C]` with every row -> `[T, V]`.
    ///
    /// # Errors
    /// Where shapes differ or the device fails.
    pub fn products(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Stored(table) => ops::matmul_t(x, table),
            Self::Latent(table) => ops::linear(x, table),
        }
    }

    /// Where it lives.
    pub fn device(&self) -> &Device {
        match self {
            Self::Stored(table) => table.device(),
            Self::Latent(table) => table.device(),
        }
    }

    /// Bytes of the rows.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Stored(table) => table.bytes(),
            Self::Latent(table) => table.bytes(),
        }
    }
}
