"""How far do 16-bit chains go? The share of weights that an AVX2 kernel can add up in s16 lanes, exactly.

`vpmaddubsw` multiplies twice as many bytes as `vpmaddwd`, but adds pairs in 16 bits. Where the weights prove
that sums of several pairs fit, a kernel adds L results in s16 and widens once: L + 1 multiplies, not 2 L. Two
proofs, each for all lanes (2 pairs of k by 8 or 16 columns) of a group of four k:

- offset: activations as u8 = x + 128 in [0, 255]. Positive weights of a lane add up to at most 128, negative
  ones to at least -128 (255 * 128 = 32640).
- sign: |x| times w or -w - 1 (csrc/gemm/gemm_chains.h). The loads of a lane, w + 1 or -w, add up to at most
  256; a single pair always fits.

Chains are packed first-fit, heaviest groups first, a panel of columns at a time: the kernel reads x in that
order. (csrc/gemm/gemm_chains_pack.c looks at fewer candidates, and finds 1 to 2 % less.) The speed-up counts
multiplies only, which is what limits a core with one multiplier port.

    python benchmarks/study_safe_groups.py                      Gaussian and Laplace weights
    python benchmarks/study_safe_groups.py model.safetensors    and linear layers of state dicts (needs torch)
    python benchmarks/study_safe_groups.py stories260K.bin      and those of a checkpoint of llama2.c
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

S8 = npt.NDArray[np.int8]
PROOFS = ("offset", "sign")
COLUMNS = (8, 16)
LONGEST = (1, 2, 3, 4)
MOST_PANELS = 24


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What one packing gave. Shares are of groups in chains of each length; index 0: not even safe alone."""

    shares: tuple[float, ...]
    multiplies: float  # in those of vpmaddwd

    def __str__(self) -> str:
        shares = " ".join(f"{100 * share:4.0f}" for share in self.shares)
        return f"{shares} %   x{1 / self.multiplies:.2f}"


def quantize(weight: npt.NDArray[np.float64]) -> S8:
    """Symmetric int8, one scale per output channel from the largest magnitude; `weight` is `(n, k)`."""
    largest = np.abs(weight).max(axis=1, keepdims=True)
    scale = np.where(largest == 0, 1.0, largest / 127)
    return np.clip(np.rint(weight / scale), -127, 127).astype(np.int8)


def lanes(weight: S8, columns: int, proof: str) -> npt.NDArray[np.int32]:
    """Loads `(panels, groups, loads)` of s16 lanes; a chain is safe while no load passes `limit(proof)`."""
    n, k = weight.shape
    padded = np.zeros((-(-n // columns) * columns, -(-k // 4) * 4), np.int32)
    padded[:n, :k] = weight
    pairs = padded.reshape(padded.shape[0] // columns, columns, padded.shape[1] // 4, 2, 2)
    parts = (
        [np.where(pairs < 0, -pairs, pairs + 1).sum(-1, dtype=np.int32)]
        if proof == "sign"
        else [np.maximum(pairs, 0).sum(-1, dtype=np.int32), -np.minimum(pairs, 0).sum(-1, dtype=np.int32)]
    )
    loads = np.stack(parts, -1).transpose(0, 2, 1, 3, 4)
    flat: npt.NDArray[np.int32] = loads.reshape(loads.shape[0], loads.shape[1], -1)
    return flat


def limit(proof: str) -> int:
    return 256 if proof == "sign" else 128


def chain_lengths(loads: npt.NDArray[np.int32], most: int, bound: int) -> list[int]:
    """Length of each chain; 0 for a group that is not even safe alone."""
    sums = np.zeros_like(loads)
    lengths = np.zeros(len(loads), np.int64)
    used, unsafe = 0, 0
    for group in np.argsort(-loads.max(axis=1), kind="stable"):
        load = loads[group]
        if load.max() > bound:
            unsafe += 1
            continue
        fits = (lengths[:used] < most) & (sums[:used] + load <= bound).all(axis=1)
        slot = int(np.argmax(fits)) if fits.any() else used
        used = max(used, slot + 1)
        sums[slot] += load
        lengths[slot] += 1
    return [*lengths[:used].tolist(), *[0] * unsafe]


def pack(weight: S8, columns: int, proof: str, most: int) -> Packed:
    loads = lanes(weight, columns, proof)
    chosen = loads[:: max(1, len(loads) // MOST_PANELS)]
    lengths = [length for panel in chosen for length in chain_lengths(panel, most, limit(proof))]
    groups = sum(max(length, 1) for length in lengths)
    shares = [sum(max(x, 1) for x in lengths if x == length) / groups for length in range(most + 1)]
    multiplies = sum(2 if length == 0 else length + 1 for length in lengths) / (2 * groups)
    return Packed(shares=tuple(shares), multiplies=multiplies)


def synthetic() -> Iterator[tuple[str, S8]]:
    rng = np.random.default_rng(0)
    for k in (384, 1536):
        yield f"gaussian k={k}", quantize(rng.normal(size=(192, k)))
        yield f"laplace k={k}", quantize(rng.laplace(size=(192, k)))


def llama2c_layers(path: Path) -> Iterator[tuple[str, S8]]:
    """The matrices of a checkpoint of llama2.c: seven int32 sizes, then float32 arrays."""
    dim, hidden, layers, heads, kv_heads, vocab, _ = np.fromfile(path, np.int32, 7).tolist()
    values = np.fromfile(path, np.float32, offset=28).astype(np.float64)
    kv = dim * kv_heads // heads
    at = abs(vocab) * dim + layers * dim  # behind the embedding and the first norm
    for name, n, k in (("wq", dim, dim), ("wk", kv, dim), ("wv", kv, dim), ("wo", dim, dim)):
        for layer in range(layers):
            yield f"llm: {layer}.{name}", quantize(values[at : at + n * k].reshape(n, k))
            at += n * k
    at += layers * dim
    for name, n, k in (("w1", hidden, dim), ("w2", dim, hidden), ("w3", hidden, dim)):
        for layer in range(layers):
            yield f"llm: {layer}.{name}", quantize(values[at : at + n * k].reshape(n, k))
            at += n * k


def linear_layers(path: Path) -> Iterator[tuple[str, S8]]:
    """Matrices of a state dict with at least 32 inputs and 16 outputs, 1 x 1 convolutions as matrices."""
    if path.suffix == ".bin":
        yield from llama2c_layers(path)
        return
    import torch

    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        state: dict[str, Any] = dict(load_file(path))
    else:
        state = torch.load(path, map_location="cpu", weights_only=True)
        while not any(isinstance(value, torch.Tensor) for value in state.values()):
            state = next(value for value in state.values() if isinstance(value, dict))
    for name, value in state.items():
        if not isinstance(value, torch.Tensor) or "embed" in name:
            continue
        matrix = value.squeeze() if value.dim() == 4 else value
        if matrix.dim() == 2 and matrix.shape[0] >= 16 and matrix.shape[1] >= 32:
            yield f"{path.parent.name}: {name}", quantize(matrix.double().numpy())


def main(arguments: list[str]) -> None:
    layers = list(synthetic()) + [layer for a in arguments for layer in linear_layers(Path(a))]
    print("share of groups: not safe, in chains of 1, 2, .. groups; speed-up by multiplies")
    totals: dict[tuple[str, str, int, int], list[tuple[float, int]]] = {}
    for name, weight in layers:
        print(f"{name}  {weight.shape[0]} x {weight.shape[1]}")
        for proof in PROOFS:
            for columns in COLUMNS:
                for most in LONGEST:
                    packed = pack(weight, columns, proof, most)
                    print(f"    {proof:6} {columns:2} columns, chains up to {most}: {packed}")
                    source = name.split(":")[0] if ":" in name else name
                    key = (source, proof, columns, most)
                    totals.setdefault(key, []).append((packed.multiplies, weight.size))
    print("speed-up by multiplies, weighted by size")
    for (source, proof, columns, most), values in totals.items():
        mean = sum(m * size for m, size in values) / sum(size for _, size in values)
        print(f"    {source:20} {proof:6} {columns:2} columns, chains up to {most}: x{1 / mean:.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
