#!/usr/bin/env python3
"""Times PyTorch on the operations of bench/gpu_shapes.cpp, under the same names: one JSON line each.

    python3 tools/gpu_shapes.py [--rounds 5]

Requires PyTorch with CUDA. Medians of rounds that submit several calls and wait once. Also times a decoder layer of the published
width, eager and compiled.
"""
import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F

BF16 = torch.bfloat16
rounds = 5


def seconds(calls, work):
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(calls):
        work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(name, work):
    try:
        for _ in range(3):
            work()
        calls = max(1, min(50, int(0.03 / seconds(1, work))))
        ms = [seconds(calls, work) / calls * 1e3 for _ in range(rounds)]
        result = {"ms": statistics.median(ms), "min_ms": min(ms), "max_ms": max(ms)}
    except Exception as error:  # report it, and go on with the other operations
        result = {"error": str(error).splitlines()[0]}
    print(json.dumps({"name": name} | result), flush=True)


def random(*shape, dtype=BF16):
    return torch.randn(*shape, device="cuda", dtype=dtype)


def products():
    shapes = [(8192, 8192, 8192, BF16), (4096, 4096, 4096, torch.float32)]
    shapes += [(*s, BF16) for s in ((32768, 3072, 1024), (32768, 4096, 1024), (32768, 1024, 4096), (49152, 4384, 1024), (49152, 1024, 2048), (49152, 256, 1024))]
    for m, n, k, dtype in shapes:
        a, b, dy = random(m, k, dtype=dtype), random(n, k, dtype=dtype), random(m, n, dtype=dtype)
        name = f"{str(dtype).removeprefix('torch.')} {m} x {n} x {k}"
        measure(f"product {name}", lambda: a @ b.T)
        measure(f"weight gradient {name}", lambda: dy.T @ a)


def attention():
    for b, t in ((4, 8192), (6, 1024), (6144, 8), (6144, 9), (1024, 64)):
        q, k, v = (random(b, 16, t, 64).requires_grad_() for _ in range(3))
        dy = random(b, 16, t, 64)
        name = f"{b} x 16 x {t} x 64"
        with torch.no_grad():
            measure(f"attention forward {name}", lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        measure(f"attention backward {name}", lambda: torch.autograd.grad(y, (q, k, v), dy, retain_graph=True))


def rows():
    x = random(49152, 1024, dtype=torch.float32).requires_grad_()
    w = torch.ones(1024, device="cuda", requires_grad=True)
    dy = random(49152, 1024)
    norm = torch.compile(lambda x: (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * w).bfloat16())
    with torch.no_grad():
        measure("rms norm forward 49152 x 1024", lambda: norm(x))
    measure("rms norm forward + backward 49152 x 1024", lambda: torch.autograd.grad(norm(x), (x, w), dy))
    logits = random(49152, 256, dtype=torch.float32).requires_grad_()
    targets = torch.randint(0, 256, (49152,), device="cuda")
    measure("cross-entropy forward + backward 49152 x 256", lambda: torch.autograd.grad(F.cross_entropy(logits, targets), logits))


def adam():
    p = torch.nn.Parameter(torch.randn(361 << 20, device="cuda"))
    p.grad = torch.randn_like(p)
    optimizer = torch.optim.Adam([p], fused=True)
    measure("adam 361 M", optimizer.step)
    measure("gradient norm 361 M", lambda: torch.linalg.vector_norm(p.grad))


class Layer(torch.nn.Module):
    """A pre-norm decoder layer: 1024 wide, 16 heads, GELU feed-forward."""

    def __init__(self):
        super().__init__()
        self.norms = torch.nn.ModuleList(torch.nn.RMSNorm(1024) for _ in range(2))
        self.qkv, self.out = torch.nn.Linear(1024, 3072, bias=False), torch.nn.Linear(1024, 1024, bias=False)
        self.up, self.down = torch.nn.Linear(1024, 4096), torch.nn.Linear(4096, 1024)

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = self.qkv(self.norms[0](x)).view(b, t, 3, 16, 64).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, 1024))
        return x + self.down(F.gelu(self.up(self.norms[1](x))))


def layer():
    net = Layer().cuda()
    for name, run in (("eager", net), ("compiled", torch.compile(net))):
        for b, t in ((4, 8192), (6144, 8)):
            x = random(b, t, 1024, dtype=torch.float32).requires_grad_()

            def step():
                with torch.autocast("cuda", dtype=BF16):
                    y = run(x)
                y.float().sum().backward()

            measure(f"decoder layer forward + backward {b} x {t}, {name}", step)


def main():
    global rounds
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    x = random(1 << 28, dtype=torch.float32)
    y = torch.empty_like(x)
    measure("copy", lambda: y.copy_(x))
    del x, y
    for part in (products, attention, rows, adam, layer):
        part()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
