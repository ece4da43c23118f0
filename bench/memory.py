#!/usr/bin/env python3
"""Measures the peak memory of a training run for each given size of the training file.

python bench/memory.py build/tools/mblm configs/quickstart.yaml [FIELD=VALUE ...] --bytes 2000000 2000000000
"""

import argparse
import json
import os
import subprocess
import tempfile

BLOCK = b"the quick brown fox jumps over the lazy dog\n" * 25_000


def write_text(path, size):
    with open(path, "wb") as file:
        while size > 0:
            size -= file.write(BLOCK[:size])


def peak_mib(command):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"memory: {command} exited with status {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("config")
    parser.add_argument("fields", nargs="*", metavar="FIELD=VALUE")
    parser.add_argument("--bytes", type=int, nargs="+", default=[2_000_000, 2_000_000_000])
    options = parser.parse_intermixed_args()
    for size in options.bytes:
        with tempfile.TemporaryDirectory() as folder:
            text = os.path.join(folder, "text")
            write_text(text, size)
            fields = [f"io.dataset_dir={text}", f"io.output_dir={folder}/runs", "train.max_eval_steps=4", *options.fields]
            print(json.dumps({"bytes": size, "peak_mib": round(peak_mib([options.program, "train", options.config, *fields]), 1)}), flush=True)


if __name__ == "__main__":
    main()
