//! Element types as NumPy spells them in files.

use crate::DType;

/// What the bits of an element mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Truth: `b`.
    Bool,
    /// Signed integer: `i`.
    Int,
    /// Unsigned integer: `u`.
    Uint,
    /// Float: `f`.
    Float,
}

/// Kind, bytes and byte order of an element, such as `<f4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descr {
    /// What the bits mean.
    pub kind: Kind,
    /// Bytes of one element.
    pub size: usize,
    /// Whether the most significant byte comes first.
    pub big_endian: bool,
}

impl Descr {
    /// Reads a description, or `None` where it is not one of a bool, integer or float that tensors can hold.
    pub fn parse(text: &str) -> Option<Self> {
        let (order, rest) = text.split_at_checked(1)?;
        let (kind, size) = match rest {
            "b1" => (Kind::Bool, 1),
            "i1" => (Kind::Int, 1),
            "i2" => (Kind::Int, 2),
            "i4" => (Kind::Int, 4),
            "i8" => (Kind::Int, 8),
            "u1" => (Kind::Uint, 1),
            "u2" => (Kind::Uint, 2),
            "u4" => (Kind::Uint, 4),
            "u8" => (Kind::Uint, 8),
            "f2" => (Kind::Float, 2),
            "f4" => (Kind::Float, 4),
            "f8" => (Kind::Float, 8),
            _ => return None,
        };
        match (order, size) {
            ("|", 1) | ("<" | "=", _) => Some(Self { kind, size, big_endian: false }),
            (">", _) => Some(Self { kind, size, big_endian: true }),
            _ => None,
        }
    }

    /// How elements of a tensor are described, or `None` where NumPy has no such type.
    pub fn of(dtype: DType) -> Option<Self> {
        let kind = match dtype {
            DType::F32 | DType::F16 => Kind::Float,
            DType::I8 | DType::I32 | DType::I64 => Kind::Int,
            DType::U8 => Kind::Uint,
            DType::Bool => Kind::Bool,
            DType::BF16 => return None,
        };
        Some(Self { kind, size: dtype.size(), big_endian: false })
    }

    /// The element type of the tensor that the array becomes.
    pub fn dtype(self) -> DType {
        match (self.kind, self.size) {
            (Kind::Bool, _) => DType::Bool,
            (Kind::Float, 2) => DType::F16,
            (Kind::Float, _) => DType::F32,
            (Kind::Int, 1) => DType::I8,
            (Kind::Int, 4) => DType::I32,
            (Kind::Uint, 1) => DType::U8,
            (Kind::Int | Kind::Uint, _) => DType::I64,
        }
    }
}

impl std::fmt::Display for Descr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let order = match self {
            Self { size: 1, .. } => '|',
            Self { big_endian: true, .. } => '>',
            Self { big_endian: false, .. } => '<',
        };
        let kind = match self.kind {
            Kind::Bool => 'b',
            Kind::Int => 'i',
            Kind::Uint => 'u',
            Kind::Float => 'f',
        };
        write!(f, "{order}{kind}{}", self.size)
    }
}
