//! The dashboard on terminals of every size.

use super::{state::State, view::draw};
use bitnet_training::{
    evaluate::Evaluation,
    log::Line,
    progress::{Codes, Event, Step},
};
use ratatui::{Terminal, backend::TestBackend};
use std::time::Duration;

fn step(step: u64, loss: f64, layers: usize) -> Step {
    let codes = |i: usize| Codes { density: 0.6 + 0.001 * i as f64, flips: 0.01 / (1 + i) as f64 };
    Step {
        step,
        loss,
        distillation: None,
        lr: 1e-3,
        weight_decay: 0.1,
        gradient_norm: 0.52,
        tokens: 1000,
        seconds: 0.5,
        layers: (0..layers).map(codes).collect(),
    }
}

fn evaluation(nats: f64) -> Evaluation {
    Evaluation { nats, bits_per_byte: nats * 1.4, tokens: 100 }
}

fn fresh() -> State {
    State::at("runs/tiny · 1234 parameters".into(), 0, 4000)
}

/// A run with what there is to show.
fn after(steps: u64, layers: usize) -> State {
    let mut state = fresh();
    for i in 1..=steps {
        state.event(&Event::Step(step(i, 1.0 + 3.0 / i as f64, layers)));
        if i.is_multiple_of(50) {
            state.event(&Event::Evaluated { step: i, evaluation: evaluation(1.5), best: false });
            state.say(&format!("step {i}: 1.5000 nats a token"));
        }
    }
    state.event(&Event::Saved { step: steps, path: "runs/tiny/checkpoint-00000001".into() });
    state.elapsed = Duration::from_secs(3600);
    state
}

fn drawn(state: &State, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(state, frame)).unwrap();
    terminal
}

fn shows(state: &State, (width, height): (u16, u16), texts: &[&str]) {
    let screen = drawn(state, width, height).backend().to_string();
    for text in texts {
        assert!(screen.contains(text), "{text} is not on\n{screen}");
    }
}

#[test]
fn a_wide_terminal_shows_everything() {
    let texts = [
        "runs/tiny · 1234 parameters",
        "q stops",
        "step 2000/4000, 50 %",
        "loss 1.0015",
        "2000 tok/s",
        "elapsed 1:00:00",
        "ETA 1:00:00",
        "training loss • held out 1.5000",
        "learning rate 1.00e-3",
        "gradient norm 0.520",
        "density 0.6055 by layer",
        "flip rate 0.0026 by layer",
        "messages",
        "checkpoint-00000001 is saved",
        "step 2000: 1.5000 nats",
    ];
    shows(&after(2000, 12), (120, 40), &texts);
}

#[test]
fn a_narrow_terminal_shows_the_figures_a_chart_and_the_last_message() {
    let texts = ["runs/tiny", "step 2000/4000", "loss 1.0015", "ETA", "training loss", "is saved"];
    shows(&after(2000, 12), (40, 12), &texts);
    shows(&after(2000, 12), (40, 24), &["density 0.6055", "flip rate 0.0026"]);
}

#[test]
fn a_tiny_terminal_shows_step_and_loss() {
    shows(&after(2000, 12), (10, 3), &["2000/4000", "loss 1.001"]);
    shows(&after(2000, 12), (12, 1), &["2000/4000"]);
}

#[test]
fn before_the_first_step_there_is_a_place_for_everything() {
    shows(&fresh(), (80, 24), &["0/4000", "elapsed 0:00:00", "no step yet", "messages"]);
}

#[test]
fn losses_that_are_no_numbers_are_said_and_not_drawn() {
    let mut state = fresh();
    state.event(&Event::Step(step(1, f64::NAN, 2)));
    shows(&state, (80, 24), &["loss NaN", "no step yet"]);
    state.event(&Event::Step(step(2, 2.0, 0)));
    state.event(&Event::Step(step(3, f64::INFINITY, 0)));
    shows(&state, (80, 24), &["loss inf", "density 0.6005 by"]);
}

#[test]
fn a_run_that_goes_on_shows_its_log_and_its_own_pace() {
    let mut state = State::at("run".into(), 100, 300);
    let steps = (1..=100).map(|i| Line::Step(step(i, 2.0, 1)));
    let evaluated = Line::Evaluation { step: 100, evaluation: evaluation(1.25) };
    let skipped = Line::Skipped { step: 7, what: "loss".into() };
    state.read(&steps.chain([evaluated, skipped]).collect::<Vec<_>>());
    let texts = ["100/300", "held out 1.2500", "step 100: 1.2500 nats a token", "step 7: the loss is not"];
    shows(&state, (120, 40), &texts);
    assert!(state.left().is_none() && state.rate.is_none());
    state.event(&Event::Step(step(101, 2.0, 1)));
    state.elapsed = Duration::from_secs(2);
    assert_eq!(state.left(), Some(Duration::from_secs(398)));
}

#[test]
fn a_stop_is_acknowledged() {
    let mut state = after(10, 1);
    state.stopping = true;
    shows(&state, (40, 12), &["stops after this step"]);
}

#[test]
fn texts_of_several_lines_stay_in_order_and_move_no_cursor() {
    let mut state = after(10, 1);
    state.say("step 10 writes\nROMEO:\u{1b}[2J what");
    let screen = drawn(&state, 100, 40).backend().to_string();
    let at = |text: &str| screen.find(text).unwrap_or_else(|| panic!("{text} is not on\n{screen}"));
    assert!(at("step 10 writes") < at(r"ROMEO:\u{1b}[2J what") && at("ROMEO") < at("is saved"));
}

#[test]
fn every_size_is_drawn() {
    let mut strange = after(3000, 30);
    strange.event(&Event::Step(step(u64::MAX, f64::MAX, 300)));
    strange.event(&Event::Step(step(1, -f64::MAX, 300)));
    strange.say(&"long words 漢字 ".repeat(500));
    for state in [fresh(), strange] {
        for (width, height) in (0..=120).flat_map(|width| (0..=40).map(move |height| (width, height))) {
            drawn(&state, width, height);
        }
    }
}
