//! A matrix by its columns: what a copy of a permuted view consists of.

/// `y[r, c] = x[c * stride + r]` of elements of `size` bytes. `y: [R, cols]`.
#[inline(always)]
pub(crate) fn reference(size: usize, x: &[u8], stride: usize, y: &mut [u8], cols: usize) {
    match size {
        1 => columns::<1>(x, stride, y, cols),
        2 => columns::<2>(x, stride, y, cols),
        4 => columns::<4>(x, stride, y, cols),
        8 => columns::<8>(x, stride, y, cols),
        _ => unreachable!("no element has {size} bytes"),
    }
}

/// [`reference`] of elements of `SIZE` bytes.
#[inline(always)]
pub(crate) fn columns<const SIZE: usize>(x: &[u8], stride: usize, y: &mut [u8], cols: usize) {
    let x = x.as_chunks::<SIZE>().0;
    for (r, y) in y.as_chunks_mut::<SIZE>().0.chunks_mut(cols).enumerate() {
        y.iter_mut().zip(x[r..].iter().step_by(stride)).for_each(|(y, x)| *y = *x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns() {
        let mut y = [0; 12];
        reference(2, b"aabbccddee..ffgghh", 6, &mut y[..8], 2);
        assert_eq!(&y, b"aaffbbgg\0\0\0\0");
        reference(1, b"123-456-789", 4, &mut y[..9], 3);
        assert_eq!(&y[..9], b"147258369");
    }
}
