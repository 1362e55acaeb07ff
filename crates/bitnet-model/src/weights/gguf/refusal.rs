//! The rules that a GGUF file can break.

/// Why a GGUF file is refused.
///
/// The rules are those of the format's specification (ggml, `docs/gguf.md`) and of llama.cpp's own reader, made strict: a file that
/// passes has no range outside of itself and no tensor whose size does not follow from its type.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say what each field is")]
pub enum Refusal {
    #[error("not a GGUF file: expected the magic \"GGUF\", got {:?}", got.escape_ascii().to_string())]
    Magic { got: Vec<u8> },
    #[error("GGUF version {got} is not supported (2 and 3 are); convert the original checkpoint again")]
    Version { got: u32 },
    #[error(
        "a big-endian GGUF file (version {version}); convert it with gguf_convert_endian.py of llama.cpp"
    )]
    BigEndian { version: u32 },
    #[error("{what} is {got}; the rest of the file, or the limit of this reader, allows {limit}")]
    Count { what: &'static str, got: u64, limit: u64 },
    #[error("the file ends too early: {what} at byte {offset} needs {needed} bytes, {left} are left")]
    Truncated { what: &'static str, offset: usize, needed: u64, left: usize },
    #[error("{what} at byte {offset} is {got} bytes long; the limit is {limit}")]
    TooLong { what: &'static str, offset: usize, got: u64, limit: u64 },
    #[error("{what} of {got} bytes cannot be written; expected 1 to {limit}")]
    NameLength { what: &'static str, got: u64, limit: u64 },
    #[error("{what} at byte {offset} is not UTF-8")]
    NotUtf8 { what: &'static str, offset: usize },
    #[error("the key at byte {offset} is empty")]
    EmptyKey { offset: usize },
    #[error("key {key:?} occurs twice")]
    DuplicateKey { key: String },
    #[error("key {key:?}: {refusal}")]
    Key { key: String, refusal: Box<Refusal> },
    #[error("value type {id} is unknown (0 to 12 are defined)")]
    ValueType { id: u32 },
    #[error("an array of arrays, which no model needs")]
    NestedArray,
    #[error("a bool is 0 or 1, got {got}")]
    Bool { got: u8 },
    #[error("general.alignment is {got}; expected a power of two from 8 to 65536")]
    Alignment { got: u32 },
    #[error("key {key:?} is missing")]
    MissingKey { key: String },
    #[error("key {key:?}: expected {expected}, got {got}")]
    KeyType { key: String, expected: &'static str, got: String },
    #[error(
        "key {key:?} asks for a transform of the activations that this engine does not have; without it the text is gibberish"
    )]
    Transform { key: String },
    #[error("one of {count} parts of a split model; join them with `llama-gguf-split --merge`")]
    Split { count: u64 },
    #[error("tensor {index} has no name")]
    EmptyTensorName { index: usize },
    #[error("tensor {name:?} occurs twice")]
    DuplicateTensor { name: String },
    #[error("tensor {name:?}: {refusal}")]
    Tensor { name: String, refusal: Box<Refusal> },
    #[error("{got} dimensions; 1 to 4 are possible")]
    Dimensions { got: u32 },
    #[error("dimension {index} is 0")]
    ZeroDimension { index: usize },
    #[error("its size overflows 64 bits")]
    Overflow,
    #[error(
        "type {id} ({name}) is not supported; convert the original checkpoint to one of these, or take such a file: {supported}"
    )]
    UnsupportedType { id: u32, name: &'static str, supported: String },
    #[error(
        "type {id}, {name}: this layout is tuned for one kernel build and the file does not say which; \
         convert the model again from its Hugging Face checkpoint or take its i2_s file"
    )]
    TunedLayout { id: u32, name: &'static str },
    #[error("GGUF has no type number for {format}")]
    NoTypeNumber { format: &'static str },
    #[error("{0}")]
    Format(bitnet_quant::Error),
    #[error("offset {offset} is not a multiple of the alignment {alignment}")]
    Misaligned { offset: u64, alignment: u64 },
    #[error("offset {offset} lies outside of the file")]
    Offset { offset: u64 },
    #[error("the first tensor starts {offset} bytes into the data; expected 0")]
    FirstOffset { offset: u64 },
    #[error(
        "as {format} it takes {needed} bytes with padding, but {next:?} starts {given} bytes after it; \
         another layout of the same type number, or a damaged file"
    )]
    Spacing { format: &'static str, needed: u64, given: u64, next: String },
    #[error("as {format} it takes {needed} bytes, but the file ends {left} bytes after its start")]
    OutOfFile { format: &'static str, needed: u64, left: u64 },
    #[error("{left} bytes follow the last tensor, {name:?}; another layout of its type, or a damaged file")]
    Trailing { name: String, left: u64 },
    #[error("type 42 (q2_0) has groups of 64 or of 128 values, and the offsets in this file fit both")]
    AmbiguousQ2,
}

impl Refusal {
    pub(super) fn in_key(self, key: &str) -> Self {
        Self::Key { key: key.to_owned(), refusal: Box::new(self) }
    }

    pub(super) fn in_tensor(self, name: &str) -> Self {
        Self::Tensor { name: name.to_owned(), refusal: Box::new(self) }
    }
}
