"""Tokens a second of the model of a configuration in PyTorch on the CPU: same shapes, same rounding, same batch, AdamW and clipping.

    python docs/pytorch_speed.py configs/shakespeare-char.toml --threads 2 [--compile] [--steps 20]

Prints the median. Beside it: `bitnet train` with the same configuration, whose log.jsonl has tokens and seconds of every step.
"""
import argparse
import statistics
import time
import tomllib

import torch
import torch.nn as nn
import torch.nn.functional as F


def ternary(w):
    scale = 1.0 / w.abs().mean().clamp(min=1e-5)
    return w + ((w * scale).round().clamp(-1, 1) / scale - w).detach()


def int8(x):
    scale = 127.0 / x.abs().amax(-1, keepdim=True).clamp(min=1e-5)
    return x + ((x * scale).round().clamp(-128, 127) / scale - x).detach()


class Linear(nn.Linear):
    def __init__(self, cols, rows, rounded):
        super().__init__(cols, rows, bias=False)
        self.rounded = rounded

    def forward(self, x):
        return F.linear(int8(x), ternary(self.weight)) if self.rounded else F.linear(x, self.weight)


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Layer(nn.Module):
    def __init__(self, m, rounded):
        super().__init__()
        c, f, h = m["hidden_size"], m["intermediate_size"], m["num_attention_heads"]
        k = m.get("num_key_value_heads", h)
        self.h, self.k, self.d = h, k, m.get("head_dim", c // h)
        self.norm1, self.norm2 = nn.RMSNorm(c, 1e-5), nn.RMSNorm(c, 1e-5)
        self.q, self.o = Linear(c, h * self.d, rounded), Linear(h * self.d, c, rounded)
        self.key, self.v = Linear(c, k * self.d, rounded), Linear(c, k * self.d, rounded)
        self.gate, self.up, self.down = Linear(c, f, rounded), Linear(c, f, rounded), Linear(f, c, rounded)
        subs = m.get("sub_norms", True)
        self.sub1 = nn.RMSNorm(h * self.d, 1e-5) if subs else nn.Identity()
        self.sub2 = nn.RMSNorm(f, 1e-5) if subs else nn.Identity()
        self.silu = m.get("activation", "relu2") == "silu"

    def forward(self, x, cos, sin):
        b, t, c = x.shape
        y = self.norm1(x)
        q = rotate(self.q(y).view(b, t, self.h, self.d).transpose(1, 2), cos, sin)
        k = rotate(self.key(y).view(b, t, self.k, self.d).transpose(1, 2), cos, sin)
        v = self.v(y).view(b, t, self.k, self.d).transpose(1, 2)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.h != self.k)
        x = x + self.o(self.sub1(y.transpose(1, 2).reshape(b, t, -1)))
        y = self.norm2(x)
        gate = self.gate(y)
        gate = F.silu(gate) if self.silu else F.relu(gate).square()
        return x + self.down(self.sub2(gate * self.up(y)))


class Model(nn.Module):
    def __init__(self, m, vocab, context, rounded):
        super().__init__()
        self.embed = nn.Embedding(vocab, m["hidden_size"])
        self.layers = nn.ModuleList(Layer(m, rounded) for _ in range(m["num_hidden_layers"]))
        self.norm = nn.RMSNorm(m["hidden_size"], 1e-5)
        d = self.layers[0].d
        angles = torch.outer(torch.arange(context).float(), 1e4 ** (-torch.arange(0, d, 2).float() / d))
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())
        nn.init.normal_(self.embed.weight, std=0.02)

    def forward(self, ids, targets):
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        logits = F.linear(self.norm(x), self.embed.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def main():
    args = argparse.ArgumentParser()
    args.add_argument("config")
    args.add_argument("--threads", type=int, default=2)
    args.add_argument("--steps", type=int, default=20)
    args.add_argument("--vocab", type=int, default=65)
    args.add_argument("--compile", action="store_true")
    args = args.parse_args()
    with open(args.config, "rb") as file:
        config = tomllib.load(file)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    rounded = config.get("quantization", {}).get("weights", "tensor") != "off"
    t, context = config["training"], config["data"]["context"]
    model = Model(config["model"], args.vocab, context, rounded)
    step_model = torch.compile(model) if args.compile else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1)
    # One pass with all windows of a step: PyTorch is fastest so.
    batch = t["batch"] * t.get("accumulation", 1)
    seconds = []
    for _ in range(args.steps + 3):
        ids = torch.randint(0, args.vocab, (batch, context + 1))
        begin = time.perf_counter()
        loss = step_model(ids[:, :-1], ids[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        seconds.append(time.perf_counter() - begin)
    seconds = seconds[3:]
    tokens = batch * context
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {tokens} tokens a step, {args.threads} threads, "
          f"{'compiled' if args.compile else 'eager'}: {tokens / statistics.median(seconds):.0f} tok/s (median), "
          f"{tokens / min(seconds):.0f} (best)")


if __name__ == "__main__":
    main()
