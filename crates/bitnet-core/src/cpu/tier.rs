//! Compiles the shared sources for an instruction set.

/// Those of the features that the processor lacks.
#[cfg(target_arch = "x86_64")]
macro_rules! lacking {
    ($($feature:tt),*) => {{
        let has = [$(($feature, std::arch::is_x86_feature_detected!($feature))),*];
        has.into_iter().filter(|(_, present)| !present).map(|(name, _)| name).collect()
    }};
}

/// Those of the features that the processor lacks.
#[cfg(target_arch = "aarch64")]
macro_rules! lacking {
    ($($feature:tt),*) => {{
        let has = [$(($feature, std::arch::is_aarch64_feature_detected!($feature))),*];
        has.into_iter().filter(|(_, present)| !present).map(|(name, _)| name).collect()
    }};
}

/// Functions of the signatures of a table that run `$path` compiled for `$features`.
macro_rules! recompile {
    ($features:literal: $(fn $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)? = $path:expr;)*) => {$(
        fn $name($($arg: $type),*) $(-> $result)? {
            #[target_feature(enable = $features)]
            fn compiled($($arg: $type),*) $(-> $result)? {
                $path($($arg),*)
            }
            // SAFETY: the table is handed out only where the processor has these features.
            unsafe { compiled($($arg),*) }
        }
    )*};
}

/// Defines `TABLE`: every shared source compiled for `features` with `lanes` as vector, in tiles of `rows` × `tokens` and for
/// `heads` heads at once, and the ternary product of the instruction set.
macro_rules! tier {
    (
        name: $name:literal,
        features: $features:literal,
        lanes: $lanes:ty,
        rows: $rows:literal,
        tokens: $tokens:literal,
        heads: $heads:literal,
        bit_matmul: $bit_matmul:path,
        triple_dots: $triple_dots:expr,
        integer_peak: $integer_peak:path,
        stream: $stream:path,
        fence: $fence:path,
        transpose: $transpose:path,
    ) => {
        use $crate::cpu::{kernels::Kernels, partition::ColumnsMut};
        use $crate::lanes::{Bf16, F16, F32};
        use $crate::ops::attention::Past;
        use $crate::ops::bit_matmul::{CodeRows, TernaryRows};
        use $crate::ops::matmul_t::multiply;
        use $crate::ops::quantize_activation::RowCodes;
        use $crate::ops::screen::q6_k::SplitCodes;
        use $crate::ops;
        use bitnet_quant::formats::{dense::quantize_row, q6_k::Q6K, q8_0::Q8_0};

        recompile! { $features:
            fn integer_peak(rounds: usize) -> u64 = $integer_peak;
            fn bit_matmul(weight: TernaryRows<'_>, x: CodeRows<'_>, y: &mut ColumnsMut<'_>) = $bit_matmul;
            fn triple_tables(codes: &[i8], tables: &mut [ops::triples::Table]) = ops::triples::tables;
            fn quantize_activation(x: &[f32], codes: &mut [i8]) -> RowCodes = ops::quantize_activation::reference;
            fn quantize_normed(x: &[f32], weight: &[f32], eps: f32, codes: &mut [i8]) -> RowCodes =
                ops::quantize_activation::normed_reference;
            fn screen(w: &[f32], codes: &mut [i8]) -> ops::RowFigures = ops::screen::reference;
            fn arrange_codes(codes: &[i16], to: &mut [i16]) -> i64 = ops::screen::arrange::<$lanes>;
            fn screen_dots(rows: &[i8], x: ops::screen::ArrangedTokens<'_>, sums: &mut [i64]) = ops::screen::dots::<$lanes>;
            fn largest_bounds(
                guesses: &[f32],
                figures: &[ops::RowFigures],
                token: &ops::TokenFigures,
                bounds: &mut [ops::LargestBounds]
            ) = ops::screen::largest_bounds;
            fn screen_dots_q6_k(rows: &[u8], x: &[SplitCodes], width: usize, sums: &mut [f32]) = ops::screen::q6_k::dots::<$lanes>;
            fn quantize_q8_0(x: &[f32], bytes: &mut [u8]) -> bitnet_quant::Result<()> = quantize_row::<Q8_0>;
            fn quantize_q6_k(x: &[f32], bytes: &mut [u8]) -> bitnet_quant::Result<()> = quantize_row::<Q6K>;
            fn rms_norm(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) = ops::rms_norm::reference;
            fn rope(x: &mut [f32], cos: &[f32], sin: &[f32]) = ops::rope::reference;
            fn add(x: &mut [f32], y: &[f32]) = ops::add::reference;
            fn softmax(x: &[f32], y: &mut [f32]) = ops::softmax::reference;
            fn log_softmax(x: &[f32], y: &mut [f32]) = ops::softmax::log_reference;
            fn stream(x: &[u8], width: usize, y: &mut [u8], pitch: usize) = $stream;
            fn fence() = $fence;
            fn transpose(size: usize, x: &[u8], stride: usize, y: &mut [u8], cols: usize) = $transpose;
            fn unary(op: ops::Unary, x: ops::Operand<'_>, y: &mut [f32]) = ops::unary::reference;
            fn binary(op: ops::Binary, a: ops::Operand<'_>, b: ops::Operand<'_>, y: &mut [f32]) = ops::binary::reference;
            fn compare(op: ops::Compare, a: ops::Operand<'_>, b: ops::Operand<'_>, y: &mut [$crate::Bool]) =
                ops::compare::reference::<f32>;
            fn reduce(op: ops::Reduce, x: &[f32]) -> f32 = ops::reduce::block;
            fn reduce_columns(op: ops::Reduce, x: &[f32], stride: usize, y: &mut [f32]) = ops::reduce::block_columns::<$lanes>;
            fn deviations(x: &[f32], stride: usize, means: &[f32], y: &mut [f32]) = ops::reduce::deviations::<$lanes>;
            fn read_f16(bytes: &[u8], y: &mut [f32]) = ops::convert::read_f16::<$lanes>;
            fn write_f16(x: &[f32], bytes: &mut [u8]) = ops::convert::write_f16::<$lanes>;
            fn read_bf16(bytes: &[u8], y: &mut [f32]) = ops::convert::read_bf16;
            fn write_bf16(x: &[f32], bytes: &mut [u8]) = ops::convert::write_bf16;
            fn glu_relu2(gate: &[f32], up: &[f32], y: &mut [f32]) = ops::glu::relu2;
            fn glu_silu(gate: &[f32], up: &[f32], y: &mut [f32]) = ops::glu::silu;
            fn matmul_t_f32(w: &[u8], x: &[f32], y: &mut ColumnsMut<'_>) = multiply::<$lanes, F32, 64, 1, $rows, $tokens>;
            fn matmul_t_f16(w: &[u8], x: &[f32], y: &mut ColumnsMut<'_>) = multiply::<$lanes, F16, 32, 1, $rows, $tokens>;
            fn matmul_t_bf16(w: &[u8], x: &[f32], y: &mut ColumnsMut<'_>) = multiply::<$lanes, Bf16, 32, 1, $rows, $tokens>;
            fn matmul_t_q8_0(w: &[u8], x: &[f32], y: &mut ColumnsMut<'_>) =
                multiply::<$lanes, ops::matmul_t::Q8_0, 34, 2, $rows, $tokens>;
            fn matmul_t_q6_k(w: &[u8], x: &[f32], y: &mut ColumnsMut<'_>) =
                multiply::<$lanes, ops::matmul_t::Q6K, 210, 16, $rows, $tokens>;
            fn matmul_row(x: &[f32], b: &[f32], stride: usize, y: &mut [f32]) = ops::matmul::row;
            fn attention_f32(q: &[f32], past: &Past<'_>, part: &mut [f32]) = ops::attention::attend::<$lanes, F32, $heads>;
            fn attention_f16(q: &[f32], past: &Past<'_>, part: &mut [f32]) = ops::attention::attend::<$lanes, F16, $heads>;
            fn attention_q8_0(q: &[f32], past: &Past<'_>, part: &mut [f32]) =
                ops::attention::attend::<$lanes, ops::attention::Q8_0, 4>;
            fn kv_store_f32(k: &[f32], v: &[f32], slot: usize, run: &mut [u8]) = ops::cache::store_f32;
            fn kv_store_f16(k: &[f32], v: &[f32], slot: usize, run: &mut [u8]) = ops::cache::store_f16;
            fn kv_store_q8_0(k: &[f32], v: &[f32], slot: usize, run: &mut [u8]) = ops::cache::store_q8_0;
            fn rms_norm_backward(x: &[f32], w: &[f32], eps: f32, dy: &[f32], dx: &mut [f32], dw: &mut [f32]) =
                ops::rms_norm::backward;
            fn glu_relu2_backward(gate: &[f32], up: &[f32], dy: &[f32], dgate: &mut [f32], dup: &mut [f32]) =
                ops::glu::relu2_backward;
            fn glu_silu_backward(gate: &[f32], up: &[f32], dy: &[f32], dgate: &mut [f32], dup: &mut [f32]) =
                ops::glu::silu_backward;
            fn fake_quantize(x: &[f32], y: &mut [f32]) = ops::fake_quantize::reference;
            fn sum_of_magnitudes(w: &[f32]) -> f64 = ops::fake_quantize::sum_of_magnitudes;
            fn fake_ternarize(w: &[f32], factor: f32, y: &mut [f32]) = ops::fake_quantize::ternary_reference;
            fn cross_entropy(logits: &[f32], target: i64) -> f32 = ops::cross_entropy::reference;
            fn cross_entropy_backward(logits: &[f32], target: i64, dloss: f32, dlogits: &mut [f32]) =
                ops::cross_entropy::backward;
            fn kl_divergence(logits: &[f32], teacher: &[f32], scale: f32) -> f32 = ops::kl_divergence::reference;
            fn kl_divergence_backward(logits: &[f32], teacher: &[f32], scale: f32, dloss: f32, dlogits: &mut [f32]) =
                ops::kl_divergence::backward;
            fn causal_softmax(x: &[f32], seen: usize, scale: f32, y: &mut [f32]) = ops::causal_attention::softmax;
            fn softmax_backward(y: &[f32], dy: &[f32], scale: f32, dx: &mut [f32]) =
                ops::causal_attention::softmax_backward;
            fn adam(adam: &ops::Adam, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) = ops::adam::reference;
        }

        pub(in crate::cpu) const TABLE: Kernels = Kernels {
            name: $name,
            integer_peak,
            bit_matmul,
            triple_tables,
            triple_dots: $triple_dots,
            quantize_activation,
            quantize_normed,
            screen,
            arrange_codes,
            screen_dots,
            largest_bounds,
            screen_dots_q6_k,
            quantize_q8_0,
            quantize_q6_k,
            rms_norm,
            rope,
            add,
            softmax,
            log_softmax,
            stream,
            fence,
            transpose,
            unary,
            binary,
            compare,
            reduce,
            reduce_columns,
            deviations,
            read_f16,
            write_f16,
            read_bf16,
            write_bf16,
            glu_relu2,
            glu_silu,
            matmul_t_f32,
            matmul_t_f16,
            matmul_t_bf16,
            matmul_t_q8_0,
            matmul_t_q6_k,
            matmul_row,
            attention_f32,
            attention_f16,
            attention_q8_0,
            kv_store_f32,
            kv_store_f16,
            kv_store_q8_0,
            rms_norm_backward,
            glu_relu2_backward,
            glu_silu_backward,
            fake_quantize,
            sum_of_magnitudes,
            fake_ternarize,
            cross_entropy,
            cross_entropy_backward,
            kl_divergence,
            kl_divergence_backward,
            causal_softmax,
            softmax_backward,
            adam,
        };
    };
}
