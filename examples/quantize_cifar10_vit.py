"""Quantizes a transformers ViT trained on CIFAR-10, and compares integers with float on the test images.

    python examples/quantize_cifar10_vit.py --data DIR --checkpoint DIR [--images N] [--calib N] [--isa-check]

DIR of --data holds train.bin and test.bin in CIFAR-10's binary format: records of 3,073 bytes, a label and
then the red, green and blue planes. DIR of --checkpoint is a transformers folder. Needs `pip install
transformers`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from report import coverage_table, plot, print_latency
from torch import Tensor
from tqdm import tqdm
from transformers import ViTForImageClassification

import pyquant as pq
from pyquant import selftest

MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
DEVIATION = torch.tensor([0.2470, 0.2435, 0.2616]).view(3, 1, 1)
BATCH = 50
SITE_IMAGES = 256  # how many images every site is compared on
ISA_IMAGES = 64  # how many images every instruction set runs


def read(path: Path, count: int, seed: int | None = None) -> tuple[Tensor, Tensor]:
    """Normalised images float32 [count, 3, 32, 32] and labels: the first ones, or a random choice."""
    records = np.memmap(path, np.uint8, mode="r").reshape(-1, 3073)
    chosen = (
        np.arange(len(records)) if seed is None else np.random.default_rng(seed).permutation(len(records))
    )
    records = records[chosen[:count]]
    images = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32)).float().div(255)
    return images.sub(MEAN).div(DEVIATION), torch.from_numpy(records[:, 0].astype(np.int64))


def peak_memory() -> float:
    """Most memory this process has had resident so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def isa_check(program: Path, images: Tensor) -> bool:
    """Run the file in fresh processes: every instruction set here, 1 to 3 threads, batches of 1 and 64."""
    isas = list(dict.fromkeys(r.isa for r in selftest.run() if r.status == "ok" and r.isa != "libm"))
    seen = set()
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/x.npy", images.numpy())
        runs = [(isa, threads, batch) for isa in isas for threads in (1, 2, 3) for batch in (1, 64)]
        for isa, threads, batch in tqdm(runs, desc="isa check", leave=False):
            command = [sys.executable, "-m", "pyquant.cli", "run", str(program), f"{folder}/x.npy"]
            command += [
                "-o",
                f"{folder}/y.npy",
                "--threads",
                str(threads),
                "--batch",
                str(batch),
                "--integers",
            ]
            # Three threads may be more than there are processors: waiting ones should not spin.
            environment = {**os.environ, "PYQUANT_ISA": isa, "OMP_WAIT_POLICY": "passive"}
            subprocess.run(
                command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            seen.add(hashlib.sha256(np.load(f"{folder}/y.npy").tobytes()).hexdigest())
    how = f"{', '.join(isas)}; 1, 2, 3 threads; batch 1, 64"
    print(f"  {len(runs)} runs on {len(images)} images ({how}): {len(seen)} distinct result(s)")
    return len(seen) == 1


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--images", type=int, default=10_000, help="test images")
    parser.add_argument("--calib", type=int, default=1_000, help="training images for calibration")
    parser.add_argument("--config", default="W8A8")
    parser.add_argument(
        "--isa-check", action="store_true", help="compare instruction sets, threads and batches"
    )
    parser.add_argument("--out", type=Path, default=Path("demo_out"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    program, picture = options.out / "cifar10_vit_int8.safetensors", options.out / "cifar10_vit.png"

    model = ViTForImageClassification.from_pretrained(options.checkpoint).eval()
    calibration = read(options.data / "train.bin", options.calib, seed=0)[0].split(BATCH)
    images, labels = read(options.data / "test.bin", options.images)
    tests = list(zip(images.split(BATCH), labels.split(BATCH), strict=True))

    before, begin = peak_memory(), time.perf_counter()
    qmodel = pq.quantize(model, calibration, config=options.config)
    seconds = time.perf_counter() - begin
    print(f"quantize: {options.calib:,} training images in {seconds:.1f} s")
    print(f"  peak memory {peak_memory():.0f} MiB, of which {before:.0f} MiB before (torch, model, data)")
    print(coverage_table(qmodel.coverage()))
    pq.convert(qmodel).save(program)
    engine = pq.IntegerModel.load(program)
    print(f"\n{engine}\n  digest {engine.digest()}")

    real, simulated, integer = (pq.evaluate(m, tests) for m in (model, qmodel, engine))
    print(f"\nTop-1 on {real.count:,} test images")
    print(f"  float    {real.top1:.2f} %\n  integer  {integer.top1:.2f} %")
    print(f"  {integer.flips(real):.2f} % of predictions flip; logits {integer.sqnr(real):.2f} dB SQNR")

    # Logits are integers times one scale on both sides, so equal floats are equal integers.
    wrong = int(np.count_nonzero(simulated.logits != integer.logits))
    parts = images[:SITE_IMAGES].split(BATCH)
    found = [pq.compare(qmodel, engine, part) for part in tqdm(parts, desc="sites", leave=False)]
    differing, total = sum(c.differing for c in found), sum(s.count for c in found for s in c.sites)
    print("\nIntegers that differ between the simulation and the engine")
    print(f"  outputs    {wrong} of {integer.logits.size:,}, {integer.count:,} images")
    count = len(images[:SITE_IMAGES])
    print(f"  all sites  {differing} of {total:,}, {len(found[0].sites)} sites, {count} images")
    same = isa_check(program, images[:ISA_IMAGES]) if options.isa_check else True

    weights = sum(file.stat().st_size for file in options.checkpoint.glob("*.safetensors"))
    print(f"\nSize: float {weights:,} bytes, integer {program.stat().st_size:,} bytes")
    print("\nLatency, one thread, median of 21 interleaved rounds (noisy on a busy machine)")
    print_latency(model, engine, images[:BATCH])
    plot(picture, qmodel, images[:64], real, integer)
    print(f"\nWrote {program} and {picture}")
    if wrong or differing or not same:
        raise SystemExit("the engine and the simulation differ")


if __name__ == "__main__":
    main()
