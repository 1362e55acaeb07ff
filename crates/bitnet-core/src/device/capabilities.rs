//! What a device computes itself, found out by letting it: every op runs on a tiny operand, and the counter of fallbacks tells.

mod tensors;
mod training;

use super::{Device, Task};
use crate::{
    DType, PackedTensor, Result, Tensor,
    ops::{
        self, Codes, Glu, LargestBounds, PagedSpan, RowFigures, ScreenView, SplitTokens, TokenCodes,
        TokenFigures,
        cache::{BLOCK_LEN, CacheType, KvLayer, KvShape},
        screen::q6_k::SplitCodes,
    },
    packed::padded_cols,
};
use bitnet_quant::Format;
use std::sync::Arc;

/// Who computes an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Support {
    /// Nobody: it is refused.
    None,
    /// The reference on the host, with copies to and fro.
    Host,
    /// The device.
    Native,
}

impl Support {
    /// `none`, `host` or `native`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Host => "host",
            Self::Native => "native",
        }
    }
}

/// Who computes an op with one kind of operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Name of the op: that of its method in [`Backend`](crate::backend::Backend); `transfer` for both directions of a copy.
    pub op: &'static str,
    /// Type of the elements, or format of the matrix or the cache.
    pub operand: &'static str,
    /// Who computes it.
    pub support: Support,
}

impl Capability {
    /// Looks at every op with every operand.
    pub fn all(device: &Device) -> Vec<Self> {
        let device = device.aside();
        let rows = all().flat_map(|op| op.operands.list().into_iter().map(move |operand| (op, operand)));
        rows.map(|(op, operand)| Self {
            op: op.name,
            operand: operand.name(),
            support: op.support(&device, operand),
        })
        .collect()
    }

    /// The ops that `task` needs and the device computes with none of their operands.
    pub fn lacking(device: &Device, task: Task) -> Vec<&'static str> {
        let device = device.aside();
        let native = |op: &Op| {
            op.operands.list().into_iter().any(|operand| op.support(&device, operand) == Support::Native)
        };
        let needed = all().filter(|op| op.tasks.contains(&task));
        needed.filter(|op| !native(op)).map(|op| op.name).collect()
    }
}

impl Device {
    /// The same backend with a pool of its own, in which trials leave nothing behind.
    fn aside(&self) -> Self {
        Self::with_backend(Arc::clone(&self.0.backend))
    }
}

/// What the elements of an operand are.
#[derive(Clone, Copy, Debug)]
enum Operand {
    Elements(DType),
    Matrix(Format),
    Cache(CacheType),
}

impl Operand {
    const F32: Self = Self::Elements(DType::F32);

    fn elements(self) -> DType {
        match self {
            Self::Elements(dtype) => dtype,
            Self::Matrix(_) | Self::Cache(_) => DType::U8,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Elements(dtype) => dtype.name(),
            Self::Matrix(format) => format.name(),
            Self::Cache(CacheType::F32) => "f32",
            Self::Cache(CacheType::F16) => "f16",
            Self::Cache(CacheType::Q8_0) => "q8_0",
        }
    }
}

/// Which operands an op is tried with.
#[derive(Clone, Copy, Debug)]
enum Operands {
    One(Operand),
    Types,
    Formats,
    Caches,
}

impl Operands {
    fn list(self) -> Vec<Operand> {
        match self {
            Self::One(operand) => vec![operand],
            Self::Types => DType::ALL.map(Operand::Elements).into(),
            Self::Formats => Format::ALL.map(Operand::Matrix).into(),
            Self::Caches => [CacheType::F16, CacheType::F32, CacheType::Q8_0].map(Operand::Cache).into(),
        }
    }
}

/// An op and how it is tried.
#[derive(Clone, Copy)]
struct Op {
    name: &'static str,
    tasks: &'static [Task],
    operands: Operands,
    run: fn(&Device, Operand) -> Result<()>,
}

impl Op {
    fn support(&self, device: &Device, operand: Operand) -> Support {
        let before = device.fallbacks();
        match (self.run)(device, operand) {
            Err(_) => Support::None,
            Ok(()) if device.fallbacks() == before => Support::Native,
            Ok(()) => Support::Host,
        }
    }
}

/// Every op.
fn all() -> impl Iterator<Item = Op> {
    MODEL.into_iter().chain(tensors::OPS).chain(training::OPS)
}

const BOTH: &[Task] = &[Task::Inference, Task::Training];
const INFERENCE: &[Task] = &[Task::Inference];

const MODEL: [Op; 18] = [
    Op { name: "transfer", tasks: BOTH, operands: Operands::Types, run: transfer },
    Op { name: "embedding", tasks: BOTH, operands: Operands::Formats, run: embedding },
    Op { name: "rms_norm", tasks: BOTH, operands: Operands::One(Operand::F32), run: rms_norm },
    Op {
        name: "quantize_activation",
        tasks: INFERENCE,
        operands: Operands::One(Operand::F32),
        run: quantize_activation,
    },
    Op {
        name: "bit_matmul",
        tasks: INFERENCE,
        operands: Operands::One(Operand::Matrix(Format::I2S)),
        run: |device, _| ternary(device, |x, weight| ops::bit_matmul(x, weight).map(drop)),
    },
    Op {
        name: "bit_matmul_add",
        tasks: INFERENCE,
        operands: Operands::One(Operand::Matrix(Format::I2S)),
        run: |device, _| {
            let y = Tensor::zeros(device, [1, 1], DType::F32)?;
            ternary(device, |x, weight| ops::bit_matmul_add(y, x, weight).map(drop))
        },
    },
    Op {
        name: "bit_matmul_all",
        tasks: INFERENCE,
        operands: Operands::One(Operand::Matrix(Format::I2S)),
        run: |device, _| ternary(device, |x, weight| ops::bit_matmul_all(x, [weight; 2]).map(drop)),
    },
    Op { name: "matmul_t", tasks: BOTH, operands: Operands::Formats, run: matmul_t },
    Op { name: "quantize_rows", tasks: &[], operands: Operands::Formats, run: quantize_rows },
    Op { name: "screen", tasks: &[], operands: Operands::One(Operand::Matrix(Format::F16)), run: screen },
    Op {
        name: "screen_products",
        tasks: &[],
        operands: Operands::One(Operand::Elements(DType::I8)),
        run: screen_products,
    },
    Op { name: "screen_bounds", tasks: &[], operands: Operands::One(Operand::F32), run: screen_bounds },
    Op {
        name: "screen_products_q6_k",
        tasks: &[],
        operands: Operands::One(Operand::Matrix(Format::Q6K)),
        run: screen_products_q6_k,
    },
    Op { name: "rope", tasks: BOTH, operands: Operands::One(Operand::F32), run: rope },
    Op { name: "glu", tasks: BOTH, operands: Operands::One(Operand::F32), run: glu },
    Op { name: "add_assign", tasks: BOTH, operands: Operands::One(Operand::F32), run: add_assign },
    Op { name: "kv_store", tasks: INFERENCE, operands: Operands::Caches, run: kv_store },
    Op { name: "attention", tasks: INFERENCE, operands: Operands::Caches, run: attention },
];

/// Columns of the operands: whole blocks of every format.
const COLS: usize = 256;

fn rows(device: &Device) -> Result<Tensor> {
    Tensor::zeros(device, [1, COLS], DType::F32)
}

fn stored(device: &Device, operand: Operand) -> Result<PackedTensor> {
    let Operand::Matrix(format) = operand else { unreachable!("tried with formats alone") };
    let data = Tensor::zeros(device, [format.tensor_bytes(1, COLS)?], DType::U8)?;
    PackedTensor::stored(format, 1, COLS, data)
}

fn transfer(device: &Device, operand: Operand) -> Result<()> {
    let mut x = Tensor::zeros(device, [COLS], operand.elements())?;
    let mut bytes = vec![0; x.bytes()];
    device.backend().download(x.view(), &mut bytes)?;
    device.backend().upload(&bytes, x.view_mut("transfer")?)
}

fn embedding(device: &Device, operand: Operand) -> Result<()> {
    ops::embedding(&stored(device, operand)?, &[0]).map(drop)
}

fn rms_norm(device: &Device, _: Operand) -> Result<()> {
    ops::rms_norm(&rows(device)?, &Tensor::zeros(device, [COLS], DType::F32)?, 1e-5).map(drop)
}

fn quantize_activation(device: &Device, _: Operand) -> Result<()> {
    Codes::quantize(&rows(device)?).map(drop)
}

fn ternary(device: &Device, product: impl FnOnce(&Codes, &PackedTensor) -> Result<()>) -> Result<()> {
    let codes = Tensor::zeros(device, [padded_cols(COLS) / 4], DType::U8)?;
    let weight = PackedTensor::ternary(1, COLS, codes, Tensor::zeros(device, [1], DType::F32)?)?;
    // Codes from the host, so that only the product is counted.
    let shape =
        (Tensor::zeros(device, [1, padded_cols(COLS)], DType::I8)?, Tensor::zeros(device, [1], DType::F32)?);
    let codes = Codes { codes: shape.0, scales: shape.1, sums: Tensor::zeros(device, [1], DType::I32)? };
    product(&codes, &weight)
}

fn matmul_t(device: &Device, operand: Operand) -> Result<()> {
    ops::matmul_t(&rows(device)?, &stored(device, operand)?).map(drop)
}

fn quantize_rows(device: &Device, operand: Operand) -> Result<()> {
    let Operand::Matrix(format) = operand else { unreachable!("tried with formats alone") };
    ops::quantize_rows(&PackedTensor::from_rows(&rows(device)?)?, format).map(drop)
}

fn screen(device: &Device, operand: Operand) -> Result<()> {
    let (weight, mut codes) = (stored(device, operand)?, Tensor::zeros(device, [1, 4 * COLS], DType::I8)?);
    device.backend().screen(weight.view(), codes.view_mut("screen")?, &mut [RowFigures::default()])
}

fn screen_products(device: &Device, _: Operand) -> Result<()> {
    let codes = Tensor::zeros(device, [1, 4 * COLS], DType::I8)?;
    let screen = ScreenView { codes: codes.view(), figures: &[RowFigures::default()] };
    let mut y = Tensor::zeros(device, [1, 1], DType::F32)?;
    let x = TokenCodes { codes: &[0; COLS], scales: &[1.0] };
    device.backend().screen_products(screen, x, y.view_mut("screen_products")?)
}

fn screen_bounds(device: &Device, _: Operand) -> Result<()> {
    let guesses = Tensor::zeros(device, [1, 1], DType::F32)?;
    let token = TokenFigures { length: 0.0, lost: 0.0, least: 0.0 };
    let bounds = &mut [LargestBounds::default()];
    device.backend().screen_bounds(guesses.view(), &[RowFigures::default()], &[token], bounds)
}

fn screen_products_q6_k(device: &Device, operand: Operand) -> Result<()> {
    let weight = stored(device, operand)?;
    let mut y = Tensor::zeros(device, [1, 1], DType::F32)?;
    let codes = SplitCodes::split(&[0; COLS]);
    let x = SplitTokens { codes: &codes, scales: &[1.0] };
    device.backend().screen_products_q6_k(weight.view(), x, y.view_mut("screen_products_q6_k")?)
}

fn rope(device: &Device, _: Operand) -> Result<()> {
    let angles = || Tensor::zeros(device, [1, COLS / 2], DType::F32);
    ops::rope(Tensor::zeros(device, [1, 1, COLS], DType::F32)?, &angles()?, &angles()?).map(drop)
}

fn glu(device: &Device, _: Operand) -> Result<()> {
    [Glu::Relu2, Glu::Silu].into_iter().try_for_each(|kind| {
        let (gate, up) = (rows(device)?, rows(device)?);
        ops::glu(kind, &gate, &up).map(drop)
    })
}

fn add_assign(device: &Device, _: Operand) -> Result<()> {
    ops::add_to(rows(device)?, &rows(device)?).map(drop)
}

/// A cache of one block of one head.
fn cache(device: &Device, operand: Operand) -> Result<KvLayer> {
    let Operand::Cache(storage) = operand else { unreachable!("tried with caches alone") };
    KvLayer::new(device, 1, KvShape { heads: 1, head_dim: BLOCK_LEN, storage })
}

const FIRST: PagedSpan<'_> = PagedSpan { len: 1, start: 0, blocks: &[0] };

fn head(device: &Device) -> Result<Tensor> {
    Tensor::zeros(device, [1, 1, BLOCK_LEN], DType::F32)
}

fn kv_store(device: &Device, operand: Operand) -> Result<()> {
    ops::kv_store(&head(device)?, &head(device)?, &[FIRST], &mut cache(device, operand)?)
}

fn attention(device: &Device, operand: Operand) -> Result<()> {
    ops::attention(&head(device)?, &[FIRST], &cache(device, operand)?).map(drop)
}
