//! Views against a naive model that copies, and ops over views against the same ops over copies.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use bitnet_core::{DType, Device, Tensor, cpu::kernels::Kernels, ops};
use proptest::{prelude::*, test_runner::RngSeed};

/// An array that copies its elements at every step.
#[derive(Clone, Debug)]
struct Naive {
    dims: Vec<usize>,
    data: Vec<f32>,
}

impl Naive {
    /// The array of these extents whose element at `index` is the old one at `from(index)`.
    fn pick(&self, dims: &[usize], from: impl Fn(&[usize]) -> Vec<usize>) -> Self {
        let len = dims.iter().product();
        let data = (0..len).map(|i| self.data[flat(&from(&unflat(i, dims)), &self.dims)]).collect();
        Self { dims: dims.to_vec(), data }
    }

    /// Dimension `i` is the old dimension `order[i]`.
    fn permuted(&self, order: &[usize]) -> Self {
        let turned: Vec<usize> = order.iter().map(|&i| self.dims[i]).collect();
        self.pick(&turned, |index| {
            let mut from = vec![0; order.len()];
            order.iter().zip(index).for_each(|(&to, &i)| from[to] = i);
            from
        })
    }
}

fn flat(index: &[usize], dims: &[usize]) -> usize {
    index.iter().zip(dims).fold(0, |at, (i, dim)| at * dim + i)
}

fn unflat(mut at: usize, dims: &[usize]) -> Vec<usize> {
    let mut index: Vec<usize> = dims
        .iter()
        .rev()
        .map(|dim| {
            let i = at % dim;
            at /= dim;
            i
        })
        .collect();
    index.reverse();
    index
}

/// A range of an extent, empty now and then.
fn range(extent: usize, [a, b]: [usize; 2]) -> (usize, usize) {
    if extent == 0 || b.is_multiple_of(7) {
        return (a % (extent + 1), 0);
    }
    let start = a % extent;
    (start, 1 + b / 7 % (extent - start))
}

/// The index with its entry `dim` at another place.
fn moved(index: &[usize], dim: usize, to: impl Fn(usize) -> usize) -> Vec<usize> {
    let mut index = index.to_vec();
    index[dim] = to(index[dim]);
    index
}

/// A view of both, chosen by random numbers.
fn step(x: &Tensor, naive: &Naive, [kind, a, b, c]: [usize; 4]) -> (Tensor, Naive) {
    let dims = naive.dims.clone();
    let (rank, dim) = (dims.len(), a % dims.len());
    let (start, len) = range(dims[dim], [b, c]);
    match kind % 11 {
        0 => {
            let other = b % rank;
            let mut order: Vec<usize> = (0..rank).collect();
            order.swap(dim, other);
            (x.transpose(dim as isize, other as isize).unwrap(), naive.permuted(&order))
        }
        1 => {
            let step = 1 + kind / 11 % 3;
            let sliced = moved(&dims, dim, |_| len.div_ceil(step));
            let naive = naive.pick(&sliced, |index| moved(index, dim, |i| start + i * step));
            (x.slice(dim, start, start + len, step).unwrap(), naive)
        }
        2 if rank < 5 => {
            let mut longer = dims.clone();
            longer.insert(dim, 1);
            let naive = Naive { dims: longer, ..naive.clone() };
            (x.unsqueeze(dim as isize).unwrap(), naive)
        }
        3 if dims[dim] == 1 && rank > 1 => {
            let mut shorter = dims.clone();
            shorter.remove(dim);
            (x.squeeze(dim as isize).unwrap(), Naive { dims: shorter, ..naive.clone() })
        }
        4 if dims[dim] == 1 => {
            let repeated = moved(&dims, dim, |_| if b.is_multiple_of(8) { 0 } else { 1 + b % 3 });
            let naive = naive.pick(&repeated, |index| moved(index, dim, |_| 0));
            (x.broadcast_to(&repeated[..]).unwrap(), naive)
        }
        5 if rank > 1 => {
            let at = a % (rank - 1);
            let mut merged = dims.clone();
            let inner = merged.remove(at + 1);
            merged[at] *= inner;
            let naive = Naive { dims: merged.clone(), ..naive.clone() };
            // Where no stride walks through both dimensions, only a copy has the shape.
            (x.reshape(&merged[..]).or_else(|_| x.contiguous()?.reshape(&merged[..])).unwrap(), naive)
        }
        6 => {
            let naive = naive.pick(&moved(&dims, dim, |_| len), |index| moved(index, dim, |i| start + i));
            (x.narrow(dim, start, len).unwrap(), naive)
        }
        7 => {
            let mut order: Vec<usize> = (0..rank).collect();
            order.rotate_left(dim);
            order.swap(0, b % rank);
            (x.permute(&order).unwrap(), naive.permuted(&order))
        }
        8 => {
            let (first, last) = (dim, dim + b % (rank - dim));
            let flat = x.flatten(first as isize, last as isize);
            let flat = flat.or_else(|_| x.contiguous()?.flatten(first as isize, last as isize)).unwrap();
            let run = dims[first..=last].iter().product();
            let merged = [&dims[..first], &[run], &dims[last + 1..]].concat();
            (flat, Naive { dims: merged, ..naive.clone() })
        }
        9 => {
            let (extents, part) = ([start, len, dims[dim] - start - len], b % 3);
            let before: usize = extents[..part].iter().sum();
            let naive =
                naive.pick(&moved(&dims, dim, |_| extents[part]), |index| moved(index, dim, |i| before + i));
            (x.split(dim as isize, &extents).unwrap().swap_remove(part), naive)
        }
        10 if rank > 1 => {
            let (first, second) = (dim, (dim + 1 + b % (rank - 1)) % rank);
            let side = dims[first].min(dims[second]);
            let square = x.narrow(first, 0, side).unwrap().narrow(second, 0, side).unwrap();
            let mut along = moved(&dims, first, |_| side);
            along.remove(second);
            let naive = naive.pick(&along, |index| {
                let mut from = index.to_vec();
                from.insert(second, index[first - usize::from(second < first)]);
                from
            });
            (square.diagonal(first as isize, second as isize).unwrap(), naive)
        }
        _ => (x.clone(), naive.clone()),
    }
}

/// Extents of which some are zero.
fn extents(most: usize) -> impl Strategy<Value = usize> {
    prop_oneof![1 => Just(0), 15 => 1..most]
}

fn device() -> Device {
    Device::open("cpu", Some(2)).unwrap()
}

/// A view of counted numbers after random steps, and what it should hold.
fn viewed(dims: &[usize], steps: &[[usize; 4]]) -> (Tensor, Naive) {
    let data: Vec<f32> = (0..dims.iter().product()).map(|i: usize| i as f32 * 0.37 - 20.0).collect();
    let start = Tensor::from_slice(&device(), dims, &data).unwrap();
    let naive = Naive { dims: dims.to_vec(), data };
    steps.iter().fold((start, naive), |(x, naive), &numbers| step(&x, &naive, numbers))
}

fn bits(x: &Tensor) -> Vec<u32> {
    x.to_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400, failure_persistence: None, rng_seed: RngSeed::Fixed(41), ..ProptestConfig::default()
    })]

    #[test]
    fn views_hold_what_a_naive_model_holds(
        dims in prop::collection::vec(extents(70), 1..4),
        steps in prop::collection::vec(any::<[usize; 4]>(), 0..7),
    ) {
        prop_assume!(dims.iter().product::<usize>() < 20_000);
        let (x, naive) = viewed(&dims, &steps);
        prop_assert_eq!(x.dims(), naive.dims);
        prop_assert_eq!(x.to_vec::<f32>().unwrap(), naive.data);
    }

    #[test]
    fn ops_over_views_are_ops_over_copies(
        dims in prop::collection::vec(extents(40), 2..4),
        steps in prop::collection::vec(any::<[usize; 4]>(), 1..6),
    ) {
        prop_assume!(dims.iter().product::<usize>() < 8_000);
        let (view, _) = viewed(&dims, &steps);
        let copy = view.copy().unwrap();
        prop_assert!(copy.is_contiguous());
        let row = copy.narrow(0, 0, copy.dims()[0].min(1)).unwrap();
        let cases: [fn(&Tensor, &Tensor) -> bitnet_core::Result<Tensor>; 15] = [
            |x, _| x.tanh(),
            |x, row| x.add(row),
            |x, row| row.mul(x),
            |x, row| x.lt(row)?.where_cond(x, row),
            |x, _| x.sum(-1, true),
            |x, _| x.max(0, false),
            |x, _| x.softmax(0),
            |x, _| x.to_dtype(DType::F16)?.to_dtype(DType::F32),
            |x, row| ops::concat(&[x, row], 0),
            |x, row| ops::concat(&[row, x], 0),
            |x, _| ops::stack(&[x, x], -1),
            |x, _| x.log_softmax(-1),
            |x, _| Ok(x.sort(0, true)?.0),
            |x, _| x.cumsum(-1),
            |x, _| x.flip(0),
        ];
        let outcome = |y: bitnet_core::Result<Tensor>| y.map(|y| bits(&y)).map_err(|error| error.to_string());
        for case in cases {
            // Of no elements there is no largest one, and no other op may fail.
            let got = outcome(case(&view, &row));
            prop_assert!(got.is_ok() || got.as_ref().is_err_and(|error| error.contains("no max of no elements")));
            prop_assert_eq!(got, outcome(case(&copy, &row)));
        }
    }
}

fn floats(x: &Tensor) -> Vec<f32> {
    x.to_vec().unwrap()
}

#[test]
fn views_of_nothing_are_read_written_and_combined() {
    let device = device();
    let zeros = |dims: [usize; 2]| Tensor::zeros(&device, dims, DType::F32).unwrap();
    let joined = ops::concat(&[&zeros([0, 2]), &zeros([0, 3])], 1).unwrap();
    assert_eq!(joined.dims(), [0, 5]);
    let parts = zeros([0, 3]).split(1, &[1, 2]).unwrap();
    let x = &parts[1];
    assert_eq!((x.dims(), floats(x), x.as_slice::<f32>().unwrap()), (&[0, 2][..], vec![], &[][..]));
    assert_eq!(floats(&x.sum(0, false).unwrap()), [0.0, 0.0]);
    assert_eq!(floats(&x.prod(0, false).unwrap()), [1.0, 1.0]);
    assert!(floats(&x.mean(0, false).unwrap()).iter().all(|mean| mean.is_nan()));
    assert_eq!(x.sum(1, false).unwrap().dims(), [0]);
    let ids = |dims: &[usize]| Tensor::zeros(&device, dims, DType::I64).unwrap();
    let same = [
        x.add(&zeros([0, 1])),
        x.softmax(0),
        x.softmax(1),
        Ok(x.sort(0, false).unwrap().0),
        Ok(x.sort(1, true).unwrap().0),
        x.cumsum(0),
        x.gather(1, &ids(&[0, 2])),
        x.gather(0, &ids(&[0, 2])),
        x.scatter_add(1, &ids(&[0, 2]), x),
        x.index_select(1, &ids(&[2])),
        x.index_select(0, &ids(&[0])),
        x.to_dtype(DType::F16).unwrap().to_dtype(DType::F32),
        x.copy(),
    ];
    for (i, y) in same.into_iter().enumerate() {
        let y = y.unwrap_or_else(|error| panic!("case {i}: {error}"));
        assert_eq!((y.dims(), floats(&y)), (&[0, 2][..], vec![]), "case {i}");
    }
    assert_eq!(floats(&x.t().unwrap().matmul(&zeros([0, 3])).unwrap()), [0.0; 6]);
    let leaf = x.trainable().unwrap();
    let gradients = leaf.softmax(1).unwrap().sum((), false).unwrap().backward().unwrap();
    assert_eq!(gradients.of(&leaf).unwrap().dims(), [0, 2]);
}

#[test]
fn writing_a_view_of_nothing_in_place_changes_nothing() {
    let mut x = Tensor::zeros(&device(), [0, 3], DType::F32).unwrap().narrow(1, 1, 2).unwrap();
    x.add_assign(&x.copy().unwrap()).unwrap();
    assert_eq!(x.dims(), [0, 2]);
}

#[test]
fn the_middle_of_a_gradient_of_nothing_is_nothing() {
    let x = Tensor::zeros(&device(), [0, 5], DType::F32).unwrap().trainable().unwrap();
    let y = x.narrow(1, 2, 2).unwrap().square().unwrap().sum((), false).unwrap();
    assert_eq!(y.backward().unwrap().of(&x).unwrap().dims(), [0, 5]);
}

/// A copy of permuted numbers against the naive model.
fn check_permuted(device: &Device, dtype: DType, dims: &[usize], order: &[usize]) {
    let len: usize = dims.iter().product();
    // Exact in every type.
    let data: Vec<f32> = (0..len).map(|i| (i * 7 % 113) as f32).collect();
    let naive = Naive { dims: dims.to_vec(), data: data.clone() };
    let expected = naive.permuted(order);
    let x = Tensor::from_slice(device, dims, &data).unwrap().to_dtype(dtype).unwrap();
    let copy = x.permute(order).unwrap().copy().unwrap();
    assert!(copy.is_contiguous());
    let got = copy.to_dtype(DType::F32).unwrap().to_vec::<f32>().unwrap();
    assert!(got == expected.data, "{}, {dtype}, {dims:?} by {order:?}", device.name());
}

#[test]
fn permuted_elements_of_every_size_are_copied_on_every_tier() {
    let cases: [(&[usize], &[usize]); 16] = [
        (&[0, 9, 70], &[0, 2, 1]),
        (&[9, 0, 70], &[2, 1, 0]),
        (&[9, 70, 0], &[1, 0, 2]),
        (&[65, 67], &[1, 0]),
        (&[1, 130], &[1, 0]),
        (&[3, 1000], &[1, 0]),
        (&[1000, 3], &[1, 0]),
        (&[512, 256], &[1, 0]),
        (&[5, 33, 70], &[0, 2, 1]),
        (&[33, 5, 70], &[2, 1, 0]),
        (&[9, 70, 2], &[2, 0, 1]),
        (&[40, 2, 2], &[0, 2, 1]),
        (&[3, 17, 5, 24], &[0, 2, 1, 3]),
        (&[3, 17, 5, 24], &[0, 2, 3, 1]),
        (&[7, 6, 5, 40], &[3, 2, 1, 0]),
        (&[7, 6, 5, 40], &[1, 3, 0, 2]),
    ];
    for kernels in Kernels::available() {
        let device = Device::open(&format!("cpu/{}", kernels.name), Some(3)).unwrap();
        for dtype in [DType::I8, DType::BF16, DType::F32, DType::I64] {
            for (dims, order) in cases {
                check_permuted(&device, dtype, dims, order);
            }
        }
    }
}

/// From some megabytes on, results are written past the caches.
#[test]
fn large_permuted_tensors_are_copied_on_every_tier() {
    for kernels in Kernels::available() {
        let device = Device::open(&format!("cpu/{}", kernels.name), Some(2)).unwrap();
        for (dims, order) in
            [([1024, 2100, 1], [1, 0, 2]), ([1100, 2047, 1], [1, 0, 2]), ([4, 560, 1000], [0, 2, 1])]
        {
            check_permuted(&device, DType::F32, &dims, &order);
        }
    }
}

#[test]
fn wrong_operands_are_refused() {
    let device = device();
    let x = Tensor::zeros(&device, [2, 3], DType::F32).unwrap();
    let ints = Tensor::zeros(&device, [2, 3], DType::I64).unwrap();
    let other = Tensor::zeros(&device, [2, 4], DType::F32).unwrap();
    let text = |result: bitnet_core::Result<Tensor>| result.unwrap_err().to_string();
    assert_eq!(text(x.add(&other)), "add: shapes [2, 3] and [2, 4] do not broadcast together");
    assert_eq!(text(x.add(&ints)), "add: expected float32 elements, got int64");
    assert_eq!(text(ints.div(&ints)), "div: not defined for int64; cast to a float first");
    assert_eq!(text(ints.rem(&ints)), "rem: an integer is divided by zero");
    assert_eq!(text(ints.exp()), "exp: not defined for int64; cast to a float first");
    assert_eq!(text(x.sum(2, false)), "sum: axis 2 is not one of the 2 dimensions, or was given twice");
    assert_eq!(text(x.narrow(1, 2, 2)), "narrow: range of 2 from 2 does not fit in an extent of 3");
    assert_eq!(text(x.reshape([7])), "reshape: expected shape [2, 3], got [7]");
    assert_eq!(
        text(x.t().unwrap().reshape([6])),
        "reshape: the tensor is a strided view; copy it into contiguous rows first"
    );
    assert_eq!(text(x.matmul(&other)), "matmul: expected shape [3, 4], got [2, 4]");
    assert_eq!(text(ops::einsum("ij,jk", &[&x])), "einsum: 2 terms for 1 operands");
    assert_eq!(text(ops::einsum("i!", &[&x])), "einsum: `!` in term `i!` is not a letter");
    assert_eq!(text(ops::einsum("ij,ik", &[&x, &x.t().unwrap()])), "einsum: `i` has the extents 2 and 3");
    let ids = Tensor::from_slice(&device, [1], &[3i64]).unwrap();
    assert_eq!(text(x.index_select(1, &ids)), "index_select: index 3 of an extent of 3");
    let empty = Tensor::zeros(&device, [0], DType::F32).unwrap();
    assert_eq!(text(empty.max(0, false)), "max: there is no max of no elements; the shape is [0]");
    let deep = Tensor::zeros(&device, [1; 8], DType::F32).unwrap();
    assert!(deep.unsqueeze(0).is_err());
    assert!(ops::stack(&[&deep, &deep], 0).is_err());
}

#[test]
fn a_copy_on_another_device_holds_the_same_and_passes_gradients_back() {
    let (here, there) = (device(), Device::open("cpu/scalar", Some(1)).unwrap());
    let x = Tensor::from_slice(&here, [2, 2], &[1.0f32, 2.0, 3.0, 4.0]).unwrap().trainable().unwrap();
    assert!(x.to_device(&here).unwrap().device().is_same(&here));
    let moved = x.t().unwrap().to_device(&there).unwrap();
    assert!(moved.device().is_same(&there));
    assert_eq!(moved.to_vec::<f32>().unwrap(), [1.0, 3.0, 2.0, 4.0]);
    let gradients = moved.square().unwrap().sum((), false).unwrap().backward().unwrap();
    let gradient = gradients.of(&x).unwrap();
    assert!(gradient.device().is_same(&here));
    assert_eq!(gradient.to_vec::<f32>().unwrap(), [2.0, 4.0, 6.0, 8.0]);
}

#[test]
fn writing_in_place_needs_the_only_handle() {
    let device = device();
    let mut x = Tensor::ones(&device, [2, 2], DType::F32).unwrap();
    let row = Tensor::from_slice(&device, [2], &[1.0f32, 2.0]).unwrap();
    x.add_assign(&row).unwrap();
    x.mul_assign(&x.copy().unwrap()).unwrap();
    assert_eq!(x.to_vec::<f32>().unwrap(), [4.0, 9.0, 4.0, 9.0]);
    let other = x.clone();
    assert!(x.sub_assign(&row).is_err());
    drop(other);
    assert!(x.sub_assign(&row).is_ok());
    assert!(x.trainable().unwrap().add_assign(&row).is_err());
}
