#!/usr/bin/env python3
"""Trains a small run with io.tensorboard, stops and resumes it, and reads its event files with the real TensorBoard.

usage: tensorboard_test.py PROGRAM
Exit status 77 (skipped) where no Python has TensorBoard; MBLM_TENSORBOARD_PYTHON names the Python to use.
"""
import csv
import os
import pathlib
import subprocess
import sys
import tempfile

CONFIG = """
params:
  input_seq_len: 32
  num_tokens: 256
  pad_token_id: 0
  hidden_dims: [16]
  seq_lens: [32]
  num_layers: [1]
  block: {attn_head_dims: 8, attn_num_heads: 2, attn_use_rot_embs: true, pos_emb_type: fixed}
train: {target_elements: 400, batch_size: 2, learning_rate: 0.001, gradient_clipping: 1.0, save_state_every: 0.000001}
io: {name_model: tiny, dataset_id: files, log_train_loss_amount: 100, validate_amount: 4, run_id: '1', tensorboard: true}
"""


def scalars(folder):
    """Returns {tag: [(step, value)]} as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def check(run):
    found = scalars(run / "tensorboard")
    with open(run / "loss.csv") as file:
        rows = list(csv.DictReader(file))
    wanted = {"loss/training": ("train", "loss"), "loss/training_smoothed": ("train", "smoothed_loss"), "loss/validation": ("valid", "loss"),
              "learning_rate": ("train", "lr"), "gradient_norm": ("train", "grad_norm")}
    for tag, (kind, column) in wanted.items():
        expected = [(int(r["cum_batch"]), float(r[column])) for r in rows if r["kind"] == kind and float(r[column]) >= 0]
        assert expected, tag
        assert [s for s, _ in found[tag]] == [s for s, _ in expected], (tag, found[tag], expected)
        for (_, a), (_, b) in zip(found[tag], expected):
            assert abs(a - b) <= 1e-6 * max(1, abs(b)), (tag, a, b)
    assert len(found["loss/test"]) == 1
    assert all(speed > 0 for _, speed in found.get("bytes_per_second", []))
    print(f"{sum(len(s) for s in found.values())} scalars of {len(list((run / 'tensorboard').iterdir()))} event files are those of loss.csv")


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "text").write_text("the ships went out, and the sea was calm.\n" * 1000)
        (folder / "config.yaml").write_text(CONFIG)
        arguments = [program, "train", folder / "config.yaml", f"io.output_dir={folder / 'runs'}", f"io.dataset_dir={folder / 'text'}"]
        run = folder / "runs/tiny_1"
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while process.poll() is None:  # until it has saved enough states
            states = sorted((run / "state").glob("*.safetensors")) if run.exists() else []
            if states and int(states[-1].stem.split("_")[1]) >= 60:
                process.kill()
                break
        process.communicate()
        assert process.returncode == -9, "expected to kill the run before its end"
        # Resumes from the older state: TensorBoard must drop the events after it.
        states = sorted((run / "state").glob("state_*.safetensors"))
        assert len(states) in (2, 3), states  # 3 if it was killed before it removed the oldest
        states[-1].unlink()
        subprocess.run([program, "resume", run], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert len(list((run / "tensorboard").iterdir())) == 2
        check(run)


if __name__ == "__main__":
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        other = os.environ.get("MBLM_TENSORBOARD_PYTHON")
        if not other:
            print("skipped: this Python has no TensorBoard; MBLM_TENSORBOARD_PYTHON may name one that has it")
            sys.exit(77)
        os.environ.pop("MBLM_TENSORBOARD_PYTHON")
        os.execv(other, [other, *sys.argv])
    main()
