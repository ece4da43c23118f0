#!/usr/bin/env python3
"""Measures `mblm serve`: bytes per second of many clients and of one, in alternating rounds, and its memory over many requests.

python bench/serve.py build/tools/mblm bench/models/cpu_2d_tt.yaml --clients 50 --bytes 500 --rounds 3 --requests 10000

The model has the random weights of the first step of training.
"""

import argparse
import concurrent.futures
import hashlib
import http.client
import json
import math
import random
import re
import statistics
import subprocess
import tempfile
import time


def write_config(path, model, folder):
    lengths = next(line for line in model.splitlines() if line.startswith("seq_lens:"))
    context = math.prod(json.loads(lengths.removeprefix("seq_lens:")))
    params = "".join(f"  {line}\n" for line in model.splitlines())
    path.write(f"params:\n  input_seq_len: {context}\n{params}"
               "train: {target_elements_strategy: batch, learning_rate: 1.0e-4, gradient_accumulate_every: 1, gradient_clipping: 1, target_elements: 1, batch_size: 1}\n"
               f"io: {{name_model: run, output_dir: {folder}, dataset_dir: {folder}/text, dataset_id: files, num_models_to_save: 1, validate_amount: 1, log_train_loss_amount: 1, run_id: '1'}}\n")


class Client:
    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)

    def complete(self, **fields):
        """Returns the base64 of the continuation and its length in bytes."""
        self.connection.request("POST", "/v1/completions", json.dumps(fields), {"Content-Type": "application/json"})
        answer = self.connection.getresponse()
        body = answer.read().decode()
        if answer.status != 200:
            raise SystemExit(f"serve: status {answer.status}: {body}")
        if not fields.get("stream"):
            whole = json.loads(body)
            return whole["choices"][0]["text_base64"], whole["usage"]["completion_tokens"]
        parts = [json.loads(event.removeprefix("data: ")) for event in body.split("\n\n") if event.startswith("data: {")]
        return "".join(choice["text_base64"] for part in parts for choice in part["choices"]), parts[-1]["usage"]["completion_tokens"]

    def number(self, name):
        self.connection.request("GET", "/metrics")
        text = self.connection.getresponse().read().decode()
        return float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE)[1])


def bytes_per_second(port, clients, count, stream, digests):
    """Each client asks for one continuation. Its text must be the same in every round."""
    def one(seed):
        fields = {"prompt": f"Client {seed} says: ", "max_tokens": count, "temperature": 0.9, "seed": seed, "stream": stream, "stream_options": {"include_usage": True}}
        return seed, Client(port).complete(**fields)

    start = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        results = list(pool.map(one, range(clients)))
    seconds = time.perf_counter() - start
    for seed, (text, _) in results:
        digest = hashlib.sha256(text.encode()).hexdigest()
        if not stream and digests.setdefault(seed, digest) != digest:
            raise SystemExit(f"serve: client {seed} got other bytes than before")
    return sum(length for _, (_, length) in results) / seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--bytes", type=int, default=500, help="bytes that each client asks for")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=10_000, help="requests one after another, for the memory")
    parser.add_argument("--threads", help="threads of the server")
    o = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/text", "wb") as text:
            text.write(random.Random(0).randbytes(100_000))
        with open(f"{folder}/config.yaml", "w") as config, open(o.model) as model:
            write_config(config, model.read(), folder)
        run = subprocess.run([o.program, "train", f"{folder}/config.yaml", "train.save_state_every=0"], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.strip()
        arguments = [o.program, "serve", run, "--port", "0", *(["--threads", o.threads] if o.threads else [])]
        server = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        try:
            port = int(server.stdout.readline().rsplit(":", 1)[1])
            rates, digests = {}, {}
            for _ in range(o.rounds):
                for stream in (False, True):
                    for clients in (1, o.clients):
                        rates.setdefault((stream, clients), []).append(bytes_per_second(port, clients, o.bytes, stream, digests))
            medians = {key: statistics.median(values) for key, values in rates.items()}
            for stream in (False, True):
                print(json.dumps({"stream": stream, "one": round(medians[stream, 1]), str(o.clients): round(medians[stream, o.clients]),
                                  "ratio": round(medians[stream, o.clients] / medians[stream, 1], 2), "all": {n: [round(r) for r in rates[stream, n]] for n in (1, o.clients)}}), flush=True)
            client = Client(port)
            memory = []
            start = time.perf_counter()
            for i in range(o.requests):
                if i % max(1, o.requests // 10) == 0:
                    memory.append(round(client.number("process_resident_memory_bytes") / 2**20, 1))
                client.complete(prompt="a" * (i % 100), max_tokens=4, seed=i)
            memory.append(round(client.number("process_resident_memory_bytes") / 2**20, 1))
            print(json.dumps({"requests": o.requests, "seconds": round(time.perf_counter() - start, 1), "resident_mib": memory}))
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
