//! Guesses what a sequence says next: what followed when it said the same before.
//!
//! The end of the sequence is matched with its earlier tokens, prompt and output, and the longest match is
//! followed for as long as it is right ("prompt lookup decoding", Saxena 2023). Earlier places are found in
//! chains of equal token pairs, as LZ77 coders find theirs, at a bounded cost for each token.
//!
//! Whether a guess is worth computing depends on how often guesses from matches of its length were right.
//! Each picked token tells that, whether the guess was computed or not, so that nothing has to be tried out.

/// Most tokens that a step may guess for a sequence.
pub const MAX_LOOKUP: usize = 64;

/// Tokens of the shortest match.
const SHORTEST: usize = 2;
/// Matches are not compared beyond this.
const LONGEST: usize = 32;
/// Earlier places that a match is looked for at, from the latest on.
const PLACES: usize = 16;
/// Most bits of a hash.
const HASH_BITS: u32 = 16;
/// The weight of the last guess in the rate of right ones.
const NEWEST: f32 = 1.0 / 8.0;
/// How often guesses are taken to be right in the beginning, after matches of 2, 4, 8 and 16 tokens.
const RATES: [f32; 4] = [0.3, 0.6, 0.85, 0.95];

/// The earlier tokens of one sequence, and the match that is followed. A place is the index of the token after
/// a pair; none is 0.
#[derive(Debug)]
pub(crate) struct Lookup {
    /// The latest place of each hash.
    latest: Vec<u32>,
    /// For every place, the one before it of equal hash.
    earlier: Vec<u32>,
    /// The place whose token is the guess.
    place: usize,
    /// Tokens before `place` that equal those at the end; 0 where there is no guess.
    matched: usize,
    rates: [f32; RATES.len()],
}

impl Lookup {
    /// Knows `tokens`, and has the memory for `limit`.
    pub fn new(tokens: &[u32], limit: usize) -> Self {
        let bits = limit.max(2).next_power_of_two().ilog2().min(HASH_BITS);
        let mut lookup = Self {
            latest: vec![0; 1 << bits],
            earlier: Vec::with_capacity(limit),
            place: 0,
            matched: 0,
            rates: RATES,
        };
        (1..=tokens.len()).for_each(|len| lookup.index(&tokens[..len]));
        lookup.find(tokens);
        lookup
    }

    /// Takes note of the last of `tokens`, which is new.
    pub fn push(&mut self, tokens: &[u32]) {
        if self.matched > 0 {
            self.compare(tokens);
        }
        self.index(tokens);
        if self.matched == 0 {
            self.find(tokens);
        }
    }

    /// Appends to `out` at most `most` guesses of what follows `tokens`, all of which are right with a
    /// probability of at least `chance`.
    pub fn guess(&self, tokens: &[u32], most: usize, chance: f32, out: &mut Vec<u32>) {
        if self.matched == 0 {
            return;
        }
        let (first, mut right) = (out.len(), 1.0);
        for i in 0..most {
            right *= self.rates[kind(self.matched + i)];
            if right < chance {
                break;
            }
            // A match that overlaps the end goes on with its own guesses.
            let place = self.place + i;
            let guess = tokens.get(place).copied().unwrap_or_else(|| out[first + place - tokens.len()]);
            out.push(guess);
        }
    }

    /// Compares the last token with its guess.
    fn compare(&mut self, tokens: &[u32]) {
        let right = tokens[self.place] == tokens[tokens.len() - 1];
        let rate = &mut self.rates[kind(self.matched)];
        *rate += NEWEST * (f32::from(u8::from(right)) - *rate);
        (self.place, self.matched) = if right { (self.place + 1, self.matched + 1) } else { (0, 0) };
    }

    /// Makes the place of the last token findable.
    fn index(&mut self, tokens: &[u32]) {
        let before = &tokens[..tokens.len() - 1];
        let (slot, place) = (self.slot(before), u32::try_from(before.len()));
        let (Some(slot), Ok(place)) = (slot, place) else { return self.earlier.push(0) };
        self.earlier.push(std::mem::replace(&mut self.latest[slot], place));
    }

    /// Looks for the longest match of the end, the latest of equal ones.
    fn find(&mut self, tokens: &[u32]) {
        let Some(slot) = self.slot(tokens) else { return };
        let mut place = self.latest[slot] as usize;
        for _ in 0..PLACES {
            if place == 0 || self.matched >= LONGEST {
                break;
            }
            let len = common_end(&tokens[..place], tokens);
            if len >= SHORTEST && len > self.matched {
                (self.place, self.matched) = (place, len);
            }
            place = self.earlier[place] as usize;
        }
    }

    /// Where the last pair of `tokens` is in the table.
    fn slot(&self, tokens: &[u32]) -> Option<usize> {
        let &[a, b] = tokens.last_chunk::<SHORTEST>()?;
        let pair = u64::from(a) << 32 | u64::from(b);
        // 2^64 divided by the golden ratio.
        let hash = pair.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Some((hash >> (u64::BITS - self.latest.len().ilog2())) as usize)
    }
}

/// Which rate is that of matches of `len` tokens.
fn kind(len: usize) -> usize {
    (len.ilog2() - SHORTEST.ilog2()).min(RATES.len() as u32 - 1) as usize
}

/// Number of last tokens that are the same, as far as it matters.
fn common_end(a: &[u32], b: &[u32]) -> usize {
    let pairs = a.iter().rev().zip(b.iter().rev());
    pairs.take(LONGEST).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(lookup: &Lookup, tokens: &[u32], most: usize) -> Vec<u32> {
        let mut out = vec![99];
        lookup.guess(tokens, most, 0.0, &mut out);
        out.split_off(1)
    }

    fn guess_after(tokens: &[u32], most: usize) -> Vec<u32> {
        guess(&Lookup::new(tokens, 100), tokens, most)
    }

    #[test]
    fn the_longest_match_is_taken_and_of_equal_ones_the_latest() {
        assert_eq!(guess_after(&[1, 2, 3, 4, 9, 2, 3, 5, 1, 2, 3], 2), [4, 9]);
        assert_eq!(guess_after(&[2, 3, 4, 7, 2, 3, 5, 8, 2, 3], 2), [5, 8]);
    }

    #[test]
    fn one_equal_token_is_no_match() {
        assert!(guess_after(&[3, 4, 7, 3], 2).is_empty());
        assert!(guess_after(&[3], 2).is_empty());
    }

    #[test]
    fn a_match_that_overlaps_the_end_goes_on_in_circles() {
        assert_eq!(guess_after(&[7, 1, 2, 3, 1, 2, 3], 7), [1, 2, 3, 1, 2, 3, 1]);
        assert_eq!(guess_after(&[5, 5, 5], 3), [5, 5, 5]);
    }

    #[test]
    fn tokens_that_come_one_by_one_are_guessed_like_those_of_a_prompt() {
        let tokens: Vec<u32> = (0..300).map(|i: u32| i * i % 23 % 5).collect();
        let mut lookup = Lookup::new(&tokens[..1], tokens.len());
        for len in 2..=tokens.len() {
            lookup.push(&tokens[..len]);
            let found = Lookup::new(&tokens[..len], tokens.len());
            assert!(lookup.matched >= found.matched, "{len}");
            assert_eq!(lookup.matched.min(LONGEST), common_end(&tokens[..lookup.place], &tokens[..len]));
        }
    }

    #[test]
    fn a_long_match_is_guessed_from_and_a_short_one_is_not() {
        let tokens: Vec<u32> = (0..20).chain(0..20).collect();
        let guesses = |tokens: &[u32]| {
            let mut out = Vec::new();
            Lookup::new(tokens, 100).guess(tokens, 8, 0.45, &mut out);
            out.len()
        };
        assert_eq!([22, 24, 28, 36].map(|len| guesses(&tokens[..len])), [0, 1, 4, 8]);
    }

    #[test]
    fn wrong_guesses_end_the_guessing_until_they_would_have_been_right() {
        let mut tokens: Vec<u32> = (0..8).collect();
        let mut lookup = Lookup::new(&tokens, 10_000);
        let mut guesses = Vec::new();
        let mut say = |said: &[u32]| {
            for &token in said {
                tokens.push(token);
                lookup.push(&tokens);
            }
            guesses.clear();
            lookup.guess(&tokens, 8, 0.45, &mut guesses);
            guesses.len()
        };
        assert!(say(&[0, 1, 2, 3]) > 0);
        (0..20).for_each(|i| _ = say(&[100 + i, 0, 1, 2, 3]));
        assert_eq!(say(&[200, 0, 1, 2, 3]), 0);
        (0..20).for_each(|_| _ = say(&[300, 0, 1, 2, 3]));
        assert!(say(&[300, 0, 1, 2, 3]) > 0);
    }
}
