//! Ternarizes a matrix and shows what each format makes of it: `cargo run -p bitnet-quant --example formats`.

use bitnet_quant::{Format, Scales, Ternary, metrics, ternary};

fn main() -> Result<(), bitnet_quant::Error> {
    let (rows, cols) = (64, 512);
    let w: Vec<f32> = (0..rows * cols).map(|i| ((i * 7919) as f32 * 0.37).sin()).collect();
    let mut codes = vec![0; w.len()];
    let scale = ternary::ternarize(&w, &mut codes);
    println!("scale {scale:.4}, {:.1} % nonzero", 100.0 * metrics::density(&codes));
    let matrix = Ternary { rows, cols, codes, scales: Scales::Tensor(scale) };
    for format in Format::ALL.into_iter().filter(|f| f.is_ternary()) {
        let Ok(bytes) = format.pack(&matrix) else { continue };
        let back = format.unpack(&bytes, rows, cols)?;
        assert_eq!(back.codes, matrix.codes);
        println!("{:<10} {:.3} bits a weight", format.name(), 8.0 * bytes.len() as f64 / w.len() as f64);
    }
    Ok(())
}
