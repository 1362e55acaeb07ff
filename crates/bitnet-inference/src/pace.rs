//! How long steps take, learnt from those that were made.

/// Most tokens of a step that is learnt from: longer ones are prefill, which other limits slow down.
const MOST: usize = 32;
/// The weight of the last step of one token.
const NEWEST: f32 = 1.0 / 16.0;
/// How much of what is known of longer steps is left after another one: their difference to a step of one token is small, and a
/// machine that does other things at times hides it.
const KEPT: f32 = 31.0 / 32.0;
/// What a step costs before anything is known: that of books-22m on two cores with AVX2. Where weights come from memory it is more.
pub(crate) const STEP_COST: f32 = 1.25;
/// Steps that must have told otherwise before they outweigh it.
const DOUBT: f32 = 8.0;
/// The costs that are told. With the least, guesses are made that are right nine times of ten, and so the cost is learnt anew.
/// More than the greatest wins little, since guesses that are often wrong are short, and a busy machine makes a step seem dear.
const COSTS: [f32; 2] = [0.1, STEP_COST];

/// Times of steps of one token and of several.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    /// Seconds of a step of one token.
    one: Option<f32>,
    several: Option<Several>,
}

/// Steps of several tokens, the last ones counting most.
#[derive(Clone, Copy, Debug)]
struct Several {
    steps: f32,
    /// Tokens after the first of each step.
    further: f32,
    seconds: f32,
}

impl Pace {
    /// Takes note of a step that computed `tokens` tokens, with logits of each, in `seconds`.
    pub fn note(&mut self, tokens: usize, seconds: f32) {
        match (tokens, self.one) {
            (1, None) => self.one = Some(seconds),
            (1, Some(one)) => self.one = Some(one + NEWEST * (believed(seconds, one) - one)),
            (2..=MOST, Some(one)) => {
                self.several.get_or_insert_with(|| Several::guessed(one)).add(tokens, seconds, one);
            }
            _ => {}
        }
    }

    /// What a step costs however few tokens it computes, in tokens.
    pub fn step_cost(&self) -> f32 {
        match (self.one, self.several) {
            (Some(one), Some(several)) => several.step_cost(one),
            _ => STEP_COST,
        }
    }
}

impl Several {
    fn guessed(one: f32) -> Self {
        Self { steps: DOUBT, further: DOUBT, seconds: DOUBT * one * (1.0 + 1.0 / (1.0 + STEP_COST)) }
    }

    fn add(&mut self, tokens: usize, seconds: f32, one: f32) {
        let further = (tokens - 1) as f32;
        let expected = one * (1.0 + further / (1.0 + self.step_cost(one)));
        self.steps = KEPT * self.steps + 1.0;
        self.further = KEPT * self.further + further;
        self.seconds = KEPT * self.seconds + believed(seconds, expected);
    }

    fn step_cost(&self, one: f32) -> f32 {
        let each = (self.seconds - self.steps * one).max(0.0) / self.further;
        (one / each - 1.0).clamp(COSTS[0], COSTS[1])
    }
}

/// What to believe of a measured time: a step during which the machine did something else says little.
fn believed(seconds: f32, expected: f32) -> f32 {
    seconds.min(2.0 * expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cost after steps that take `step + tokens` milliseconds.
    fn learnt(pace: &mut Pace, step: f32) -> f32 {
        for tokens in [1, 4, 1, 9].into_iter().cycle().take(1000) {
            pace.note(tokens, 1e-3 * (step + tokens as f32));
        }
        pace.step_cost()
    }

    #[test]
    fn the_cost_of_a_step_is_learnt_and_follows_the_machine() {
        let mut pace = Pace::default();
        for step in [0.5, 1.2, 0.8] {
            let cost = learnt(&mut pace, step);
            assert!((cost - step).abs() < 0.1 * step, "{cost} instead of {step}");
        }
    }

    #[test]
    fn one_slow_step_changes_little() {
        for tokens in [1, 4] {
            let mut pace = Pace::default();
            learnt(&mut pace, 0.8);
            pace.note(tokens, 100.0);
            assert!((0.6..1.0).contains(&pace.step_cost()), "{}", pace.step_cost());
        }
    }

    #[test]
    fn a_few_steps_do_not_outweigh_the_first_guess() {
        let mut pace = Pace::default();
        pace.note(1, 1.0);
        assert_eq!(pace.step_cost(), STEP_COST);
        pace.note(2, 2.0);
        assert!((0.9..STEP_COST).contains(&pace.step_cost()));
    }

    #[test]
    fn the_cost_stays_within_what_can_be_learnt_from() {
        for (seconds, limit) in [(9.0, COSTS[0]), (1.0, COSTS[1])] {
            let mut pace = Pace::default();
            pace.note(1, 1.0);
            (0..1000).for_each(|_| pace.note(2, seconds));
            assert_eq!(pace.step_cost(), limit);
        }
    }
}
