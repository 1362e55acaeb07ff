"""Reads what `bitnet convert` writes with other people's readers: gguf-py, safetensors and transformers.

Compares every tensor with the source, and the logits of transformers with ours.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from transformers import AutoModelForCausalLM, AutoTokenizer

BITNET, ROOT = sys.argv[1], Path(__file__).resolve().parent.parent
SOURCES = ["bitnet-packed", "llama-packed"]


def bitnet(*args: str) -> str:
    done = subprocess.run([BITNET, *args], check=True, capture_output=True, text=True)
    return done.stdout


def check_gguf(source: Path, scratch: Path) -> None:
    for to in ["tq1_0", "tq2_0"]:
        out = scratch / f"{source.name}-{to}.gguf"
        bitnet("convert", str(source), str(out), "--to", to, "--embedding", "f16")
        reader = GGUFReader(out)
        report = json.loads(bitnet("inspect", str(out), "--json"))
        assert len(reader.tensors) == len(report["tensors"]), to
        ternary = {t["name"]: t for t in report["ternary"]}
        assert ternary, "no ternary matrices"
        by_name = {t.name: t for t in reader.tensors}
        for matrix in ternary.values():
            _, _, layer, block, projection = matrix["name"].split(".")
            names = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
                     "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}
            tensor = by_name[f"blk.{layer}.{names[projection]}.weight"]
            values = dequantize(tensor.data, tensor.tensor_type)
            assert list(values.shape) == matrix["shape"], matrix["name"]
            counts = [int((values < 0).sum()), int((values == 0).sum()), int((values > 0).sum())]
            assert counts == matrix["codes"], matrix["name"]
            assert abs(np.abs(values).max() - matrix["scale"]) <= 1e-6 * matrix["scale"], matrix["name"]
        print(f"gguf-py reads {out.name}: {len(reader.tensors)} tensors, {len(ternary)} of them ternary")


def check_folder(source: Path, scratch: Path) -> None:
    gguf, folder = scratch / f"{source.name}.gguf", scratch / source.name
    bitnet("convert", str(source), str(gguf), "--to", "i2_s")
    bitnet("convert", str(gguf), str(folder), "--to", "hf-packed")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    for tensor in [*model.parameters(), *model.buffers()]:
        # transformers leaves what a packed checkpoint stores as bfloat16 in that type.
        if tensor.dtype == torch.bfloat16:
            tensor.data = tensor.data.float()
    text = "I had called upon my friend"
    ids = tokenizer(text, return_tensors="pt").input_ids
    own = bitnet("tokenize", "-m", str(folder), text).split()
    assert ids[0].tolist() == list(map(int, own)), f"{source.name}: {ids[0].tolist()} and {own}"
    with torch.no_grad():
        theirs = model(ids).logits[0].numpy()
    out = scratch / "logits.npy"
    bitnet("logits", "-m", str(folder), "--ids", ",".join(map(str, ids[0].tolist())), "-o", str(out))
    ours = np.load(out)
    # The noise of a flipped activation code; a wrong tensor gives about 1.
    error = float(np.sqrt(((ours - theirs) ** 2).mean() / (theirs**2).mean()))
    assert error < 0.04, f"{source.name}: relative RMS {error}"
    assert (ours.argmax(-1) == theirs.argmax(-1)).all(), source.name
    print(f"transformers runs {source.name} after two conversions: relative RMS {error:.1e}")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in SOURCES:
            check_gguf(ROOT / "testdata" / name, Path(folder))
            check_folder(ROOT / "testdata" / name, Path(folder))


if __name__ == "__main__":
    main()
