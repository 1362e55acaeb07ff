//! The rules that a safetensors file or its index can break.

/// Why a safetensors file, index or folder is refused.
///
/// The rules for a file are those of the format's specification (huggingface/safetensors, README): a header of at most 100 MB without
/// repeated keys, and tensors that cover the data exactly, without holes and without overlap.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what each field is")]
pub enum Refusal {
    #[error("{len} bytes are too few for a safetensors file")]
    TooShort { len: usize },
    #[error("the header is {got} bytes long; the limit is {limit}")]
    HeaderTooLong { got: u64, limit: usize },
    #[error("the file ends too early: the header has {needed} bytes, {left} are left")]
    HeaderTruncated { needed: u64, left: usize },
    #[error("the header does not start with {{")]
    HeaderStart,
    #[error("the header is not a JSON object of tensors: {0}")]
    Header(serde_json::Error),
    #[error("tensor {name:?}: its size overflows")]
    Overflow { name: String },
    #[error("tensor {name:?}: shape and dtype make {needed} bytes, its offsets {given}")]
    Size { name: String, needed: usize, given: usize },
    #[error(
        "tensor {name:?} starts at byte {got} of the data, the one before it ends at {expected}: a hole or an overlap"
    )]
    Offset { name: String, expected: usize, got: usize },
    #[error("tensor {name:?} ends at byte {end} of the data, before its start")]
    Backwards { name: String, end: usize },
    #[error("tensor {name:?} ends at byte {end} of the data, of which the file has {len}; download it again")]
    OutOfFile { name: String, end: usize, len: usize },
    #[error("{left} bytes follow the last tensor")]
    Trailing { left: usize },
    #[error("longer than {limit} bytes, the limit for such a file")]
    JsonTooLong { limit: usize },
    #[error("not UTF-8")]
    NotUtf8,
    #[error("not a JSON object: {0}")]
    Config(serde_json::Error),
    #[error("not an index with a \"weight_map\" from tensors to files: {0}")]
    Index(serde_json::Error),
    #[error("the index names no tensors")]
    EmptyIndex,
    #[error(
        "tensor {tensor:?} is said to be in {shard:?}; expected the name of a .safetensors file in the same folder"
    )]
    ShardName { tensor: String, shard: String },
    #[error("shard {shard:?} is missing; it holds {tensor:?}")]
    MissingShard { shard: String, tensor: String },
    #[error("tensor {tensor:?} is not in {shard:?}, where the index says it is")]
    NotInShard { tensor: String, shard: String },
    #[error("tensor {tensor:?} is in {shard:?}, where the index does not say it is")]
    NotInIndex { tensor: String, shard: String },
    #[error(
        "the index does not name model.safetensors, which is there too; remove the one that is not the model"
    )]
    TwoModels,
    #[error("tensor {name:?} occurs twice")]
    DuplicateTensor { name: String },
    #[error(
        "tensor {name:?} would start at byte {offset}, which {dtype:?} cannot; order the tensors by type, widest first"
    )]
    Misaligned { name: String, dtype: safetensors::Dtype, offset: usize },
}
