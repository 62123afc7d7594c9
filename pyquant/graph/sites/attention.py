"""attention: scores, softmax and context as one composite site."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx

from pyquant import ops
from pyquant.config import SiteConfig
from pyquant.engine.spec import Value
from pyquant.errors import CoverageError
from pyquant.graph.aten import argument, aten, depends_on_inputs, is_float, node_argument, uses
from pyquant.graph.capture import Captured
from pyquant.graph.grid import Edge, qparams_of
from pyquant.graph.layout import BATCH, Atom, CopyNeededError, Layout, atom_of
from pyquant.graph.sites.base import Match, Outcome, Site, register
from pyquant.graph.sites.integers import integers_of, on_cpu, threads
from pyquant.numerics import derive_attention, derive_mask
from pyquant.qparams import QParams

if TYPE_CHECKING:
    from pyquant.graph.lower import Lowering


@register
class AttentionSite(Site):
    """`aten.scaled_dot_product_attention`; its name ends in ``.context``, its sub-sites in ``.scores``,
    ``.softmax``."""

    kind = "attention"
    method = "softmax"
    symmetric_operands = (0, 1, 2)
    finite_extras = False

    def __init__(
        self,
        name: str,
        config: SiteConfig,
        wide: bool,
        symmetric: bool,
        *,
        scale: float,
        is_causal: bool,
        enable_gqa: bool,
    ) -> None:
        super().__init__(name, config, wide, symmetric)
        self.scale, self.is_causal, self.enable_gqa = scale, is_causal, enable_gqa

    @classmethod
    def match(cls, captured: Captured, node: fx.Node) -> Match | str | None:
        """q, k, v of at least three axes."""
        if not uses(node, aten.scaled_dot_product_attention.default):
            return None
        q, k, v = (node_argument(node, i) for i in range(3))
        mask, causal = argument(node, 3), argument(node, 5, False)
        if q.meta["val"].dim() < 3:
            return "attention over fewer than three axes"
        if k.meta["val"].shape[-1] != v.meta["val"].shape[-1]:
            return "the head size of v differs from that of k"
        depth = int(q.meta["val"].shape[-1])
        scale = node.kwargs.get("scale")
        settings = (
            ("scale", float(scale) if scale is not None else 1.0 / math.sqrt(depth)),  # type: ignore[arg-type]
            ("is_causal", bool(node.kwargs.get("is_causal", causal))),
            ("enable_gqa", bool(node.kwargs.get("enable_gqa", False))),
        )
        mask = node.kwargs.get("attn_mask", mask)
        if isinstance(mask, fx.Node) and is_float(mask) and mask.meta["val"].dtype != torch.float32:
            return "a mask that is not float32"
        if mask in depends_on_inputs(captured.graph):
            return "its mask depends on an input"
        return Match((q, k, v), (mask,), "context", settings)

    def real(self, q: Edge, k: Edge, v: Edge, mask: Tensor | None) -> Tensor:
        """Float attention."""
        return F.scaled_dot_product_attention(
            q[0], k[0], v[0], mask, 0.0, self.is_causal, scale=self.scale, enable_gqa=self.enable_gqa
        )

    def integer(self, q: Edge, k: Edge, v: Edge, mask: Tensor | None) -> Tensor:
        """attention_s8."""
        y: Tensor = torch.ops.pyquant.attention(
            *self.grid(0, q),
            *self.grid(1, k),
            *self.grid(2, v),
            mask,
            self.is_causal,
            self.scale,
            self.config.softmax,
            *self.y_grid,
            self.approximate_gradient,
        )
        return y

    def outcomes(self, others: Iterable[Site], *args: Any) -> Iterator[Outcome]:
        """q, k and v are recovered once; what differs from method to method starts behind the scores."""
        *edges, mask = args
        tensors = [edge[0] for edge in edges]
        if self.simulated or mask is not None or not on_cpu(*tensors) or any(x.dim() != 4 for x in tensors):
            yield from super().outcomes(others, *args)
            return
        q_grid, k_grid, v_grid = grids = [self.operand_grid(i, edge) for i, edge in enumerate(edges)]
        q, k, v = (integers_of(x, grid) for x, grid in zip(tensors, grids, strict=True))
        for other in others:
            assert isinstance(other, AttentionSite)
            grid = qparams_of(other.output)
            constants = derive_attention(
                other.config.softmax, q_grid, k_grid, v_grid, grid, self.scale, q.shape[-1], k.shape[-2]
            )
            y = ops.attention(
                q,
                k,
                v,
                **constants.keywords(),
                q_zero_point=q_grid.zero_point,
                k_zero_point=k_grid.zero_point,
                v_zero_point=v_grid.zero_point,
                zero_point=grid.zero_point,
                quant_min=grid.quant_min,
                quant_max=grid.quant_max,
                causal=self.is_causal,
                threads=threads(),
            )
            yield Outcome(torch.from_numpy(y), grid.scale, grid.zero_point)

    def lower(self, to: Lowering, node: fx.Node) -> None:
        """One ATTENTION instruction that reads q, k, v with the strides they have.

        The result is stored token by token, heads side by side, so that merging the heads is free.
        """
        parts = [_by_strides(to, to.operand(node.args[i])) for i in range(3)]
        (q, q_at, (groups, heads, q_len, depth)), (k, k_at, (_, kv_heads, k_len, _)), (v, v_at, _) = parts
        if groups != parts[1][2][0] or groups != parts[2][2][0]:
            raise CoverageError(f"convert: {self.name}: q, k and v have different leading axes")
        grids = [to.grid_of(to.operand(node.args[i])) for i in range(3)]
        grid = qparams_of(self.output)
        keep, mask_add, has_mask = self._masks(to, node.args[3], grids, (groups, heads, q_len, k_len))
        constants = derive_attention(
            self.config.softmax, grids[0], grids[1], grids[2], grid, self.scale, depth, k_len, has_mask
        )
        token, group = heads * depth, heads * depth * q_len
        y = to.builder.attention(
            q,
            k,
            v,
            constants,
            grid,
            shape=(groups * q_len, token),
            groups=groups,
            heads=heads,
            kv_heads=kv_heads,
            q_len=q_len,
            k_len=k_len,
            head_dim=depth,
            q_strides=q_at,
            k_strides=k_at,
            v_strides=v_at,
            y_strides=(0, group, depth, token),
            keep=keep[0],
            keep_strides=keep[1],
            mask_add=mask_add[0],
            mask_strides=mask_add[1],
            causal=self.is_causal,
            name=self.name,
        )
        rank = len(node.meta["pq_shape"])
        axes: list[tuple[Atom, ...]] = [
            (BATCH, Atom(groups, group)),
            *[()] * (rank - 4),
            (Atom(heads, depth),),
        ]
        if rank == 3:  # [batch * heads, tokens, d]
            axes = [(BATCH, Atom(heads, depth))]
        layout = Layout(y, groups * group, ()).with_axes([*axes, (Atom(q_len, token),), (Atom(depth, 1),)])
        to.put(node, layout)

    def _masks(
        self, to: Lowering, mask: object, grids: list[QParams], shape: tuple[int, ...]
    ) -> tuple[tuple[Any, tuple[int, int, int, int]], tuple[Any, tuple[int, int, int, int]], bool]:
        """(keep, strides), (mask_add, strides), whether the constants must allow for an additive mask."""
        none = (None, (0, 0, 0, 0))
        if mask is None:
            return none, none, False
        array = to.constant(mask)
        if array is None:
            raise CoverageError(
                f"convert: {self.name}: its mask depends on an input; the engine takes constant masks"
            )
        groups = shape[0]
        array = array.reshape((1,) * max(0, 4 - array.ndim) + array.shape)
        lead = array.shape[:-3]
        if int(np.prod(lead)) not in (1, groups):
            raise CoverageError(f"convert: {self.name}: a mask of shape {array.shape} does not fit {shape}")
        array = array.reshape(-1, *array.shape[-3:])
        strides = _broadcast_strides(array.shape)
        if array.dtype == np.bool_:
            return (array.astype(np.uint8), strides), none, False
        masks = derive_mask(array, grids[0].scale, grids[1].scale, self.scale)
        return (
            (masks.keep, strides) if masks.keep is not None else none,
            (masks.mask_add, strides) if masks.mask_add is not None else none,
            True,
        )


def _broadcast_strides(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Strides of a contiguous array of four axes, 0 where an axis is 1."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(0 if size == 1 else step)
        step *= size
    a, b, c, d = reversed(strides)
    return a, b, c, d


def _by_strides(
    to: Lowering, layout: Layout
) -> tuple[Value, tuple[int, int, int, int], tuple[int, int, int, int]]:
    """(value, (offset, group, head, token), (groups, heads, tokens, d)) of an operand [.., heads, tokens,
    d]."""
    try:
        return _strided(to, layout)
    except CopyNeededError:
        pass
    try:
        return _strided(to, to.materialise(layout))
    except CopyNeededError as error:
        raise CoverageError(f"convert: an attention operand cannot be read by strides: {error}") from None


def _strided(
    to: Lowering, layout: Layout
) -> tuple[Value, tuple[int, int, int, int], tuple[int, int, int, int]]:
    axes = layout.axes
    depth = atom_of(axes[-1])
    if depth.size > 1 and depth.stride != 1:
        raise CopyNeededError("the head is not contiguous")
    token, head = atom_of(axes[-2]), atom_of(axes[-3])
    lead = [atom for axis in axes[:-3] for atom in axis if atom != BATCH]
    if len(lead) > 1:
        raise CopyNeededError("more leading axes than one of windows")
    group = lead[0] if lead else Atom(1, 0)
    where = (layout.offset, group.stride, head.stride, token.stride)
    return to.stored(layout), where, (group.size, head.size, token.size, depth.size)
