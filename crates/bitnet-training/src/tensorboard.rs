//! Event files that TensorBoard reads: records with masked CRC-32C around protocol buffers (tensorflow/tsl/lib/io/record_writer.h,
/// tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto).
use crate::{Error, Result};
use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// A file of scalars.
#[derive(Debug)]
pub struct Events {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Events {
    /// Starts a file in a folder, with a name of its own.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn create(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).map_err(Error::io(dir))?;
        let nanos = now().as_nanos();
        let path = dir.join(format!("events.out.tfevents.{}.{}.bitnet", nanos / 1_000_000_000, nanos));
        let file = File::create_new(&path).map_err(Error::io(&path))?;
        let mut events = Self { path, file: BufWriter::new(file) };
        let version = [time(), bytes(3, b"brain.Event:2")].concat();
        events.record(&version)?;
        Ok(events)
    }

    /// Appends numbers of a step under their names.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        let value = |&(name, value): &(&str, f64)| {
            let simple = [vec![2 << 3 | 5], (value as f32).to_le_bytes().to_vec()].concat();
            bytes(1, &[bytes(1, name.as_bytes()), simple].concat())
        };
        let summary: Vec<u8> = values.iter().flat_map(value).collect();
        let event = [time(), number(2, step), bytes(5, &summary)].concat();
        self.record(&event)?;
        self.file.flush().map_err(Error::io(&self.path))
    }

    fn record(&mut self, data: &[u8]) -> Result<()> {
        let len = (data.len() as u64).to_le_bytes();
        let parts = [&len[..], &masked_crc(&len), data, &masked_crc(data)].concat();
        self.file.write_all(&parts).map_err(Error::io(&self.path))
    }
}

fn now() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Field 1 of an event: seconds as a double.
fn time() -> Vec<u8> {
    [vec![1 << 3 | 1], now().as_secs_f64().to_le_bytes().to_vec()].concat()
}

fn varint(mut x: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while x >= 0x80 {
        out.push(x as u8 | 0x80);
        x >>= 7;
    }
    out.push(x as u8);
    out
}

fn number(field: u8, x: u64) -> Vec<u8> {
    [vec![field << 3], varint(x)].concat()
}

fn bytes(field: u8, data: &[u8]) -> Vec<u8> {
    [vec![field << 3 | 2], varint(data.len() as u64), data.to_vec()].concat()
}

fn masked_crc(data: &[u8]) -> [u8; 4] {
    let crc = crc32c::crc32c(data);
    crc.rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check values of RFC 3720, B.4, and of the catalogue of CRCs.
    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn numbers_are_varints() {
        assert_eq!(varint(0), [0]);
        assert_eq!(varint(300), [0xac, 0x02]);
        assert_eq!(number(2, 150), [0x10, 0x96, 0x01]);
        assert_eq!(bytes(5, b"ab"), [0x2a, 2, b'a', b'b']);
    }
}
