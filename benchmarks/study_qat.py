"""What does training win back of what calibration loses, and does a mixed plan train to more?

For each seed and each width: calibrate, count right answers of the integer engine, train with learned scales
(examples/qat_vit.py: its schedule and held-out images; the loss is mostly the distance from the float model),
count again, and look whether the trained model and the engine give the same numbers. At one width also with
one family of non-linear methods everywhere, and with the plan that mixes them.

    python -m benchmarks.study_qat --checkpoint DIR --data DIR -o FILE [--seeds 0 1 2] [--rows W8A8 W4A4 ...]

DIR as in examples/quantize_cifar10_vit.py. FILE (JSON) is written after each result, and a run goes on from
it. Needs torch and transformers.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.study_methods import BATCH, FAMILIES, PUBLISHED, SCORED, Results

WIDTHS = ("W8A8", "W6A6", "W4A8", "W4A4")
RATES = {"W8A8": 3e-5, "W6A6": 3e-5, "W4A8": 1e-4, "W4A4": 3e-4}  # the less there is to win back, the smaller
MIXED_AT = "W6A6"  # the width at which methods are compared
SINGLE = ("I-BERT", "I-ViT", "FQ-ViT (no GELU)")
MIXED = "mixed, published methods"
ROWS = (*WIDTHS, *(f"{MIXED_AT} {name}" for name in (*SINGLE, MIXED)))


def options_of(arguments: argparse.Namespace, row: str, seed: int, out: Path) -> argparse.Namespace:
    """Those of examples/qat_vit.py."""
    import qat_vit

    options = qat_vit.parse(["--quiet", f"--out={out}", f"--seed={seed}", "--save-every=0"])
    options.epochs = options.patience = arguments.epochs
    options.distill, options.lr = arguments.distill, RATES[row.partition(" ")[0]]
    return options


def configure(row: str, options: argparse.Namespace, model: Any, calibration: list[Any]) -> None:
    """Set the configuration, or the plan, of a row."""
    import pyquant as pq
    from pyquant.config import PRESETS

    width, _, methods = row.partition(" ")
    preset = PRESETS[f"{width}-lsq"]
    options.config = preset
    if methods in FAMILIES:
        options.config = dataclasses.replace(
            preset, base=dataclasses.replace(preset.base, **FAMILIES[methods])
        )
    elif methods:
        prepared = pq.quantize(model, calibration, config=preset, progress=False)
        kinds = {name: site.kind for name, site in prepared.sites().items()}
        published = {name: list(PUBLISHED[kind]) for name, kind in kinds.items() if kind in PUBLISHED}
        table = pq.sensitivity(prepared, calibration[:SCORED], candidates=published, progress=False)
        options.plan, options.config = pq.assign(table), None


def train(task: Any, row: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One row and seed: accuracies in percent, and whether engine and model agree."""
    import qat_vit

    import pyquant as pq

    tests = list(zip(task.test_images.split(BATCH), task.test_labels.split(BATCH), strict=True))
    with tempfile.TemporaryDirectory() as folder:
        options = options_of(arguments, row, seed, Path(folder))
        # The first calibration images of the run are scored; the run calibrates by itself.
        order = qat_vit.shuffled(len(task.images), seed)
        chosen = order[qat_vit.held_out(len(task.images)) :][: options.calib]
        configure(row, options, task.model, list(task.images[chosen].split(BATCH)))
        run = qat_vit.Run(task, options)
        before = run.accuracy(task.test_images, task.test_labels)
        begin = time.perf_counter()
        run.train()
        seconds = time.perf_counter() - begin
        best = pq.evaluate(pq.IntegerModel.load(options.out / "best.safetensors"), tests, progress=False)
    simulated = pq.evaluate(run.model, tests, progress=False)
    engine = pq.convert(run.model)
    integer = pq.evaluate(engine, tests, progress=False)
    return {
        "after calibration": before,
        "after training": float(integer.top1),
        "best epoch": float(best.top1),
        "outputs that differ": int(np.count_nonzero(simulated.logits != integer.logits)),
        "digest": engine.digest(),
        "history": run.at.history,
        "steps": run.steps * options.epochs,
        "seconds": round(seconds),
    }


def summary(data: dict[str, Any]) -> str:
    """Mean and spread of each row, in percent."""
    lines = [f"{'':34}{'calibrated':>16}{'trained':>16}{'won back':>10}  seeds"]
    real = data["float"]
    for row in ROWS:
        found = [value for key, value in data.items() if key.rpartition(" seed ")[0] == row]
        if not found:
            continue
        before, after = (
            np.array([each[name] for each in found]) for name in ("after calibration", "after training")
        )
        lost, won = real - before.mean(), after.mean() - before.mean()
        share = f"{100 * won / lost:8.0f} %" if lost > 0 else "         -"
        cells = "".join(
            f"{v.mean():9.2f} +-{v.std(ddof=1) if len(v) > 1 else 0.0:5.2f}" for v in (before, after)
        )
        lines.append(f"{row:34}{cells}{share}{len(found):7}")
    return "\n".join(lines)


def main() -> None:
    """Run what is not there yet, and print the summary."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--images", type=int, default=20_000, help="training images")
    parser.add_argument("--tests", type=int, default=10_000)
    parser.add_argument("--distill", type=float, default=0.9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--out", type=Path, required=True)
    arguments = parser.parse_args()

    import torch

    import pyquant as pq

    torch.set_num_threads(arguments.threads)
    sys.path.append(str(Path(__file__).resolve().parents[1] / "examples"))
    import qat_vit

    task = qat_vit.cifar10(arguments.data, arguments.checkpoint, arguments.images, arguments.tests)
    tests = list(zip(task.test_images.split(BATCH), task.test_labels.split(BATCH), strict=True))
    out = Results(arguments.out)
    out.data["torch"] = torch.__version__
    out.data["options"] = {
        name: getattr(arguments, name) for name in ("epochs", "images", "tests", "distill")
    }
    out.data["options"]["lr"] = RATES
    out.get("float", lambda: float(pq.evaluate(task.model, tests, progress=False).top1))
    for seed in arguments.seeds:
        for row in arguments.rows:
            out.get(f"{row} seed {seed}", lambda r=row, s=seed: train(task, r, s, arguments))
    print(summary(out.data))


if __name__ == "__main__":
    main()
