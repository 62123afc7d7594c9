"""Programs that use every instruction, for tests of the engine."""

from __future__ import annotations

import numpy as np

from pyquant import IntegerModel, ProgramBuilder, QParams, numerics

GRID = QParams(0.05, 3, -128, 127)
STREAM = QParams(2.0**-10, 0, -32768, 32767)


def block(tokens: int = 5, width: int = 8, heads: int = 2, seed: int = 0, keep: bool = True) -> IntegerModel:
    """A transformer block with embeddings, a mask input, and two outputs: all twelve instructions."""
    rng = np.random.default_rng(seed)
    build = ProgramBuilder()
    x = build.input("x", (tokens, width), GRID)
    ids = build.input("ids", (tokens,), dtype="int32")
    mask = build.input("mask", (tokens,), dtype="uint8") if keep else None

    def linear(value, n, grid, name):
        w = rng.normal(0, 0.3, (n, value.shape[-1])).astype(np.float32)
        bias = rng.normal(0, 0.1, n).astype(np.float32)
        w_scale = numerics.derive_weight_scale(w, bias, value.scale)
        y_scale = 1.0 if grid is None else grid.scale
        constants = numerics.derive_gemm(w, bias, w_scale, value.scale, y_scale)
        return build.gemm(value, constants, grid, name=name)

    def linear_s4(value, n, grid, name, group_size):
        w = rng.normal(0, 0.3, (n, value.shape[-1])).astype(np.float32)
        scale = numerics.derive_group_scale(w, None, value.scale, group_size)
        constants = numerics.derive_gemm_s8s4(w, None, scale, value.scale, grid.scale, group_size=group_size)
        return build.gemm(value, constants, grid, name=name)

    def norm(value, grid, name, rms=False):
        gamma = rng.normal(1, 0.1, width).astype(np.float32)
        beta = None if rms else rng.normal(0, 0.1, width).astype(np.float32)
        constants = numerics.derive_layernorm(width, gamma, beta, 1e-6, value.scale, grid.scale)
        return build.layernorm(value, constants, grid, rms=rms, name=name)

    rows = rng.integers(-2000, 2000, (7, width)).astype(np.int16)
    position = build.gather(ids, rows, STREAM, name="embeddings")
    add = numerics.derive_add(GRID.scale, STREAM.scale, STREAM.scale)
    stream = build.add(x, position, add, STREAM, name="stream")
    normed = norm(stream, GRID, "norm1")
    q, k, v = (linear(normed, width, GRID, f"attention.{part}") for part in "qkv")
    d = width // heads
    softmax = numerics.derive_attention("table16", GRID, GRID, GRID, GRID, d**-0.5, d, tokens)
    strides = (0, 0, d, width)
    context = build.attention(
        q, k, v, softmax, GRID,
        shape=(tokens, width), heads=heads, q_len=tokens, k_len=tokens, head_dim=d,
        q_strides=strides, k_strides=strides, v_strides=strides, y_strides=strides,
        keep=mask, keep_strides=(0, 0, 0, 1) if keep else (0, 0, 0, 0), name="attention",
    )  # fmt: skip
    residual = numerics.derive_add(STREAM.scale, GRID.scale, STREAM.scale)
    stream = build.add(stream, context, residual, STREAM, name="residual")
    small = norm(stream, GRID, "norm2", rms=True)
    hidden = linear(small, 2 * width, GRID, "fc1")
    hidden = build.table(hidden, numerics.derive_table("gelu", GRID, GRID), GRID, name="gelu")
    turned = build.copy(hidden, (2 * width, tokens), (1, 2 * width), name="turned")
    flat = build.reshape(turned, (2, width * tokens), name="flat")
    both = build.concat([flat, flat], 1, name="both")
    mean = build.mean(both, 1, numerics.derive_dyadic(1 / (2 * width * tokens)), GRID, name="mean")
    pooled = build.mean(
        stream, 0, numerics.derive_dyadic(STREAM.scale / (tokens * GRID.scale)), GRID, name="pooled"
    )
    narrow = build.requantize(pooled, numerics.derive_dyadic(0.5), QParams(0.1, 0, -128, 127), name="narrow")
    logits = linear_s4(narrow, 3, STREAM, "head", 4)
    return build.finish(
        [logits, mean],
        structure={"dict": {"logits": {"output": 0}, "extra": {"tuple": [{"output": 1}, {"none": None}]}}},
        metadata={"note": "synthetic"},
    )


def arguments(batch: int = 2, tokens: int = 5, width: int = 8, seed: int = 1) -> dict[str, np.ndarray]:
    """Arguments of `block`."""
    rng = np.random.default_rng(seed)
    return {
        "x": rng.normal(0, 2, (batch, tokens, width)).astype(np.float32),
        "ids": rng.integers(0, 7, (batch, tokens)),
        "mask": rng.integers(0, 2, (batch, tokens)).astype(bool),
    }
