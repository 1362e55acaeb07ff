//! Which device is taken for which work, and what is said of the others.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

mod bare;

use bare::Bare;
use bitnet_core::{
    Device, Error,
    cpu::{self, CpuBackend, kernels::Kernels, topology::Memory},
    device::{
        Absence, Candidate, Driver, Judged, Kind, Reason, Task, ThreadCounts, Verdict, Work,
        capabilities::{Capability, Support},
        choose_among,
    },
};
use std::sync::Arc;

const GIB: usize = 1 << 30;

fn gpu(absence: Option<Absence>) -> Vec<Candidate> {
    vec![Candidate {
        name: "gpu:0".into(),
        kind: Kind::Gpu,
        model: "a card of 8 GiB".into(),
        memory: Some(Memory { total: 8 * GIB, available: 7 * GIB }),
        threads: 1,
        worth_from: 1000,
        absence,
    }]
}

/// Computes every op, as it is the scalar tier under another name.
const COMPLETE: Driver = Driver {
    name: "gpu",
    probe: || gpu(None),
    open: |_, _| Ok(Arc::new(CpuBackend::new(&Kernels::SCALAR, 1, 1))),
};

/// Computes nothing itself.
const BARE: Driver = Driver { name: "gpu", probe: || gpu(None), open: |_, _| Ok(Arc::new(Bare::default())) };

const UNPLUGGED: Driver = Driver {
    name: "gpu",
    probe: || gpu(Some(Absence::Hardware("no card".into()))),
    open: |_, _| unreachable!("an absent device is not opened"),
};

/// A processor without memory.
const CRAMPED: Driver = Driver {
    name: "cpu",
    probe: || {
        let cramped = |c| Candidate { memory: Some(Memory { total: 10, available: 10 }), ..c };
        (cpu::DRIVER.probe)().into_iter().map(cramped).collect()
    },
    open: |name, threads| (cpu::DRIVER.open)(name, threads),
};

fn judged(drivers: &[Driver], work: &Work) -> Vec<Judged> {
    choose_among(drivers, work, Some(1)).unwrap().choice().unwrap().judged.clone()
}

fn reason<'a>(judged: &'a [Judged], name: &str) -> &'a Reason {
    &judged.iter().find(|judged| judged.candidate.name == name).unwrap().reason
}

fn best() -> String {
    format!("cpu/{}", Kernels::best().name)
}

#[test]
fn auto_takes_the_fastest_tier_and_names_every_other_candidate() {
    let device = Device::open("auto", Some(1)).unwrap();
    let choice = device.choice().unwrap();
    assert_eq!((device.name(), &choice.taken().candidate.name), (best().as_str(), &best()));
    assert_eq!(choice.taken().reason, Reason::Fastest);
    let taken = choice.judged.iter().filter(|judged| judged.reason.verdict() == Verdict::Taken);
    assert_eq!(taken.count(), 1);
    for name in ["cuda", "metal"] {
        assert_eq!(reason(&choice.judged, name).to_string(), "not in this build");
    }
    let tiers = ["scalar", "avx2", "avxvnni", "avx512", "amx", "neon", "neon-dotprod", "neon-i8mm"];
    tiers.iter().for_each(|tier| drop(reason(&choice.judged, &format!("cpu/{tier}")).to_string()));
}

#[test]
#[ignore = "knows the processor from EXPECTED_TIER, which .ci/aarch64 gives for every core that it emulates"]
fn the_fastest_tier_is_the_one_that_is_expected_of_the_processor() {
    assert_eq!(Kernels::best().name, std::env::var("EXPECTED_TIER").unwrap());
}

#[test]
fn a_tier_that_is_absent_says_what_it_needs() {
    let of_cpu = |judged: &Judged| judged.candidate.kind == Kind::Cpu;
    for Judged { candidate, reason } in judged(&[cpu::DRIVER], &Work::default()).into_iter().filter(of_cpu) {
        let foreign: &[&str] = if cfg!(target_arch = "x86_64") { &["neon"] } else { &["avx", "amx"] };
        let own = !foreign.iter().any(|tier| candidate.name.contains(tier));
        match (own, reason) {
            (false, Reason::Absent(Absence::Architecture(name))) => assert_ne!(name, std::env::consts::ARCH),
            (true, Reason::Absent(Absence::Features(names))) => assert!(!names.is_empty(), "{candidate:?}"),
            (own, reason) => assert!(own && reason.verdict() != Verdict::Absent, "{candidate:?} {reason}"),
        }
    }
    let features = Absence::Features(vec!["avx512f", "avx512bw"]);
    assert_eq!(features.to_string(), "the processor lacks avx512f, avx512bw");
}

#[test]
fn an_accelerator_that_does_all_goes_before_the_processor() {
    let work = Work { weights: 6 * GIB, tokens: 1, ..Work::default() };
    let judged = judged(&[COMPLETE, cpu::DRIVER], &work);
    assert_eq!(reason(&judged, "gpu:0"), &Reason::Fastest);
    assert_eq!(reason(&judged, &best()).verdict(), Verdict::Passed);
}

#[test]
fn an_accelerator_without_room_is_unfit_and_says_both_numbers() {
    let work = Work { weights: 6 * GIB, beside: 2 * GIB, tokens: 1, ..Work::default() };
    let judged = judged(&[COMPLETE, CRAMPED], &work);
    assert_eq!(reason(&judged, "gpu:0"), &Reason::Memory { needed: 8 * GIB, available: 7 * GIB });
    assert_eq!(reason(&judged, "gpu:0").to_string(), "8.0 GiB needed, 7.0 GiB available");
    assert_eq!(reason(&judged, &best()), &Reason::LastResort { needed: 8 * GIB, available: 10 });
}

#[test]
fn an_accelerator_is_not_worth_its_launches_for_little_work() {
    let work = |tokens| Work { weights: 100, tokens, ..Work::default() };
    let few = judged(&[COMPLETE, cpu::DRIVER], &work(9));
    assert_eq!(reason(&few, "gpu:0"), &Reason::TooSmall { work: 900, worth_from: 1000 });
    assert_eq!(reason(&few, &best()), &Reason::Fastest);
    assert_eq!(reason(&judged(&[COMPLETE, cpu::DRIVER], &work(10)), "gpu:0"), &Reason::Fastest);
}

#[test]
fn an_accelerator_that_leaves_ops_to_the_host_is_unfit_and_names_those_of_the_task() {
    let lacking =
        |task| match reason(&judged(&[BARE, cpu::DRIVER], &Work { task, ..Work::default() }), "gpu:0") {
            Reason::Ops { lacking } => lacking.clone(),
            other => panic!("{other}"),
        };
    let (inference, training) = (lacking(Task::Inference), lacking(Task::Training));
    assert!(inference.contains(&"bit_matmul") && inference.contains(&"attention"));
    assert!(training.contains(&"matmul_t") && !training.contains(&"bit_matmul"));
}

#[test]
fn an_accelerator_that_is_not_there_says_so() {
    let judged = judged(&[UNPLUGGED, cpu::DRIVER], &Work::default());
    assert_eq!(reason(&judged, "gpu:0").to_string(), "no card");
    assert_eq!(reason(&judged, "gpu:0").verdict(), Verdict::Absent);
}

#[test]
fn a_name_that_exists_elsewhere_is_refused_with_what_it_needs() {
    let message = |name| Device::open(name, Some(1)).unwrap_err().to_string();
    assert!(
        message("cuda").starts_with("device `cuda` cannot be opened: not in this build; this machine has")
    );
    let foreign = if cfg!(target_arch = "x86_64") { ("cpu/neon", "aarch64") } else { ("cpu/avx2", "x86_64") };
    assert!(message(foreign.0).contains(&format!("needs {}", foreign.1)));
    assert!(matches!(Device::open("cpu/avx1024", None), Err(Error::UnknownDevice { .. })));
    assert!(matches!(Device::open("cpux", None), Err(Error::UnknownDevice { .. })));
}

#[test]
fn choosing_leaves_nothing_in_the_pool() {
    let stats = Device::open("auto", Some(1)).unwrap().pool().stats();
    assert_eq!((stats.held(), stats.misses), (0, 0));
}

#[test]
fn every_op_that_a_backend_may_leave_to_the_host_is_tried() {
    let methods = include_str!("../src/backend.rs").split("\n    fn ").skip(1);
    let left =
        methods.filter(|method| method.contains("host::")).map(|m| m.split(['(', '<']).next().unwrap());
    let bare = Capability::all(&Device::with_backend(Arc::new(Bare::default())));
    for op in left {
        let rows: Vec<_> = bare.iter().filter(|row| row.op == op).collect();
        assert!(!rows.is_empty(), "src/device/capabilities.rs does not try `{op}`");
        assert!(rows.iter().any(|row| row.support == Support::Host), "{rows:?}");
        assert!(rows.iter().all(|row| row.support != Support::Native), "{rows:?}");
    }
}

#[test]
fn every_tier_computes_the_same_ops() {
    let all = |name: &String| Capability::all(&Device::open(name, Some(1)).unwrap());
    let scalar = all(&"cpu/scalar".into());
    assert!(scalar.iter().all(|row| row.support != Support::Host));
    Device::names().iter().for_each(|name| assert_eq!(all(name), scalar, "{name}"));
}

#[test]
fn ops_use_the_threads_of_their_number_of_tokens() {
    let counts = |decode, batch| ThreadCounts { decode, batch };
    let of = |device: &Device| [1, 2, 512].map(|tokens| device.threads_for(tokens));
    for (asked, expected) in [
        (counts(Some(1), Some(3)), [1, 3, 3]),
        (counts(Some(3), Some(2)), [3, 2, 2]),
        (counts(Some(2), None), [2, 2, 2]),
        (Some(2).into(), [2, 2, 2]),
        (Some(0).into(), [1, 1, 1]),
    ] {
        let device = Device::open("cpu", asked).unwrap();
        assert_eq!(of(&device), expected, "{asked:?}");
    }
    let device = Device::open("cpu", counts(Some(1), Some(3))).unwrap();
    device.set_threads(counts(Some(9), Some(2)));
    assert_eq!((device.threads(), of(&device)), (3, [3, 2, 2]), "a team does not grow");
}
