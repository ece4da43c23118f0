#!/usr/bin/env python3
"""Compares training on W workers of mpirun with one process of W threads and the same global batch, in alternating runs.

python bench/workers.py build/tools/mblm bench/models/cpu_2d_tt.yaml --workers 2 --batch 4 --steps 12 --rounds 5
"""

import argparse
import csv
import datetime
import json
import math
import os
import random
import statistics
import subprocess
import tempfile

MPIRUN = ["mpirun", "--bind-to", "none", "-n"]
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def write_config(path, model, folder):
    lengths = next(line for line in model.splitlines() if line.startswith("seq_lens:"))
    context = math.prod(json.loads(lengths.removeprefix("seq_lens:")))
    params = "".join(f"  {line}\n" for line in model.splitlines())
    path.write(f"params:\n  input_seq_len: {context}\n{params}"
               "train: {target_elements_strategy: batch, learning_rate: 1.0e-4, gradient_accumulate_every: 1, gradient_clipping: 1, target_elements: 1, batch_size: 1}\n"
               f"io: {{name_model: run, output_dir: {folder}, dataset_dir: {folder}/text, dataset_id: files, num_models_to_save: 1, validate_amount: 0, log_train_loss_amount: 1}}\n")


def seconds_per_step(command, folder, name, steps):
    """Returns the mean time between the first row of loss.csv (after the forward pass of the first step) and the last."""
    fields = [f"io.run_id={name}", f"io.log_train_loss_amount={steps}", "train.save_state_every=0"]
    subprocess.run([*command, *fields], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **AS_ROOT})
    with open(f"{folder}/run_{name}/loss.csv") as file:
        times = [datetime.datetime.fromisoformat(row["timestamp"]) for row in csv.DictReader(file) if row["kind"] == "train"]
    return (times[-1] - times[0]).total_seconds() / (steps - 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4, help="batch size of all workers together")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    o = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/text", "wb") as text:
            text.write(random.Random(0).randbytes(4_000_000))
        with open(f"{folder}/config.yaml", "w") as config, open(o.model) as model:
            write_config(config, model.read(), folder)
        train = [o.program, "train", f"{folder}/config.yaml", f"train.target_elements={o.batch * o.steps}"]
        one = [*train, f"train.batch_size={o.batch}", "--threads", str(o.workers)]
        many = [*MPIRUN, str(o.workers), *train, f"train.batch_size={o.batch // o.workers}", "--threads", "1"]
        times = {"one": [], "workers": []}
        for i in range(o.rounds):
            for name, command in (("one", one), ("workers", many)):
                times[name].append(seconds_per_step(command, folder, f"{name}{i}", o.steps))
        medians = {name: statistics.median(all_times) for name, all_times in times.items()}
        print(json.dumps({"one_ms": [round(1e3 * t) for t in times["one"]], "workers_ms": [round(1e3 * t) for t in times["workers"]],
                          "one_over_workers": round(medians["one"] / medians["workers"], 3)}))


if __name__ == "__main__":
    main()
