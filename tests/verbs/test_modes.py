"""set_mode and mode."""

from __future__ import annotations

import pytest
import torch

import pyquant as pq
from tests.verbs.models import mlp

X = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def prepared() -> pq.Prepared:
    """Calibrated."""
    return pq.quantize(mlp(), [X], progress=False)


def modes(prepared: pq.Prepared) -> dict[str, str]:
    return {name: site.mode for name, site in prepared.sites().items()}


def test_select_takes_a_glob(prepared: pq.Prepared) -> None:
    pq.set_mode(prepared, "float", "*st")
    assert modes(prepared) == {"x": "quantized", "first": "float", "act": "quantized", "last": "float"}
    pq.set_mode(prepared, "frozen")
    assert set(modes(prepared).values()) == {"frozen"}


def test_modes_compute_what_they_say(prepared: pq.Prepared) -> None:
    model = mlp()
    with torch.no_grad():
        quantized = prepared(X)
        pq.set_mode(prepared, "frozen")
        assert torch.equal(prepared(X), quantized)
        pq.set_mode(prepared, "float")
        torch.testing.assert_close(prepared(X), model(X))
        for site in prepared.sites().values():
            site.observer.reset()
        pq.set_mode(prepared, "observe")
        torch.testing.assert_close(prepared(X), model(X))
    assert not torch.equal(quantized, model(X))
    assert not any(site.observer.empty for site in prepared.sites().values())


def test_a_block_restores(prepared: pq.Prepared) -> None:
    pq.set_mode(prepared, "frozen", "act")
    before = modes(prepared)
    with pq.mode(prepared, "float", "first") as inside:
        assert inside is prepared
        assert modes(prepared) == {**before, "first": "float"}
        with pq.mode(prepared, "observe"):
            assert set(modes(prepared).values()) == {"observe"}
        assert modes(prepared) == {**before, "first": "float"}
    assert modes(prepared) == before


def test_a_block_restores_after_an_exception(prepared: pq.Prepared) -> None:
    before = modes(prepared)
    with pytest.raises(ZeroDivisionError), pq.mode(prepared, "float"):
        raise ZeroDivisionError
    assert modes(prepared) == before


@pytest.mark.parametrize("name", ["quantized", "frozen"])
def test_integers_need_scales(name: str) -> None:
    fresh = pq.prepare(mlp(), X[:2])
    with pytest.raises(pq.CalibrationError, match="site 'x' and 3 more has no scale yet; calibrate first"):
        pq.set_mode(fresh, name)
    with pytest.raises(pq.CalibrationError, match="site 'first' has no scale"), pq.mode(fresh, name, "first"):
        pass
    assert set(modes(fresh).values()) == {"float"}


def test_wrong_names(prepared: pq.Prepared) -> None:
    before = modes(prepared)
    with pytest.raises(
        ValueError, match="expected one of float, observe, weights, quantized, frozen, got 'int8'"
    ):
        pq.set_mode(prepared, "int8")
    with pytest.raises(ValueError, match=r"'no\.\*' matches no site; sites are named like x, first, act"):
        pq.set_mode(prepared, "float", "no.*")
    assert modes(prepared) == before
