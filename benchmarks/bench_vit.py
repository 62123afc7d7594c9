"""A DeiT-S-size ViT (384 wide, 12 deep, 197 tokens, random weights): the integer engine beside torch float32.

Check, then time: the engine must give the simulation's outputs bit for bit before a clock is read.

    python benchmarks/bench_vit.py [--rounds N] [--threads N] [--batch N] [--quick]
"""

from __future__ import annotations

import argparse
import statistics

import harness


def main() -> None:
    """Run and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="few rounds, and save nothing")
    options = parser.parse_args()
    harness.tune_malloc()

    import numpy as np
    import torch
    from transformers import ViTConfig, ViTForImageClassification

    import pyquant as pq

    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    model = ViTForImageClassification(
        ViTConfig(
            hidden_size=384,
            num_hidden_layers=12,
            num_attention_heads=6,
            intermediate_size=1536,
            num_labels=1000,
        )
    ).eval()
    prepared = pq.quantize(model, [torch.randn(2, 3, 224, 224)], progress=False)
    engine = pq.convert(prepared)
    engine.set_num_threads(options.threads)
    x = torch.randn(options.batch, 3, 224, 224)
    with torch.no_grad():
        same = np.array_equal(prepared(x).logits.numpy(), engine(x)["logits"])
    if not same:
        raise SystemExit("engine and simulation differ: nothing was timed")

    before = harness.probe()
    with torch.inference_mode():
        times = harness.paired(
            {"torch float32": lambda: model(x), "pyquant engine": lambda: engine(x)},
            3 if options.quick else options.rounds,
        )
    after = harness.probe()
    speedup = harness.ratio(times, "torch float32", "pyquant engine")
    result = {
        "what": __doc__.splitlines()[0],
        "machine": harness.machine(),
        "threads": options.threads,
        "batch": options.batch,
        "probe before": before,
        "probe after": after,
        "seconds": times,
        "torch float32 / pyquant engine": speedup,
    }
    print(f"engine == simulation: {same}; probe {before}")
    for name, seconds in times.items():
        print(f"{name:16s} {1e3 * statistics.median(seconds):8.1f} ms (min {1e3 * min(seconds):.1f})")
    print(f"torch float32 / engine {speedup['median']:.2f} ({speedup['low']:.2f} .. {speedup['high']:.2f})")
    if not options.quick:
        print(harness.save(f"vit-deit-s-batch{options.batch}-threads{options.threads}", result))


if __name__ == "__main__":
    main()
