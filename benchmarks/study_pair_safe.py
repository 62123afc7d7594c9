"""What would it cost to round weights so that their sums in 16 bits are safe, and what would it bring?

Every pair of weights is safe as it is (docs/numerics/gemm.md), so that only longer chains can gain: chains of
L groups need lanes whose loads, w + 1 or -w, add up to at most 256. A quantizer could promise it by moving
each pair of weights inwards until its load is at most 256 / L, to the nearest such pair: a projection on an
L1 ball. This prints, for each promise, the SQNR of the weights, the factor of multiplies, and with --data the
accuracy of the model in float with those weights: what is lost is lost by the weights alone.

    python -m benchmarks.study_pair_safe --checkpoint DIR [--data DIR] [--images N]

DIR of --checkpoint is a transformers ViT, DIR of --data holds CIFAR-10's test.bin (see
examples/quantize_cifar10_vit.py). Needs torch, and transformers.
"""

from __future__ import annotations

import argparse
import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.study_safe_groups import S8, pack, quantize

COLUMNS, LONGEST = 16, 3
# What a pair's load may be at most: any (two weights always make 256), chains of two, of three.
PROMISES = {"as they are": 256, "chains of 2": 128, "chains of 3": 85}
MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def shrink(weight: S8, most: int) -> S8:
    """The nearest weights with |w_0| + |w_1| <= most - 2, in pairs of consecutive k; `(n, k)`, k even.

    A load is at most |w| + 1, and two of those make `most`. Beyond it both magnitudes give way by half the
    excess, and the smaller one stops at 0.
    """
    pairs = weight.reshape(weight.shape[0], -1, 2).astype(np.int32)
    magnitude = np.abs(pairs)
    bound = most - 2
    excess = np.maximum(magnitude.sum(-1) - bound, 0)
    small = np.maximum(magnitude.min(-1) - excess // 2, 0)
    large = np.minimum(magnitude.max(-1), bound - small)
    first = magnitude[..., 0] >= magnitude[..., 1]
    moved = np.where(np.stack([first, ~first], -1), large[..., None], small[..., None])
    moved = np.where((excess > 0)[..., None], moved, magnitude)
    return (np.sign(pairs) * moved).astype(np.int8).reshape(weight.shape)


def sqnr(signal: npt.NDArray[np.float64], noise: npt.NDArray[np.float64]) -> float:
    return 10 * math.log10(float(np.square(signal).sum() / np.square(noise).sum()))


def accuracy(model: Any, data: Path, images: int) -> float:
    """Share of the first `images` of test.bin that the float model names rightly."""
    import torch

    records = np.fromfile(data / "test.bin", np.uint8, images * 3073).reshape(-1, 3073)
    x = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32)).float().div(255)
    x = x.sub(torch.tensor(MEAN).view(3, 1, 1)).div(torch.tensor(DEVIATION).view(3, 1, 1))
    with torch.inference_mode():
        found = torch.cat([model(part).logits.argmax(1) for part in x.split(200)])
    return float((found.numpy() == records[:, 0]).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    options = parser.parse_args()
    import torch
    from transformers import ViTForImageClassification

    model = ViTForImageClassification.from_pretrained(options.checkpoint).eval()
    for name, most in PROMISES.items():
        changed = copy.deepcopy(model)
        signal, noise, multiplies, size = [], [], 0.0, 0
        for module in changed.modules():
            if not isinstance(module, torch.nn.Linear) or module.in_features % 2:
                continue
            weight = module.weight.detach().double().numpy()
            largest = np.abs(weight).max(axis=1, keepdims=True)
            scale = np.where(largest == 0, 1.0, largest / 127)
            integers = shrink(quantize(weight), most)
            signal.append(weight.ravel())
            noise.append((weight - integers * scale).ravel())
            multiplies += pack(integers, COLUMNS, "sign", LONGEST).multiplies * weight.size
            size += weight.size
            module.weight = torch.nn.Parameter(torch.from_numpy(integers * scale).float())
        line = f"{name:12} SQNR of weights {sqnr(np.concatenate(signal), np.concatenate(noise)):5.1f} dB"
        line += f"   multiplies x{size / multiplies:.2f}"
        if options.data is not None:
            line += f"   top-1 {100 * accuracy(changed, options.data, options.images):.2f} %"
        print(line, flush=True)


if __name__ == "__main__":
    main()
