"""The registries of methods as Python sees them."""

from __future__ import annotations

import pytest

from pyquant.config import SiteConfig
from pyquant.methods import OPS, canonical, methods


@pytest.mark.parametrize("op", OPS)
def test_each_method_is_its_own_canonical_text(op: str) -> None:
    listed = methods(op)
    assert listed
    for name, method in listed.items():
        assert (method.name, method.op) == (name, op)
        assert method.reference
        assert canonical(op, f"  {name} ") == name
        for parameter in method.parameters:
            assert parameter.meaning
            assert canonical(op, f"{name}({parameter.name}={parameter.default:.6f})") == name


def test_the_default_of_a_site_is_the_first_method() -> None:
    config = SiteConfig()
    assert [getattr(config, op) for op in OPS] == [next(iter(methods(op))) for op in OPS]


@pytest.mark.parametrize(("op", "text"), [("softmax", "soft"), ("unary", ""), ("norm", "exact(a=1)")])
def test_what_is_no_method_is_refused(op: str, text: str) -> None:
    with pytest.raises(ValueError, match=rf"^{op}: expected .* got "):
        canonical(op, text)


def test_an_unknown_op_is_refused() -> None:
    with pytest.raises(ValueError, match="expected op to be softmax, unary or norm, got 'conv'"):
        methods("conv")


def test_a_site_keeps_the_canonical_text() -> None:
    assert SiteConfig(softmax=" table8 ").softmax == "table8"
    with pytest.raises(ValueError, match="softmax: expected the name of a method, got 3"):
        SiteConfig(softmax=3)  # type: ignore[arg-type]
