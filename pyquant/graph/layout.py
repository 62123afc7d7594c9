"""Where the elements of an edge lie in a program's memory, so that permutes, views and slices cost nothing.

An axis of an edge is a product of *atoms*, each with a size and a stride in the stored value; the batch is an
atom without a size, always outermost in storage. ``permute`` reorders axes, ``reshape`` regroups atoms
(splitting one where it must), ``slice`` moves the offset. Only what cannot be said in this way needs a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pyquant import ops
from pyquant.qparams import QParams

__all__ = ["BATCH", "Atom", "CopyNeededError", "Layout", "Stored", "atom_of", "dense_layout", "quantized"]


class CopyNeededError(Exception):
    """The view cannot be expressed by atoms of this storage."""


@dataclass(frozen=True)
class Atom:
    """`size` elements, `stride` apart. `BATCH` is the one with size 0."""

    size: int
    stride: int


BATCH = Atom(0, 0)
Axis = tuple[Atom, ...]


def _merged(axis: Axis) -> Axis:
    """Neighbours that follow each other in storage become one; size 1 vanishes."""
    out: list[Atom] = []
    for atom in axis:
        if atom.size == 1:
            continue
        last = out[-1] if out else None
        if last is not None and BATCH not in (last, atom) and last.stride == atom.stride * atom.size:
            out[-1] = Atom(last.size * atom.size, atom.stride)
        else:
            out.append(atom)
    return tuple(out)


def _length(axis: Axis) -> int:
    """Elements per sample."""
    return int(np.prod([a.size for a in axis if a is not BATCH and a != BATCH], dtype=np.int64))


@dataclass(frozen=True)
class Layout:
    """An edge as a strided view of a stored value.

    Parameters
    ----------
    value : Any
        What is stored (the lowering's handle).
    size : int
        Elements of the stored value per sample.
    axes : tuple of tuple of Atom
        One entry an axis of the edge.
    offset : int
        First element.
    """

    value: Any
    size: int
    axes: tuple[Axis, ...]
    offset: int = 0

    def with_axes(self, axes: Sequence[Axis]) -> Layout:
        """The same value seen through other axes."""
        return replace(self, axes=tuple(_merged(axis) for axis in axes))

    @property
    def shape(self) -> tuple[int, ...]:
        """c for a plain axis of c, -c for one of c * batch."""
        return tuple(-_length(axis) if BATCH in axis else _length(axis) for axis in self.axes)

    @property
    def atoms(self) -> Axis:
        """All atoms but the batch, in the order of the axes."""
        return tuple(atom for axis in self.axes for atom in axis if atom != BATCH)

    # -- views -----------------------------------------------------------------------------------------------

    def permute(self, order: Sequence[int]) -> Layout:
        """Reorder axes."""
        return self.with_axes([self.axes[i] for i in order])

    def reshape(self, shape: Sequence[int]) -> Layout:
        """Regroup atoms into axes of these sizes (-c for c * batch)."""
        rest = [atom for axis in self.axes for atom in axis]
        axes: list[Axis] = []
        for size in shape:
            batch, left = size < 0, abs(size)
            axis: list[Atom] = []
            while batch or left != 1:
                if left == 0:
                    raise CopyNeededError("an empty axis")
                if not rest:
                    raise CopyNeededError(f"no elements left for an axis of {size}")
                atom = rest.pop(0)
                if atom == BATCH:
                    if not batch:
                        raise CopyNeededError("the batch lies inside another axis")
                    batch = False
                    axis.append(atom)
                elif left == 1:
                    raise CopyNeededError("elements lie before the batch")
                elif left % atom.size == 0:
                    left //= atom.size
                    axis.append(atom)
                elif atom.size % left == 0:
                    inner = atom.size // left
                    axis.append(Atom(left, atom.stride * inner))
                    rest.insert(0, Atom(inner, atom.stride))
                    left = 1
                else:
                    raise CopyNeededError(f"an axis of {size} cuts across {atom.size}")
            axes.append(tuple(axis))
        if rest:
            raise CopyNeededError("elements are left over")
        return self.with_axes(axes)

    def expand(self, shape: Sequence[int]) -> Layout:
        """Repeat axes of 1 (new ones in front) to these sizes."""
        missing = len(shape) - len(self.axes)
        axes: list[Axis] = [()] * missing + list(self.axes)
        for i, size in enumerate(shape):
            if axes[i] == () and size not in (1, -1):
                axes[i] = (BATCH, Atom(-size, 0)) if size < 0 else (Atom(size, 0),)
            elif axes[i] == () and size == -1:
                axes[i] = (BATCH,)
        return self.with_axes(axes)

    def unsqueeze(self, dim: int) -> Layout:
        """A new axis of 1."""
        dim %= len(self.axes) + 1
        return self.with_axes([*self.axes[:dim], (), *self.axes[dim:]])

    def squeeze(self, dims: Sequence[int]) -> Layout:
        """Drop these axes where they are 1."""
        dims = [d % len(self.axes) for d in dims]
        return self.with_axes([axis for i, axis in enumerate(self.axes) if i not in dims or axis != ()])

    def _single(self, dim: int) -> Atom:
        axis = self.axes[dim]
        if axis == ():
            return Atom(1, 0)
        if len(axis) > 1 or axis[0] == BATCH:
            raise CopyNeededError("a slice across atoms")
        return axis[0]

    def slice(self, dim: int, start: int, stop: int, step: int) -> Layout:
        """start:stop:step of one axis."""
        atom = self._single(dim)
        start, stop, step = slice(start, stop, step).indices(atom.size)
        axes = list(self.axes)
        axes[dim] = (Atom(len(range(start, stop, step)), atom.stride * step),)
        return replace(self.with_axes(axes), offset=self.offset + start * atom.stride)

    def select(self, dim: int, index: int) -> Layout:
        """One index of one axis, which goes away."""
        atom = self._single(dim)
        index = range(atom.size)[index]
        axes = [axis for i, axis in enumerate(self.axes) if i != dim]
        return replace(self.with_axes(axes), offset=self.offset + index * atom.stride)

    # -- questions -------------------------------------------------------------------------------------------

    @property
    def dense(self) -> bool:
        """True if the axes visit every stored element exactly once, in any order."""
        expected = 1
        for atom in sorted(self.atoms, key=lambda a: a.stride):
            if atom.stride != expected:
                return False
            expected *= atom.size
        return self.offset == 0 and expected == self.size

    @property
    def standard(self) -> bool:
        """True if dense and stored in the order of the axes."""
        strides = [atom.stride for atom in self.atoms]
        return self.dense and strides == sorted(strides, reverse=True)

    @property
    def rows(self) -> bool:
        """True if dense, and the last axis is one run of neighbours: a matrix of rows in some order."""
        if not self.dense or not self.axes:
            return False
        last = self.axes[-1]
        return last == () or (len(last) == 1 and last[0] != BATCH and last[0].stride == 1)

    def physical(self) -> list[int]:
        """Indices into `atoms`, outermost in storage first."""
        atoms = self.atoms
        return sorted(range(len(atoms)), key=lambda i: -atoms[i].stride)

    def batch_place(self) -> tuple[int, int, int]:
        """(axis, outer, inner): the batch lies on that axis, between outer and inner elements of it; axis -1:
        nowhere."""
        for i, axis in enumerate(self.axes):
            if BATCH in axis:
                at = axis.index(BATCH)
                return i, _length(axis[:at]), _length(axis[at + 1 :])
        return -1, 1, 1

    # -- derived layouts -------------------------------------------------------------------------------------

    def compact(self, value: Any) -> Layout:
        """A value that holds exactly these elements, stored in the order of the axes."""
        step, axes = 1, []
        for axis in reversed(self.axes):
            fresh: list[Atom] = []
            for atom in reversed(axis):
                fresh.append(atom if atom == BATCH else Atom(atom.size, step))
                step *= 1 if atom == BATCH else atom.size
            axes.append(tuple(reversed(fresh)))
        return Layout(value, step, ()).with_axes(list(reversed(axes)))

    def onto(self, value: Any) -> Layout:
        """Another value with the same number of elements, stored in the same order. Precondition: `dense`."""
        return replace(self, value=value)

    def with_rows(self, value: Any, channels: int) -> Layout:
        """A value with rows of another length in the same order. Precondition: `rows`."""
        old = _length(self.axes[-1])
        lead = [
            tuple(a if a == BATCH else Atom(a.size, a.stride // old * channels) for a in axis)
            for axis in self.axes[:-1]
        ]
        return Layout(value, self.size // old * channels, tuple(lead)).with_axes(
            [*lead, (Atom(channels, 1),)]
        )

    def array(self, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The elements of a stored constant in the shape of the edge, with the batch as 1."""
        atoms = [atom for axis in self.axes for atom in axis]
        flat = stored.reshape(-1)[self.offset :]
        item = flat.itemsize
        view = np.lib.stride_tricks.as_strided(
            flat,
            [1 if a == BATCH else a.size for a in atoms],
            [0 if a == BATCH else a.stride * item for a in atoms],
            writeable=False,
        )
        return np.ascontiguousarray(view.reshape([_length(axis) for axis in self.axes]))


@dataclass(frozen=True, eq=False)
class Stored:
    """Integers of a constant edge, not yet in a program."""

    array: npt.NDArray[Any]
    grid: QParams


def quantized(array: npt.NDArray[Any], grid: QParams) -> npt.NDArray[Any]:
    """A float constant on a grid."""
    return ops.quantize(
        np.ascontiguousarray(array, np.float32),
        grid.scale,
        grid.zero_point,
        quant_min=grid.quant_min,
        quant_max=grid.quant_max,
        dtype=grid.dtype,
    )


def atom_of(axis: Axis) -> Atom:
    """The one plain atom of an axis (size 1, stride 0 if there is none). CopyNeededError if there are
    several."""
    plain = [a for a in axis if a != BATCH]
    if len(plain) > 1:
        raise CopyNeededError("several atoms")
    return plain[0] if plain else Atom(1, 0)


def dense_layout(value: Any, shape: Sequence[int]) -> Layout:
    """A fresh value stored in the order of its axes, batch outermost. Sizes: c, or -c for c * batch."""
    size, axes = 1, []
    for length in reversed(list(shape)):
        atom = Atom(abs(length), size)
        axes.append((BATCH, atom) if length < 0 else (atom,))
        size *= abs(length)
    return Layout(value, size, ()).with_axes(list(reversed(axes)))
