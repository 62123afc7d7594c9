"""What stands between the products: tables, norms, residual adds, and the float boundary, per element.

Each at the size of a ViT's activations (in cache) and at one that no cache holds, where copying is the limit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import cases, peers
from benchmarks.bench_attention import operands
from benchmarks.softmax import Softmax
from benchmarks.workload import Row, Settings
from pyquant import _C, numerics, ops

__all__ = ["TITLE", "rows"]

TITLE = "Elementwise and norms, a step of a ViT with 384 channels"

CHANNELS = 384
TOKENS = (197, 20480)  # 0.3 MB and 31 MB of float32
TINY = (5,)
GRID8, GRID16 = (4 / 127, 3, -128, 127), (4 / 32767, 0, -32768, 32767)


def rows(settings: Settings) -> dict[str, Callable[[], Row]]:
    """Every op at every size, and the softmax inside attention."""
    made: dict[str, Callable[[], Row]] = {}
    for tokens in TINY if settings.tiny else TOKENS:
        for name, build in OPS.items():
            made[f"{name} {tokens}x{CHANNELS}"] = partial(
                build, settings, f"{name} {tokens}x{CHANNELS}", tokens
            )
    tokens = TINY[0] if settings.tiny else TOKENS[0]
    name = f"softmax 6x{tokens}x{tokens}"
    made[name] = partial(softmax, settings, name, tokens)
    return made


def values(tokens: int, seed: int = 0) -> NDArray[np.float32]:
    """Normal activations."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((tokens, CHANNELS), np.float32)


def on(grid: tuple[float, int, int, int], x: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """The integers of `x`."""
    return ops.quantize(x, *grid, dtype=dtype)


def start(
    settings: Settings,
    name: str,
    run: Callable[..., NDArray[Any]],
    operands: tuple[NDArray[Any], ...],
    expected: NDArray[np.float32],
    grid: tuple[float, int, int, int] | None,
) -> Row:
    """A row with pyquant in it; ``run(*operands, out=..., threads=...)`` is checked."""
    with cases.definition():
        definition = run(*operands)
    out = np.empty_like(definition)
    large = expected.size > TOKENS[0] * CHANNELS
    made = Row(
        name,
        settings,
        work=expected.size,
        unit="element",
        traffic=sum(a.nbytes for a in operands) + out.nbytes,
        limit="copy" if large else None,
        expected=expected,
        seconds=2.0 if settings.seconds > 2 else settings.seconds,
    )
    made.equal(run(*operands, out=out, threads=settings.threads), definition, f"the {out.dtype} outputs")
    real = out if grid is None else ((out.astype(np.float64) - grid[1]) * grid[0]).astype(np.float32)
    made.ours(lambda: run(*operands, out=out, threads=settings.threads), result=real)
    if settings.threads > 1:
        made.ours(lambda: run(*operands, out=out, threads=1), "pyquant, 1 thread")
    return made


def add_torch(
    row: Row, function: Callable[..., Any], *arguments: Any, into: Callable[..., Any] | None = None
) -> None:
    """The float32 op, by `into` in a buffer where there is such a form, and compiled."""
    import torch

    eager = function if into is None else partial(into, out=torch.empty(arguments[0].shape))
    row.peer("torch float32", lambda: peers.torch_float.eager(eager, *arguments))
    row.peer("torch float32, compiled", lambda: peers.torch_float.compiled(function, *arguments), heavy=True)


def gelu(settings: Settings, name: str, tokens: int) -> Row:
    """GELU as a table of 256 entries."""
    import torch

    table = numerics.derive_table("gelu", GRID8, GRID8)
    x = torch.from_numpy(values(tokens))
    made = start(
        settings,
        name,
        lambda q, **rest: ops.table(q, table, **rest),
        (on(GRID8, x.numpy(), "int8"),),
        torch.nn.functional.gelu(x).numpy(),
        GRID8,
    )
    add_torch(made, torch.nn.functional.gelu, x, into=torch.ops.aten.gelu.out)
    return made


def layernorm(settings: Settings, name: str, tokens: int) -> Row:
    """int16 residual stream -> int8."""
    import torch

    rng = np.random.default_rng(1)
    gamma, beta = (
        rng.uniform(0.5, 1.5, CHANNELS).astype(np.float32),
        rng.standard_normal(CHANNELS, np.float32),
    )
    y_grid = (8 / 127, 0, -128, 127)
    constants = numerics.derive_layernorm(CHANNELS, gamma, beta, 1e-6, GRID16[0], y_grid[0]).keywords()
    x, g, b = (torch.from_numpy(a) for a in (values(tokens), gamma, beta))

    def float32(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.layer_norm(x, (CHANNELS,), g, b, 1e-6)

    made = start(
        settings,
        name,
        lambda q, **rest: ops.layernorm(q, **constants, **rest),
        (on(GRID16, x.numpy(), "int16"),),
        float32(x).numpy(),
        y_grid,
    )
    add_methods(made, settings, on(GRID16, x.numpy(), "int16"), gamma, beta, y_grid)
    add_torch(made, float32, x)
    return made


def add_methods(
    row: Row,
    settings: Settings,
    q: NDArray[np.int16],
    gamma: NDArray[np.float32],
    beta: NDArray[np.float32],
    y_grid: tuple[float, int, int, int],
) -> None:
    """The same layer by the published methods, one of each family of kernels."""
    x_range = np.stack([q.min(0), q.max(0)]).astype(np.float32) * np.float32(GRID16[0])
    for method in ("ibert", "ivit", "ptf"):
        derived = numerics.derive_layernorm(
            CHANNELS, gamma, beta, 1e-6, GRID16[0], y_grid[0], method, x_range
        )
        constants = derived.keywords()
        with cases.definition():
            definition = ops.layernorm(q, **constants)
        out = np.empty_like(definition)
        run = partial(ops.layernorm, q, **constants, out=out, threads=settings.threads)
        row.equal(run(), definition, f"those of method {method}")
        real = ((out.astype(np.float64) - y_grid[1]) * y_grid[0]).astype(np.float32)
        row.ours(run, f"pyquant, method {method}", result=real)


def softmax_rows(settings: Settings, name: str, tokens: int) -> Row:
    """int16 scores -> int8 probabilities."""
    import torch

    y_grid = (1 / 256, -128, -128, 127)
    constants = numerics.derive_softmax("table16", GRID16, y_grid, CHANNELS).keywords()
    x = torch.from_numpy(values(tokens))

    def float32(x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(x, -1)

    made = start(
        settings,
        name,
        lambda q, **rest: ops.softmax(q, **constants, zero_point=y_grid[1], **rest),
        (on(GRID16, x.numpy(), "int16"),),
        float32(x).numpy(),
        y_grid,
    )
    add_torch(made, float32, x)
    return made


def add(settings: Settings, name: str, tokens: int) -> Row:
    """Residual add of two int16 streams."""
    import torch

    x, z = torch.from_numpy(values(tokens)), torch.from_numpy(values(tokens, 1))
    y_grid = (8 / 32767, 0, -32768, 32767)
    constants = numerics.derive_add(GRID16[0], GRID16[0], y_grid[0]).keywords()
    made = start(
        settings,
        name,
        lambda a, b, **rest: ops.add(a, b, **constants, **rest),
        (on(GRID16, x.numpy(), "int16"), on(GRID16, z.numpy(), "int16")),
        (x + z).numpy(),
        y_grid,
    )
    add_torch(made, torch.add, x, z, into=torch.add)
    return made


def requantize(settings: Settings, name: str, tokens: int) -> Row:
    """int16 -> int8 on another grid; the least that float32 would do is a multiplication."""
    import torch

    x = torch.from_numpy(values(tokens))
    factor = numerics.derive_dyadic(GRID16[0] / GRID8[0]).keywords()
    made = start(
        settings,
        name,
        lambda q, **rest: ops.requantize(q, **factor, zero_point=GRID8[1], **rest),
        (on(GRID16, x.numpy(), "int16"),),
        x.numpy(),
        GRID8,
    )
    add_torch(made, torch.mul, x, torch.tensor(1.0), into=torch.mul)
    return made


def quantize(settings: Settings, name: str, tokens: int) -> Row:
    """float32 -> int8."""
    import torch

    x = torch.from_numpy(values(tokens))
    made = start(
        settings, name, lambda a, **rest: ops.quantize(a, *GRID8, **rest), (x.numpy(),), x.numpy(), GRID8
    )

    def per_tensor(a: torch.Tensor) -> torch.Tensor:
        return torch.quantize_per_tensor(a, GRID8[0], GRID8[1], torch.qint8)

    made.peer("torch quantized tensor", lambda: peers.torch_int8.call(per_tensor, x))
    made.peer("ONNX Runtime", lambda: peers.ort.quantize(x.numpy(), GRID8, settings.threads), heavy=True)
    return made


def dequantize(settings: Settings, name: str, tokens: int) -> Row:
    """int8 -> float32."""
    import torch

    q = on(GRID8, values(tokens), "int8")
    real = ops.dequantize(q, GRID8[0], GRID8[1])
    made = start(
        settings, name, lambda a, **rest: ops.dequantize(a, GRID8[0], GRID8[1], **rest), (q,), real, None
    )
    quantized = torch.quantize_per_tensor(torch.from_numpy(real), GRID8[0], GRID8[1], torch.qint8)
    made.peer("torch quantized tensor", lambda: peers.torch_float.eager(quantized.dequantize))
    made.peer("ONNX Runtime", lambda: peers.ort.dequantize(q, GRID8, settings.threads), heavy=True)
    return made


def softmax(settings: Settings, name: str, tokens: int) -> Row:
    """Scores to weights and their sum, as inside attention, where weights never leave."""
    import torch

    heads, size = 6, 64
    (q, k, v), scale = operands(heads, tokens, size)
    grid = (scale, 0, -128, 127)
    constants = numerics.derive_attention(
        "table16", grid, grid, grid, grid, size**-0.5, size, tokens
    ).keywords()
    trace = ops.attention_trace(q, k, v, **constants)
    integers = trace.score.reshape(-1, tokens)
    made = Row(name, settings, work=integers.size, unit="element", traffic=6 * integers.size, limit=None)
    isa, threads = _C.isa_active(), settings.threads
    sums = Softmax(isa, constants, integers, threads)()
    made.equal(sums, trace.l.astype(np.uint32).ravel(), "the sums of all rows")
    one = integers[:tokens]
    what = "table16, from int32 scores that are copied in"
    made.ours(Softmax(isa, constants, one, threads, heads), settings=what)
    if threads > 1:
        made.ours(Softmax(isa, constants, one, 1, heads), "pyquant, 1 thread")
    scores = torch.from_numpy(integers.astype(np.float32) * np.float32(scale**2 * size**-0.5))
    add_torch(made, torch.softmax, scores, -1, into=torch.softmax)
    return made


OPS: dict[str, Callable[[Settings, str, int], Row]] = {
    "GELU table": gelu,
    "layer norm": layernorm,
    "softmax of rows": softmax_rows,
    "residual add": add,
    "requantize": requantize,
    "quantize": quantize,
    "dequantize": dequantize,
}
