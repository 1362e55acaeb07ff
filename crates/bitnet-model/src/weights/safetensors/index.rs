//! The index of a sharded checkpoint: which file of the folder holds which tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use super::Refusal;
use super::unique::Unique;

/// The names of the tensors of every shard.
pub type Shards = BTreeMap<String, BTreeSet<String>>;

#[derive(Deserialize)]
struct Index {
    weight_map: Unique<String>,
}

/// Reads and checks the text of an index.
///
/// # Errors
/// The rule that the index breaks.
pub fn parse_index(text: &str) -> Result<Shards, Refusal> {
    let Index { weight_map: Unique(map) } = serde_json::from_str(text).map_err(Refusal::Index)?;
    let mut shards = Shards::new();
    for (tensor, shard) in map {
        if !is_plain(&shard) {
            return Err(Refusal::ShardName { tensor, shard });
        }
        shards.entry(shard).or_default().insert(tensor);
    }
    if shards.is_empty() { Err(Refusal::EmptyIndex) } else { Ok(shards) }
}

/// Whether it names a file in the same folder, on every system.
fn is_plain(shard: &str) -> bool {
    let one_part = Path::new(shard).file_name().is_some_and(|name| name == shard);
    one_part && shard.ends_with(".safetensors") && !shard.contains(['/', '\\', ':', '\0'])
}
