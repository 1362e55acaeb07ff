//! From the bytes of tokens to text: stop strings and characters that are spread over tokens.
#![expect(clippy::unwrap_used, reason = "a test may panic, its helpers too")]

use bitnet_inference::{StopMatcher, StopRules, TextStream, Utf8Stream};
use proptest::prelude::*;

/// What a matcher lets through, piece by piece, and which stop string it found.
fn matched(stops: &[&str], pieces: &[&str]) -> (Vec<String>, Option<usize>) {
    let mut matcher = StopMatcher::new(stops);
    let mut found = None;
    let mut through = Vec::new();
    for piece in pieces {
        let mut out = Vec::new();
        found = matcher.push(piece.as_bytes(), &mut out);
        through.push(String::from_utf8(out).unwrap());
    }
    let mut out = Vec::new();
    matcher.finish(&mut out);
    through.push(String::from_utf8(out).unwrap());
    (through, found)
}

fn strings(pieces: &[&str]) -> Vec<String> {
    pieces.iter().map(ToString::to_string).collect()
}

#[test]
fn a_stop_string_may_be_spread_over_tokens() {
    let (through, found) = matched(&["\nUser:"], &["Hi.", "\n", "Us", "er", ": no"]);
    assert_eq!((through, found), (strings(&["Hi.", "", "", "", "", ""]), Some(0)));
}

#[test]
fn what_may_become_a_stop_string_is_held_back_until_it_cannot() {
    let (through, found) = matched(&["\nUser:"], &["Hi.\nU", "s", "ual"]);
    assert_eq!((through, found), (strings(&["Hi.", "", "\nUsual", ""]), None));
}

#[test]
fn what_was_held_back_is_text_when_the_text_ends() {
    let (through, found) = matched(&["END"], &["the EN"]);
    assert_eq!((through, found), (strings(&["the ", "EN"]), None));
}

#[test]
fn a_stop_string_may_begin_inside_a_false_start_of_itself() {
    let (through, found) = matched(&["aab"], &["a", "a", "a", "b", "c"]);
    assert_eq!((through.concat(), found), ("a".into(), Some(0)));
}

#[test]
fn the_stop_string_that_ends_first_counts() {
    assert_eq!(matched(&["abc", "b"], &["xabc"]), (strings(&["xa", ""]), Some(1)));
    assert_eq!(matched(&["abc", "b"], &["xa", "b", "c"]).0.concat(), "xa");
    assert_eq!(matched(&["c", "abc"], &["xabc"]), (strings(&["x", ""]), Some(1)));
}

#[test]
fn nothing_follows_a_stop_string() {
    let mut matcher = StopMatcher::new(&["."]);
    let mut out = Vec::new();
    assert_eq!(matcher.push(b"One. Two.", &mut out), Some(0));
    assert_eq!(matcher.push(b"Three", &mut out), Some(0));
    matcher.finish(&mut out);
    assert_eq!(out, b"One");
}

#[test]
fn without_stop_strings_nothing_is_held_back() {
    assert_eq!(matched(&[], &["a", "b"]).0, strings(&["a", "b", ""]));
}

#[test]
fn a_character_waits_for_its_last_byte() {
    let mut stream = Utf8Stream::default();
    let texts = [&[0xf0, 0x9f][..], &[0x99], &[0x82, b'!']].map(|bytes| {
        let mut text = String::new();
        stream.push(bytes, &mut text);
        text
    });
    assert_eq!(texts, ["", "", "🙂!"]);
}

#[test]
fn an_unfinished_character_becomes_one_replacement() {
    let (mut stream, mut text) = (Utf8Stream::default(), String::new());
    stream.push(&[b'a', 0xe2, 0x82], &mut text);
    assert_eq!(text, "a");
    stream.finish(&mut text);
    stream.finish(&mut text);
    assert_eq!(text, "a\u{fffd}");
}

#[test]
fn a_stop_string_of_many_bytes_is_found_across_a_split_character() {
    let stop = StopRules { strings: vec!["…fin".into()], ..StopRules::default() };
    let (mut stream, mut text) = (TextStream::new(&stop), String::new());
    assert_eq!(stream.push(b"ok \xe2\x80", &mut text), None);
    assert_eq!(stream.push(b"\xa6fi", &mut text), None);
    assert_eq!(text, "ok ");
    assert_eq!(stream.push(b"n.", &mut text), Some(0));
    stream.finish(&mut text);
    assert_eq!(text, "ok ");
}

/// `bytes` cut at `cuts`.
fn pieces<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([0, bytes.len()]).collect();
    at.sort_unstable();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// The first end of a stop string, of those the longest, found by looking everywhere.
fn search(text: &[u8], stops: &[String]) -> Option<(usize, usize)> {
    (1..=text.len()).find_map(|end| {
        let matches = stops.iter().enumerate().filter(|(_, stop)| text[..end].ends_with(stop.as_bytes()));
        let longest = matches.max_by_key(|(index, stop)| (stop.len(), usize::MAX - index))?;
        Some((longest.0, end - longest.1.len()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn stop_strings_are_found_wherever_tokens_are_cut(
        text in "[ab]{0,40}",
        stops in prop::collection::vec("[abc]{1,5}", 0..4),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let (mut matcher, mut out, mut found) = (StopMatcher::new(&stops), Vec::new(), None);
        for piece in pieces(text.as_bytes(), &cuts) {
            found = matcher.push(piece, &mut out);
        }
        matcher.finish(&mut out);
        let expected = search(text.as_bytes(), &stops);
        prop_assert_eq!(found, expected.map(|(index, _)| index));
        prop_assert_eq!(&out, &text.as_bytes()[..expected.map_or(text.len(), |(_, start)| start)]);
    }

    #[test]
    fn text_in_pieces_is_the_text_as_a_whole(
        bytes in prop::collection::vec(
            prop_oneof![any::<u8>(), Just(0xe2), Just(0x82), Just(0xac), Just(0xf0), Just(0x9f)], 0..40),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let (mut stream, mut text) = (Utf8Stream::default(), String::new());
        for piece in pieces(&bytes, &cuts) {
            stream.push(piece, &mut text);
        }
        stream.finish(&mut text);
        prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
    }
}
