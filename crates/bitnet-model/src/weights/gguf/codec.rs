//! Values as bytes: the one place that knows the numbers of the value types.

use super::cursor::Cursor;
use super::{Array, MAX_ARRAY, MAX_STRING, Refusal, Strings, Value};

const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// Names of the value types by their number.
pub(super) const TYPE_NAMES: [&str; 13] =
    ["u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"];

macro_rules! number_types {
    ($($id:literal $variant:ident $type:ty),*) => {
        fn read_number(id: u32, from: &mut Cursor<'_>) -> Result<Value, Refusal> {
            match id {
                $($id => Ok(Value::$variant(<$type>::from_le_bytes(from.array("a value")?))),)*
                _ => Err(Refusal::ValueType { id }),
            }
        }

        fn read_numbers(id: u32, count: u64, from: &mut Cursor<'_>) -> Result<Array, Refusal> {
            match id {
                $($id => Ok(Array::$variant(from.numbers(count, <$type>::from_le_bytes)?)),)*
                _ => Err(Refusal::ValueType { id }),
            }
        }

        impl Value {
            pub(super) fn type_id(&self) -> u32 {
                match self {
                    $(Self::$variant(_) => $id,)*
                    Self::Bool(_) => BOOL,
                    Self::String(_) => STRING,
                    Self::Array(_) => ARRAY,
                }
            }

            pub(super) fn write(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$variant(v) => out.extend(v.to_le_bytes()),)*
                    Self::Bool(v) => out.push(u8::from(*v)),
                    Self::String(v) => write_string(v, out),
                    Self::Array(v) => v.write(out),
                }
            }
        }

        impl Array {
            /// Number of elements.
            pub fn len(&self) -> usize {
                match self {
                    $(Self::$variant(v) => v.len(),)*
                    Self::Bool(v) => v.len(),
                    Self::String(v) => v.len(),
                }
            }

            pub(super) fn element_id(&self) -> u32 {
                match self {
                    $(Self::$variant(_) => $id,)*
                    Self::Bool(_) => BOOL,
                    Self::String(_) => STRING,
                }
            }

            fn write(&self, out: &mut Vec<u8>) {
                out.extend(self.element_id().to_le_bytes());
                out.extend((self.len() as u64).to_le_bytes());
                match self {
                    $(Self::$variant(v) => v.iter().for_each(|v| out.extend(v.to_le_bytes())),)*
                    Self::Bool(v) => out.extend(v.iter().map(|&v| u8::from(v))),
                    Self::String(v) => v.iter().for_each(|v| write_string(v, out)),
                }
            }
        }
    };
}

number_types!(0 U8 u8, 1 I8 i8, 2 U16 u16, 3 I16 i16, 4 U32 u32, 5 I32 i32, 6 F32 f32, 10 U64 u64, 11 I64 i64, 12 F64 f64);

/// Reads a value: its type number, then itself.
pub(super) fn read(from: &mut Cursor<'_>) -> Result<Value, Refusal> {
    match from.u32("a value type")? {
        BOOL => Ok(Value::Bool(bool_of(from.array::<1>("a bool")?[0])?)),
        STRING => Ok(Value::String(from.string("a string", MAX_STRING)?.to_owned())),
        ARRAY => Ok(Value::Array(read_array(from)?)),
        id => read_number(id, from),
    }
}

fn read_array(from: &mut Cursor<'_>) -> Result<Array, Refusal> {
    let id = from.u32("an element type")?;
    let count = from.u64("an array length")?;
    match id {
        BOOL => Ok(Array::Bool(read_bools(count, from)?)),
        STRING => Ok(Array::String(read_strings(count, from)?)),
        ARRAY => Err(Refusal::NestedArray),
        id => read_numbers(id, count, from),
    }
}

fn read_bools(count: u64, from: &mut Cursor<'_>) -> Result<Vec<bool>, Refusal> {
    let bytes: Vec<[u8; 1]> = from.numbers(count, |byte| byte)?;
    bytes.into_iter().map(|[byte]| bool_of(byte)).collect()
}

fn read_strings(count: u64, from: &mut Cursor<'_>) -> Result<Strings, Refusal> {
    let count = from.count(count, "an array length", size_of::<u64>(), MAX_ARRAY)?;
    let mut strings = Strings::with_capacity(count);
    for _ in 0..count {
        strings.push(from.string("a string of an array", MAX_STRING)?);
    }
    Ok(strings)
}

fn bool_of(byte: u8) -> Result<bool, Refusal> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        got => Err(Refusal::Bool { got }),
    }
}

/// Appends a string as its length and its bytes.
pub(super) fn write_string(string: &str, out: &mut Vec<u8>) {
    out.extend((string.len() as u64).to_le_bytes());
    out.extend(string.as_bytes());
}
