#!/usr/bin/env python3
"""Times one optimizer step of this project and of the Python package on the same model.

    python bench/compare.py --program build/bench/step_bench MODEL.yaml ... [--batch 4] [--rounds 3] [--threads N]

Requires a Python with the package (pip install torch mblm). The two run alternately, each in its own process. For each model,
prints the median of all steps of each side and the ratio. Both compute in float32 on random bytes: forward, loss, backward,
clipping, Adam. Without mamba-ssm, the package uses Mamba-1 for blocks with Mamba fields.
"""
import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time


def package_step(path, batch, repeats, threads):
    """Times the package, in a separate process. Prints one JSON line."""
    import warnings
    warnings.filterwarnings("ignore")
    import torch
    import yaml
    from mblm import MBLM, MBLMModelConfig, MBLMReturnType
    torch.set_num_threads(threads)
    fields = yaml.safe_load(open(path))
    fields = fields.get("params", fields)
    net = MBLM(MBLMModelConfig.model_validate({k: v for k, v in fields.items() if k in MBLMModelConfig.model_fields})).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, betas=(0.9, 0.95))
    ids = torch.randint(1, 255, (batch, math.prod(fields["seq_lens"])))
    times = []
    for i in range(repeats + 1):
        start = time.perf_counter()
        net(ids, return_type=MBLMReturnType.LOSS).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if i > 0:
            times.append((time.perf_counter() - start) * 1e3)
    print(json.dumps({"ms": times, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def run(command):
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--program")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--package-step", action="store_true", help=argparse.SUPPRESS)
    o = parser.parse_args()
    if o.package_step:
        return package_step(o.models[0], o.batch, o.repeats, o.threads)
    numbers = ["--batch", str(o.batch), "--threads", str(o.threads), "--repeats", str(o.repeats)]
    for model in o.models:
        ours, theirs, peaks = [], [], []
        for _ in range(o.rounds):
            a = run([o.program, model, *numbers])
            b = run([sys.executable, __file__, "--package-step", model, *numbers])
            ours += a["ms"]
            theirs += b["ms"]
            peaks.append((a["peak_mib"], b["peak_mib"]))
        m, p = statistics.median(ours), statistics.median(theirs)
        print(f"{os.path.basename(model)}: ours {m:.0f} ms ({min(ours):.0f} to {max(ours):.0f}), package {p:.0f} ms ({min(theirs):.0f} to {max(theirs):.0f}), "
              f"package / ours {p / m:.2f}; peak {peaks[-1][0]:.0f} and {peaks[-1][1]:.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
