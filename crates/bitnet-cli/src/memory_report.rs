//! Who held memory, when and how much, written where somebody asks for it.

use crate::ui::Ui;
use anyhow::{Context, Result};
use bitnet_core::{
    interchange::atomic::atomic_write,
    memory::{Bytes, HybridMemoryPool, Tracking},
};
use clap::Args;
use std::path::PathBuf;

/// Ends of blocks that are remembered. A token takes some hundred.
const HISTORY: usize = 1 << 20;

/// What a report is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Page,
    Timeline,
    Numbers,
}

/// Where a report goes, and what is written there.
#[derive(Clone, Debug)]
struct Target {
    path: PathBuf,
    kind: Kind,
}

fn target(text: &str) -> Result<Target, String> {
    let kinds = [(".html", Kind::Page), (".trace.json", Kind::Timeline), (".json", Kind::Numbers)];
    let kind = kinds.into_iter().find(|(end, _)| text.len() > end.len() && text.ends_with(end));
    let (_, kind) = kind.ok_or("expected a file whose name ends with .html, .trace.json or .json")?;
    Ok(Target { path: text.into(), kind })
}

/// Whether and where a report is written.
#[derive(Clone, Debug, Args)]
pub(crate) struct MemoryArgs {
    /// Record every block of memory, and write who held how much and when: FILE.html is a page with a plot and what stands out, FILE.trace.json
    /// a timeline for Perfetto, FILE.json all numbers [default: nothing is recorded].
    #[arg(long, value_name = "FILE", env = "BITNET_MEMORY_REPORT", value_parser = target)]
    memory_report: Option<Target>,
}

impl MemoryArgs {
    /// How much a pool has to remember.
    pub(crate) fn tracking(&self) -> Tracking {
        if self.memory_report.is_some() { Tracking::Records } else { Tracking::Off }
    }

    /// Makes a pool remember it from its first block on.
    pub(crate) fn begin(&self, pool: &HybridMemoryPool) {
        pool.set_tracking(self.tracking());
        if self.memory_report.is_some() {
            pool.set_history(HISTORY);
        }
    }

    /// Writes what a pool remembers, and says who holds how much now.
    pub(crate) fn write(&self, pool: &HybridMemoryPool, ui: &Ui) -> Result<()> {
        let Some(Target { path, kind }) = &self.memory_report else { return Ok(()) };
        let snapshot = pool.snapshot();
        let text = match kind {
            Kind::Page => snapshot.to_html(),
            Kind::Timeline => snapshot.to_chrome_trace(),
            Kind::Numbers => snapshot.to_json(),
        };
        atomic_write(path, |file| file.write(text.as_bytes())).with_context(|| path.display().to_string())?;
        let named = |owner: &str| if owner.is_empty() { "others".to_owned() } else { owner.to_owned() };
        let mut owners: Vec<_> = snapshot.owners().into_iter().collect();
        owners.sort_by_key(|(_, total)| std::cmp::Reverse(total.bytes));
        let held: Vec<String> = owners
            .into_iter()
            .map(|(owner, total)| format!("{} {}", named(owner), Bytes(total.bytes)))
            .collect();
        ui.figures(format!("{} · peak {} · {}", path.display(), Bytes(snapshot.stats.peak), held.join(", ")));
        Ok(())
    }
}
