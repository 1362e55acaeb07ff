//! Methods of tensors at the values that matter: numbers are those of NumPy 2.3, slopes at kinks those that PyTorch documents.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use bitnet_core::{Axes, Bool, DType, Device, Element, Error, Result, Tensor, ops};
use half::{bf16, f16};
use std::sync::OnceLock;

/// The one device of these tests.
fn device() -> Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(open).clone()
}

fn open() -> Device {
    Device::open("cpu", Some(2)).unwrap()
}

fn tensor<T: Element>(values: &[T]) -> Tensor {
    Tensor::from_slice(&device(), [values.len()], values).unwrap()
}

fn matrix(rows: usize, values: &[f32]) -> Tensor {
    Tensor::from_slice(&device(), [rows, values.len() / rows], values).unwrap()
}

fn values<T: Element>(x: Result<Tensor>) -> Vec<T> {
    x.unwrap().to_vec().unwrap()
}

fn truths(x: Result<Tensor>) -> Vec<bool> {
    values::<Bool>(x).into_iter().map(Bool::get).collect()
}

/// Bits, so that NaN and the signs of zeros count.
fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Gradient of the sum of `f(x)` by `x`.
fn slope(x: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>) -> Vec<f32> {
    let leaf = x.trainable().unwrap();
    let gradients = f(&leaf).unwrap().sum((), false).unwrap().backward().unwrap();
    gradients.of(&leaf).unwrap().to_dtype(DType::F32).unwrap().to_vec().unwrap()
}

fn is_argument(result: Result<Tensor>, op: &str) -> bool {
    matches!(result, Err(Error::Argument { op: refused, .. }) if refused == op)
}

#[test]
fn eye_has_ones_on_the_diagonal_in_every_type() {
    for dtype in DType::ALL {
        let eye = Tensor::eye(&device(), 3, dtype).unwrap();
        assert_eq!((eye.dims(), eye.dtype()), (&[3, 3][..], dtype));
        let ones = values::<f32>(eye.to_dtype(DType::F32));
        assert_eq!(ones, [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
    }
    assert_eq!(Tensor::eye(&device(), 0, DType::F32).unwrap().dims(), [0, 0]);
}

#[test]
fn counting_past_the_end_of_a_type_is_refused() {
    let arange = |start, end, step, dtype| Tensor::arange(&device(), start, end, step, dtype);
    assert_eq!(values::<u8>(arange(253.0, 256.0, 1.0, DType::U8)), [253, 254, 255]);
    assert_eq!(values::<i8>(arange(-126.0, -129.0, -1.0, DType::I8)), [-126, -127, -128]);
    assert_eq!(values::<i32>(arange(2147483646.0, 2147483648.0, 1.0, DType::I32)), [i32::MAX - 1, i32::MAX]);
    assert_eq!(values::<i64>(arange(-4.0, 5.0, 4.0, DType::I64)), [-4, 0, 4]);
    assert_eq!(truths(arange(0.0, 2.0, 1.0, DType::Bool)), [false, true]);
    assert!(is_argument(arange(0.0, 300.0, 1.0, DType::U8), "arange"));
    assert!(is_argument(arange(1.0, -2.0, -1.0, DType::U8), "arange"));
    assert!(is_argument(arange(0.0, -200.0, -1.0, DType::I8), "arange"));
    assert!(is_argument(arange(2147483647.0, 2147483649.0, 1.0, DType::I32), "arange"));
    assert!(is_argument(arange(9.3e18, 9.4e18, 1e17, DType::I64), "arange"));
}

#[test]
fn counting_integers_by_fractions_is_refused() {
    assert!(is_argument(Tensor::arange(&device(), 0.0, 1.0, 0.25, DType::I64), "arange"));
    assert!(is_argument(Tensor::arange(&device(), 0.5, 3.0, 1.0, DType::U8), "arange"));
}

#[test]
fn equal_distances_are_of_floats() {
    let linspace = |count, dtype| Tensor::linspace(&device(), 0.0, 1.0, count, dtype);
    for dtype in [DType::I8, DType::U8, DType::I32, DType::I64, DType::Bool] {
        assert!(matches!(linspace(2, dtype), Err(Error::DType { op: "linspace", got, .. }) if got == dtype));
    }
    assert_eq!(values::<f16>(linspace(5, DType::F16)), [0.0, 0.25, 0.5, 0.75, 1.0].map(f16::from_f32));
    assert_eq!(values::<bf16>(linspace(1, DType::BF16)), [bf16::ZERO]);
    assert!(values::<f32>(linspace(0, DType::F32)).is_empty());
}

#[test]
fn argsort_keeps_the_order_of_equals_and_puts_nan_last() {
    assert_eq!(values::<i64>(tensor(&[2i32, 0, 2, 1]).argsort(0, false)), [1, 3, 0, 2]);
    assert_eq!(values::<i64>(tensor(&[2i32, 0, 2, 1]).argsort(0, true)), [0, 2, 3, 1]);
    let x = matrix(2, &[3.0, -1.0, 2.0, 0.0, f32::NAN, -5.0]);
    assert_eq!(values::<i64>(x.argsort(1, false)), [1, 2, 0, 2, 0, 1]);
    assert_eq!(values::<i64>(x.argsort(-2, false)), [1, 0, 1, 0, 1, 0]);
    assert!(!x.trainable().unwrap().argsort(1, false).unwrap().is_trainable());
}

#[test]
fn the_smallest_few_come_from_the_smallest_on() {
    let x = matrix(2, &[3.0, -1.0, 2.0, 0.0, f32::NAN, -5.0]);
    let (least, places) = x.topk(2, 1, false).unwrap();
    assert_eq!(least.to_vec::<f32>().unwrap(), [-1.0, 2.0, -5.0, 0.0]);
    assert_eq!(places.to_vec::<i64>().unwrap(), [1, 2, 2, 0]);
    let (least, places) = tensor(&[7u8, 5, 5, 9]).topk(3, 0, false).unwrap();
    assert_eq!(least.to_vec::<u8>().unwrap(), [5, 5, 7]);
    assert_eq!(places.to_vec::<i64>().unwrap(), [1, 2, 0]);
    assert!(x.topk(4, 1, false).is_err());
    let gradient = slope(&tensor(&[3.0f32, 1.0, 2.0]), |x| Ok(x.topk(2, 0, false)?.0));
    assert_eq!(gradient, [0.0, 1.0, 1.0]);
}

#[test]
fn zero_and_false_are_what_is_not() {
    assert_eq!(truths(tensor(&[0.0f32, -0.0, 2.0, f32::NAN]).logical_not()), [true, true, false, false]);
    assert_eq!(truths(tensor(&[0i8, -1, 1]).logical_not()), [true, false, false]);
    assert_eq!(truths(tensor(&[f16::ZERO, f16::ONE]).logical_not()), [true, false]);
    assert_eq!(truths(tensor(&[Bool::from(true), Bool::from(false)]).logical_not()), [false, true]);
}

#[test]
fn nan_and_the_infinities_are_told_apart() {
    let x = [1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0];
    assert_eq!(truths(tensor(&x).is_nan()), [false, true, false, false, false]);
    assert_eq!(truths(tensor(&x).is_finite()), [true, false, false, false, true]);
    for dtype in [DType::F16, DType::BF16] {
        let x = tensor(&x).to_dtype(dtype).unwrap();
        assert_eq!(truths(x.is_nan()), [false, true, false, false, false]);
        assert_eq!(truths(x.is_finite()), [true, false, false, false, true]);
    }
    assert_eq!(truths(tensor(&[3i64, -1]).is_nan()), [false, false]);
    assert!(tensor(&[3i64]).is_finite().is_err());
}

#[test]
fn remainders_and_floors_by_a_number_are_those_of_numpy() {
    let x = tensor(&[-7.5f32, -3.0, 0.0, 2.25, 9.0]);
    let same = |got: Result<Tensor>, expected: [f32; 5]| assert_eq!(bits(&values(got)), bits(&expected));
    same(x.rem_scalar(2.5), [0.0, 2.0, 0.0, 2.25, 1.5]);
    same(x.rem_scalar(-2.5), [-0.0, -0.5, -0.0, -0.25, -1.0]);
    same(x.floor_div_scalar(2.5), [-3.0, -2.0, 0.0, 0.0, 3.0]);
    same(x.floor_div_scalar(-2.5), [3.0, 1.0, -0.0, -1.0, -4.0]);
    let x = tensor(&[-7i8, -1, 0, 5, 127]);
    assert_eq!(values::<i8>(x.rem_scalar(3.0)), [2, 2, 0, 2, 1]);
    assert_eq!(values::<i8>(x.rem_scalar(-3.0)), [-1, -1, 0, -1, -2]);
    assert_eq!(values::<i8>(x.floor_div_scalar(3.0)), [-3, -1, 0, 1, 42]);
    assert_eq!(values::<i8>(x.floor_div_scalar(-3.0)), [2, 0, 0, -2, -43]);
    assert!(is_argument(x.rem_scalar(0.0), "rem"));
    assert!(is_argument(x.floor_div_scalar(0.0), "floor_div"));
    assert!(is_argument(x.rem_scalar(0.5), "scalar"));
}

#[test]
fn the_smaller_and_the_larger_beside_a_number_pass_nan_on() {
    let x = tensor(&[1.0f32, f32::NAN, f32::NEG_INFINITY, 3.0]);
    let nan = f32::NAN;
    assert_eq!(bits(&values(x.minimum_scalar(2.0))), bits(&[1.0, nan, f32::NEG_INFINITY, 2.0]));
    assert_eq!(bits(&values(x.maximum_scalar(2.0))), bits(&[2.0, nan, 2.0, 3.0]));
    assert!(values::<f32>(x.maximum_scalar(f64::NAN)).iter().all(|x| x.is_nan()));
    assert_eq!(values::<i64>(tensor(&[-3i64, 4]).minimum_scalar(0.0)), [-3, 0]);
    assert_eq!(values::<u8>(tensor(&[3u8, 40]).maximum_scalar(7.0)), [7, 40]);
    assert_eq!(slope(&tensor(&[1.0f32, 2.0, 3.0]), |x| x.minimum_scalar(2.0)), [1.0, 0.5, 0.0]);
    assert_eq!(slope(&tensor(&[1.0f32, 2.0, 3.0]), |x| x.maximum_scalar(2.0)), [0.0, 0.5, 1.0]);
}

#[test]
fn nan_differs_from_every_number() {
    assert_eq!(truths(tensor(&[2.0f32, f32::NAN, -2.0]).ne_scalar(2.0)), [false, true, true]);
    assert_eq!(truths(tensor(&[2.0f32, f32::NAN]).ne_scalar(f64::NAN)), [true, true]);
    assert_eq!(truths(tensor(&[0.0f32, -0.0]).ne_scalar(0.0)), [false, false]);
    assert_eq!(truths(tensor(&[2i64, 1 << 40]).ne_scalar((1u64 << 40) as f64)), [true, false]);
}

#[test]
fn halves_are_written_in_place_as_they_are_computed() {
    let start = [1.0f32, 2048.0, 0.1, -3.0];
    let written = |dtype, by: f32, op: fn(&mut Tensor, &Tensor) -> Result<()>| -> Vec<f32> {
        let mut x = tensor(&start).to_dtype(dtype).unwrap();
        op(&mut x, &tensor(&[by]).to_dtype(dtype).unwrap()).unwrap();
        assert_eq!(x.dtype(), dtype);
        values(x.to_dtype(DType::F32))
    };
    let f16s = |by, op| written(DType::F16, by, op);
    assert_eq!(f16s(1.0, Tensor::add_assign), [2.0, 2048.0, 1.0996094, -2.0]);
    assert_eq!(f16s(0.3, Tensor::sub_assign), [0.7001953, 2048.0, -0.20007324, -3.3007813]);
    assert_eq!(f16s(3.0, Tensor::mul_assign), [3.0, 6144.0, 0.2998047, -9.0]);
    assert_eq!(f16s(3.0, Tensor::div_assign), [0.33325195, 682.5, 0.033325195, -1.0]);
    // Eight bits of a brain float: 2049 is between 2048 and 2064, 0.1 is 0.100097656.
    let bf16s = |by, op| written(DType::BF16, by, op);
    assert_eq!(bf16s(1.0, Tensor::add_assign), [2.0, 2048.0, 1.1015625, -2.0]);
    assert_eq!(bf16s(1.0, Tensor::sub_assign), [0.0, 2048.0, -0.8984375, -4.0]);
    assert_eq!(bf16s(2.0, Tensor::mul_assign), [2.0, 4096.0, 0.20019531, -6.0]);
    assert_eq!(bf16s(2.0, Tensor::div_assign), [0.5, 1024.0, 0.050048828, -1.5]);
}

#[test]
fn integers_wrap_in_place_as_numpy_s_do() {
    let mut x = tensor(&[100i8, -100, 7, 0]);
    x.add_assign(&tensor(&[100i8])).unwrap();
    assert_eq!(x.to_vec::<i8>().unwrap(), [-56, 0, 107, 100]);
    x.mul_assign(&tensor(&[3i8])).unwrap();
    assert_eq!(x.to_vec::<i8>().unwrap(), [88, 0, 65, 44]);
    let mut x = tensor(&[200u8, 3, 0]);
    x.sub_assign(&tensor(&[5u8, 5, 5])).unwrap();
    assert_eq!(x.to_vec::<u8>().unwrap(), [195, 254, 251]);
    let mut x = tensor(&[1i64 << 62, -5]);
    x.mul_assign(&tensor(&[2i64])).unwrap();
    assert_eq!(x.to_vec::<i64>().unwrap(), [i64::MIN, -10]);
    let mut x = tensor(&[i32::MAX, 5]);
    x.add_assign(&tensor(&[1i32])).unwrap();
    assert_eq!(x.to_vec::<i32>().unwrap(), [i32::MIN, 6]);
    assert!(matches!(x.div_assign(&tensor(&[2i32])), Err(Error::Argument { op: "div", .. })));
}

#[test]
fn a_number_is_combined_in_place_with_every_element() {
    let mut x = tensor(&[1.0f32, -2.0, 6.5]);
    let address = x.as_slice::<f32>().unwrap().as_ptr();
    x.add_scalar_assign(1.5).unwrap();
    assert_eq!(x.to_vec::<f32>().unwrap(), [2.5, -0.5, 8.0]);
    x.sub_scalar_assign(0.5).unwrap();
    assert_eq!(x.to_vec::<f32>().unwrap(), [2.0, -1.0, 7.5]);
    x.mul_scalar_assign(-4.0).unwrap();
    assert_eq!(x.to_vec::<f32>().unwrap(), [-8.0, 4.0, -30.0]);
    x.div_scalar_assign(8.0).unwrap();
    assert_eq!(x.to_vec::<f32>().unwrap(), [-1.0, 0.5, -3.75]);
    assert_eq!(x.as_slice::<f32>().unwrap().as_ptr(), address);
}

#[test]
fn a_number_in_place_has_to_be_one_of_the_type() {
    let mut x = tensor(&[250u8, 3]);
    x.add_scalar_assign(10.0).unwrap();
    assert_eq!(x.to_vec::<u8>().unwrap(), [4, 13]);
    assert!(matches!(x.sub_scalar_assign(0.5), Err(Error::Argument { op: "scalar", .. })));
    assert!(matches!(x.mul_scalar_assign(256.0), Err(Error::Argument { op: "scalar", .. })));
    assert!(matches!(x.div_scalar_assign(2.0), Err(Error::Argument { op: "div", .. })));
    let other = x.clone();
    assert!(matches!(x.add_scalar_assign(1.0), Err(Error::Shared { op: "add" })));
    assert_eq!(other.to_vec::<u8>().unwrap(), [4, 13]);
    let mut half = tensor(&[f16::from_f32(0.1)]);
    half.mul_scalar_assign(3.0).unwrap();
    assert_eq!(half.to_vec::<f16>().unwrap(), [f16::from_f32(0.2998)]);
    assert!(tensor(&[1.0f32]).trainable().unwrap().add_scalar_assign(1.0).is_err());
}

#[test]
fn division_in_place_follows_the_rules_of_floats() {
    let mut x = tensor(&[1.0f32, -1.0, 0.0, 6.0]);
    x.div_assign(&tensor(&[0.0f32, 0.0, 0.0, 4.0])).unwrap();
    let x = x.to_vec::<f32>().unwrap();
    assert_eq!((x[0], x[1], x[3]), (f32::INFINITY, f32::NEG_INFINITY, 1.5));
    assert!(x[2].is_nan());
}

#[test]
fn the_norm_of_order_zero_counts() {
    let x = matrix(2, &[0.0, -2.0, 0.0, 1.0, -0.0, 3.0]);
    assert_eq!(values::<f32>(x.norm(0.0, 1, false)), [1.0, 2.0]);
    assert_eq!(values::<f32>(x.norm(0.0, (), true)), [3.0]);
    assert!(is_argument(x.norm(-1.0, 1, false), "norm"));
    assert!(is_argument(x.norm(f64::NAN, 1, false), "norm"));
}

#[test]
fn norms_do_not_fall_at_zero() {
    let x = matrix(2, &[0.0, 0.0, 3.0, -4.0]);
    let near = |got: Vec<f32>, expected: [f32; 4]| {
        let near = got.iter().zip(&expected).all(|(got, expected)| (got - expected).abs() < 1e-6);
        assert!(near, "{got:?}, not {expected:?}");
    };
    for keepdim in [false, true] {
        near(slope(&x, |x| x.norm(1.0, 1, keepdim)), [0.0, 0.0, 1.0, -1.0]);
        near(slope(&x, |x| x.norm(2.0, 1, keepdim)), [0.0, 0.0, 0.6, -0.8]);
        // x |x| / y² with y = (27 + 64)^(1/3).
        near(slope(&x, |x| x.norm(3.0, 1, keepdim)), [0.0, 0.0, 0.4448514, -0.7908468]);
        near(slope(&x, |x| x.norm(f64::INFINITY, 1, keepdim)), [0.0, 0.0, 0.0, -1.0]);
    }
    // y = (√3 + √4)² and sign(x) (y / |x|)^(1/2), with no pull on the zero beside.
    let beside = matrix(1, &[0.0, 3.0, -4.0, 0.0]);
    near(slope(&beside, |x| x.norm(0.5, 1, false)), [0.0, 2.1547005, -1.8660254, 0.0]);
    near(slope(&beside, |x| x.norm(1.5, (), false)), [0.0, 0.7329565, -0.8463452, 0.0]);
    assert_eq!(slope(&x.to_dtype(DType::F16).unwrap(), |x| x.norm(2.0, 0, false))[..2], [0.0, 0.0]);
}

#[test]
fn the_spread_of_equal_numbers_does_not_fall() {
    let x = matrix(2, &[2.0, 2.0, 2.0, -1.0, 0.0, 1.0]);
    for correction in [0, 1] {
        assert_eq!(slope(&x, |x| x.var(1, correction, false))[..3], [0.0; 3]);
        assert_eq!(slope(&x, |x| x.std(1, correction, true))[..3], [0.0; 3]);
    }
    assert_eq!(slope(&x, |x| x.std(1, 1, false))[3..], [-0.5, 0.0, 0.5]);
    assert_eq!(values::<f32>(x.std(1, 1, false)), [0.0, 1.0]);
    assert!(slope(&matrix(1, &[3.0]), |x| x.std(1, 1, false))[0].is_nan());
}

#[test]
fn a_product_with_zeros_has_the_slopes_of_the_others_products() {
    let x = matrix(3, &[2.0, 3.0, 4.0, 2.0, 0.0, 4.0, 0.0, 3.0, 0.0]);
    assert_eq!(slope(&x, |x| x.prod(1, false)), [12.0, 8.0, 6.0, 0.0, 8.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(slope(&matrix(1, &[0.0]), |x| x.prod(1, true)), [1.0]);
}

/// As `torch.amax`: "gradient is evenly distributed between equal maximums".
#[test]
fn equal_extremes_share_the_gradient() {
    let x = matrix(2, &[5.0, 1.0, 5.0, 2.0, 2.0, 2.0]);
    let third = 1.0 / 3.0;
    assert_eq!(slope(&x, |x| x.max(1, false)), [0.5, 0.0, 0.5, third, third, third]);
    assert_eq!(slope(&x, |x| x.min(1, true)), [0.0, 1.0, 0.0, third, third, third]);
    assert_eq!(slope(&x, |x| x.max((), false)), [0.5, 0.0, 0.5, 0.0, 0.0, 0.0]);
}

#[test]
fn norms_and_spreads_of_halves_do_not_overflow_on_the_way() {
    let x = tensor(&[300.0f32, -400.0]).to_dtype(DType::F16).unwrap();
    assert_eq!(values::<f16>(x.norm(2.0, 0, false)), [f16::from_f32(500.0)]);
    assert_eq!(values::<f16>(x.norm(4.0, Axes::from(()), false)), [f16::from_f32(428.46)]);
    assert_eq!(values::<f16>(x.std(0, 0, false)), [f16::from_f32(350.0)]);
    let many = Tensor::ones(&device(), [40_000], DType::F16).unwrap();
    assert_eq!(values::<f16>(many.norm(0.0, 0, false)), [f16::from_f32(40_000.0)]);
    assert_eq!(slope(&x, |x| x.norm(2.0, 0, false)), [0.6, -0.8].map(|x| f16::from_f32(x).to_f32()));
    assert_eq!(x.norm(1.0, 0, true).unwrap().dtype(), DType::F16);
}

#[test]
fn an_op_on_two_devices_is_refused() {
    let (here, there) = (open(), open());
    let on = |device: &Device, dtype| Tensor::ones(device, [2, 2], dtype).unwrap();
    let (x, y, ids) = (on(&here, DType::F32), on(&there, DType::F32), on(&there, DType::I64));
    let (truth, other) = (on(&here, DType::Bool), on(&there, DType::Bool));
    let line = Tensor::zeros(&there, [2], DType::I64).unwrap();
    let mut written = on(&here, DType::F32);
    let mut means = [on(&here, DType::F32), on(&there, DType::F32)];
    let [m, v] = &mut means;
    let adam = ops::Adam {
        lr: 0.1,
        betas: [0.9, 0.99],
        eps: 1e-8,
        weight_decay: 0.0,
        decoupled: true,
        step: 1,
        gradient_scale: 1.0,
    };
    let cases = [
        ("add", x.add(&y)),
        ("einsum", ops::einsum("ij,ij->ij", &[&x, &y])),
        ("lt", x.lt(&y)),
        ("select", truth.where_cond(&x, &y)),
        ("select", other.where_cond(&x, &x)),
        ("logical_and", truth.logical_and(&other)),
        ("concat", ops::concat(&[&x, &x, &y], 0)),
        ("concat", ops::stack(&[&x, &y], 0)),
        ("matmul", x.matmul(&y)),
        ("linear", ops::linear(&x, &y)),
        ("index_select", x.index_select(0, &line)),
        ("gather", x.gather(0, &ids)),
        ("scatter_add", x.scatter_add(0, &ids.to_device(&here).unwrap(), &y)),
        ("scatter_add", x.scatter_add(0, &ids, &x)),
        ("kl_divergence", ops::kl_divergence(&x, &y, 1.0)),
        (
            "rope",
            ops::rope(x.unsqueeze(1).unwrap(), &y.narrow(1, 0, 1).unwrap(), &y.narrow(1, 1, 1).unwrap()),
        ),
        ("add", written.add_assign(&y).map(|()| x.clone())),
        ("adam", ops::adam(&adam, &mut written, &x, m, v).map(|()| x.clone())),
        ("backward", x.trainable().unwrap().exp().unwrap().backward_from(&y).map(|_| x.clone())),
    ];
    for (i, (op, result)) in cases.into_iter().enumerate() {
        let refused = matches!(&result, Err(Error::Devices { op: refused, .. }) if *refused == op);
        assert!(refused, "case {i}, {op}: {result:?}");
    }
}

#[test]
fn the_refusal_of_two_devices_says_what_to_do() {
    let scalar = Device::open("cpu/scalar", Some(1)).unwrap();
    let x = Tensor::ones(&scalar, [2], DType::F32).unwrap();
    let y = Tensor::ones(&device(), [2], DType::F32).unwrap();
    let text = x.sub(&y).unwrap_err().to_string();
    let other = y.device().name();
    assert_eq!(
        text,
        format!(
            "sub: operands on two opened devices, `cpu/scalar` and `{other}`; share one handle or copy with `to_device`"
        )
    );
    assert_eq!(values::<f32>(x.sub(&y.to_device(&scalar).unwrap())), [0.0, 0.0]);
    let handle = scalar.clone();
    assert!(x.add(&Tensor::ones(&handle, [2], DType::F32).unwrap()).is_ok());
}
