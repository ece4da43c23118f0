#!/usr/bin/env python3
"""Uses `mblm serve` as other programs do: OpenAI's Python client, and a browser that opens the page.

    tests/serve_clients.py PROGRAM

PROGRAM is mblm. It first trains a small model for one step. The test of OpenAI's client requires a Python with the package `openai`: the
Python that runs this script, or the one that MBLM_OPENAI_PYTHON names. The test of the page requires chromedriver and
Chromium; MBLM_SCREENSHOT=FILE.png keeps a picture of the page. A test without its requirements is skipped. The last line is
`N passed, N failed, N skipped`.
"""
import base64
import contextlib
import importlib.util
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request

PATIENCE = 60  # seconds
PROMPT = "In the beginning"
# A context of 32 bytes, which a continuation may exceed.
CONFIG = """
params:
  input_seq_len: 32
  num_tokens: 256
  pad_token_id: 0
  hidden_dims: [16, 16]
  seq_lens: [8, 4]
  num_layers: [1, 1]
  train_checkpoint_chunks: null
  block:
    - {d_state: 8, d_conv: 4, expand: 2, headdim: 8, pos_emb_type: null}
    - {attn_head_dims: 8, attn_num_heads: 2, attn_use_rot_embs: true, pos_emb_type: fixed}
train: {target_elements_strategy: batch, learning_rate: 1.0e-4, gradient_accumulate_every: 1, gradient_clipping: 1, target_elements: 1, batch_size: 1}
"""


class Skipped(Exception):
    pass


def write_model(program, folder):
    """Trains a model for one step and returns the run's folder."""
    text = pathlib.Path(folder, "text")
    text.write_bytes(b"the ships went out, and the sea was calm.\n" * 500)
    pathlib.Path(folder, "config.yaml").write_text(
        CONFIG + f"io: {{name_model: run, output_dir: {folder}, dataset_dir: {text}, dataset_id: files, num_models_to_save: 1, validate_amount: 1, log_train_loss_amount: 1, run_id: '1'}}\n")
    done = subprocess.run([program, "train", f"{folder}/config.yaml", "train.save_state_every=0"], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@contextlib.contextmanager
def served(program, model, *options):
    process = subprocess.Popen([program, "serve", model, "--port", "0", *options], stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 143


def openai_client(address):
    import openai
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=PATIENCE)
    model = client.models.list().data[0].id
    arguments = {"model": model, "prompt": PROMPT, "max_tokens": 40, "temperature": 0.8, "seed": 7}
    whole = client.completions.create(**arguments)
    assert whole.choices[0].finish_reason == "length", whole
    assert whole.usage.completion_tokens == 40 and whole.usage.prompt_tokens == len(PROMPT), whole.usage
    assert client.completions.create(**arguments).choices[0].text == whole.choices[0].text
    parts = list(client.completions.create(**arguments, stream=True, stream_options={"include_usage": True}))
    assert "".join(choice.text for part in parts for choice in part.choices) == whole.choices[0].text
    assert parts[-1].usage == whole.usage, parts[-1]
    scored = client.completions.create(**arguments, logprobs=3, echo=True).choices[0]
    assert scored.text == PROMPT + whole.choices[0].text
    assert len(scored.logprobs.tokens) == len(PROMPT) + 40 and all(value <= 0 for value in scored.logprobs.token_logprobs)
    stop = next(c for c in whole.choices[0].text if ord(c) < 128)
    stopped = client.completions.create(**arguments, stop=[stop]).choices[0]
    assert stopped.finish_reason == "stop" and stopped.text == whole.choices[0].text.split(stop)[0], stopped
    two = client.completions.create(**{**arguments, "prompt": ["a", "b"]}, n=2, extra_body={"top_k": 5, "min_p": 0.01})
    assert [choice.index for choice in two.choices] == [0, 1, 2, 3]
    for wrong, error in (({"temperature": -1}, openai.BadRequestError), ({"model": "none"}, openai.NotFoundError)):
        try:
            client.completions.create(**{**arguments, **wrong})
        except error as refused:
            assert next(iter(wrong)) in str(refused), refused
        else:
            raise AssertionError(f"{wrong} was accepted")


def test_openai(program, model):
    if importlib.util.find_spec("openai") is None:
        python = os.environ.get("MBLM_OPENAI_PYTHON")
        if not python:
            raise Skipped("no Python with the package openai; set MBLM_OPENAI_PYTHON=/path/to/python")
        with served(program, model) as address:
            subprocess.run([python, __file__, "--openai", address], check=True)
        return
    with served(program, model) as address:
        openai_client(address)


class Browser:
    """A session of WebDriver."""

    def __init__(self, port, chromium):
        self.address = f"http://127.0.0.1:{port}"
        options = {"binary": chromium, "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1000,900"]}
        capabilities = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}
        self.session = self.call("POST", "/session", {"capabilities": capabilities})["sessionId"]

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)["value"]

    def command(self, method, path, body=None):
        return self.call(method, f"/session/{self.session}{path}", body)

    def run(self, script):
        return self.command("POST", "/execute/sync", {"script": script, "args": []})

    def element(self, selector):
        return next(iter(self.command("POST", "/element", {"using": "css selector", "value": selector}).values()))

    def type(self, selector, text):
        self.command("POST", f"/element/{self.element(selector)}/value", {"text": text})

    def click(self, selector):
        self.command("POST", f"/element/{self.element(selector)}/click", {})

    def wait(self, script):
        end = time.monotonic() + PATIENCE
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"{script} did not become true; page: {self.run('return document.body.innerText')}"
            time.sleep(0.05)
        return value

    def screenshot(self):
        return base64.b64decode(self.command("GET", "/screenshot"))

    def problems(self):
        return [entry["message"] for entry in self.command("POST", "/se/log", {"type": "browser"})]


@contextlib.contextmanager
def browser():
    driver = shutil.which("chromedriver")
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
    if not driver or not chromium:
        raise Skipped("no chromedriver and Chromium")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    page = None
    try:
        end = time.monotonic() + PATIENCE
        while page is None:
            try:
                page = Browser(port, chromium)
            except urllib.error.URLError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
        yield page
    finally:
        with contextlib.suppress(Exception):
            page.command("DELETE", "")
        process.terminate()
        process.wait()


def completion(address, **fields):
    request = urllib.request.Request(f"{address}/v1/completions", json.dumps(fields).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)


def test_page(program, model):
    with browser() as page, served(program, model, "--max-tokens", "100000") as address:
        page.command("POST", "/url", {"url": address})
        page.wait("return document.querySelector('#model').textContent.includes('context of')")
        assert page.run("return document.querySelector('#key').offsetParent === null"), "the field of the key is shown"
        page.type("#prompt", PROMPT)
        page.run("max_tokens.value = 300; seed.value = 5")
        page.click("#go")
        page.wait("return document.querySelector('#status').textContent.endsWith('done')")
        expected = completion(address, prompt=PROMPT, max_tokens=300, seed=5, temperature=0.8)["choices"][0]["text"]
        shown = page.run("return document.querySelector('#output').textContent")
        assert shown == PROMPT + expected, (shown, expected)
        if os.environ.get("MBLM_SCREENSHOT"):
            pathlib.Path(os.environ["MBLM_SCREENSHOT"]).write_bytes(page.screenshot())

        # A stream is shown while it grows, and ends by the button.
        page.run("max_tokens.value = 100000")
        page.click("#go")
        length = page.wait(f"const n = document.querySelector('#output').textContent.length; return n > {len(PROMPT)} + 20 && n")
        page.wait(f"return document.querySelector('#output').textContent.length > {length}")
        page.click("#stop")
        page.wait("return document.querySelector('#status').textContent.endsWith('stopped') && !document.querySelector('#go').disabled")

        page.run("max_tokens.value = 200000; document.querySelector('#form').noValidate = true")
        page.click("#go")
        page.wait("return document.querySelector('#error').textContent.includes('max_tokens')")
        problems = [text for text in page.problems() if "400 (Bad Request)" not in text]
        assert not problems, problems


def test_key_on_page(program, model):
    with tempfile.TemporaryDirectory() as folder, browser() as page:
        key = pathlib.Path(folder, "key")
        key.write_text("secret\n")
        with served(program, model, "--api-key-file", str(key)) as address:
            page.command("POST", "/url", {"url": address})
            page.wait("return document.querySelector('#key').offsetParent !== null")
            page.type("#key", "secret\ue004")
            page.wait("return document.querySelector('#model').textContent.includes('context of')")
            page.type("#prompt", PROMPT)
            page.click("#go")
            page.wait("return document.querySelector('#status').textContent.endsWith('done')")


def main(program):
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(program, folder)
        for test in (test_openai, test_page, test_key_on_page):
            try:
                test(program, model)
                counts["passed"] += 1
            except Skipped as reason:
                print(f"{test.__name__} skipped: {reason}")
                counts["skipped"] += 1
            except Exception:
                print(f"{test.__name__} failed:\n{traceback.format_exc()}")
                counts["failed"] += 1
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**counts))
    return 1 if counts["failed"] else 0 if counts["passed"] else 77


if __name__ == "__main__":
    if sys.argv[1] == "--openai":
        openai_client(sys.argv[2])
    else:
        sys.exit(main(sys.argv[1]))
