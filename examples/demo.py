"""`make demo`: a trained vision transformer becomes an integer program that runs exactly what was simulated.

    python examples/demo.py [--out FOLDER]

Handwritten digits from scikit-learn, a checkpoint from this folder, nothing from the network.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from digits_vit import CHECKPOINT, load_data, load_model
from report import coverage_table, plot, print_latency

import pyquant as pq


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--out", type=Path, default=Path("demo_out"), help="where the program and the plot go"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    program, picture = options.out / "digits_vit_int8.safetensors", options.out / "demo.png"

    model, data = load_model(), load_data()
    calibration, tests = data.train_images.split(64), data.test_batches()
    count = sum(p.numel() for p in model.parameters())
    print(f"Model: {CHECKPOINT.name}, {count:,} parameters, unmodified PyTorch")

    begin = time.perf_counter()
    qmodel = pq.quantize(model, calibration, config="W8A8")
    seconds = time.perf_counter() - begin
    print(f"\nquantize: {len(data.train_images)} training images in {seconds:.1f} s")
    print(coverage_table(qmodel.coverage()))

    pq.convert(qmodel).save(program)
    engine = pq.IntegerModel.load(program)
    print(f"\nconvert, save, load: {engine}\n  digest {engine.digest()}")

    real, simulated, integer = (pq.evaluate(m, tests, progress=False) for m in (model, qmodel, engine))
    print(f"\nTop-1 on {real.count} held-out images")
    print(f"  float    {real.top1:.2f} %")
    print(f"  integer  {integer.top1:.2f} %")
    print(f"  {integer.flips(real):.2f} % of predictions flip; logits {integer.sqnr(real):.1f} dB SQNR")

    wrong = np.count_nonzero(simulated.logits != integer.logits)
    sites = pq.compare(qmodel, engine, data.test_images[:64])
    print("\nIntegers that differ between the simulation and the engine")
    print(f"  outputs    {wrong} of {integer.logits.size:,}, {integer.count} images")
    total = sum(site.count for site in sites.sites)
    print(f"  all sites  {sites.differing} of {total:,}, {len(sites.sites)} sites, 64 images")

    print(f"\nSize: float {CHECKPOINT.stat().st_size:,} bytes, integer {program.stat().st_size:,} bytes")
    print("\nLatency, one thread, median of 21 interleaved rounds (noisy on a busy machine)")
    print_latency(model, engine, data.test_images[:64])

    plot(picture, qmodel, data.test_images[:64], real, integer)
    print(f"\nWrote {program} and {picture}")
    if wrong or not sites.identical:
        raise SystemExit("the engine and the simulation differ")


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
