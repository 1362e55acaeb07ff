//! Which device to take for a work, and why.

use super::{
    Device,
    capabilities::Capability,
    driver::{Absence, Candidate, Driver, Kind, ThreadCounts, candidates, owner},
};
use crate::{Error, Result, memory::Bytes};
use std::fmt;

/// What is to be done with a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Task {
    /// Tokens from packed weights.
    #[default]
    Inference,
    /// Gradients of latent weights.
    Training,
}

impl Task {
    /// `inference` or `training`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inference => "inference",
            Self::Training => "training",
        }
    }
}

/// What a device is to be taken for; what is not known is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// What is to be done.
    pub task: Task,
    /// Bytes of weights that a step reads.
    pub weights: usize,
    /// Bytes that are needed beside them: the KV cache, gradients.
    pub beside: usize,
    /// Tokens of a step.
    pub tokens: usize,
}

impl Work {
    /// Bytes that a device must hold.
    pub fn bytes(&self) -> usize {
        self.weights.saturating_add(self.beside)
    }
}

/// Whether a candidate was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the one.
    Taken,
    /// It could do the work, but another one does it better.
    Passed,
    /// It is there but not fit for the work.
    Unfit,
    /// It is not there.
    Absent,
}

impl Verdict {
    /// Its name in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Passed => "passed",
            Self::Unfit => "unfit",
            Self::Absent => "absent",
        }
    }
}

/// Why a candidate was taken or not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The first in order of speed that is fit for the work.
    Fastest,
    /// No device has room for the work, and the host can at least map the weights.
    LastResort {
        /// Bytes that the work needs.
        needed: usize,
        /// Bytes that it has.
        available: usize,
    },
    /// A faster one was taken.
    Slower {
        /// Its name.
        than: String,
    },
    /// Its memory does not hold the work.
    Memory {
        /// Bytes that the work needs.
        needed: usize,
        /// Bytes that it has.
        available: usize,
    },
    /// It would leave ops to the host.
    Ops {
        /// Their names.
        lacking: Vec<&'static str>,
    },
    /// The work is so small that launching it costs more than it saves.
    TooSmall {
        /// Bytes of weights times tokens of a step.
        work: usize,
        /// From where on it pays.
        worth_from: usize,
    },
    /// It is there, but could not be opened.
    Failed(String),
    /// It cannot be opened.
    Absent(Absence),
}

impl Reason {
    /// What it comes to.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Fastest | Self::LastResort { .. } => Verdict::Taken,
            Self::Slower { .. } => Verdict::Passed,
            Self::Memory { .. } | Self::Ops { .. } | Self::TooSmall { .. } | Self::Failed(_) => {
                Verdict::Unfit
            }
            Self::Absent(_) => Verdict::Absent,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fastest => {
                f.write_str("the fastest device here that holds the work and computes all of its ops")
            }
            Self::LastResort { needed, available } => write!(
                f,
                "no device holds the {} needed; with {} the host can at least map the weights",
                Bytes(*needed),
                Bytes(*available)
            ),
            Self::Slower { than } => write!(f, "slower than {than}"),
            Self::Memory { needed, available } => {
                write!(f, "{} needed, {} available", Bytes(*needed), Bytes(*available))
            }
            Self::Ops { lacking } => write!(f, "would leave {} to the host", lacking.join(", ")),
            Self::TooSmall { work, worth_from } => {
                write!(f, "weights times tokens are {}, worth it from {}", Bytes(*work), Bytes(*worth_from))
            }
            Self::Failed(error) => f.write_str(error),
            Self::Absent(absence) => absence.fmt(f),
        }
    }
}

/// A candidate and what was found of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The device.
    pub candidate: Candidate,
    /// Why it was taken or not.
    pub reason: Reason,
}

/// Which device was taken for a work, and what was found of all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What it was taken for.
    pub work: Work,
    /// Every candidate in order of preference, exactly one of them taken; those that are absent may stand anywhere.
    pub judged: Vec<Judged>,
}

impl Choice {
    /// The candidate that was taken.
    pub fn taken(&self) -> &Judged {
        let taken = self.judged.iter().find(|judged| judged.reason.verdict() == Verdict::Taken);
        taken.expect("a choice has taken one")
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Judged { candidate, reason } = self.taken();
        write!(f, "{}: {reason}", candidate.name)
    }
}

/// Takes one of the devices of `drivers`, which stand in order of preference.
///
/// # Errors
/// Where no device can be opened.
pub fn choose_among(drivers: &[Driver], work: &Work, threads: impl Into<ThreadCounts>) -> Result<Device> {
    let threads = threads.into();
    let mut taken = None::<Device>;
    let mut judge = |candidate: &Candidate| match (&taken, &candidate.absence) {
        (_, Some(absence)) => Reason::Absent(absence.clone()),
        (Some(device), None) => Reason::Slower { than: device.name().to_owned() },
        (None, None) => match try_out(drivers, candidate, work, threads) {
            Ok(device) => {
                taken = Some(device);
                Reason::Fastest
            }
            Err(reason) => reason,
        },
    };
    let judged =
        candidates(drivers).into_iter().map(|candidate| Judged { reason: judge(&candidate), candidate });
    let mut judged: Vec<Judged> = judged.collect();
    let device = match taken {
        Some(device) => device,
        None => last_resort(drivers, &mut judged, threads)?,
    };
    Ok(device.chosen(Choice { work: *work, judged }))
}

/// The fastest device of the host that was only short of memory.
fn last_resort(drivers: &[Driver], judged: &mut [Judged], threads: ThreadCounts) -> Result<Device> {
    let mut of_host = judged.iter_mut().filter(|judged| judged.candidate.kind == Kind::Cpu);
    let found = of_host.find_map(|judged| match judged.reason {
        Reason::Memory { needed, available } => Some((judged, Reason::LastResort { needed, available })),
        _ => None,
    });
    let (resort, reason) = found.ok_or_else(|| Error::unknown_device("auto"))?;
    resort.reason = reason;
    open(drivers, &resort.candidate, threads)
}

fn open(drivers: &[Driver], candidate: &Candidate, threads: ThreadCounts) -> Result<Device> {
    let driver = owner(drivers, &candidate.name).expect("a device that is present was found by its driver");
    Ok(Device::with_backend((driver.open)(&candidate.name, threads)?))
}

/// A device that is fit for the work, or why it is not.
fn try_out(
    drivers: &[Driver],
    candidate: &Candidate,
    work: &Work,
    threads: ThreadCounts,
) -> Result<Device, Reason> {
    let (needed, available) = (work.bytes(), candidate.memory.map_or(usize::MAX, |memory| memory.available));
    if needed > available {
        return Err(Reason::Memory { needed, available });
    }
    let step = work.weights.saturating_mul(work.tokens);
    if step > 0 && step < candidate.worth_from {
        return Err(Reason::TooSmall { work: step, worth_from: candidate.worth_from });
    }
    let device = open(drivers, candidate, threads).map_err(|e| Reason::Failed(e.to_string()))?;
    let lacking = Capability::lacking(&device, work.task);
    if lacking.is_empty() { Ok(device) } else { Err(Reason::Ops { lacking }) }
}
