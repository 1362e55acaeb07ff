//! Linear algebra against NumPy and SciPy in float64 (`testdata/linalg`), by what decompositions promise, and what is refused.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use bitnet_core::{DType, Device, Tensor, interchange::safetensors};
use bitnet_linalg::{self as linalg, Error, MatrixNorm};
use proptest::{prelude::*, test_runner::RngSeed};
use std::{collections::BTreeMap, path::Path};

/// Results are rounded once: within a unit in the last place of the largest element, and one more for the golden's own rounding.
const ROUNDED_ONCE: f64 = 2.0 * f32::EPSILON as f64;
/// Products of rounded factors, relative to the size of the factors.
const RECONSTRUCTED: f64 = 64.0 * f32::EPSILON as f64;

/// The one device of a test.
fn cpu() -> Device {
    thread_local! {
        static DEVICE: Device = Device::open("cpu/scalar", Some(1)).unwrap();
    }
    DEVICE.with(Device::clone)
}

fn tensor(dims: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_slice(&cpu(), dims, values).unwrap()
}

fn numbers(x: &Tensor) -> Vec<f64> {
    match x.dtype() {
        DType::I64 => x.to_vec::<i64>().unwrap().into_iter().map(|x| x as f64).collect(),
        _ => x.to_vec::<f32>().unwrap().into_iter().map(f64::from).collect(),
    }
}

/// The tensors of each case of an op.
fn cases(op: &str) -> BTreeMap<String, BTreeMap<String, Tensor>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/linalg/goldens.safetensors");
    let mut cases: BTreeMap<String, BTreeMap<String, Tensor>> = BTreeMap::new();
    for (name, x) in safetensors::load(&cpu(), &path).unwrap() {
        let (case, part) = name.rsplit_once('/').unwrap();
        if let Some(case) = case.strip_prefix(op).and_then(|case| case.strip_prefix('/')) {
            cases.entry(case.to_owned()).or_default().insert(part.to_owned(), x);
        }
    }
    assert!(!cases.is_empty(), "{op} has no cases");
    cases
}

#[track_caller]
fn assert_close(got: &Tensor, want: &Tensor, tolerance: f64, what: &str) {
    assert_eq!(got.dims(), want.dims(), "{what}");
    let (got, want) = (numbers(got), numbers(want));
    let largest = want.iter().filter(|x| x.is_finite()).fold(0.0, |m: f64, x| m.max(x.abs()));
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        let close = got == want || (got - want).abs() <= tolerance * largest;
        assert!(close, "{what}: element {i} is {got}, expected {want}");
    }
}

/// Runs an op over its cases and compares every result.
#[track_caller]
fn check(op: &str, run: impl Fn(&BTreeMap<String, Tensor>) -> Vec<Tensor>) {
    for (case, parts) in cases(op) {
        for (i, got) in run(&parts).iter().enumerate() {
            assert_close(got, &parts[&i.to_string()], ROUNDED_ONCE, &format!("{op}/{case}/{i}"));
        }
    }
}

/// Matrices of a stack, row by row.
fn matrices(x: &Tensor) -> Vec<Vec<Vec<f64>>> {
    let dims = x.dims();
    let [.., rows, cols] = dims[..] else { panic!("{dims:?}") };
    let values = numbers(x);
    let count = dims[..dims.len() - 2].iter().product();
    let row = |i: usize| values[i * cols..][..cols].to_vec();
    (0..count).map(|m| (0..rows).map(|r| row(m * rows + r)).collect()).collect()
}

fn product(a: &[Vec<f64>], b: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let cols = b.first().map_or(0, Vec::len);
    let dot = |row: &Vec<f64>, c: usize| row.iter().zip(b).map(|(x, y)| x * y[c]).sum();
    a.iter().map(|row| (0..cols).map(|c| dot(row, c)).collect()).collect()
}

fn transposed(a: &[Vec<f64>]) -> Vec<Vec<f64>> {
    (0..a.first().map_or(0, Vec::len)).map(|c| a.iter().map(|row| row[c]).collect()).collect()
}

fn size(a: &[Vec<f64>]) -> f64 {
    a.iter().flatten().fold(0.0, |m, x| m.max(x.abs()))
}

#[track_caller]
fn assert_same(a: &[Vec<f64>], b: &[Vec<f64>], tolerance: f64) {
    for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
        assert!((a - b).abs() <= tolerance, "{a} and {b} differ by more than {tolerance}");
    }
}

#[track_caller]
fn assert_orthonormal_columns(q: &[Vec<f64>]) {
    let gram = product(&transposed(q), q);
    for (i, row) in gram.iter().enumerate() {
        for (j, x) in row.iter().enumerate() {
            assert!((x - f64::from(u8::from(i == j))).abs() <= RECONSTRUCTED, "[{i}, {j}] is {x}");
        }
    }
}

/// `r` with a non-negative diagonal.
fn with_positive_diagonal(r: &Tensor) -> Tensor {
    let mut values = Vec::new();
    for matrix in matrices(r) {
        for (i, row) in matrix.iter().enumerate() {
            let sign = if row[i] < 0.0 { -1.0 } else { 1.0 };
            values.extend(row.iter().map(|x| (x * sign) as f32));
        }
    }
    tensor(r.dims(), &values)
}

#[test]
fn r_is_numpys_up_to_the_signs_of_its_rows() {
    for (case, parts) in cases("qr") {
        let (q, r) = linalg::qr(&parts["a"]).unwrap();
        assert_eq!(q.dims(), parts["0"].dims(), "{case}");
        assert_close(&with_positive_diagonal(&r), &parts["1"], ROUNDED_ONCE, &case);
    }
}

#[test]
fn singular_values_are_numpys() {
    check("svdvals", |x| vec![linalg::svdvals(&x["a"]).unwrap()]);
    check("svdvals", |x| vec![linalg::svd(&x["a"]).unwrap().1]);
}

#[test]
fn the_factors_of_elimination_are_scipys() {
    check("lu", |x| {
        let (p, l, u) = linalg::lu(&x["a"]).unwrap();
        vec![p, l, u]
    });
}

#[test]
fn cholesky_factors_are_numpys() {
    check("cholesky", |x| vec![linalg::cholesky(&x["a"]).unwrap()]);
}

#[test]
fn eigenvalues_of_symmetric_matrices_are_numpys() {
    check("eigh", |x| vec![linalg::eigh(&x["a"]).unwrap().0]);
}

#[test]
fn eigenvalues_are_numpys_in_some_order() {
    for (case, parts) in cases("eig") {
        let eig = linalg::eig(&parts["a"]).unwrap();
        let n = eig.re.shape().last();
        let pairs = |re: &Tensor, im: &Tensor| {
            let pairs: Vec<(f64, f64)> = numbers(re).into_iter().zip(numbers(im)).collect();
            pairs.chunks(n).map(<[_]>::to_vec).collect::<Vec<_>>()
        };
        for (got, mut want) in pairs(&eig.re, &eig.im).into_iter().zip(pairs(&parts["0"], &parts["1"])) {
            let largest = want.iter().fold(0.0, |m: f64, z| m.max(z.0.hypot(z.1)));
            for z in got {
                let distance = |w: &(f64, f64)| (z.0 - w.0).hypot(z.1 - w.1);
                let nearest =
                    (0..want.len()).min_by(|&i, &j| distance(&want[i]).total_cmp(&distance(&want[j])));
                let nearest = want.swap_remove(nearest.unwrap());
                assert!(distance(&nearest) <= ROUNDED_ONCE * largest, "{case}: {z:?}, expected {nearest:?}");
            }
        }
    }
}

#[test]
fn solutions_are_numpys_over_broadcast_batches() {
    check("solve", |x| vec![linalg::solve(&x["a"], &x["b"]).unwrap()]);
}

#[test]
fn inverses_and_determinants_are_numpys() {
    check("inverse", |x| vec![linalg::inverse(&x["a"]).unwrap()]);
    check("det", |x| vec![linalg::det(&x["a"]).unwrap()]);
    check("slogdet", |x| {
        let (sign, log) = linalg::slogdet(&x["a"]).unwrap();
        vec![sign, log]
    });
}

#[test]
fn ranks_pseudo_inverses_and_least_squares_are_numpys() {
    check("matrix_rank", |x| vec![linalg::matrix_rank(&x["a"], None).unwrap()]);
    check("pinv", |x| vec![linalg::pinv(&x["a"], None).unwrap()]);
    check("lstsq", |x| {
        let found = linalg::lstsq(&x["a"], &x["b"], None).unwrap();
        vec![found.solution, found.rank, found.singular_values]
    });
}

#[test]
fn norms_and_condition_numbers_are_numpys() {
    use MatrixNorm::{Frobenius, Infinity, Nuclear, One, Two};
    let norms = [Frobenius, Nuclear, Two, One, Infinity];
    check("matrix_norm", |x| norms.map(|n| linalg::matrix_norm(&x["a"], n).unwrap()).to_vec());
    check("cond", |x| vec![linalg::cond(&x["a"]).unwrap()]);
}

#[test]
fn complex_eigenvectors_belong_to_their_values() {
    let a = tensor(&[3, 3], &[0., -2., 1., 3., 0., 5., 0., 1., 2.]);
    let eig = linalg::eig(&a).unwrap();
    let (a, re, im) = (&matrices(&a)[0], &matrices(&eig.vectors_re)[0], &matrices(&eig.vectors_im)[0]);
    let (w_re, w_im) = (numbers(&eig.re), numbers(&eig.im));
    let scaled = |sign: f64, x: &[Vec<f64>], y: &[Vec<f64>]| -> Vec<Vec<f64>> {
        let column = |i: usize, j: usize| x[i][j] * w_re[j] + sign * y[i][j] * w_im[j];
        (0..3).map(|i| (0..3).map(|j| column(i, j)).collect()).collect()
    };
    assert_same(&product(a, re), &scaled(-1.0, re, im), 10.0 * RECONSTRUCTED);
    assert_same(&product(a, im), &scaled(1.0, im, re), 10.0 * RECONSTRUCTED);
    let length: f64 = re.iter().zip(im).map(|(re, im)| re[0] * re[0] + im[0] * im[0]).sum();
    assert!((length - 1.0).abs() <= RECONSTRUCTED);
}

#[test]
fn strided_views_are_read_in_their_own_order() {
    let a = tensor(&[2, 3], &[1., 2., 3., 4., 5., 7.]);
    let columns = a.permute(&[1, 0]).unwrap();
    let copy = tensor(&[3, 2], &[1., 4., 2., 5., 3., 7.]);
    let s = linalg::svdvals(&columns).unwrap();
    assert_eq!(numbers(&s), numbers(&linalg::svdvals(&copy).unwrap()));
}

#[test]
fn matrices_without_elements_are_as_in_numpy() {
    let none = |dims: &[usize]| tensor(dims, &[]);
    for (m, n) in [(0, 3), (3, 0), (0, 0)] {
        let a = none(&[2, m, n]);
        let (q, r) = linalg::qr(&a).unwrap();
        assert_eq!((q.dims(), r.dims()), (&[2, m, 0][..], &[2, 0, n][..]));
        let (u, s, vt) = linalg::svd(&a).unwrap();
        assert_eq!((u.dims(), s.dims(), vt.dims()), (&[2, m, 0][..], &[2, 0][..], &[2, 0, n][..]));
        let (p, l, u) = linalg::lu(&a).unwrap();
        assert_eq!((p.dims(), l.dims(), u.dims()), (&[2, m, m][..], &[2, m, 0][..], &[2, 0, n][..]));
        assert_eq!(linalg::pinv(&a, None).unwrap().dims(), [2, n, m]);
        assert_eq!(numbers(&linalg::matrix_rank(&a, None).unwrap()), [0., 0.]);
        assert_eq!(numbers(&linalg::matrix_norm(&a, MatrixNorm::Two).unwrap()), [0., 0.]);
        assert_eq!(
            numbers(&linalg::lstsq(&a, &tensor(&[m], &vec![1.; m]), None).unwrap().solution),
            vec![0.; 2 * n]
        );
        assert!(matches!(linalg::cond(&a), Err(Error::Empty { .. })));
    }
    let a = none(&[0, 0]);
    assert_eq!(linalg::inverse(&a).unwrap().dims(), [0, 0]);
    assert_eq!(linalg::solve(&a, &none(&[0, 2])).unwrap().dims(), [0, 2]);
    assert_eq!(linalg::cholesky(&a).unwrap().dims(), [0, 0]);
    assert_eq!(linalg::eigh(&a).unwrap().1.dims(), [0, 0]);
    assert_eq!(linalg::eig(&a).unwrap().vectors_im.dims(), [0, 0]);
    assert_eq!(linalg::inverse(&none(&[0, 4, 4])).unwrap().dims(), [0, 4, 4]);
}

#[test]
fn a_singular_matrix_is_named_with_its_pivot() {
    let a = tensor(&[2, 2, 2], &[1., 0., 0., 1., 1., 2., 2., 4.]);
    let refusal = linalg::inverse(&a).unwrap_err();
    assert!(matches!(refusal, Error::Singular { matrix: 1, pivot: 1, .. }), "{refusal}");
    let rounding = tensor(&[3, 3], &[1., 2., 3., 4., 5., 6., 7., 8., 9.]);
    let refusal = linalg::solve(&rounding, &tensor(&[3], &[1., 2., 4.])).unwrap_err();
    assert!(matches!(refusal, Error::Singular { matrix: 0, pivot: 2, .. }), "{refusal}");
}

#[test]
fn a_matrix_that_is_not_positive_definite_is_named_with_its_pivot() {
    let mut values = vec![0.; 2 * 100 * 100];
    (0..200).for_each(|i| values[i / 100 * 10_000 + i % 100 * 101] = 1.0);
    values[10_000 + 90 * 101] = -1.0;
    let refusal = linalg::cholesky(&tensor(&[2, 100, 100], &values)).unwrap_err();
    let named = matches!(refusal, Error::NotPositiveDefinite { matrix: 1, pivot: 90, .. });
    assert!(named, "{refusal}");
}

#[test]
fn elements_that_are_not_finite_are_refused_with_their_place() {
    for value in [f32::NAN, f32::INFINITY] {
        let a = tensor(&[2, 2, 3], &[0., 0., 0., 0., 0., 0., 0., 0., 0., 0., value, 0.]);
        let refusal = linalg::svd(&a).unwrap_err();
        assert!(matches!(refusal, Error::NotFinite { matrix: 1, row: 1, col: 1, .. }));
    }
}

#[test]
fn what_are_no_square_float_matrices_is_refused() {
    let refusal = |x: linalg::Result<Tensor>| x.unwrap_err().to_string();
    let wide = tensor(&[2, 3], &[0.; 6]);
    assert!(refusal(linalg::inverse(&wide)).contains("square matrices"));
    assert!(refusal(linalg::det(&tensor(&[3], &[0.; 3]))).contains("[..., M, N]"));
    let integers = Tensor::from_slice(&cpu(), [1, 1], &[1i64]).unwrap();
    assert!(refusal(linalg::det(&integers)).contains("cast"));
    assert!(matches!(
        linalg::solve(&tensor(&[2, 2], &[1., 0., 0., 1.]), &tensor(&[3], &[0.; 3])),
        Err(Error::Tensor(bitnet_core::Error::Shape { .. }))
    ));
    let (two, three) = (tensor(&[2, 1, 1], &[1.; 2]), tensor(&[3, 1, 1], &[1.; 3]));
    assert!(matches!(linalg::solve(&two, &three), Err(Error::Tensor(bitnet_core::Error::Broadcast { .. }))));
    assert!(refusal(linalg::pinv(&wide, Some(-1.0))).contains("tolerance"));
}

#[test]
fn matrices_of_zeros_have_factors_and_a_determinant_of_zero() {
    let zeros = tensor(&[3, 3], &[0.; 9]);
    let (p, l, u) = linalg::lu(&zeros).unwrap();
    assert_eq!(
        (numbers(&p), numbers(&l)),
        (numbers(&tensor(&[3, 3], &EYE)), numbers(&tensor(&[3, 3], &EYE)))
    );
    assert_eq!(numbers(&u), [0.; 9]);
    let singular = tensor(&[3, 3], &[0., 0., 1., 0., 0., 2., 0., 5., 3.]);
    for x in [&zeros, &singular] {
        assert_eq!(numbers(&linalg::det(x).unwrap()), [0.]);
        let (sign, log) = linalg::slogdet(x).unwrap();
        assert_eq!((numbers(&sign)[0], numbers(&log)[0]), (0., f64::NEG_INFINITY));
    }
}

const EYE: [f32; 9] = [1., 0., 0., 0., 1., 0., 0., 0., 1.];

/// Small matrices of numbers that may be equal, zero, tiny or large.
fn any_matrix(square: bool) -> impl Strategy<Value = Tensor> {
    let element = prop_oneof![-3i32..4i32, Just(0i32)].prop_map(|x| x as f32);
    let wild = (-1f32..1f32, -20i32..20).prop_map(|(x, e)| x * (e as f32).exp2());
    let element = prop_oneof![element, wild, -1f32..1f32];
    (1usize..9, 1usize..9).prop_flat_map(move |(m, n)| {
        let n = if square { m } else { n };
        prop::collection::vec(element.clone(), m * n).prop_map(move |values| tensor(&[m, n], &values))
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200, failure_persistence: None, rng_seed: RngSeed::Fixed(42), ..ProptestConfig::default()
    })]

    #[test]
    fn q_times_r_is_the_matrix(a in any_matrix(false)) {
        let (q, r) = linalg::qr(&a).unwrap();
        let (a, q, r) = (&matrices(&a)[0], &matrices(&q)[0], &matrices(&r)[0]);
        assert_orthonormal_columns(q);
        assert_same(&product(q, r), a, RECONSTRUCTED * size(a));
    }

    #[test]
    fn the_singular_value_decomposition_is_the_matrix(a in any_matrix(false)) {
        let (u, s, vt) = linalg::svd(&a).unwrap();
        let (s, a, u, vt) = (numbers(&s), &matrices(&a)[0], &matrices(&u)[0], &matrices(&vt)[0]);
        assert_orthonormal_columns(u);
        assert_orthonormal_columns(&transposed(vt));
        prop_assert!(s.windows(2).all(|w| w[0] >= w[1]) && s.iter().all(|&s| s >= 0.0));
        let us: Vec<Vec<f64>> = u.iter().map(|row| row.iter().zip(&s).map(|(x, s)| x * s).collect()).collect();
        assert_same(&product(&us, vt), a, RECONSTRUCTED * s[0]);
    }

    #[test]
    fn p_times_l_times_u_is_the_matrix(a in any_matrix(false)) {
        let (p, l, u) = linalg::lu(&a).unwrap();
        let (a, p, l, u) = (&matrices(&a)[0], &matrices(&p)[0], &matrices(&l)[0], &matrices(&u)[0]);
        assert_same(&product(&product(p, l), u), a, RECONSTRUCTED * size(u).max(size(a)));
    }

    #[test]
    fn symmetric_matrices_are_their_eigenvectors_times_their_values(a in any_matrix(true)) {
        let a = &matrices(&a)[0];
        let n = a.len();
        let lower = |i: usize, j: usize| a[i.max(j)][i.min(j)];
        let symmetric: Vec<Vec<f64>> = (0..n).map(|i| (0..n).map(|j| lower(i, j)).collect()).collect();
        let values: Vec<f32> = a.iter().flatten().map(|&x| x as f32).collect();
        let (w, v) = linalg::eigh(&tensor(&[n, n], &values)).unwrap();
        let (w, v) = (numbers(&w), &matrices(&v)[0]);
        assert_orthonormal_columns(v);
        prop_assert!(w.windows(2).all(|w| w[0] <= w[1]));
        let vw: Vec<Vec<f64>> = v.iter().map(|row| row.iter().zip(&w).map(|(x, w)| x * w).collect()).collect();
        assert_same(&product(&vw, &transposed(v)), &symmetric, RECONSTRUCTED * size(a).max(w[n - 1].abs()));
    }

    #[test]
    fn pseudo_inverses_obey_penrose(a in any_matrix(false)) {
        let plus = linalg::pinv(&a, None).unwrap();
        let (a, plus) = (&matrices(&a)[0], &matrices(&plus)[0]);
        let scale = size(a) * (1.0 + size(a) * size(plus));
        assert_same(&product(&product(a, plus), a), a, RECONSTRUCTED * scale);
    }

    #[test]
    fn a_solution_solves(a in any_matrix(true)) {
        let n = a.dims()[0];
        let b = vec![1f32; n];
        if let Ok(x) = linalg::solve(&a, &tensor(&[n], &b)) {
            let (a, x) = (&matrices(&a)[0], numbers(&x));
            let scale = 1.0 + size(a) * x.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
            for row in a {
                let got: f64 = row.iter().zip(&x).map(|(a, x)| a * x).sum();
                prop_assert!((got - 1.0).abs() <= RECONSTRUCTED * scale);
            }
        }
    }
}
