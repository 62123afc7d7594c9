"""The weights that the study of pair-safe rounding compares: within the promise, and the nearest that are."""

import itertools

import numpy as np
import pytest

from benchmarks.study_pair_safe import shrink


def load(w: int) -> int:
    return w + 1 if w >= 0 else -w


@pytest.mark.parametrize("most", [256, 128, 85, 20])
def test_pairs_are_the_nearest_within_the_promise(most: int) -> None:
    rng = np.random.default_rng(most)
    pairs = np.concatenate([rng.integers(-127, 128, (40, 2)), [[127, 127], [-127, 127], [127, 0], [0, -127]]])
    for (a, b), (got_a, got_b) in zip(pairs, shrink(pairs.astype(np.int8), most).astype(int), strict=True):
        assert load(got_a) + load(got_b) <= most
        inwards = itertools.product(range(abs(a) + 1), range(abs(b) + 1))
        distances = [(abs(a) - x) ** 2 + (abs(b) - y) ** 2 for x, y in inwards if x + y + 2 <= most]
        assert (a - got_a) ** 2 + (b - got_b) ** 2 == min(distances)


def test_any_weights_are_safe_as_they_are() -> None:
    every = np.array(list(itertools.product(range(-127, 128), repeat=2)), np.int8)
    np.testing.assert_array_equal(shrink(every, 256), every)
