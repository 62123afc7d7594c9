"""Layouts against NumPy: any chain of views reads the same elements."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyquant.graph.layout import BATCH, Atom, CopyNeededError, Layout, atom_of, dense_layout

BATCHES = 3


def read(layout: Layout, stored: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The edge that a layout makes of stored [batch, size] elements: by definition, not by the class's own
    code."""
    atoms = [atom for axis in layout.axes for atom in axis]
    index = np.zeros([BATCHES if a == BATCH else a.size for a in atoms], np.int64) + layout.offset
    sample = np.zeros_like(index)
    for place, atom in enumerate(atoms):
        counter = np.arange(index.shape[place]).reshape([-1 if i == place else 1 for i in range(len(atoms))])
        index = index + (0 if atom == BATCH else counter * atom.stride)
        sample = sample + (counter if atom == BATCH else 0)
    lengths = [math.prod(BATCHES if a == BATCH else a.size for a in axis) for axis in layout.axes]
    return stored[sample, index].reshape(lengths)


def splits(data: st.DataObject, total: int) -> list[int]:
    """A random factorisation."""
    sizes = []
    while total > 1 and len(sizes) < 3:
        sizes.append(data.draw(st.sampled_from([d for d in range(1, total + 1) if total % d == 0])))
        total //= sizes[-1]
    return [*sizes, total]


@given(st.data())
def test_chains_of_views(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4))
    stored = np.arange(BATCHES * math.prod(shape)).reshape(BATCHES, -1)
    edge = stored.reshape(BATCHES, *shape)
    layout = dense_layout("value", [-1, *shape])
    assert layout.standard
    for _ in range(data.draw(st.integers(1, 6))):
        kind = data.draw(
            st.sampled_from(["permute", "reshape", "slice", "select", "expand", "unsqueeze", "squeeze"])
        )
        try:
            layout, edge = step(data, kind, layout, edge)
        except CopyNeededError:
            # Then a copy must help wherever the batch is an axis of its own.
            stored = read(layout, stored)
            assert np.array_equal(stored, edge)
            at = layout.batch_place()[0]
            stored = np.moveaxis(edge, at, 0).reshape(BATCHES, -1)
            layout = layout.compact("copy")
        assert np.array_equal(read(layout, stored), edge)
        assert layout.shape == tuple(
            -1 if i == layout.batch_place()[0] else n for i, n in enumerate(edge.shape)
        )
        if layout.dense:
            assert sorted(a.stride for a in layout.atoms) == sorted(
                layout.onto("other").atoms[i].stride for i in layout.physical()
            )


def step(data: st.DataObject, kind: str, layout: Layout, edge: np.ndarray[Any, Any]) -> tuple[Layout, Any]:
    rank, batch = edge.ndim, layout.batch_place()[0]
    plain = [i for i in range(rank) if i != batch]
    if kind == "permute":
        order = data.draw(st.permutations(range(rank)))
        return layout.permute(order), edge.transpose(order)
    if kind == "reshape":
        # The batch axis stays an axis of its own; what lies on either side is regrouped.
        left, right = math.prod(edge.shape[:batch]), math.prod(edge.shape[batch + 1 :])
        a, b = splits(data, left), splits(data, right)
        return layout.reshape([*a, -1, *b]), edge.reshape([*a, BATCHES, *b])
    if kind == "unsqueeze":
        dim = data.draw(st.integers(0, rank))
        return layout.unsqueeze(dim), np.expand_dims(edge, dim)
    if not plain or edge.ndim > 8:
        return layout, edge
    dim = data.draw(st.sampled_from(plain))
    size = edge.shape[dim]
    if kind == "slice":
        start = data.draw(st.integers(0, size - 1))
        stop, pace = data.draw(st.integers(start + 1, size + 2)), data.draw(st.integers(1, 3))
        cut = [slice(None)] * rank
        cut[dim] = slice(start, stop, pace)
        return layout.slice(dim, start, stop, pace), edge[tuple(cut)]
    if kind == "select":
        index = data.draw(st.integers(-size, size - 1))
        return layout.select(dim, index), np.take(edge, index, axis=dim)
    if kind == "squeeze":
        return layout.squeeze([dim]), edge.squeeze(dim) if size == 1 else edge
    if size != 1:
        return layout, edge
    wanted = [*edge.shape]
    wanted[dim] = data.draw(st.integers(1, 3))
    signed = [-1 if i == batch else n for i, n in enumerate(wanted)]
    return layout.expand(signed), np.broadcast_to(edge, wanted)


def test_merged_batch_keeps_its_order() -> None:
    """[tokens * batch] and [batch * tokens] have one shape but not one order; a copy keeps what it copies."""
    stored = np.arange(BATCHES * 8).reshape(BATCHES, 8)
    merged = dense_layout("value", [-1, 4, 2]).permute([1, 0, 2]).reshape([-4, 2])
    assert merged.batch_place() == (0, 4, 1)
    assert np.array_equal(
        read(merged, stored), stored.reshape(BATCHES, 4, 2).transpose(1, 0, 2).reshape(-1, 2)
    )
    half = merged.slice(1, 1, 2, 1).compact("copy")
    assert half.batch_place() == (0, 4, 1)
    assert np.array_equal(read(half, stored[:, 1::2]), read(merged, stored)[:, 1:])
    with pytest.raises(CopyNeededError):
        merged.reshape([-1, 4, 2])


def test_rows_of_another_length() -> None:
    """A linear layer over permuted tokens writes its rows where the input had them."""
    layout = dense_layout("x", [-1, 2, 3, 4]).permute([0, 2, 1, 3])
    assert layout.rows
    assert not layout.standard
    wide = layout.with_rows("y", 5)
    stored = np.arange(BATCHES * 30).reshape(BATCHES, 30)
    assert wide.size == 30
    assert np.array_equal(read(wide, stored), stored.reshape(BATCHES, 2, 3, 5).transpose(0, 2, 1, 3))
    assert not dense_layout("x", [-1, 2, 3]).permute([0, 2, 1]).rows


def test_constants_and_atoms() -> None:
    stored = np.arange(24, dtype=np.int8)
    layout = dense_layout("c", [2, 3, 4]).permute([2, 0, 1]).slice(0, 1, 4, 2)
    assert np.array_equal(layout.array(stored), stored.reshape(2, 3, 4).transpose(2, 0, 1)[1:4:2])
    assert atom_of((BATCH, Atom(3, 4))) == Atom(3, 4)
    assert atom_of(()) == Atom(1, 0)
    with pytest.raises(CopyNeededError, match="several atoms"):
        atom_of((Atom(2, 8), Atom(3, 1)))


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        ([-1, 5], "cuts across"),
        ([-1, 6, 2], "no elements left"),
        ([-1, 3], "left over"),
        ([3, -2], "batch lies inside"),
        ([-1, 0], "empty"),
    ],
)
def test_impossible_shapes(shape: list[int], why: str) -> None:
    with pytest.raises(CopyNeededError, match=why):
        dense_layout("x", [-1, 6]).reshape(shape)
