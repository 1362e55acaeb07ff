"""Speed of the 2B-4T shape on this machine's CPU: every row of docs/performance.md.

    python docs/cpu_speed.py target/release/bitnet --machine zen4 [--rounds 3]

Runs `bitnet bench` for all rows in turns, `--rounds` times, writes what it printed to docs/receipts/MACHINE.json, and a table of medians of tokens a
second and of shares of the ceiling, measured right before each repetition, to stdout. `--draw` draws the roofline of all receipts to
docs/performance.svg instead.
"""
import argparse
import json
import math
import pathlib
import statistics
import subprocess
import sys

DOCS = pathlib.Path(__file__).parent
SHAPE = ["bench", "--synthetic", "2b-4t", "-o", "json"]
DECODE, PREFILL = ["-p", "0", "-n", "64"], ["-p", "512", "-n", "0"]
# Name, arguments, tokens of each pass over the weights.
ROWS = [
    ("decode, F16 head, screened", [*DECODE, "-t", "2", "-r", "5"], 1),
    ("decode, F16 head, read whole", [*DECODE, "-t", "2", "-r", "5", "--head", "file"], 1),
    ("decode, Q6_K head", [*DECODE, "-t", "2", "-r", "5", "--head", "q6_k"], 1),
    ("decode, decode copy", [*DECODE, "-t", "2", "-r", "5", "--decode-copy"], 1),
    ("decode, decode copy, Q6_K head", [*DECODE, "-t", "2", "-r", "5", "--decode-copy", "--head", "q6_k"], 1),
    ("decode, 1 thread", [*DECODE, "-t", "1", "-r", "3"], 1),
    ("decode at depth 2048", [*DECODE, "-t", "2", "-r", "3", "-d", "2048"], 1),
    ("decode at depth 4096", [*DECODE, "-t", "2", "-r", "3", "-d", "4096"], 1),
    ("decode, 8 sequences", [*DECODE, "-t", "2", "-r", "3", "--sequences", "8"], 8),
    ("decode, AVX2", [*DECODE, "-t", "2", "-r", "3", "--device", "cpu/avx2"], 1),
    ("prefill 16", ["-p", "16", "-n", "0", "-t", "2", "-r", "5"], 16),
    ("prefill 512", [*PREFILL, "-t", "2", "-r", "3"], 512),
    ("prefill 512, 1 thread", [*PREFILL, "-t", "1", "-r", "2"], 512),
    ("prefill 512, AVX2", [*PREFILL, "-t", "2", "-r", "2", "--device", "cpu/avx2"], 512),
]


def measure(program, machine, rounds):
    runs = {name: [] for name, _, _ in ROWS}
    for _ in range(rounds):
        for name, args, _ in ROWS:
            done = subprocess.run([program, *SHAPE, *args], capture_output=True, text=True, check=True)
            run = json.loads(done.stdout)
            run["command"][0] = "bitnet"
            runs[name].append(run)
            print(f"{name}: {runs[name][-1]['tests'][0]['median_tps']:.1f} tok/s", file=sys.stderr)
    receipt = DOCS / "receipts" / f"{machine}.json"
    receipt.write_text(json.dumps({"machine": machine, "rows": runs}, indent=1) + "\n")
    return runs


def medians(runs):
    samples = [test for run in runs for test in run["tests"]]
    rates = [rate for test in samples for rate in test["samples_tps"]]
    shares = [share for test in samples for share in test["samples_share"]]
    return statistics.median(rates), statistics.median(shares), samples[0]["ceiling"]


def table(runs):
    print("| work | tok/s | share of | |\n|---|---:|---|---:|")
    for name, _, _ in ROWS:
        rate, share, ceiling = medians(runs[name])
        print(f"| {name} | {rate:.1f} | {ceiling} | {100 * share:.0f} % |")


def draw(path):
    """Tokens a second over tokens computed for each pass over the weights, with the two ceilings, both axes logarithmic."""
    left, top, width, height = 70, 30, 560, 340
    x = lambda tokens: left + width * math.log(tokens) / math.log(1024)
    y = lambda rate: top + height * (1 - math.log(rate / 10) / math.log(60))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 20} {top + height + 60}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{left}" y="18">BitNet b1.58 2B-4T shape, two threads: lines are what memory and integer units allow</text>',
        f'<text x="{left + width / 2}" y="{top + height + 45}" text-anchor="middle">tokens computed for each reading of the weights</text>',
        f'<text x="16" y="{top + height / 2}" transform="rotate(-90 16 {top + height / 2})" text-anchor="middle">tokens a second</text>',
    ]
    for tokens in [1, 8, 64, 512]:
        parts.append(f'<text x="{x(tokens)}" y="{top + height + 20}" text-anchor="middle">{tokens}</text>')
        parts.append(f'<line x1="{x(tokens)}" y1="{top}" x2="{x(tokens)}" y2="{top + height}" stroke="#ddd"/>')
    for rate in [10, 20, 50, 100, 200, 500]:
        parts.append(f'<text x="{left - 8}" y="{y(rate) + 4}" text-anchor="end">{rate}</text>')
        parts.append(f'<line x1="{left}" y1="{y(rate)}" x2="{left + width}" y2="{y(rate)}" stroke="#ddd"/>')
    for receipt, color in zip(sorted((DOCS / "receipts").glob("*.json")), ["#0b62a4", "#c0392b", "#2e7d32"]):
        content = json.loads(receipt.read_text())
        two = {name: medians(content["rows"][name]) for name in ("decode, F16 head, screened", "prefill 512")}
        memory, integer = (rate / share for rate, share, _ in two.values())
        knee = integer / memory
        line = [(1, memory), (knee, integer), (1024, integer)]
        points = " ".join(f"{x(tokens):.1f},{y(rate):.1f}" for tokens, rate in line)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts.append(f'<text x="{x(64)}" y="{y(integer) - 6:.1f}" fill="{color}">{content["machine"]}</text>')
        parts.append(f'<text x="{x(1) + 9}" y="{y(two["decode, F16 head, screened"][0]) + 4:.1f}" fill="{color}">decode</text>')
        for name, args, tokens in ROWS:
            if "1" in args[args.index("-t") + 1] or name not in content["rows"]:
                continue
            rate, _, _ = medians(content["rows"][name])
            if tokens > 1:
                side, anchor = (9, "start") if tokens < 64 else (-9, "end")
                parts.append(f'<text x="{x(tokens) + side:.1f}" y="{y(rate) + 4:.1f}" text-anchor="{anchor}" fill="{color}">{name}</text>')
            parts.append(f'<circle cx="{x(tokens):.1f}" cy="{y(rate):.1f}" r="4" fill="{color}"><title>{name}: {rate:.1f} tok/s</title></circle>')
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", nargs="?")
    parser.add_argument("--machine", default="machine")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--draw", action="store_true")
    args = parser.parse_args()
    if args.draw:
        draw(DOCS / "performance.svg")
    else:
        table(measure(args.program, args.machine, args.rounds))


main()
