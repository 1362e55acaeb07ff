"""Losses of distillation and their gradients with PyTorch in float64.

    python make_distillation.py

`kl`: Kullback-Leibler divergence of rows of logits at a temperature. `relations`: those of MiniLMv2 (arXiv:2012.15828) between the states of
two models of other widths and head counts: the states of all heads side by side, cut into relation heads, `softmax(A A^T / sqrt(d))`, the mean
divergence over heads and positions, summed over queries, keys and values. The sequences have several lengths.
"""
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

torch.manual_seed(1510)
out = {}

TEMPERATURE = 5.0
logits = (torch.randn(9, 37) * 4).float()
teacher = (torch.randn(9, 37) * 4).float()
dloss = torch.randn(9).float()
out |= {"kl.logits": logits.clone(), "kl.teacher": teacher.clone(), "kl.dloss": dloss.clone()}
x = logits.double().requires_grad_()
losses = F.kl_div((x / TEMPERATURE).log_softmax(-1), (teacher.double() / TEMPERATURE).softmax(-1), reduction="none").sum(-1)
losses.backward(dloss.double())
out |= {"kl.losses.f64": losses.detach(), "kl.dlogits.f64": x.grad}

LENS, RELATION_HEADS = [5, 1, 6], 4
SHAPES = {"student": {"q": (8, 6), "k": (4, 6), "v": (4, 6)}, "teacher": {"q": (4, 20), "k": (4, 20), "v": (4, 20)}}


def relations(states, heads):
    """Of one sequence `[T, n, D]`: log probabilities `[heads, T, T]`."""
    split = states.flatten(1).unflatten(1, (heads, -1)).transpose(0, 1)
    return (split @ split.transpose(1, 2) / split.shape[-1] ** 0.5).log_softmax(-1)


states = {}
for who, kinds in SHAPES.items():
    for kind, (heads, width) in kinds.items():
        x = torch.randn(sum(LENS), heads, width).float()
        out[f"relations.{who}.{kind}"] = x.clone()
        states[who, kind] = x.double().requires_grad_(who == "student")
total = 0
for kind in "qkv":
    student, teacher = (torch.split(states[who, kind], LENS) for who in ("student", "teacher"))
    for s, t in zip(student, teacher):
        s, t = relations(s, RELATION_HEADS), relations(t, RELATION_HEADS)
        total = total + (t.exp() * (t - s)).sum()
total = total / (RELATION_HEADS * sum(LENS))
total.backward()
out["relations.loss.f64"] = total.detach().reshape(1)
for kind in "qkv":
    out[f"relations.d{kind}.f64"] = states["student", kind].grad
save_file({name: x.contiguous() for name, x in out.items()}, Path(__file__).with_name("distillation.safetensors"))
