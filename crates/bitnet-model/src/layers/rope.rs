//! Rotary frequencies. Inverse frequencies and angles are f32 as in transformers; sine and cosine of an angle are taken in
//! f64 by a portable library and rounded once, so that every machine has the same tables.

use crate::config::{Config, RopeScaling};
use bitnet_core::{Device, Result, Tensor};
use std::f32::consts::PI;

/// Inverse frequencies of a model, `[D/2]`.
#[derive(Clone, Debug)]
pub struct Rope {
    inverse_frequencies: Vec<f32>,
}

/// Cosines and sines of the positions of one batch.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// `[T, D/2]`.
    pub cos: Tensor,
    /// `[T, D/2]`.
    pub sin: Tensor,
}

impl Rope {
    /// Frequencies `theta^(-2j/D)` with the scaling of the configuration.
    pub fn new(config: &Config) -> Self {
        let inverse_frequencies =
            plain(config).enumerate().map(|(j, f)| scaled(&config.rope_scaling, j, f)).collect();
        Self { inverse_frequencies }
    }

    /// What the scaling of the configuration divides each frequency by.
    pub fn factors(config: &Config) -> Vec<f32> {
        plain(config)
            .zip(Self::new(config).inverse_frequencies)
            .map(|(plain, scaled)| plain / scaled)
            .collect()
    }

    /// Tables for tokens at these positions.
    ///
    /// # Errors
    /// Where the device has no memory left.
    pub fn rotation(&self, device: &Device, positions: &[usize]) -> Result<Rotation> {
        let shape = [positions.len(), self.inverse_frequencies.len()];
        let mut cos = Vec::with_capacity(shape[0] * shape[1]);
        let mut sin = Vec::with_capacity(shape[0] * shape[1]);
        for &position in positions {
            for &frequency in &self.inverse_frequencies {
                let angle = f64::from(position as f32 * frequency);
                cos.push(libm::cos(angle) as f32);
                sin.push(libm::sin(angle) as f32);
            }
        }
        Ok(Rotation {
            cos: Tensor::from_slice(device, shape, &cos)?,
            sin: Tensor::from_slice(device, shape, &sin)?,
        })
    }
}

/// `theta^(-2j/D)`.
fn plain(config: &Config) -> impl Iterator<Item = f32> {
    let (theta, dim) = (f64::from(config.rope_theta), config.head_dim as f32);
    (0..config.head_dim / 2).map(move |j| 1.0 / libm::pow(theta, f64::from(2.0 * j as f32 / dim)) as f32)
}

/// Frequency `j` under a scaling; the Llama 3 rule is transformers' `_compute_llama3_parameters`.
fn scaled(scaling: &RopeScaling, j: usize, frequency: f32) -> f32 {
    match scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        RopeScaling::Factors(factors) => frequency / factors[j],
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original } => {
            let original = *original as f32;
            let wavelength = 2.0 * PI / frequency;
            if wavelength < original / high_freq_factor {
                return frequency;
            }
            if wavelength > original / low_freq_factor {
                return frequency / factor;
            }
            let smooth = (original / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
            (1.0 - smooth) * frequency / factor + smooth * frequency
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::tiny;

    #[test]
    fn the_first_pair_turns_by_one_radian_a_position() {
        let device = Device::open("cpu/scalar", Some(1)).unwrap();
        let rotation = Rope::new(&tiny()).rotation(&device, &[0, 3]).unwrap();
        let cos = rotation.cos.as_slice::<f32>().unwrap();
        assert_eq!((cos[0], cos[32]), (1.0, libm::cos(3.0) as f32));
    }

    #[test]
    fn llama3_scaling_keeps_short_wavelengths_and_divides_long_ones() {
        let scaling =
            RopeScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original: 8192 };
        assert_eq!(scaled(&scaling, 0, 1.0), 1.0);
        assert_eq!(scaled(&scaling, 0, 1e-6), 1e-6 / 8.0);
        let between = scaled(&scaling, 0, 2.0 * PI / 4000.0);
        assert!(between > 2.0 * PI / 4000.0 / 8.0 && between < 2.0 * PI / 4000.0);
    }
}
