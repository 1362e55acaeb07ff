"""Speed of the 2B-4T shape on this machine's CPU: every row of docs/performance.md.

    python docs/cpu_speed.py target/release/bitnet --machine zen4 [--rounds 3] [--model FILE]
    python docs/cpu_speed.py --draw

The first runs `bitnet bench` for all rows in turns, `--rounds` times, and writes what it printed to docs/receipts/MACHINE.json. Shares are of the
ceiling measured right before and after each repetition. With a model file of the shape the time to the first token has that of opening it. The
second writes the tables of all receipts into docs/performance.md and draws docs/performance.svg.
"""
import argparse
import datetime
import json
import math
import os
import pathlib
import platform
import statistics
import subprocess
import sys

DOCS = pathlib.Path(__file__).parent
SHAPE = ["bench", "--synthetic", "2b-4t", "-o", "json"]
DECODE, PREFILL = ["-p", "0", "-n", "64"], ["-p", "512", "-n", "0"]
TWO, ONE, AVX2 = ["-t", "2"], ["-t", "1"], ["--device", "cpu/avx2"]
FIRST = "first token, prompt of 16"
# Name, arguments, least and wanted share of the ceiling in percent, tokens a second of the fastest other engine and which it is.
ROWS = [
    ("decode, F16 head, screened", [*DECODE, *TWO, "-r", "5"], (75, 90), "13.5, ik"),
    ("decode, F16 head, read whole", [*DECODE, *TWO, "-r", "5", "--head", "file"], None, "13.5, ik"),
    ("decode, Q6_K head", [*DECODE, *TWO, "-r", "5", "--head", "q6_k"], (70, 90), "16.3, bitnet.cpp"),
    ("decode, decode copy", [*DECODE, *TWO, "-r", "5", "--decode-copy"], None, ""),
    ("decode, decode copy, Q6_K head", [*DECODE, *TWO, "-r", "5", "--decode-copy", "--head", "q6_k"], (None, 85), "13.3, ik"),
    ("decode, 1 thread", [*DECODE, *ONE, "-r", "5"], (75, 90), "7.3, ik"),
    ("decode at depth 2048", [*DECODE, *TWO, "-r", "3", "-d", "2048"], (65, 85), ""),
    ("decode at depth 4096", [*DECODE, *TWO, "-r", "3", "-d", "4096"], (65, 85), ""),
    ("decode, 8 sequences", [*DECODE, *TWO, "-r", "3", "--sequences", "8"], None, ""),
    ("decode, AVX2", [*DECODE, *TWO, "-r", "3", *AVX2], None, ""),
    ("prefill 16", ["-p", "16", "-n", "0", *TWO, "-r", "5"], None, ""),
    ("prefill 512", [*PREFILL, *TWO, "-r", "3"], (45, 65), "129, ik"),
    ("prefill 512, 1 thread", [*PREFILL, *ONE, "-r", "3"], (45, 65), "67, ik"),
    ("prefill 512, AVX2", [*PREFILL, *TWO, "-r", "3", *AVX2], None, ""),
]
SCREENED = ROWS[0][0]
# Name, the two rows whose rates are divided, least and wanted quotient.
RATIOS = [
    ("8 sequences over one", "decode, 8 sequences", SCREENED, 5, 7),
    ("8 sequences over one, head read whole", "decode, 8 sequences", "decode, F16 head, read whole", 5, 7),
    ("decode copy over two bits", "decode, decode copy", SCREENED, 1, None),
    ("decode copy over two bits, Q6_K head", "decode, decode copy, Q6_K head", "decode, Q6_K head", 1, None),
    ("AVX2 over AVX-512, decode", "decode, AVX2", SCREENED, 0.75, None),
    ("AVX2 over AVX-512, prefill", "prefill 512, AVX2", "prefill 512", 0.45, None),
]


def applies(name, tier):
    """Without AVX-512 there is no decode copy, and the tier of AVX2 would be measured twice."""
    return tier == "cpu/avx512" or not ("copy" in name or "AVX2" in name)


def run_bench(program, args):
    done = subprocess.run([program, *args], capture_output=True, text=True, check=True)
    run = json.loads(done.stdout)
    run["command"] = ["bitnet", *args]
    return run


def measure(program, machine, rounds, model):
    rows = [(name, [*SHAPE, *args]) for name, args, _, _ in ROWS]
    shape = ["bench", "-m", model, "-o", "json"] if model else SHAPE
    rows.append((FIRST, [*shape, "-p", "0", "-n", "0", *TWO, "--ttft", "16", "-r", "5"]))
    runs = {}
    for _ in range(rounds):
        for name, args in rows:
            if runs and not applies(name, runs[SCREENED][0]["backend"]):
                continue
            run = run_bench(program, args)
            if name == FIRST:
                if model:
                    run["model"] = run["command"][3] = pathlib.Path(model).name
                said = f"{run['first_token'][0]['median_s'] * 1000:.0f} ms"
            else:
                said = f"{run['tests'][0]['median_tps']:.1f} tok/s, {100 * run['tests'][0]['median_share']:.0f} %"
            runs.setdefault(name, []).append(run)
            print(f"{name}: {said}", file=sys.stderr)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    receipt = {
        "machine": machine,
        "date": datetime.date.today().isoformat(),
        "system": f"{platform.system()} {platform.release()}",
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory, 1),
        "rows": runs,
    }
    (DOCS / "receipts" / f"{machine}.json").write_text(json.dumps(receipt, indent=1) + "\n")
    for name in [name for name in runs if name != FIRST]:
        row = Samples(runs[name])
        print(f"{name}\t{row.rate:.1f} tok/s\t{row.share_text()}\tof {row.limit_text()}")


def work_of(run):
    """Bytes that a token of a run reads, or multiply-adds of ternary layers that it needs, as `bitnet bench` counts them for this shape."""
    test = run["tests"][0]
    if "work_per_token" in test:
        return test["work_per_token"]
    if test["ceiling"] == "int8 peak":
        return run["parameters"] - 128256 * 2560
    option = lambda name: int(run["command"][run["command"].index(name) + 1]) if name in run["command"] else 0
    # Keys and values of half of the decoded tokens and of all before them, in f16: 30 layers of 5 heads of 128.
    seen = option("-d") + option("-n") / 2
    return run["decode_bytes"] / max(option("--sequences"), 1) + seen * 30 * 2 * 5 * 128 * 2


class Samples:
    """All repetitions of a row."""

    def __init__(self, runs):
        tests = [test for run in runs for test in run["tests"]]
        self.rates = [x for test in tests for x in test["samples_tps"]]
        self.shares = [x for test in tests for x in test["samples_share"]]
        self.work, self.ceiling = work_of(runs[0]), tests[0]["ceiling"]
        # A share is a rate times its work over its ceiling; receipts of older programs leave the last two to this.
        self.limits = [rate * self.work / share for rate, share in zip(self.rates, self.shares)]
        self.rate, self.share, self.limit = map(statistics.median, (self.rates, self.shares, self.limits))

    def share_text(self):
        return f"{100 * self.share:.0f} % ({100 * min(self.shares):.0f} to {100 * max(self.shares):.0f})"

    def limit_text(self):
        return f"{self.limit / 1e9:.0f} " + ("GB/s" if self.ceiling == "read bandwidth" else "G/s")


def receipts():
    """Every receipt with the rows that its machine has."""
    found = [json.loads(path.read_text()) for path in sorted((DOCS / "receipts").glob("*.json"))]
    tier = lambda content: content["rows"][SCREENED][0]["backend"]
    has = lambda content, name: name != FIRST and applies(name, tier(content))
    return [(content, {name: Samples(runs) for name, runs in content["rows"].items() if has(content, name)}) for content in found]


def tables():
    """The rows of every receipt side by side."""
    all_receipts = receipts()
    names = [content["machine"] for content, _ in all_receipts]
    percent = lambda pair: " / ".join("-" if x is None else f"{x} %" for x in pair) if pair else ""
    lines = [f"| work | {' | '.join(names)} | must / goal | others |", f"|---|{'---:|' * len(names)}---|---|"]
    for name, _, wanted, peer in ROWS:
        cells = [rows.get(name) for _, rows in all_receipts]
        row = [f"{found.rate:.1f}, {found.share_text()}" if found else "-" for found in cells]
        lines.append(f"| {name} | {' | '.join(row)} | {percent(wanted)} | {peer} |")
    firsts = [[x for run in content["rows"].get(FIRST, []) for x in run["first_token"]] for content, _ in all_receipts]
    lines.append(f"| {FIRST} | {' | '.join(map(first_text, firsts))} | 250 / 150 ms | |")
    lines += ["", "Ceilings, medians: " + "; ".join(map(ceilings_text, all_receipts)) + "."]
    lines += ["", f"| of the rates above | {' | '.join(names)} | must / goal |", f"|---|{'---:|' * len(names)}---|"]
    for name, above, below, must, goal in RATIOS:
        quotients = [f"{rows[above].rate / rows[below].rate:.2f}" if above in rows else "-" for _, rows in all_receipts]
        lines.append(f"| {name} | {' | '.join(quotients)} | {must}{f' / {goal}' if goal else ''} |")
    return "\n".join(lines)


def ceilings_text(receipt):
    """What two threads of a machine could do beside its rows."""
    content, rows = receipt
    texts = [rows[name].limit_text() for name in [SCREENED, "prefill 512"]]
    return f"{content['machine']} {' and '.join(texts)}"


def first_text(firsts):
    """The median, with what opening takes where a file was opened."""
    if not firsts:
        return "-"
    opened = [x for first in firsts for x in first["samples_open_s"]]
    prompt = statistics.median(x for first in firsts for x in first["samples_prompt_s"])
    total = 1000 * (prompt + (statistics.median(opened) if opened else 0))
    return f"{total:.0f} ms{'' if opened else ', opened before'}"


def write_tables(path):
    begin, end = "<!-- rows -->\n", "\n<!-- end of rows -->"
    before, rest = path.read_text().split(begin)
    path.write_text(before + begin + tables() + end + rest.split(end)[1])


def draw(path):
    """Multiply-adds a second over multiply-adds for each byte that is read, both axes logarithmic, with the ceilings of each machine."""
    left, top, width, height = 70, 30, 600, 340
    low_x, high_x, low_y, high_y = 1.5, 2e4, 20e9, 1.5e12
    scale = lambda value, low, high: math.log(value / low) / math.log(high / low)
    x = lambda value: left + width * scale(value, low_x, high_x)
    y = lambda value: top + height * (1 - scale(value, low_y, high_y))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 20} {top + height + 60}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{left}" y="18">BitNet b1.58 2B-4T shape, two threads: lines are what memory and integer units allow</text>',
        f'<text x="{left + width / 2}" y="{top + height + 45}" text-anchor="middle">multiply-adds of ternary layers for each byte read</text>',
        f'<text x="16" y="{top + height / 2}" transform="rotate(-90 16 {top + height / 2})" text-anchor="middle">G multiply-adds a second</text>',
    ]
    for value in [2, 10, 100, 1000, 10000]:
        parts.append(f'<text x="{x(value):.1f}" y="{top + height + 20}" text-anchor="middle">{value}</text>')
        parts.append(f'<line x1="{x(value):.1f}" y1="{top}" x2="{x(value):.1f}" y2="{top + height}" stroke="#ddd"/>')
    for value in [20, 50, 100, 200, 500, 1000]:
        parts.append(f'<text x="{left - 8}" y="{y(value * 1e9) + 4:.1f}" text-anchor="end">{value}</text>')
        parts.append(f'<line x1="{left}" y1="{y(value * 1e9):.1f}" x2="{left + width}" y2="{y(value * 1e9):.1f}" stroke="#ddd"/>')
    labels = {}
    for (content, rows), color in zip(receipts(), ["#0b62a4", "#c0392b", "#2e7d32", "#7b3fa0"], strict=False):
        products = rows["prefill 512"].work
        two = {name: row for name, row in rows.items() if "1 thread" not in name and "AVX2" not in name}
        memory, peak = rows[SCREENED].limit, rows["prefill 512"].limit
        line = [(low_x, memory * low_x), (peak / memory, peak), (high_x, peak)]
        points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in line)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts.append(f'<text x="{left + width - 6}" y="{y(peak) - 6:.1f}" text-anchor="end" fill="{color}">{content["machine"]}</text>')
        bytes_of_weights = rows[SCREENED].work
        for name, row in two.items():
            tokens = {"prefill 16": 16, "prefill 512": 512}.get(name)
            read = bytes_of_weights / tokens if tokens else row.work
            at, rate = products / read, row.rate * products
            label = {"prefill 512": "512 tokens", "prefill 16": "16 tokens", "decode, 8 sequences": "8 sequences"}.get(name)
            if label:
                labels.setdefault(label, []).append((at, rate))
            title = f"{content['machine']}, {name}: {row.rate:.1f} tok/s, {row.share_text()}"
            parts.append(f'<circle cx="{x(at):.1f}" cy="{y(rate):.1f}" r="4" fill="{color}"><title>{title}</title></circle>')
    for label, points in labels.items():
        at, below = statistics.mean(at for at, _ in points), min(rate for _, rate in points)
        parts.append(f'<text x="{x(at):.1f}" y="{y(below) + 20:.1f}" text-anchor="middle">{label}</text>')
    path.write_text("\n".join([*parts, "</svg>"]) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", nargs="?")
    parser.add_argument("--machine", default="machine")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", help="a file of the shape with a tokenizer, for the time to the first token")
    parser.add_argument("--draw", action="store_true")
    args = parser.parse_args()
    if args.draw:
        write_tables(DOCS / "performance.md")
        draw(DOCS / "performance.svg")
    elif args.program:
        measure(args.program, args.machine, args.rounds, args.model)
    else:
        parser.error("expected the program, or --draw")


main()
