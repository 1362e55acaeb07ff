//! Every op against values of NumPy and PyTorch in float64 (`testdata/ops`), on every tier of this processor; what is not a dense
//! product has the same bits on all of them, whatever the number of threads.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use bitnet_core::{Axes, Bool, DType, Device, Result, Tensor, ops};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::{fs, path::Path};

struct Goldens {
    bytes: Vec<u8>,
    cases: Vec<Value>,
}

impl Goldens {
    fn read() -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/ops");
        let text = fs::read_to_string(dir.join("cases.json")).unwrap();
        let all: Value = serde_json::from_str(&text).unwrap();
        let cases = all["cases"].as_array().unwrap().clone();
        Self { bytes: fs::read(dir.join("tensors.safetensors")).unwrap(), cases }
    }
}

/// A stored tensor on a device.
fn tensor(device: &Device, stored: &SafeTensors<'_>, name: &Value) -> Tensor {
    let found = stored.tensor(name.as_str().unwrap()).unwrap();
    let dtype = match found.dtype() {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I8 => DType::I8,
        Dtype::U8 => DType::U8,
        Dtype::I32 => DType::I32,
        Dtype::I64 => DType::I64,
        Dtype::BOOL => DType::Bool,
        other => panic!("{other:?}"),
    };
    let mut x = Tensor::empty(device, found.shape(), dtype).unwrap();
    device.backend().upload(found.data(), x.view_mut("test").unwrap()).unwrap();
    x
}

/// The elements as f64, for comparison.
fn numbers(x: &Tensor) -> Vec<f64> {
    match x.dtype() {
        DType::F32 => x.to_vec::<f32>().unwrap().into_iter().map(f64::from).collect(),
        DType::F16 => x.to_vec::<f16>().unwrap().into_iter().map(f64::from).collect(),
        DType::I8 => x.to_vec::<i8>().unwrap().into_iter().map(f64::from).collect(),
        DType::U8 => x.to_vec::<u8>().unwrap().into_iter().map(f64::from).collect(),
        DType::I32 => x.to_vec::<i32>().unwrap().into_iter().map(f64::from).collect(),
        DType::I64 => x.to_vec::<i64>().unwrap().into_iter().map(|x| x as f64).collect(),
        DType::Bool => {
            x.to_vec::<Bool>().unwrap().into_iter().map(|x| f64::from(u8::from(x.get()))).collect()
        }
        DType::BF16 => x.to_vec::<bf16>().unwrap().into_iter().map(f64::from).collect(),
    }
}

/// How far a result may be from the exact one.
fn allowed(tolerance: &str, exact: f64, largest: f64) -> f64 {
    let eps = f64::from(f32::EPSILON);
    match tolerance {
        "exact" => 0.0,
        // A few roundings; what is below the normal numbers may vanish.
        "ulps" => 8.0 * eps * exact.abs() + f64::from(f32::MIN_POSITIVE),
        // The result is a difference of numbers around one.
        "absolute" => 8.0 * eps * exact.abs().max(1.0),
        // Roundings of sums, relative to the largest of them.
        "sum" => 32.0 * eps * (1.0 + largest),
        "half" => exact.abs() / 1024.0 + 6e-8,
        // As "half", of the fewer bits and the wider range of bfloat16.
        "brain" => exact.abs() / 128.0 + f64::from(f32::MIN_POSITIVE),
        // Several roundings in a row of sums.
        "gradient" => 64.0 * eps * (1.0 + largest),
        other => panic!("tolerance {other}"),
    }
}

fn compare(what: &str, got: &Tensor, expected: &Tensor, tolerance: &str) {
    assert_eq!((got.dims(), got.dtype()), (expected.dims(), expected.dtype()), "{what}");
    if got.dtype() == DType::I64 {
        // Of which f64 does not have all.
        assert_eq!(got.to_vec::<i64>().unwrap(), expected.to_vec::<i64>().unwrap(), "{what}");
    }
    let (got, expected) = (numbers(got), numbers(expected));
    let largest = expected.iter().filter(|x| x.is_finite()).fold(0.0, |m: f64, x| m.max(x.abs()));
    for (i, (got, exact)) in got.iter().zip(&expected).enumerate() {
        let same = got == exact || got.is_nan() && exact.is_nan();
        // Of an infinity everything would be within a part of it.
        let near = exact.is_finite() && (got - exact).abs() <= allowed(tolerance, *exact, largest);
        assert!(same || near, "{what}: element {i} is {got:e}, expected {exact:e} ({tolerance})");
    }
}

/// Compares the signs of zeros.
fn compare_zeros(what: &str, got: &Tensor, expected: &Tensor) {
    for (i, (got, exact)) in numbers(got).iter().zip(&numbers(expected)).enumerate() {
        let same = *exact != 0.0 || got.is_sign_negative() == exact.is_sign_negative();
        assert!(same, "{what}: element {i} is {got:e}, expected {exact:e}");
    }
}

fn integers(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|x| x.as_i64().unwrap()).collect()
}

fn int(args: &Value, name: &str) -> isize {
    args[name].as_i64().unwrap() as isize
}

fn indices(device: &Device, args: &Value) -> Tensor {
    let ids = integers(&args["ids"]);
    let shape: Vec<usize> = match args.get("ids_shape") {
        Some(shape) => integers(shape).into_iter().map(|n| n as usize).collect(),
        None => vec![ids.len()],
    };
    Tensor::from_slice(device, &shape[..], &ids).unwrap()
}

/// A chain of views.
fn views(x: &Tensor, steps: &Value) -> Tensor {
    steps.as_array().unwrap().iter().fold(x.clone(), |x, step| {
        let n: Vec<i64> = integers(&Value::from(step.as_array().unwrap()[1..].to_vec()));
        let sizes: Vec<usize> = n.iter().map(|&n| n as usize).collect();
        let (a, b) = (n[0] as isize, n.get(1).copied().unwrap_or(0) as isize);
        match step[0].as_str().unwrap() {
            "transpose" => x.transpose(a, b),
            "slice" => x.slice(sizes[0], sizes[1], sizes[2], sizes[3]),
            "permute" => x.permute(&sizes),
            "narrow" => x.narrow(sizes[0], sizes[1], sizes[2]),
            "reshape" => x.reshape(&sizes[..]),
            "at" => x.at(a, b),
            "squeeze" => x.squeeze(a),
            "unsqueeze" => x.unsqueeze(a),
            "broadcast" => x.broadcast_to(&sizes[..]),
            "flip" => x.flip(a),
            "flatten" => x.flatten(a, b),
            "tril" => x.tril(a),
            "triu" => x.triu(a),
            "diagonal" => x.diagonal(a, b),
            other => panic!("{other}"),
        }
        .unwrap()
    })
}

/// The results of a case.
fn run(op: &str, x: &[Tensor], args: &Value) -> Result<Vec<Tensor>> {
    let first = &x[0];
    if let Some(kind) = ops::Unary::ALL.into_iter().find(|kind| kind.name() == op) {
        let kind = match kind {
            ops::Unary::LeakyRelu(_) => ops::Unary::LeakyRelu(0.125),
            ops::Unary::Clamp(..) => ops::Unary::Clamp(-0.75, 1.25),
            kind => kind,
        };
        return Ok(vec![ops::unary(kind, first)?]);
    }
    if let Some(kind) = ops::Binary::ALL.into_iter().find(|kind| kind.name() == op) {
        let y = ops::binary(kind, first, &x[1])?;
        if y.dims() == first.dims() {
            in_place(kind, first, &x[1], &y);
        }
        return Ok(vec![y]);
    }
    if let Some(kind) = ops::Compare::ALL.into_iter().find(|kind| kind.name() == op) {
        return Ok(vec![ops::compare(kind, first, &x[1])?]);
    }
    if let Some(kind) = ops::Logical::ALL.into_iter().find(|kind| kind.name() == op) {
        return Ok(vec![ops::logical(kind, first, &x[1])?]);
    }
    if args.get("axes").is_some() {
        return Ok(vec![over_axes(op, first, args)?]);
    }
    if args.get("axis").is_some() {
        return along_axis(op, x, args);
    }
    let all: Vec<&Tensor> = x.iter().collect();
    let y = match op {
        "where" => first.where_cond(&x[1], &x[2]),
        "matmul" => first.matmul(&x[1]),
        "einsum" => ops::einsum(args["text"].as_str().unwrap(), &all),
        "dot" => first.dot(&x[1]),
        "outer" => first.outer(&x[1]),
        "copy" => first.copy(),
        "is_nan" => first.is_nan(),
        "is_finite" => first.is_finite(),
        "logical_not" => first.logical_not(),
        "views" => Ok(views(first, &args["steps"])),
        "cast" => {
            let name = args["dtype"].as_str().unwrap();
            first.to_dtype(DType::ALL.into_iter().find(|dtype| dtype.name() == name).unwrap())
        }
        other => panic!("no op {other}"),
    };
    Ok(vec![y?])
}

/// Compares an op that writes where its first operand is with the result `y`.
fn in_place(kind: ops::Binary, a: &Tensor, b: &Tensor, y: &Tensor) {
    let mut x = a.detach().copy().unwrap();
    ops::binary_assign(kind, &mut x, &b.detach()).unwrap();
    compare(&format!("{} in place", kind.name()), &x, y, "exact");
}

/// The result of a case over several dimensions.
fn over_axes(op: &str, x: &Tensor, args: &Value) -> Result<Tensor> {
    let named: Vec<isize> = integers(&args["axes"]).into_iter().map(|n| n as isize).collect();
    let (axes, keepdim) = (Axes::from(&named[..]), args["keepdim"].as_bool().unwrap());
    if let Some(kind) = ops::Reduce::ALL.into_iter().find(|kind| kind.name() == op) {
        return ops::reduce(kind, x, &axes, keepdim);
    }
    let correction = args.get("correction").map_or(0, |n| n.as_u64().unwrap() as usize);
    // JSON has no infinity.
    let order = args.get("p").map_or(2.0, |p| p.as_f64().unwrap_or(f64::INFINITY));
    match op {
        "mean" => x.mean(axes, keepdim),
        "var" => x.var(axes, correction, keepdim),
        "std" => x.std(axes, correction, keepdim),
        "norm" => x.norm(order, axes, keepdim),
        "logsumexp" => x.logsumexp(axes, keepdim),
        other => panic!("no op {other}"),
    }
}

/// The results of a case along one dimension.
fn along_axis(op: &str, x: &[Tensor], args: &Value) -> Result<Vec<Tensor>> {
    let (first, axis) = (&x[0], int(args, "axis"));
    let all: Vec<&Tensor> = x.iter().collect();
    let ids = || indices(first.device(), args);
    let y = match op {
        "softmax" => first.softmax(axis),
        "log_softmax" => first.log_softmax(axis),
        "cumsum" => first.cumsum(axis),
        "sort_values" => Ok(first.sort(axis, false)?.0),
        "sort" => {
            let (values, ids) = first.sort(axis, args["descending"].as_bool().unwrap())?;
            return Ok(vec![values, ids]);
        }
        "topk" => {
            let largest = args["largest"].as_bool().unwrap();
            let (values, ids) = first.topk(int(args, "k") as usize, axis, largest)?;
            return Ok(vec![values, ids]);
        }
        "split" => {
            let parts: Vec<usize> = integers(&args["parts"]).into_iter().map(|n| n as usize).collect();
            return first.split(axis, &parts);
        }
        "index_select" => first.index_select(axis, &ids()),
        "gather" => first.gather(axis, &ids()),
        "scatter_add" => first.scatter_add(axis, &ids(), &x[1]),
        "concat" => ops::concat(&all, axis),
        "stack" => ops::stack(&all, axis),
        other => panic!("no op {other}"),
    };
    Ok(vec![y?])
}

/// Bits of the results and gradients of a case on a device, after comparing them.
fn check(device: &Device, stored: &SafeTensors<'_>, case: &Value, index: usize) -> Vec<Vec<u64>> {
    let list = |name: &str| case[name].as_array().cloned().unwrap_or_default();
    let op = case["op"].as_str().unwrap();
    let what = format!("case {index}, {op} {} on {}", case["args"], device.name());
    let trains = !list("grads").is_empty();
    let inputs: Vec<Tensor> = list("inputs")
        .iter()
        .map(|name| tensor(device, stored, name))
        .map(|x| if trains { x.trainable().unwrap() } else { x })
        .collect();
    let outputs = run(op, &inputs, &case["args"]);
    if case.get("refused").is_some() {
        assert!(outputs.is_err(), "{what} has a result");
        return Vec::new();
    }
    let outputs = outputs.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(outputs.len(), list("outputs").len(), "{what}");
    let tolerance = case["tol"].as_str().unwrap();
    // NumPy leaves open which sign a zero has as the sign of one, and which of two zeros is the smaller one.
    let zeros = tolerance == "exact" && !["sign", "minimum", "maximum"].contains(&op);
    for (got, expected) in outputs.iter().zip(list("outputs")) {
        let expected = tensor(device, stored, &expected);
        compare(&what, got, &expected, tolerance);
        if zeros {
            compare_zeros(&what, got, &expected);
        }
    }
    let mut results = outputs.clone();
    if trains {
        let gradients = outputs[0].backward_from(&tensor(device, stored, &case["seed"])).unwrap();
        for (x, expected) in inputs.iter().zip(list("grads")) {
            let got = gradients.of(x).unwrap();
            compare(&format!("gradient of {what}"), got, &tensor(device, stored, &expected), "gradient");
            results.push(got.clone());
        }
    }
    results.iter().map(|y| numbers(y).into_iter().map(canonical).collect()).collect()
}

/// Bits of a number; one NaN stands for all.
fn canonical(x: f64) -> u64 {
    if x.is_nan() { f64::NAN.to_bits() } else { x.to_bits() }
}

#[test]
fn every_op_agrees_with_numpy_and_pytorch_on_every_tier() {
    let goldens = Goldens::read();
    let stored = SafeTensors::deserialize(&goldens.bytes).unwrap();
    let reference = Device::open("cpu/scalar", Some(1)).unwrap();
    let tiers = Device::names().into_iter().filter(|name| name.starts_with("cpu/"));
    let others: Vec<Device> = tiers.map(|name| Device::open(&name, Some(3)).unwrap()).collect();
    for (index, case) in goldens.cases.iter().enumerate() {
        let expected = check(&reference, &stored, case, index);
        let dense = ["matmul", "einsum", "dot"].contains(&case["op"].as_str().unwrap());
        for device in &others {
            let bits = check(device, &stored, case, index);
            assert!(dense || bits == expected, "case {index} has other bits on {}: {case}", device.name());
        }
    }
}
