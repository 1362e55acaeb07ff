//! Zeros among the int8 codes that down projections take: such a code adds nothing to any product.

use crate::Decoder;
use bitnet_core::{Result, ops::Codes};

/// Is told the layer and the codes that its down projection takes, `[T, F']`.
pub type Watch<'a> = dyn FnMut(usize, &Codes) -> Result<()> + 'a;

/// So many neighbouring codes of so many consecutive tokens; fewer at the ends of rows and batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Consecutive tokens of a batch.
    pub tokens: usize,
    /// Codes of each.
    pub codes: usize,
}

impl std::fmt::Display for Tile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.tokens, self.codes)
    }
}

/// The tiles that are counted: what kernels could skip.
pub const TILES: [Tile; 8] = {
    const fn tile(tokens: usize, codes: usize) -> Tile {
        Tile { tokens, codes }
    }
    [tile(1, 1), tile(1, 4), tile(1, 32), tile(1, 64), tile(1, 128), tile(1, 256), tile(8, 32), tile(8, 64)]
};

/// Tiles of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Those of nothing but zeros.
    pub zero: u64,
    /// All.
    pub all: u64,
}

impl Count {
    /// Of all, those of nothing but zeros; none where there are none.
    pub fn share(self) -> Option<f64> {
        (self.all > 0).then(|| self.zero as f64 / self.all as f64)
    }

    fn add(&mut self, other: Self) {
        self.zero += other.zero;
        self.all += other.all;
    }
}

/// Counts in the order of [`TILES`].
pub type Counts = [Count; TILES.len()];

/// What was counted of every layer.
#[derive(Clone, Debug)]
pub struct Sparsity {
    width: usize,
    layers: Vec<Counts>,
}

impl Sparsity {
    /// Nothing yet, of a decoder that is to be [watched](Decoder::forward_watched).
    pub fn of(decoder: &Decoder) -> Self {
        let layers = vec![Counts::default(); decoder.layers.len()];
        Self { width: decoder.config.intermediate_size, layers }
    }

    /// Adds the codes of a batch.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn count(&mut self, layer: usize, codes: &Codes) -> Result<()> {
        let padded = codes.codes.shape().last();
        let codes = codes.codes.to_vec::<i8>()?;
        let rows: Vec<&[i8]> = codes.chunks(padded).map(|row| &row[..self.width]).collect();
        for (count, tile) in self.layers[layer].iter_mut().zip(TILES) {
            count.add(of(&rows, tile));
        }
        Ok(())
    }

    /// By layer.
    pub fn layers(&self) -> &[Counts] {
        &self.layers
    }

    /// Of all layers together; no tiles where none takes codes.
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        for layer in &self.layers {
            total.iter_mut().zip(layer).for_each(|(total, count)| total.add(*count));
        }
        total
    }
}

fn of(rows: &[&[i8]], tile: Tile) -> Count {
    let mut count = Count::default();
    for tokens in rows.chunks(tile.tokens) {
        for start in (0..tokens[0].len()).step_by(tile.codes) {
            let zero = |row: &&[i8]| row[start..].iter().take(tile.codes).all(|code| *code == 0);
            count.add(Count { zero: tokens.iter().all(zero).into(), all: 1 });
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_counts_where_all_of_its_tokens_have_nothing_but_zeros() {
        // Ten tokens of 72 codes, all zero but for code 40 of token 3 and code 71 of token 9.
        let mut codes = [[0i8; 72]; 10];
        (codes[3][40], codes[9][71]) = (1, -1);
        let rows: Vec<&[i8]> = codes.iter().map(|row| &row[..]).collect();
        for (tile, zero, all) in [
            ((1, 1), 718, 720),
            ((1, 4), 178, 180),
            ((1, 32), 28, 30),
            ((1, 64), 18, 20),
            ((1, 256), 8, 10),
            ((8, 32), 4, 6),
            ((8, 64), 2, 4),
        ] {
            let tile = Tile { tokens: tile.0, codes: tile.1 };
            assert_eq!(of(&rows, tile), Count { zero, all }, "{tile}");
        }
    }
}
