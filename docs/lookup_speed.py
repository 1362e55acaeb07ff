"""What guessing ahead (`bitnet run --lookup N`) does to the speed of texts that repeat themselves more and less.

    python docs/lookup_speed.py target/release/bitnet -m crates/bitnet-cli/assets/books-22m.gguf --lookup 8 [--pairs 15] [-t 1]

Runs with and without guesses in turns, so that both see the same machine, checks that the texts are equal, and prints the medians of
tokens a second and of the ratio of each pair. Further arguments go to the program.
"""
import argparse
import re
import statistics
import subprocess

PASSAGE = (
    "The lighthouse keeper climbed the stairs every evening at six, lit the great lamp, and wrote the weather into a book with a red "
    "cover. On the third of October he wrote that the wind came from the north, that two ships had passed, and that his brother had "
    "not answered his letter.\n\n"
)
BEGINNING = "It was a dark evening in November when the stranger knocked at the door."
TEXTS = {
    "a passage twice, then its beginning": ["-p", 2 * PASSAGE + "The lighthouse keeper climbed the stairs", "--temp", "0"],
    "a story, greedy": ["-p", BEGINNING, "--temp", "0"],
    "a story, sampled": ["-p", BEGINNING, "-s", "3"],
}
RATE = re.compile(r"\d+ tokens at ([\d.]+) tok/s(?: · (\d+ of \d+) guesses right)?\n")


def run(command, lookup):
    done = subprocess.run([*command, "--lookup", str(lookup), "--show-timings"], capture_output=True, text=True, check=True)
    rate, guesses = RATE.search(done.stderr).groups()
    return done.stdout, float(rate), guesses or "no"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--lookup", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=15)
    args, rest = parser.parse_known_args()
    print("| text | tok/s without | with | ratio | guesses right |\n|---|---:|---:|---:|---:|")
    for name, text in TEXTS.items():
        command, pairs = [args.program, "run", "-m", args.model, "-n", "300", *text, *rest], []
        for i in range(args.pairs):
            order = [0, args.lookup] if i % 2 == 0 else [args.lookup, 0]
            done = {lookup: run(command, lookup) for lookup in order}
            assert done[0][0] == done[args.lookup][0], "the texts differ"
            pairs.append((done[0][1], done[args.lookup][1]))
        plain, guessed = (statistics.median(rates) for rates in zip(*pairs))
        ratio = statistics.median(guessed / plain for plain, guessed in pairs)
        print(f"| {name} | {plain:.0f} | {guessed:.0f} | {ratio:.2f} | {done[args.lookup][2]} |")


main()
