//! GGUF files made by hand, right or wrong, without the writer under test.

/// Number of the value type u32.
pub const U32: u32 = 4;
/// Number of the value type array.
pub const ARRAY: u32 = 9;
/// Number of the tensor type f32.
pub const F32: u32 = 0;
/// Number of the tensor type i2_s.
pub const I2_S: u32 = 36;
/// Number of the tensor type q2_0, in both of its meanings.
pub const Q2_0: u32 = 42;

/// Parts of a file; `bytes` puts them together.
#[derive(Clone)]
pub struct Parts {
    pub magic: Vec<u8>,
    pub version: u32,
    /// What the head says, if it is not the truth.
    pub tensor_count: Option<u64>,
    /// What the head says, if it is not the truth.
    pub pair_count: Option<u64>,
    pub pairs: Vec<Vec<u8>>,
    pub infos: Vec<Vec<u8>>,
    pub alignment: usize,
    pub data: Vec<u8>,
}

impl Parts {
    /// A file of one pair and these tensors over `data` bytes of zeros.
    pub fn new(infos: Vec<Vec<u8>>, data: usize) -> Self {
        Self {
            magic: b"GGUF".to_vec(),
            version: 3,
            tensor_count: None,
            pair_count: None,
            pairs: vec![pair(b"general.architecture", 8, &string(b"llama"))],
            infos,
            alignment: 32,
            data: vec![0; data],
        }
    }

    /// A file with two tensors that breaks no rule.
    pub fn good() -> Self {
        Self::new(vec![info(b"norm", &[16], F32, 0), info(b"matrix", &[128, 4], I2_S, 64)], 64 + 160)
    }

    /// The same file with one more pair.
    pub fn with(mut self, pair: Vec<u8>) -> Self {
        self.pairs.push(pair);
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.magic.clone();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.tensor_count.unwrap_or(self.infos.len() as u64).to_le_bytes());
        bytes.extend(self.pair_count.unwrap_or(self.pairs.len() as u64).to_le_bytes());
        bytes.extend(self.pairs.concat());
        bytes.extend(self.infos.concat());
        bytes.resize(bytes.len().next_multiple_of(self.alignment), 0);
        bytes.extend(&self.data);
        bytes
    }
}

pub fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

pub fn pair(key: &[u8], type_id: u32, value: &[u8]) -> Vec<u8> {
    [&string(key), &type_id.to_le_bytes()[..], value].concat()
}

/// An array value: the number of its element type, its length, its elements.
pub fn array(element_id: u32, count: u64, elements: &[u8]) -> Vec<u8> {
    [&element_id.to_le_bytes()[..], &count.to_le_bytes(), elements].concat()
}

/// A tensor info; dimensions innermost first, as in the file.
pub fn info(name: &[u8], dimensions: &[u64], type_id: u32, offset: u64) -> Vec<u8> {
    let mut info = string(name);
    info.extend((dimensions.len() as u32).to_le_bytes());
    dimensions.iter().for_each(|dimension| info.extend(dimension.to_le_bytes()));
    info.extend(type_id.to_le_bytes());
    info.extend(offset.to_le_bytes());
    info
}
