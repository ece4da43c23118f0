#!/usr/bin/env python3
"""Compares logits after exchanging checkpoints with the real Python package: saved there and loaded here, and saved here and
loaded there.

    tests/package_roundtrip.py PROGRAM PEER

PROGRAM is mblm, PEER is tests/package_peer. Requires a Python with the package `mblm`: the Python that runs this script, or the
one that MBLM_PYTHON names. Otherwise the exit status is 77, which Meson counts as skipped.
"""
import os
import pathlib
import subprocess
import sys
import tempfile
import warnings

warnings.filterwarnings("ignore")
os.environ.setdefault("PYTEST_CURRENT_TEST", "1")  # the package then writes no log files
try:
    import torch
    import yaml
    from mblm import MBLM, MBLMModelConfig
    from mblm.model.config import MBLMEncoderModelConfig, MBLMReturnType
    from mblm.model.embeddings import MBLM_TOKEN_EMB_MIGRATION
    from mblm.model.mblm import MBLMEncoder
    from mblm.utils.io import load_model_state, save_model_state
except ImportError as missing:
    python = os.environ.get("MBLM_PYTHON")
    if python and os.environ.get("MBLM_PYTHON_TRIED") != python:
        os.environ["MBLM_PYTHON_TRIED"] = python
        os.execv(python, [python, *sys.argv])
    print(f"skipped: no Python with the package mblm ({missing}); set MBLM_PYTHON=/path/to/python")
    sys.exit(77)

BOUND = 1e-5  # ||ours - theirs|| / ||theirs|| of float32 logits
LAYOUTS = ("0.4.1", "0.4.2")
BATCH, LENGTH = 2, 21


def model(dims, lens, layers, block):
    return dict(num_tokens=61, pad_token_id=60, hidden_dims=dims, seq_lens=lens, num_layers=layers,
                train_checkpoint_chunks=None, block=block)


def masked(strategy, model):
    return dict(mask_token_id=59, mask_reduce_strat=strategy, mblm_config=model)


def transformer(positions, rotary=True, kind="transformer"):
    return dict(block_type=kind, attn_head_dims=8, attn_num_heads=2, attn_use_rot_embs=rotary, pos_emb_type=positions)


def encoder(positions, rotary=True):
    return transformer(positions, rotary, "transformerEncoder")


MAMBA1 = dict(block_type="mamba1", d_state=8, d_conv=4, expand=2, headdim=8, pos_emb_type=None)
CONFIGS = {
    "one transformer": model([16], [24], [2], transformer("fixed")),
    "two transformers": model([24, 16], [6, 4], [1, 2], transformer("rope", rotary=False)),
    "three transformers": model([32, 24, 16], [4, 3, 5], [1, 2, 1], transformer("fixed")),
    "two mambas": model([24, 16], [6, 4], [2, 1], MAMBA1),
    "mamba over transformer": model([24, 16], [6, 4], [1, 1], [MAMBA1, transformer(None)]),
    "transformer over mamba": model([24, 16], [6, 4], [2, 1], [transformer("rope"), MAMBA1]),
    "four stages": model([16, 32, 24, 16], [4, 2, 2, 3], [1, 1, 1, 1], [transformer(None), MAMBA1, transformer("fixed"), transformer("rope")]),
    "one encoder": masked("any", model([16], [24], [2], encoder("rope", rotary=False))),
    "two encoders": masked("all", model([24, 16], [6, 4], [2, 1], encoder("fixed"))),
    "three encoders": masked("any", model([32, 24, 16], [4, 3, 5], [1, 2, 1], encoder(None))),
}


def older_name(name):
    """The name of a parameter in the package before version 0.4.2."""
    parts = name.split(".")
    if parts[0] != "token_embs_rev":
        return name
    if parts[2] == "embedding":
        return ".".join(parts[:2] + ["weight"] if parts[1] == "0" else parts[:2] + ["0", "weight"])
    return ".".join(parts[:2] + [str(int(parts[3]) + 1)] + parts[4:])


class Round:
    """The checks for one config, with a folder for its files."""

    def __init__(self, folder, config, program, peer):
        self.folder, self.config, self.program, self.peer = folder, config, program, peer
        self.yaml = folder / "config.yaml"
        self.yaml.write_text(yaml.safe_dump(config))
        numbers = torch.Generator().manual_seed(1)
        self.ids = torch.randint(0, 60, (BATCH, LENGTH), generator=numbers)
        self.visible = torch.rand((BATCH, LENGTH), generator=numbers) < 0.7  # for a masked language model
        self.is_masked = "mblm_config" in config

    def package_model(self, seed=0):
        torch.manual_seed(seed)
        if self.is_masked:
            return MBLMEncoder(MBLMEncoderModelConfig.model_validate(self.config)).eval()
        return MBLM(MBLMModelConfig.model_validate(self.config)).eval()

    def run(self, *arguments, **options):
        done = subprocess.run([str(a) for a in arguments], capture_output=True, **options)
        if done.returncode != 0:
            raise AssertionError(f"{arguments}: {done.stderr.decode()}")
        return done.stdout

    def convert(self, source, target, *options):
        self.run(self.program, "convert", source, self.folder / target, *options)
        return self.folder / target

    def check_same(self, what, ours, theirs):
        error = ((ours - theirs).norm() / theirs.norm()).item()
        if not error <= BOUND:
            raise AssertionError(f"{what}: logits differ by {error:.1e}, bound {BOUND:.0e}")

    def our_logits(self, checkpoint):
        given = self.ids.numpy().astype("<i8").tobytes()
        if self.is_masked:
            given += self.visible.numpy().astype("<i8").tobytes()
        out = self.run(self.peer, "logits", self.yaml, checkpoint, BATCH, input=given)
        return torch.frombuffer(bytearray(out), dtype=torch.float32).reshape(BATCH, LENGTH, -1)

    @torch.no_grad()
    def their_logits(self, module):
        masks = {"attention_mask": self.visible} if self.is_masked else {}
        return module(self.ids, return_type=MBLMReturnType.LOGITS, **masks)

    def saved_there(self):
        """Files of the package: as written, with older names, in other precisions, and with views of larger storages."""
        module = self.package_model()
        theirs = self.their_logits(module)
        _, newest = save_model_state(self.folder, "newest", module, 1.5)
        older = {older_name(name): tensor for name, tensor in module.state_dict().items()}
        _, oldest = save_model_state(self.folder, "oldest", older, 1.5)
        views = {name: transposed_view(tensor) for name, tensor in module.state_dict().items()}
        _, viewed = save_model_state(self.folder, "viewed", views, 1.5)
        for file in (newest, oldest, viewed):
            self.check_same(file.name, self.our_logits(file), theirs)
            self.check_same(f"{file.name} converted", self.our_logits(self.convert(file, "c.safetensors", "--config", self.yaml)), theirs)
        for dtype in (torch.float16, torch.bfloat16, torch.float64):
            rounded = {name: tensor.to(dtype) for name, tensor in module.state_dict().items()}
            _, file = save_model_state(self.folder, "rounded", rounded, 1.5)
            other = self.package_model(1)
            other.load_state_dict({name: tensor.float() for name, tensor in rounded.items()})
            self.check_same(str(dtype), self.our_logits(file), self.their_logits(other))

    def saved_here(self):
        """Files of this project: written directly, and converted through a .safetensors file."""
        for layout in LAYOUTS:
            ours = self.folder / f"ours_{layout}.pth"
            self.run(self.peer, "make", self.yaml, 5, ours, layout)
            logits = self.our_logits(ours)
            middle = self.convert(ours, "middle.safetensors", "--config", self.yaml)
            for file in (ours, self.convert(middle, "back.pth", "--layout", layout)):
                module = self.package_model(1)
                names = [older_name(name) if layout == "0.4.1" else name for name in module.state_dict()]
                state = torch.load(file, weights_only=True)["MODEL"]
                assert list(state) == names, f"{file}: the order of names differs from the package"
                if layout == "0.4.1":
                    current = dict(zip(names, module.state_dict()))
                    _, file = save_model_state(self.folder, "renamed", {current[n]: t for n, t in state.items()}, 0.75)
                module, loss = load_model_state(file, module)
                assert loss == 0.75, f"{file}: loss {loss}"
                self.check_same(str(file), logits, self.their_logits(module))

    def migrated(self):
        """A file of this project initializes a model of the package with a larger vocabulary."""
        if len(self.config.get("hidden_dims", [])) != 2:
            return  # the package's list of embeddings is for two stages
        ours = self.folder / "ours_0.4.2.pth"
        larger = MBLM(MBLMModelConfig.model_validate(self.config | {"num_tokens": 70}))
        load_model_state(ours, larger, map_extend_embeddings=MBLM_TOKEN_EMB_MIGRATION)
        state = torch.load(ours, weights_only=True)["MODEL"]
        for name in MBLM_TOKEN_EMB_MIGRATION:
            assert torch.equal(larger.state_dict()[name][:61], state[name]), name


def transposed_view(tensor):
    """A view with the same values: every other element of a storage, transposed."""
    if tensor.ndim < 1:
        return tensor
    storage = torch.stack([tensor.T, tensor.T], dim=-1) if tensor.ndim <= 2 else torch.stack([tensor, tensor], dim=-1)
    view = storage[..., 0]
    return view.T if tensor.ndim <= 2 else view


def main(program, peer):
    passed = failed = 0
    for name, config in CONFIGS.items():
        with tempfile.TemporaryDirectory() as folder:
            one = Round(pathlib.Path(folder), config, program, peer)
            for step in (one.saved_there, one.saved_here, one.migrated):
                try:
                    step()
                    passed += 1
                except Exception as error:
                    failed += 1
                    print(f"FAILED {name}, {step.__name__}: {error}")
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2]))
