"""CPU tensors as arguments of an IntegerModel."""

from __future__ import annotations

import os

import numpy as np
import pytest

from tests.safety.programs import arguments, block

if "libasan" in os.environ.get("LD_PRELOAD", ""):
    pytest.skip("torch is not built for the address sanitizer", allow_module_level=True)
torch = pytest.importorskip("torch")


def test_tensors_are_taken_as_arrays_are():
    model, given = block(), arguments()
    tensors = {name: torch.from_numpy(array) for name, array in given.items()}
    y = model(**tensors)
    assert isinstance(y.logits, np.ndarray)
    assert np.array_equal(y.logits, model(**given).logits)
    tensors["x"].requires_grad_()
    tensors["ids"] = tensors["ids"].T.contiguous().T
    assert np.array_equal(model(*tensors.values()).logits, y.logits)


def test_other_tensors_are_refused():
    model, given = block(), arguments()
    with pytest.raises(TypeError, match=r"x of dtype float32, got torch\.bfloat16"):
        model(**{**given, "x": torch.zeros(2, 5, 8, dtype=torch.bfloat16)})
    with pytest.raises(TypeError, match="x on the CPU, got a tensor on meta"):
        model(**{**given, "x": torch.zeros(2, 5, 8, device="meta")})
