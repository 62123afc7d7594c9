"""The CIFAR-10 example, on a small untrained ViT and random records in the same formats."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.examples.paths import EXAMPLES, ROOT

transformers = pytest.importorskip("transformers")


def test_it_runs_on_its_formats(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("train.bin", "test.bin"):
        records = rng.integers(0, 256, (24, 3073)).astype(np.uint8)
        records[:, 0] %= 10
        records.tofile(tmp_path / name)
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48,
        image_size=32, patch_size=8, num_labels=10,
    )  # fmt: skip
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "model")
    command = [sys.executable, str(EXAMPLES / "quantize_cifar10_vit.py"), "--images", "20", "--calib", "12"]
    command += [
        "--data",
        str(tmp_path),
        "--checkpoint",
        str(tmp_path / "model"),
        "--out",
        str(tmp_path / "out"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run([*command, "--isa-check"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "100.0 % integer" in done.stdout
    assert re.search(r"outputs +0 of 200, 20 images\n", done.stdout)
    assert re.search(r"all sites +0 of [\d,]+, \d+ sites, 20 images\n", done.stdout)
    assert "1 distinct result(s)" in done.stdout
    assert (tmp_path / "out" / "cifar10_vit.png").is_file()
