//! A snapshot as JSON, and as a timeline for `chrome://tracing` or Perfetto.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use serde_json::{Value, json};

use super::record::{Lifetime, Record};
use super::{Event, Snapshot};

impl Snapshot {
    /// All of it as one JSON object; times are nanoseconds since the pool was made, sizes bytes.
    pub fn to_json(&self) -> String {
        let (stats, cut) = (&self.stats, &self.fragmentation);
        json!({
            "at_ns": nanos(self.at),
            "tracking": self.tracking.name(),
            "stats": {
                "live": stats.live, "live_blocks": stats.live_blocks, "peak": stats.peak, "cached": stats.cached,
                "hits": stats.hits, "misses": stats.misses,
                "system_allocs": stats.system_allocs, "system_frees": stats.system_frees,
            },
            "fragmentation": {
                "held": cut.held, "free": cut.free, "largest_free": cut.largest_free, "runs": cut.runs,
                "pinned": cut.pinned, "largest_pinned": cut.largest_pinned,
                "slack": cut.slack, "regions": cut.regions, "external": cut.external(),
            },
            "sizes": self.sizes.iter().map(|size| json!({
                "up_to": size.up_to, "allocs": size.allocs, "frees": size.frees, "live_bytes": size.live_bytes,
            })).collect::<Vec<_>>(),
            "threads": self.threads,
            "live": self.live.iter().map(|record| self.record(record, None)).collect::<Vec<_>>(),
            "finished": self.finished.iter().map(|l| self.record(&l.record, Some(l))).collect::<Vec<_>>(),
            "forgotten": self.forgotten,
        })
        .to_string()
    }

    fn record(&self, record: &Record, lifetime: Option<&Lifetime>) -> Value {
        let end = lifetime.map_or(self.at, |lifetime| lifetime.died);
        let mut value = json!({
            "id": record.id, "bytes": record.bytes, "capacity": record.capacity, "owner": record.owner,
            "thread": record.thread, "born_ns": nanos(record.born),
            "age_ns": nanos(end.saturating_sub(record.born)),
        });
        if let Some(lifetime) = lifetime {
            value["died_ns"] = nanos(lifetime.died).into();
            value["freed_by"] = lifetime.freed_by.into();
        }
        if let Some(backtrace) = &record.backtrace {
            value["backtrace"] = backtrace.to_string().into();
        }
        value
    }

    /// A timeline in the Trace Event Format: each owner is a process, each block a bar of its lifetime on a row where it
    /// overlaps no other, and the live bytes are a counter. Blocks in use end where the snapshot was taken.
    ///
    /// Source: the "Trace Event Format" document of the Chromium project.
    pub fn to_chrome_trace(&self) -> String {
        let finished = self.finished.iter().map(|l| (&l.record, l.died, true));
        let mut bars: Vec<_> = finished.chain(self.live.iter().map(|r| (r, self.at, false))).collect();
        bars.sort_by_key(|(record, ..)| (record.born, record.id));
        let mut rows = BTreeMap::<&str, Rows>::new();
        let mut events = Vec::new();
        for (record, end, freed) in bars {
            let process = rows.len();
            let rows = rows.entry(record.owner).or_insert_with(|| {
                events.push(process_name(process, record.owner));
                Rows { process, ..Rows::default() }
            });
            events.push(json!({
                "ph": "X", "pid": rows.process, "tid": rows.place(record.born, end), "name": record.capacity.to_string(),
                "ts": micros(record.born), "dur": micros(end.saturating_sub(record.born)),
                "args": {
                    "id": record.id, "bytes": record.bytes, "capacity": record.capacity, "freed": freed,
                    "thread": self.threads.get(record.thread as usize),
                },
            }));
        }
        events.extend(self.counter());
        json!({ "traceEvents": events, "displayTimeUnit": "ns" }).to_string()
    }

    /// Live bytes of recorded blocks after every change.
    fn counter(&self) -> Vec<Value> {
        let mut live = 0usize;
        let point = |(event, change): (&Event, isize)| {
            live = live.wrapping_add_signed(change);
            json!({ "ph": "C", "pid": 0, "name": "live bytes", "ts": micros(event.at), "args": { "live": live } })
        };
        self.trace(0).changes().map(point).collect()
    }
}

/// The rows of one owner: when each is free again.
#[derive(Default)]
struct Rows {
    process: usize,
    busy: BinaryHeap<Reverse<(Duration, usize)>>,
}

impl Rows {
    /// A row that is free at `born`, taken until `end`.
    fn place(&mut self, born: Duration, end: Duration) -> usize {
        let row = match self.busy.peek() {
            Some(&Reverse((free, row))) if free <= born => {
                self.busy.pop();
                row
            }
            _ => self.busy.len(),
        };
        self.busy.push(Reverse((end, row)));
        row
    }
}

fn process_name(process: usize, owner: &str) -> Value {
    let name = if owner.is_empty() { "no owner" } else { owner };
    json!({ "ph": "M", "pid": process, "name": "process_name", "args": { "name": name } })
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn micros(time: Duration) -> f64 {
    nanos(time) as f64 / 1000.0
}
