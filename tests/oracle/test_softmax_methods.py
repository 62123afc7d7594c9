"""How far the published softmax methods are from the real functions, and from the figures of their papers."""

from __future__ import annotations

import numpy as np
import pytest

from pyquant.methods import methods
from tests.examples.paths import load
from tests.spec import softmax

attention_sqnr = load("attention_sqnr")


def relative(values: list[int], step: float, far: float) -> tuple[float, float]:
    """Largest absolute and relative error of E(u) / E(0) against e^-x for x < far."""
    u = np.arange(int(far / step))
    real = np.exp(-u * step)
    error = np.array(values)[: len(u)] / values[0] - real
    return float(np.abs(error).max()), float((np.abs(error) / real).max())


def test_shift_exponential_of_ivit() -> None:
    """4.4e-2 and 7.9 % for x > -5; the shifts round x up by less than two steps, which adds as much."""
    step = 2.0**-12
    absolute, share = relative([softmax.shift_exp(u, step, 15) for u in range(int(5 / step))], step, 5.0)
    assert absolute == pytest.approx(4.389e-2, abs=2 * step)
    assert share == pytest.approx(7.906e-2, abs=2 * step)


def test_a_straight_line_on_an_octave() -> None:
    """With an exact log2(e), as QFlash has it, 1 - p / 2 is at most 6.15 % above 2^-p."""
    step = np.log(2) / 4096
    line = [(4096 - (u % 4096) / 2) / 2 ** (u // 4096) for u in range(int(5 / step))]
    real = np.exp(-np.arange(len(line)) * step)
    assert np.max(np.array(line) / 4096 / real - 1) == pytest.approx(0.0615, abs=1e-4)


def test_polynomial_of_ibert() -> None:
    """1.9e-3 with the constants of the released code; a step of 2^-12 adds up to a step an octave."""
    step = 2.0**-12
    values = [softmax.i_exp(u, 12, 30, 2**20 - 1) for u in range(int(11 / step))]
    absolute, _ = relative(values, step, 11.0)
    assert 1.9e-3 < absolute < 2.1e-3 + 2 * step


def test_sqnr_of_attention() -> None:
    """The figures of the page, on two of its ten seeds: beside the ceiling of the same seeds."""
    found = attention_sqnr.measure(2)
    ceiling = np.array(found["float64 softmax (ceiling)"])
    assert ((ceiling > 37.0) & (ceiling < 37.7)).all()
    below = {name: float(np.mean(ceiling - values)) for name, values in found.items()}
    assert set(methods("softmax")) <= set(below)
    assert 0 <= below["table16"] < 0.3
    assert 0 <= below["table8"] < 1.6
    expected = {"ibert": 35.0, "index": 32.06, "qflash, truncated to int8": 32.5, "INT-FlashAttention": 36.6}
    for name, published in expected.items():
        assert np.mean(found[name]) == pytest.approx(published, abs=0.4), name
    worse = ["ibert(bits=15)", "ibert", "iptq", "qflash", "ivit", "sole", "fqvit"]
    assert [below[name] for name in worse] == sorted(below[name] for name in worse)


def test_the_last_code_of_fqvit_hardly_matters() -> None:
    """Code 15 weighs nothing in s16: less than 0.01 dB on this test."""
    problem = attention_sqnr.make_problem(0)
    p, total = attention_sqnr.weigh(problem, "fqvit")
    method = softmax.fqvit()
    e = np.array(method.table())
    distance = problem.scores.max(axis=-1, keepdims=True) - problem.scores
    u = np.floor(distance * problem.score_unit * 512 + 0.5).astype(np.int64)
    sums = e[np.minimum(u, len(e) - 1)]
    code = np.vectorize(lambda a, b: softmax.log_code(int(b), int(a)) if a else 99)(
        sums[0, :20], sums[0, :20].sum(axis=-1, keepdims=True)
    )
    value = problem.v[0].astype(np.float64)
    full = np.where(code <= 15, 2.0 ** -code.astype(float), 0.0) @ value
    ours = (p[0, :20].astype(np.float64) @ value) / total[0, :20, None]
    exact = (problem.exact[0, :20]) / problem.scales[2]
    errors = [np.linalg.norm(exact - x) for x in (full, ours)]
    assert abs(20 * np.log10(errors[0] / errors[1])) < 0.01
