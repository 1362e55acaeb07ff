//! The numbers that tensor types have in a GGUF file.
//!
//! One number can mean two things: 42 is decided by the sizes in the file (see [`place`](super::layout::place)), another meaning of
//! 36 fails there, 38 and 39 are refused whatever they mean.

use bitnet_quant::Format;

use super::Refusal;

/// Number of llama.cpp's `Q2_0` (groups of 64) and of an older one with groups of 128.
pub(super) const Q2_0: u32 = 42;

const SUPPORTED: [(u32, Format); 17] = [
    (0, Format::F32),
    (1, Format::F16),
    (2, Format::Q4_0),
    (6, Format::Q5_0),
    (8, Format::Q8_0),
    (12, Format::Q4K),
    (14, Format::Q6K),
    (30, Format::BF16),
    (34, Format::Tq1),
    (35, Format::Tq2),
    (36, Format::I2S),
    (Q2_0, Format::Q2_0),
    (134, Format::Iq1Bn),
    (135, Format::Iq2Bn),
    (142, Format::Pq2),
    (143, Format::Ptq1),
    (335, Format::Iq2BnR4),
];

/// Names of what exists but is not supported, from the headers of llama.cpp, ik_llama.cpp and Microsoft's fork.
const KNOWN: [(u32, &str); 44] = [
    (3, "q4_1"),
    (7, "q5_1"),
    (9, "q8_1"),
    (10, "q2_k"),
    (11, "q3_k"),
    (13, "q5_k"),
    (15, "q8_k"),
    (16, "iq2_xxs"),
    (17, "iq2_xs"),
    (18, "iq3_xxs"),
    (19, "iq1_s"),
    (20, "iq4_nl"),
    (21, "iq3_s"),
    (22, "iq2_s"),
    (23, "iq4_xs"),
    (24, "i8"),
    (25, "i16"),
    (26, "i32"),
    (27, "i64"),
    (28, "f64"),
    (29, "iq1_m"),
    (31, "q4_0_4_4"),
    (32, "q4_0_4_8"),
    (33, "q4_0_8_8"),
    (37, "i8_s"),
    (40, "nvfp4"),
    (41, "q1_0"),
    (133, "q6_0"),
    (136, "q8_k64"),
    (137, "iq2_k"),
    (138, "iq3_k"),
    (139, "iq4_k"),
    (140, "iq5_k"),
    (141, "iq6_k"),
    (144, "iq4_ks"),
    (145, "iq2_ks"),
    (146, "iq4_kss"),
    (152, "iq5_ks"),
    (153, "iq2_kt"),
    (154, "iq3_kt"),
    (155, "iq4_kt"),
    (156, "iq3_ks"),
    (157, "iq2_kl"),
    (158, "iq1_kt"),
];

/// The format behind a number; `q2_0` is what number 42 means in this file.
pub(super) fn format(id: u32, q2_0: Format) -> Result<Format, Refusal> {
    match id {
        Q2_0 => Ok(q2_0),
        38 => Err(Refusal::TunedLayout { id, name: "tl1" }),
        39 => Err(Refusal::TunedLayout { id, name: "tl2 (or llama.cpp's mxfp4)" }),
        _ => match SUPPORTED.iter().find(|&&(number, _)| number == id) {
            Some(&(_, format)) => Ok(format),
            None => Err(Refusal::UnsupportedType { id, name: name(id), supported: supported() }),
        },
    }
}

fn supported() -> String {
    SUPPORTED.map(|(_, format)| format.name()).join(", ")
}

fn name(id: u32) -> &'static str {
    KNOWN.iter().find(|&&(number, _)| number == id).map_or("of an unknown name", |&(_, name)| name)
}

/// The number under which a format is written, if GGUF has one.
pub(super) fn id(format: Format) -> Result<u32, Refusal> {
    SUPPORTED
        .iter()
        .find(|&&(_, supported)| supported == format)
        .map(|&(id, _)| id)
        .ok_or(Refusal::NoTypeNumber { format: format.name() })
}
