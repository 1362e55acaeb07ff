"""Ten steps of AdamW on a small BitNetForCausalLM of transformers, whose weights and activations are rounded online, in float64.

The seed is the first at which nothing that is rounded, in any step, comes nearer to a boundary of its code than `MARGIN` times the error of the
same run in float32. An implementation in float32 then has the same codes everywhere, and its losses compare closely.

    python make_ten_losses.py
"""
import itertools
import json
import os
import tempfile
from pathlib import Path

os.environ["TORCHDYNAMO_DISABLE"] = "1"  # what is decorated with torch.compile must not fuse arithmetic

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from transformers import AutoModelForCausalLM, BitNetConfig, BitNetForCausalLM  # noqa: E402
from transformers.integrations import bitnet  # noqa: E402
from transformers.utils import logging  # noqa: E402

STEPS, BATCH, LENGTH, IGNORED, CLIP, MARGIN = 10, 2, 6, -100, 1.0, 4.0
MODEL = {
    "vocab_size": 48, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "relu2",
    "attention_bias": False, "tie_word_embeddings": True, "initializer_range": 0.1, "bos_token_id": 0, "eos_token_id": 1,
}
CONFIG = {
    "architectures": ["BitNetForCausalLM"], "model_type": "bitnet", "torch_dtype": "float32", **MODEL,
    "quantization_config": {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "online"},
}
ADAMW = {"betas": (0.9, 0.95), "eps": 1e-8}
SCHEDULE = {"kind": "two_stage", "warmup": 3, "peak1": 5e-3, "end1": 3e-3, "peak2": 1.5e-3, "end2": 0.0, "switch": 6,
            "weight_decay1": 0.1, "weight_decay2": 0.0}


def rates(step):
    """Learning rate and weight decay of a step, counted from 0: a warm-up, then a straight line in each stage."""
    s = SCHEDULE
    if step < s["warmup"]:
        return s["peak1"] * step / s["warmup"], s["weight_decay1"]
    if step < s["switch"]:
        return s["peak1"] + (s["end1"] - s["peak1"]) * (step - s["warmup"]) / (s["switch"] - s["warmup"]), s["weight_decay1"]
    return s["peak2"] + (s["end2"] - s["peak2"]) * (step - s["switch"]) / (STEPS - s["switch"]), s["weight_decay2"]


def quantizer(scale_of, low, high, rounded):
    """Rounds as transformers does, but in the element type of its operand; appends what it rounds to `rounded`."""
    class Quantizer(torch.autograd.Function):
        @staticmethod
        def forward(_, x):
            scale = scale_of(x)
            rounded.append((x * scale).double().clamp(low, high))
            return (x * scale).round().clamp(low, high) / scale

        @staticmethod
        def backward(_, dy):
            return dy
    return Quantizer


def in_float64(model):
    """Makes the norms and the rotary tables, which transformers computes in float32, follow the weights."""
    def norm(module):
        return lambda x: module.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + module.variance_epsilon))
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = norm(module)
    dim = MODEL["hidden_size"] // MODEL["num_attention_heads"]
    frequencies = MODEL["rope_theta"] ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)

    def tables(_, position_ids):
        angles = (position_ids[..., None].double() * frequencies).repeat(1, 1, 2)
        return angles.cos(), angles.sin()
    model.model.rotary_emb.forward = tables


def train(folder, ids, labels, dtype):
    """Losses, and norms of the gradients before clipping."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").to(dtype).train()
    if dtype == torch.float64:
        in_float64(model)
    groups = [{"params": [p for p in model.parameters() if (p.ndim == 2) == matrix]} for matrix in (True, False)]
    optimizer, losses, norms = torch.optim.AdamW(groups, foreach=False, **ADAMW), [], []
    for step in range(STEPS):
        lr, weight_decay = rates(step)
        for group, decay in zip(optimizer.param_groups, (weight_decay, 0.0)):
            group.update(lr=lr, weight_decay=decay)
        optimizer.zero_grad()
        logits = model(input_ids=ids[step]).logits
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[step][:, 1:].flatten(), ignore_index=IGNORED)
        loss.backward()
        losses.append(loss.item())
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP, foreach=False).item())
        optimizer.step()
    return torch.tensor(losses, dtype=torch.float64), torch.tensor(norms, dtype=torch.float64)


def recorded(*run):
    """As `train`, with everything that was rounded."""
    kept, rounded = (bitnet.WeightQuant, bitnet.ActQuant), []
    bitnet.WeightQuant = quantizer(lambda w: 1 / w.abs().mean().clamp(min=1e-5), -1, 1, rounded)
    bitnet.ActQuant = quantizer(lambda x: 127 / x.abs().amax(-1, keepdim=True).clamp(min=1e-5), -128, 127, rounded)
    try:
        return *train(*run), rounded
    finally:
        bitnet.WeightQuant, bitnet.ActQuant = kept


def initial(generator, seed):
    """Weights of a model that was not trained, with norms that are not all one."""
    torch.manual_seed(seed)
    state = BitNetForCausalLM(BitNetConfig(**MODEL)).state_dict()
    state = {name: w.detach().clone() for name, w in state.items() if name != "lm_head.weight"}
    return {name: w if w.ndim == 2 else 1 + 0.1 * torch.randn(w.shape, generator=generator) for name, w in state.items()}


def clearance(rounded, exact):
    """The least distance of what is rounded from a boundary of its code, by the largest error of float32 in the same row."""
    def one(f32, f64):
        distance, error = 0.5 - (f64 - f64.round()).abs(), (f32 - f64).abs()
        return (distance.amin(-1) / error.amax(-1).clamp(min=1e-12)).min().item()
    return min(one(f32, f64) for f32, f64 in zip(rounded, exact, strict=True))


def attempt(seed):
    """The tensors of a seed, and what was measured of them."""
    generator = torch.Generator().manual_seed(seed)
    state = initial(generator, seed)
    # Two batches in turn, so that there is something to learn.
    ids = torch.randint(0, MODEL["vocab_size"], (2, BATCH, LENGTH), generator=generator).repeat(STEPS // 2, 1, 1)
    labels = ids.clone()
    labels[:, 0, :3] = IGNORED
    with tempfile.TemporaryDirectory() as folder:
        save_file(state, f"{folder}/model.safetensors", metadata={"format": "pt"})
        Path(folder, "config.json").write_text(json.dumps(CONFIG))
        losses, norms, exact = recorded(folder, ids, labels, torch.float64)
        losses32, norms32, rounded = recorded(folder, ids, labels, torch.float32)
        untouched, _ = train(folder, ids, labels, torch.float32)
    assert torch.equal(untouched, losses32), "rounding in float32 is not that of transformers"
    tensors = {"input_ids": ids, "labels": labels, "loss.f64": losses, "grad_norm.f64": norms}
    measured = {"seed": seed, "clearance": clearance(rounded, exact),
                "float32_worst_relative_loss": ((losses32 - losses) / losses).abs().max().item(),
                "float32_worst_relative_grad_norm": ((norms32 - norms) / norms).abs().max().item()}
    return tensors | {f"init.{name}": w for name, w in state.items()}, measured


def main():
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    attempts = (attempt(seed) for seed in itertools.count())
    tensors, measured = next(made for made in attempts if made[1]["clearance"] >= MARGIN)
    out = Path(__file__).with_name("ten_losses.safetensors")
    save_file({name: x.contiguous() for name, x in tensors.items()}, out)
    optimizer = {**ADAMW, "clip_grad_norm": CLIP, "no_weight_decay_for": "1-D parameters (norms)"}
    described = {"config": CONFIG, "optimizer": optimizer, "schedule": SCHEDULE, "measured": measured}
    out.with_suffix(".json").write_text(json.dumps(described, indent=2) + "\n")


if __name__ == "__main__":
    main()
