//! Goldens of `testdata/train`.

#![allow(dead_code, clippy::allow_attributes, reason = "each test uses its own part")]

use bitnet_core::{Device, Tensor};
use safetensors::{Dtype, SafeTensors};
use std::path::PathBuf;

/// A path below `testdata/train`.
pub fn testdata(file: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/train")).join(file)
}

pub struct Goldens(Vec<u8>);

impl Goldens {
    pub fn read(file: &str) -> Self {
        Self(std::fs::read(testdata(file)).unwrap())
    }

    pub fn names(&self) -> Vec<String> {
        SafeTensors::deserialize(&self.0).unwrap().names().iter().map(|name| (*name).to_owned()).collect()
    }

    pub fn values(&self, name: &str) -> (Vec<usize>, Vec<f64>) {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let found = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        let data = found.data();
        let values = match found.dtype() {
            Dtype::F32 => data.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
            Dtype::F64 => data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
            Dtype::I64 => data.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
            other => panic!("{other:?}"),
        };
        (found.shape().to_vec(), values)
    }

    pub fn tensor(&self, device: &Device, name: &str) -> Tensor {
        let (shape, values) = self.values(name);
        let values: Vec<f32> = values.into_iter().map(|x| x as f32).collect();
        Tensor::from_slice(device, &shape[..], &values).unwrap()
    }

    /// Fails where `got` is further from the golden than `tolerance` of its largest element.
    pub fn expect(&self, name: &str, got: &Tensor, tolerance: f64) {
        let (_, expected) = self.values(name);
        let got = got.contiguous().unwrap().to_vec::<f32>().unwrap();
        assert_eq!(got.len(), expected.len(), "{name}");
        let largest = expected.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
        for (got, expected) in got.iter().zip(&expected) {
            let off = (f64::from(*got) - expected).abs();
            assert!(off <= tolerance * largest, "{name}: {got}, not {expected}");
        }
    }

    /// Distance from the golden, relative to its norm.
    pub fn distance(&self, name: &str, got: &Tensor) -> f64 {
        let (_, expected) = self.values(name);
        let got = got.contiguous().unwrap().to_vec::<f32>().unwrap();
        assert_eq!(got.len(), expected.len(), "{name}");
        let square = |x: f64| x * x;
        let off: f64 = got.iter().zip(&expected).map(|(a, b)| square(f64::from(*a) - b)).sum();
        let whole: f64 = expected.iter().map(|x| square(*x)).sum();
        (off / whole.max(1e-60)).sqrt()
    }
}
