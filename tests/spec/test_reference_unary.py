"""The C core and the torch form compute the specified approximations, bit for bit, over all 256 inputs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from pyquant import _C
from pyquant.methods import methods
from tests.spec import derive_unary
from tests.spec.numbers import Affine, Dyadic, float32
from tests.spec.unary import Constants, Nnlut

CASES = [(method, function) for method, forms in derive_unary.FORMS.items() for function in forms]
PARAMETERS: dict[str, tuple[dict[str, int], ...]] = {
    "ibert": ({}, {"x_bits": 0}, {"n": 14, "bits": 4}, {"n": 5, "bits": 16, "x_bits": 12}),
    "ivit": ({}, {"division": 31, "x_bits": 0}, {"n": 14, "bits": 4}, {"n": 5, "bits": 16, "x_bits": 12}),
    "poly": ({}, {"x_bits": 0}, {"x_bits": 12}),
}


def grid_tuple(grid: Affine) -> tuple[float, int, int, int]:
    return grid.scale, grid.zero_point, grid.quant_min, grid.quant_max


def method_text(method: str, parameters: dict[str, int]) -> str:
    inside = ",".join(f"{name}={value}" for name, value in parameters.items())
    return f"{method}({inside})" if inside else method


def grids(seed: int, count: int) -> Iterator[tuple[Affine, Affine]]:
    """Usual grids, of 2 to 8 bits, zero points at the ends among them; then every scale there is."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        half = 2 ** (int(rng.choice([2, 3, 4, 6, 8, 8, 8])) - 1)
        zero = int(rng.choice([-half, half - 1]) if i % 3 == 0 else rng.integers(-half, half))
        x_scale, y_scale = (float32(v) for v in np.exp(rng.uniform(-8, [2, 1])).tolist())
        yield Affine(x_scale, zero, -half, half - 1), Affine(y_scale, int(rng.integers(-128, 128)), -128, 127)
    for e, f in itertools.product((-100, -30, -24, -10, 0, 7, 20, 100), (-100, -20, 0, 20, 100)):
        yield Affine(2.0**e, 0, -128, 127), Affine(2.0**f, -3, -128, 127)


@pytest.mark.parametrize(("method", "function"), CASES)
def test_constants_and_tables(method: str, function: str) -> None:
    for x, y in grids(len(method + function), 12):
        for parameters in PARAMETERS[method]:
            want = derive_unary.constants(function, method, x, y, parameters)
            text = method_text(method, parameters)
            arguments = (function, grid_tuple(x), grid_tuple(y), text)
            _, shape, values, multiplier, shift = _C.derive_unary(*arguments)
            assert (shape, Dyadic(multiplier, shift)) == (want.shape, want.requant)
            assert values == vars(want.curve)
            assert _C.derive_table(*arguments).tolist() == want.table(x, y)


@pytest.mark.parametrize("function", ["gelu", "exp", "hardswish", "square", "mish"])
def test_nnlut_tables(function: str) -> None:
    """The integers of the lines, whichever lines they are."""
    for x, y in grids(7, 8):
        for text in ("nnlut", "nnlut(entries=1)", "nnlut(entries=32,bits=10)"):
            arguments = (function, grid_tuple(x), grid_tuple(y), text)
            _, shape, values, multiplier, shift = _C.derive_unary(*arguments)
            lines = Nnlut(*(tuple(values[name]) for name in ("start", "slope", "intercept")))  # type: ignore[arg-type]
            made = Constants(lines, shape, Dyadic(multiplier, shift))
            assert list(lines.start) == sorted(set(lines.start))
            assert lines.start[0] == x.quant_min - x.zero_point
            assert _C.derive_table(*arguments).tolist() == made.table(x, y)


@pytest.mark.parametrize(("function", "entries"), [("gelu", 4), ("tanh", 3), ("hardswish", 2), ("relu", 2)])
def test_nnlut_cuts_are_the_best(function: str, entries: int) -> None:
    """Against every cut of a small grid, by the plain recursion; the fit gives up 1e-6 where cuts tie."""
    x, y = Affine(0.25, 0, -20, 19), Affine(float32(0.03), -20, -128, 127)
    values = derive_unary.targets(function, x, y)
    points = [(v, g) for v, g in zip(range(-20, 20), values, strict=True)]
    count = len(points)
    cost = {(i, j): derive_unary.line_error(points[i:j]) for j in range(count + 1) for i in range(j)}
    least = [0.0, *(cost[0, j] for j in range(1, count + 1))]
    for _ in range(entries - 1):
        least = [0.0, *(min(least[i] + cost[i, j] for i in range(j)) for j in range(1, count + 1))]
    arguments = (function, grid_tuple(x), grid_tuple(y), f"nnlut(entries={entries})")
    _, _, lines, _, shift = _C.derive_unary(*arguments)
    assert isinstance(lines["start"], list)
    assert isinstance(lines["slope"], list)
    assert isinstance(lines["intercept"], list)
    ends = [*(start + 20 for start in lines["start"]), count]
    found = sum(cost[i, j] for i, j in itertools.pairwise(ends))
    assert len(lines["start"]) <= entries
    assert found <= least[count] + 1e-5
    # the integer lines are those of least squares, on 2^s with s = shift - 30
    for j, (i, end) in enumerate(itertools.pairwise(ends)):
        real = sum(
            (g - (lines["slope"][j] * v + lines["intercept"][j]) / 2.0 ** (shift - 30)) ** 2
            for v, g in points[i:end]
        )
        assert real <= cost[i, end] + (end - i) * 0.01


@pytest.mark.parametrize("method", [name for name in methods("unary") if name != "table"])
def test_torch(method: str) -> None:
    torch = pytest.importorskip("torch")
    from pyquant import numerics
    from pyquant.torch_ops import unary_methods
    from pyquant.torch_ops.grid import Grid

    for number, (x, y) in enumerate(grids(11, 20)):
        x_grid, y_grid = Grid(*grid_tuple(x)), Grid(*grid_tuple(y))
        for function in numerics.unary_functions(method):
            if method == "nnlut" and number % 3:
                continue
            for parameters in PARAMETERS.get(method, ({}, {"entries": 3, "bits": 12})):
                text = method_text(method, parameters)
                table = numerics.derive_table(function, x_grid, y_grid, text)
                made = unary_methods.table(
                    numerics.derive_unary(function, x_grid, y_grid, text), x_grid, y_grid
                )
                assert torch.equal(made, torch.from_numpy(table).long()), (function, text, x, y)


def test_every_method_is_specified() -> None:
    assert {*derive_unary.FORMS, "nnlut", "table"} == set(methods("unary"))
    for name, defaults in derive_unary.DEFAULTS.items():
        listed = methods("unary")[name].parameters
        assert {p.name: p.default for p in listed} == defaults
    for method, forms in derive_unary.FORMS.items():
        assert set(_C.unary_names(method)) == set(forms)
    assert _C.unary_names("nnlut") == _C.unary_names("table") == _C.unary_names()
