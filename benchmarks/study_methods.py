"""What does each non-linear method cost a trained ViT, and does a mixed plan do better?

For each preset and calibration seed: calibrate once, score every method at every site on the calibration
images (`pq.sensitivity`), assign by the smallest SQNR delta, and count right answers of the integer engine
with one family of methods everywhere, and with mixed plans. With --rank N also how the cheap scores of
each candidate rank beside what it alone costs the model, on N test images.

    python -m benchmarks.study_methods --checkpoint DIR --data DIR -o FILE [--seeds 5] [--images N] [--rank N]

DIR as in examples/quantize_cifar10_vit.py. FILE (JSON) is written after each result, and a run goes on from
it. Needs torch, transformers and SciPy.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

PRESETS = ("W8A8", "W6A6", "W4A8")
BATCH = 50
SCORED = 4  # batches of the calibration images that sensitivity looks at

# Everywhere the same family; what a paper lacks stays ours.
FAMILIES: dict[str, dict[str, str]] = {
    "ours": {},
    "table8": {"softmax": "table8"},
    "I-BERT": {"softmax": "ibert", "unary": "ibert", "norm": "ibert"},
    "I-ViT": {"softmax": "ivit", "unary": "ivit", "norm": "ivit"},
    "FQ-ViT (no GELU)": {"softmax": "fqvit", "norm": "ptf"},
    "IPTQ-ViT (no norm)": {"softmax": "iptq", "unary": "poly"},
    "QFlash softmax": {"softmax": "qflash"},
    "IndexSoftmax": {"softmax": "index"},
    "SOLE softmax": {"softmax": "sole"},
    "NN-LUT GELU": {"unary": "nnlut"},
}
PUBLISHED = {
    "attention": ("softmax=ibert", "softmax=ivit", "softmax=fqvit"),
    "unary": ("unary=ibert", "unary=ivit"),
    "layer_norm": ("norm=ibert", "norm=ivit", "norm=ptf"),
}
# A cheap score, and whether more of it is worse; what a candidate costs the model, and the same of that.
CHEAP = {"delta": 1, "accumulated": -1, "isolated": -1}
COSTS = {
    "output SQNR": ("output_sqnr", -1),
    "KL": ("kl", 1),
    "flips": ("flips", 1),
    "accuracy": ("accuracy", -1),
}


def deployed(prepared: Any, settings: Mapping[str, Mapping[str, Any]]) -> Any:
    """A copy of a calibrated model whose sites have other methods: what calibrating anew would give.

    Methods leave every grid as it is; bits would not, and the sites that read an edge know its width too.
    """
    from torch import fx

    from pyquant.config import METHOD_OPS
    from pyquant.graph.values import constant_of

    made = copy.deepcopy(prepared)
    values: dict[Any, Any] = {}
    for node, site in list(made.site_nodes()):
        wanted = {
            k: v
            for k, v in settings.get(site.name, {}).items()
            if k in METHOD_OPS and k in site.settings_used
        }
        if wanted:
            extras = [constant_of(made, a, values) for a in node.args if isinstance(a, fx.Node)]
            parent, _, last = str(node.target).rpartition(".")
            setattr(made.get_submodule(parent), last, site.with_settings(wanted, *extras))
    return made


def everywhere(prepared: Any, family: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """One family at all sites that it concerns."""
    return {name: dict(family) for name in prepared.sites()}


def of_plan(plan: Any) -> dict[str, dict[str, Any]]:
    """The settings of a plan by site."""
    return {choice.site: dict(choice.settings) for choice in plan.choices}


def top1(prepared: Any, tests: Iterable[Any]) -> float:
    """Of the integer engine."""
    import pyquant as pq

    return float(pq.evaluate(pq.convert(prepared), tests, progress=False).top1)


class Results:
    """A JSON file that grows; a result that is there is not measured again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def get(self, key: str, measure: Any) -> Any:
        """The stored value, or a new one."""
        if key not in self.data:
            begin = time.perf_counter()
            self.data[key] = measure()
            self.path.write_text(json.dumps(self.data, indent=1, sort_keys=True))
            print(f"{key}: {str(self.data[key])[:300]} ({time.perf_counter() - begin:.0f} s)", flush=True)
        return self.data[key]


def study(model: Any, preset: str, seed: int, calibration: list[Any], tests: list[Any], out: Results) -> None:
    """One preset and seed."""
    import pyquant as pq

    prefix = f"{preset} seed {seed}"
    names = [*FAMILIES, "mixed, published methods", "mixed, all methods"]
    if all(f"{prefix}: {name}" in out.data for name in names):
        return
    prepared = pq.quantize(model, calibration, config=preset, progress=False)
    for name, family in FAMILIES.items():
        out.get(
            f"{prefix}: {name}", lambda f=family: top1(deployed(prepared, everywhere(prepared, f)), tests)
        )
    kinds = {name: site.kind for name, site in prepared.sites().items()}
    published = {name: list(PUBLISHED[kind]) for name, kind in kinds.items() if kind in PUBLISHED}
    for name, candidates in (("mixed, published methods", published), ("mixed, all methods", None)):
        key = f"{prefix}: {name}"
        if key not in out.data:
            table = pq.sensitivity(prepared, calibration[:SCORED], candidates=candidates, progress=False)
            plan = pq.assign(table)
            chosen = [f"{c.site}: {c.candidate}" for c in plan.choices]
            out.get(f"{key}: plan", lambda c=chosen: c)
            out.get(key, lambda p=plan: top1(deployed(prepared, of_plan(p)), tests))


def one_by_one(model: Any, preset: str, calibration: list[Any], tests: list[Any]) -> list[dict[str, Any]]:
    """Cheap scores of each candidate beside what it alone costs the model."""
    import pyquant as pq

    prepared = pq.quantize(model, calibration, config=preset, progress=False)
    cheap = pq.sensitivity(prepared, calibration[:SCORED], progress=False)
    true = pq.sensitivity(prepared, tests, scope="output", progress=False)
    made = []
    for row in cheap.rows:
        other = true.row(row.site, row.candidate)
        scores = {name: getattr(row, name) for name in CHEAP}
        costs = {name: getattr(other, column) for name, (column, _) in COSTS.items()}
        made.append({"site": row.site, "candidate": row.candidate, **scores, **costs})
    return made


def correlations(rows: list[dict[str, Any]]) -> str:
    """Spearman's of cheap scores with the cost: over all pairs of site and candidate, and over the candidates
    of one site (mean of the sites), which is what a choice at a site needs."""
    from scipy.stats import spearmanr

    def of(some: list[dict[str, Any]], score: str, cost: str) -> float:
        sign = CHEAP[score] * COSTS[cost][1]
        pairs = np.array([(row[score], row[cost]) for row in some])
        pairs = pairs[np.isfinite(pairs).all(axis=1)]
        if len(pairs) < 3 or np.ptp(pairs, axis=0).min() == 0.0:
            return float("nan")
        return sign * float(spearmanr(*pairs.T).statistic)

    sites = [[row for row in rows if row["site"] == site] for site in dict.fromkeys(r["site"] for r in rows)]
    lines = [f"{'':16}" + "".join(f"{cost:>24}" for cost in COSTS)]
    for score in CHEAP:
        cells = []
        for cost in COSTS:
            inside = np.array([of(some, score, cost) for some in sites])
            cells.append(f"{of(rows, score, cost):13.2f} {np.nanmean(inside):10.2f}")
        lines.append(f"{score:16}" + "".join(cells))
    return "\n".join(lines)


def summary(out: Results, presets: Iterable[str]) -> str:
    """Mean and spread of each row, in percent."""
    lines = []
    for preset in presets:
        rows: dict[str, list[float]] = {}
        for key, value in out.data.items():
            if key.startswith(f"{preset} seed ") and isinstance(value, float):
                rows.setdefault(key.partition(": ")[2], []).append(value)
        lines.append(f"\n{preset:28} {'mean':>7} {'s.d.':>6} {'least':>7} {'most':>7}  seeds")
        for name in sorted(rows, key=lambda n: -float(np.mean(rows[n]))):
            v = np.array(rows[name])
            deviation = v.std(ddof=1) if len(v) > 1 else 0.0
            lines.append(
                f"{name:28} {v.mean():7.2f} {deviation:6.2f} {v.min():7.2f} {v.max():7.2f} {len(v):6}"
            )
    return "\n".join(lines)


def main() -> None:
    """Run what is not there yet, and print the summary."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--calib", type=int, default=512)
    parser.add_argument("--rank", type=int, default=0, help="test images for the rank correlation")
    parser.add_argument("--presets", nargs="+", default=list(PRESETS))
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()

    import torch
    from transformers import ViTForImageClassification

    import pyquant as pq

    sys.path.append(str(Path(__file__).resolve().parents[1] / "examples"))
    from quantize_cifar10_vit import read

    model = ViTForImageClassification.from_pretrained(options.checkpoint).eval()
    images, labels = read(options.data / "test.bin", options.images)
    tests = list(zip(images.split(BATCH), labels.split(BATCH), strict=True))
    out = Results(options.out)
    out.data["machine"] = {"machine": platform.processor() or platform.machine(), "torch": torch.__version__}
    out.data["options"] = {
        k: str(v) for k, v in vars(options).items() if k not in ("data", "checkpoint", "out")
    }
    out.get("float", lambda: float(pq.evaluate(model, tests, progress=False).top1))
    for seed in range(options.seeds):
        calibration = list(read(options.data / "train.bin", options.calib, seed=seed)[0].split(BATCH))
        for preset in options.presets:
            study(model, preset, seed, calibration, tests, out)
    if options.rank:
        calibration = list(read(options.data / "train.bin", options.calib, seed=0)[0].split(BATCH))
        part = tests[: options.rank // BATCH]
        for preset in options.presets:
            rows = out.get(
                f"{preset} one by one, {options.rank} images",
                lambda p=preset: one_by_one(model, p, calibration, part),
            )
            print(f"\n{preset}: rank correlation over all pairs, and inside a site\n{correlations(rows)}")
    print(summary(out, options.presets))


if __name__ == "__main__":
    main()
