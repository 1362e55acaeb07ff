//! Which elements the functions take, as `docs/ops.md` says.

use bitnet_core::{DType, Device, Tensor};
use bitnet_linalg::*;

/// Every function on a matrix, and whether it took it.
fn taken(a: &Tensor) -> [(&'static str, bool); 16] {
    [
        ("qr", qr(a).is_ok()),
        ("svd", svd(a).is_ok()),
        ("svdvals", svdvals(a).is_ok()),
        ("cholesky", cholesky(a).is_ok()),
        ("lu", lu(a).is_ok()),
        ("eigh", eigh(a).is_ok()),
        ("eig", eig(a).is_ok()),
        ("pinv", pinv(a, None).is_ok()),
        ("matrix_rank", matrix_rank(a, None).is_ok()),
        ("lstsq", lstsq(a, a, None).is_ok()),
        ("matrix_norm", matrix_norm(a, MatrixNorm::Two).is_ok()),
        ("cond", cond(a).is_ok()),
        ("solve", solve(a, a).is_ok()),
        ("inverse", inverse(a).is_ok()),
        ("det", det(a).is_ok()),
        ("slogdet", slogdet(a).is_ok()),
    ]
}

#[test]
fn every_function_takes_float32_and_nothing_else() {
    let device = Device::open("cpu/scalar", Some(1)).unwrap();
    for dtype in DType::ALL {
        for (name, taken) in taken(&Tensor::eye(&device, 3, dtype).unwrap()) {
            assert_eq!(taken, dtype == DType::F32, "{name} of {dtype}");
        }
    }
}

#[test]
fn every_function_has_a_row_on_the_page_of_ops() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/ops.md");
    let page = std::fs::read_to_string(page).unwrap();
    let device = Device::open("cpu/scalar", Some(1)).unwrap();
    for (name, _) in taken(&Tensor::eye(&device, 3, DType::F32).unwrap()) {
        assert!(page.contains(&format!("| `{name}` |")), "{name}");
    }
}
