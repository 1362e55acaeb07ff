//! What was measured, as a table or a receipt.

use super::{Ceiling, Machine, Output, Row, first::First};
use crate::commands::doctor;
use anyhow::Result;
use bitnet_core::cpu::topology::Topology;
use bitnet_inference::local::LocalModel;
use bitnet_model::layers::Table;
use serde_json::{Value, json};

/// A model that was measured, and where.
pub(super) struct Measured {
    pub(super) name: String,
    /// Seconds that opening it took.
    pub(super) load: f64,
    pub(super) model: LocalModel,
    pub(super) machine: Machine,
}

impl Measured {
    pub(super) fn report(&self, output: Output, rows: &[Row], first: &[First]) -> Result<()> {
        match output {
            Output::Json => Ok(outln!("{}", serde_json::to_string_pretty(&self.receipt(rows, first)?)?)?),
            Output::Md => {
                if !rows.is_empty() || first.is_empty() {
                    self.markdown(rows)?;
                }
                self.first_markdown(first)
            }
            Output::Csv => {
                if !rows.is_empty() || first.is_empty() {
                    self.csv(rows)?;
                }
                self.first_csv(first)
            }
        }
    }

    fn first_markdown(&self, first: &[First]) -> Result<()> {
        if first.is_empty() {
            return Ok(());
        }
        let (name, head, backend) = (&self.name, self.head_format(), self.model.device().name());
        outln!("| model | head | backend | threads | test | open ms | prompt ms | first token ms |")?;
        outln!("|---|---|---|---:|---:|---:|---:|---:|")?;
        for row in first {
            let all = row.samples();
            let open =
                if row.open.is_empty() { "-".to_owned() } else { format!("{:.0}", 1e3 * median(&row.open)) };
            outln!(
                "| {name} | {head} | {backend} | {} | ttft{} | {open} | {:.0} | {:.0} ± {:.0} |",
                row.threads,
                row.tokens,
                1e3 * median(&row.prompt),
                1e3 * median(&all),
                1e3 * deviation(&all),
            )?;
        }
        Ok(())
    }

    fn first_csv(&self, first: &[First]) -> Result<()> {
        if first.is_empty() {
            return Ok(());
        }
        let (name, backend) = (self.name.replace('"', "\"\""), self.model.device().name());
        outln!(
            "model,head,backend,threads,test,median_open_s,median_prompt_s,median_first_token_s,stddev_first_token_s"
        )?;
        for row in first {
            let (head, all) = (self.head_format(), row.samples());
            let open = if row.open.is_empty() { String::new() } else { median(&row.open).to_string() };
            outln!(
                "\"{name}\",{head},{backend},{},ttft{},{open},{},{},{}",
                row.threads,
                row.tokens,
                median(&row.prompt),
                median(&all),
                deviation(&all),
            )?;
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.model.decoder().weight_bytes()
    }

    /// How the head is held. A first token reads it whole.
    fn head_format(&self) -> &'static str {
        match self.model.decoder().head() {
            Table::Stored(head) => head.format().name(),
            Table::Latent(_) => "trainable",
        }
    }

    /// How the head is held, and whether a screen is read in its place.
    fn head(&self) -> String {
        let screened = if self.model.decoder().screen.is_some() { " screened" } else { "" };
        format!("{}{screened}", self.head_format())
    }

    fn markdown(&self, rows: &[Row]) -> Result<()> {
        let (name, backend) = (&self.name, self.model.device().name());
        let size = self.bytes() as f64 / f64::from(1 << 20);
        let parameters = self.model.config().parameters() as f64 / 1e6;
        let head = self.head();
        outln!("| model | size | params | head | backend | threads | test | t/s | of peak |")?;
        outln!("|---|---:|---:|---|---|---:|---:|---:|---:|")?;
        for row in rows {
            let (mean, deviation) = (mean(&row.samples), deviation(&row.samples));
            let (test, share) = (&row.test, 100.0 * median(&row.shares()));
            outln!(
                "| {name} | {size:.2} MiB | {parameters:.2} M | {head} | {backend} | {} | {test} | {mean:.2} ± {deviation:.2} | {share:.0} % |",
                row.threads,
            )?;
        }
        Ok(())
    }

    fn csv(&self, rows: &[Row]) -> Result<()> {
        let (bytes, parameters) = (self.bytes(), self.model.config().parameters());
        let (name, backend) = (self.name.replace('"', "\"\""), self.model.device().name());
        let head = self.head();
        outln!(
            "model,size_bytes,parameters,head,backend,threads,test,mean_tps,stddev_tps,ceiling,share_of_peak"
        )?;
        for row in rows {
            outln!(
                "\"{name}\",{bytes},{parameters},{head},{backend},{},{},{},{},{},{}",
                row.threads,
                row.test,
                mean(&row.samples),
                deviation(&row.samples),
                row.ceiling.name(),
                median(&row.shares()),
            )?;
        }
        Ok(())
    }

    /// With several numbers of threads, what is not said of each test is true of the last number.
    fn receipt(&self, rows: &[Row], first: &[First]) -> Result<Value> {
        let device = self.model.device();
        Ok(json!({
            "model": self.name,
            "weight_bytes": self.bytes(),
            "head": self.head(),
            "decode_bytes": self.model.decoder().decode_bytes(1),
            "parameters": self.model.config().parameters(),
            "version": env!("CARGO_PKG_VERSION"),
            "commit": option_env!("BITNET_COMMIT"),
            "command": std::env::args().collect::<Vec<_>>(),
            "cpu": Topology::detect().model,
            "backend": device.name(),
            "threads": device.threads_for(1),
            "threads_batch": device.threads_for(2),
            "fallbacks": device.fallbacks(),
            "read_bandwidth_gb_per_s": doctor::bandwidth(device.threads_for(1))?,
            "int8_gops_per_s": doctor::gops(self.machine.measure(Ceiling::Int8, device.threads_for(2))?),
            "load_seconds": self.load,
            "pool": device.pool().stats().to_string(),
            "first_token": first.iter().map(First::json).collect::<Vec<_>>(),
            "tests": rows.iter().map(Row::json).collect::<Vec<_>>(),
        }))
    }
}

impl First {
    fn json(&self) -> Value {
        let all = self.samples();
        json!({
            "test": format!("ttft{}", self.tokens),
            "threads": self.threads,
            "samples_open_s": self.open,
            "samples_prompt_s": self.prompt,
            "median_s": median(&all),
            "stddev_s": deviation(&all),
        })
    }
}

impl Row {
    fn json(&self) -> Value {
        json!({
            "test": self.test,
            "threads": self.threads,
            "samples_tps": self.samples,
            "mean_tps": mean(&self.samples),
            "stddev_tps": deviation(&self.samples),
            "median_tps": median(&self.samples),
            "ceiling": self.ceiling.name(),
            "work_per_token": self.work,
            "samples_ceiling": self.limits,
            "samples_share": self.shares(),
            "median_share": median(&self.shares()),
        })
    }
}

impl Ceiling {
    fn name(self) -> &'static str {
        match self {
            Self::Bandwidth => "read bandwidth",
            Self::Int8 => "int8 peak",
        }
    }
}

fn mean(samples: &[f64]) -> f64 {
    samples.iter().sum::<f64>() / samples.len() as f64
}

fn deviation(samples: &[f64]) -> f64 {
    let mean = mean(samples);
    let squares: f64 = samples.iter().map(|x| (x - mean).powi(2)).sum();
    (squares / (samples.len().max(2) - 1) as f64).sqrt()
}

pub(crate) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_two() {
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert!((deviation(&[1.0, 3.0]) - 2f64.sqrt()).abs() < 1e-12);
    }
}
