//! Every gradient against central differences in f64: of each op its function is written down a second time ([`rows`]), so that neither its
//! kernels nor the roundings of f32 have a part in what is expected.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod array;
mod decoder;
mod rows;

use array::Array;
use bitnet_core::{Device, Result, Tensor};
use rows::Row;
use std::collections::BTreeSet;

/// Half the distance that a difference is taken over. What it leaves out, and what it rounds, is below 1e-9 of values around one.
const STEP: f64 = 1e-5;
/// Of the largest element: a few roundings of f32 in a row, of which attention has most (7e-7).
const TOLERANCE: f64 = 2e-6;
/// Ops whose gradient is that of what they round.
const STRAIGHT_THROUGH: [&str; 4] = ["bit_linear", "fake_cast", "fake_quantize", "fake_ternarize"];

fn rows() -> Vec<Row> {
    let sections = [rows::elementwise(), rows::along_dimensions(), rows::products(), rows::views()];
    sections.into_iter().flatten().chain(decoder::rows()).collect()
}

/// Numbers in `low..high`, spread evenly and out of order. They are odd multiples of 1/64, in the next operand of 1/128 and so on: no integers or
/// halves of them, exact in f16, and never alike in two operands.
fn operand(operand: usize, dims: &[usize], [low, high]: [f64; 2]) -> Array {
    let (grain, mut at) = (f64::from(32 << operand), 0.0);
    Array::of(dims, |_| {
        at = (at + 0.618_033_988_749_895) % 1.0;
        ((low + (high - low) * at) * grain).floor() / grain + 0.5 / grain
    })
}

/// What the elements of a result are weighted with.
fn weights(y: &Array) -> Array {
    operand(3, &y.dims, [-1.5, 1.5])
}

fn tensor(device: &Device, x: &Array) -> Tensor {
    let values: Vec<f32> = x.data.iter().map(|&x| x as f32).collect();
    Tensor::from_slice(device, &x.dims[..], &values).unwrap()
}

/// Slopes of the weighted sum of a result along every element of operand `i`.
fn differences(row: &Row, operands: &[Array], i: usize) -> Array {
    let at = |element: usize, step: f64| {
        let mut moved = operands.to_vec();
        moved[i].data[element] += step;
        let y = (row.exact)(&moved);
        y.data.iter().zip(&weights(&y).data).map(|(y, weight)| y * weight).sum::<f64>()
    };
    let slope = |element| (at(element, STEP) - at(element, -STEP)) / (2.0 * STEP);
    let data = (0..operands[i].data.len()).map(slope).collect();
    Array { dims: operands[i].dims.clone(), data }
}

/// Fails where `got` is not `expected`.
fn compare(what: &str, got: &Tensor, expected: &Array) {
    assert_eq!(got.dims(), expected.dims, "{what}");
    let largest = expected.data.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
    let got = got.contiguous().unwrap().to_vec::<f32>().unwrap();
    for (i, (got, expected)) in got.iter().zip(&expected.data).enumerate() {
        let near = (f64::from(*got) - expected).abs() <= TOLERANCE * largest + 1e-9;
        assert!(near, "{what}: element {i} is {got}, not {expected}");
    }
}

fn check(device: &Device, row: &Row) -> Result<()> {
    let operands: Vec<Array> =
        row.operands.iter().enumerate().map(|(i, (dims, range))| operand(i, dims, *range)).collect();
    let leaves: Vec<Tensor> =
        operands.iter().map(|x| tensor(device, x).trainable()).collect::<Result<_>>()?;
    let (y, exact) = ((row.op)(&leaves)?, (row.exact)(&operands));
    if !STRAIGHT_THROUGH.contains(&row.name) {
        compare(row.name, &y, &exact);
    }
    let gradients = y.backward_from(&tensor(device, &weights(&exact)))?;
    for (i, leaf) in leaves.iter().enumerate() {
        let what = format!("{}, gradient by operand {i} on {device:?}", row.name);
        compare(&what, gradients.of(leaf)?, &differences(row, &operands, i));
    }
    Ok(())
}

#[test]
fn gradients_are_central_differences_in_f64() {
    let tiers = Device::names().into_iter().filter(|name| name.starts_with("cpu/"));
    for device in tiers.map(|name| Device::open(&name, Some(1)).unwrap()) {
        for row in rows() {
            check(&device, &row).unwrap_or_else(|error| panic!("{}: {error}", row.name));
        }
    }
}

/// Names in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_op_with_a_gradient_has_a_row() {
    let page = include_str!("../../../../docs/ops.md");
    let listed = page.lines().filter(|line| line.contains("| yes |")).filter_map(|line| quoted(line).next());
    let told = page.split("With gradients:").skip(1).flat_map(|text| quoted(text.split('.').next().unwrap()));
    let with_gradient: BTreeSet<&str> = listed.chain(told).collect();
    let tested: BTreeSet<&str> = rows().iter().map(|row| row.name).collect();
    assert_eq!(tested, with_gradient);
}
