//! Attention, shared between threads: each token and kv head is an item, and where these are few, each chunk of one.

use super::{kernels::Kernels, threads::Threads};
use crate::{
    backend::Paged,
    ops::{
        attention::{Past, attend_all, join, part_len},
        cache::BLOCK_LEN,
    },
};
use std::cell::RefCell;

/// Items for each thread from which on they need not be cut: then no thread waits long for another.
const ITEMS: usize = 8;

thread_local! {
    /// Parts of chunks that are not joined yet.
    static PARTS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// `q, y: [T, H, D]` over a cache. `width` is that of the query heads that share a kv head.
pub(super) fn attention(
    (kernels, threads): (&Kernels, &Threads),
    q: &[f32],
    paged: Paged<'_>,
    cache: &[u8],
    width: usize,
    y: &mut [f32],
) {
    let shape = paged.shape;
    let (kernel, len) = (kernels.attention(shape.storage), part_len(width, shape.head_dim));
    let past = |item: usize| {
        let (blocks, end) = seen(paged, item / shape.heads);
        Past { cache, shape, blocks, head: item % shape.heads, start: 0, end }
    };
    let query = |item: usize| &q[item * width..][..width];
    let items = y.len().checked_div(width).unwrap_or(0);
    if items == 0 {
        return;
    }
    // None where items are many.
    let few = if items < ITEMS * threads.len() { items } else { 0 };
    let pasts: Vec<_> = (0..few).map(past).collect();
    if pasts.iter().all(|past| past.chunk_count() <= 1) {
        return threads.for_each_item_mut(y, width, |item, y| {
            PARTS.with_borrow_mut(|parts| attend_all(kernel, query(item), past(item), parts, y));
        });
    }
    let chunks: Vec<_> =
        pasts.iter().enumerate().flat_map(|(i, p)| (0..p.chunk_count()).map(move |c| (i, c))).collect();
    let first: Vec<usize> =
        pasts.iter().scan(0, |sum, p| Some(std::mem::replace(sum, *sum + p.chunk_count()))).collect();
    PARTS.with_borrow_mut(|parts| {
        parts.resize(chunks.len() * len, 0.0);
        let all = parts.len();
        threads.for_each_columns(parts, all, len, |mut some| {
            let first = some.range().start / len;
            for (&(item, chunk), part) in chunks[first..].iter().zip(some.row_mut(0).chunks_exact_mut(len)) {
                kernel(query(item), &pasts[item].chunk(chunk), part);
            }
        });
        threads.for_each_item_mut(y, width, |item, y| {
            join(&parts[first[item] * len..][..pasts[item].chunk_count() * len], shape.head_dim, y);
        });
    });
}

/// Block table of a token of the batch, and the positions that it sees.
fn seen(paged: Paged<'_>, token: usize) -> (&[u32], usize) {
    let mut first = 0;
    for span in paged.spans {
        if token < first + span.len {
            let end = span.start + token - first + 1;
            return (&span.blocks[..end.div_ceil(BLOCK_LEN)], end);
        }
        first += span.len;
    }
    unreachable!("the op checked that the spans cover all tokens")
}

#[cfg(test)]
mod tests {
    use crate::{
        DType, Device, Tensor,
        ops::{
            PagedSpan, attention,
            cache::{BLOCK_LEN, CacheType, KvLayer, KvShape},
            kv_store,
        },
        random::Rng,
    };

    const SHAPE: KvShape = KvShape { heads: 3, head_dim: 16, storage: CacheType::F16 };
    const LEN: usize = 600;

    /// Attention of the tokens of a sequence at `positions`, one after the other or in one go.
    fn bits(threads: usize, together: bool, positions: &[usize]) -> Vec<u32> {
        let device = Device::open("cpu", Some(threads)).unwrap();
        let mut random = Rng::new(3);
        let mut floats = |heads: usize| {
            let x: Vec<f32> = (0..LEN * heads * 16).map(|_| 4.0 * random.next_f32() - 2.0).collect();
            Tensor::from_slice(&device, [LEN, heads, 16], &x).unwrap()
        };
        let (q, k, v) = (floats(6), floats(3), floats(3));
        let blocks: Vec<u32> = (0..LEN.div_ceil(BLOCK_LEN) as u32).rev().collect();
        let span = |start, len| PagedSpan { len, start, blocks: &blocks };
        let mut cache = KvLayer::new(&device, blocks.len(), SHAPE).unwrap();
        kv_store(&k, &v, &[span(0, LEN)], &mut cache).unwrap();
        let whole = attention(&q, &[span(0, LEN)], &cache).unwrap();
        let token = |position: usize| {
            if together {
                return whole.narrow(0, position, 1).unwrap();
            }
            let q = q.narrow(0, position, 1).unwrap().contiguous().unwrap();
            attention(&q, &[span(position, 1)], &cache).unwrap()
        };
        positions.iter().flat_map(|&p| token(p).to_vec::<f32>().unwrap()).map(f32::to_bits).collect()
    }

    #[test]
    fn a_token_has_the_same_bits_in_a_prompt_and_alone_on_any_number_of_threads() {
        let positions = [0, 31, 254, 255, 256, 257, 511, 512, 599];
        let expected = bits(1, true, &positions);
        for threads in 1..4 {
            for together in [true, false] {
                assert!(bits(threads, together, &positions) == expected, "{threads} threads, {together}");
            }
        }
    }

    #[test]
    fn no_tokens_have_no_attention() {
        let device = Device::open("cpu", Some(2)).unwrap();
        let cache = KvLayer::new(&device, 1, SHAPE).unwrap();
        for (heads, shape) in [(6, [0, 6, 16]), (0, [0, 0, 16])] {
            let q = Tensor::zeros(&device, [0, heads, 16], DType::F32).unwrap();
            assert_eq!(attention(&q, &[], &cache).unwrap().dims(), shape);
        }
    }

    #[test]
    fn sequences_of_different_lengths_are_as_if_alone() {
        let device = Device::open("cpu", Some(2)).unwrap();
        let mut random = Rng::new(4);
        let mut floats = |rows: usize, heads: usize| {
            let x: Vec<f32> = (0..rows * heads * 16).map(|_| random.next_f32() - 0.5).collect();
            Tensor::from_slice(&device, [rows, heads, 16], &x).unwrap()
        };
        let lens = [700, 3, 290];
        let mut first = 0;
        let blocks: Vec<Vec<u32>> = lens
            .iter()
            .map(|len: &usize| {
                let count = len.div_ceil(BLOCK_LEN) as u32;
                first += count;
                (first - count..first).collect()
            })
            .collect();
        let mut cache = KvLayer::new(&device, first as usize, SHAPE).unwrap();
        let spans: Vec<_> =
            lens.iter().zip(&blocks).map(|(&len, blocks)| PagedSpan { len, start: 0, blocks }).collect();
        let total = lens.iter().sum();
        kv_store(&floats(total, 3), &floats(total, 3), &spans, &mut cache).unwrap();
        let last: Vec<_> =
            spans.iter().map(|span| PagedSpan { len: 1, start: span.len - 1, ..*span }).collect();
        let q = floats(3, 6);
        let together = attention(&q, &last, &cache).unwrap().to_vec::<f32>().unwrap();
        for (i, span) in last.iter().enumerate() {
            let q = q.narrow(0, i, 1).unwrap().contiguous().unwrap();
            let alone = attention(&q, &[*span], &cache).unwrap().to_vec::<f32>().unwrap();
            assert_eq!(alone, together[i * 96..][..96], "sequence {i}");
        }
    }
}
