"""How an op of the ``pyquant`` namespace is registered: one call, one block per op.

Schema, fake, autograd, autocast rule and pure-torch body sit together in the module of the op. The
C shim, where it is loaded, adds an implementation for the CPU key only; every other device, and a
build without the shim, runs the body (``CompositeExplicitAutograd``). Both give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

__all__ = ["LIBRARY", "autocast_off", "define"]

_torch_library: Any = torch.library  # its classes have no annotations
LIBRARY = _torch_library.Library("pyquant", "FRAGMENT")

_AUTOCAST_KEYS = ("AutocastCPU", "AutocastCUDA")


def define(
    schema: str,
    body: Callable[..., Any],
    fake: Callable[..., Any],
    setup_context: Callable[..., None] | None = None,
    backward: Callable[..., Any] | None = None,
) -> None:
    """Register one op.

    Parameters
    ----------
    schema : str
        Name and signature, without the namespace.
    body : callable
        The definition in torch: any device, no shim.
    fake : callable
        Shapes and dtypes only; it makes the same checks of metadata as the body.
    setup_context, backward : callable, optional
        As :func:`torch.library.register_autograd` takes them, both or neither, for an op whose arguments are
        all positional. Without them the op is invisible to autograd (observers mutate their state and
        return nothing).
    """
    name = schema[: schema.index("(")]
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    LIBRARY.impl(name, body, "CompositeExplicitAutograd")
    torch.library.register_fake(f"pyquant::{name}", fake, lib=LIBRARY)
    if backward is None:
        LIBRARY.impl(name, torch.library.fallthrough_kernel, "Autograd")
    else:
        assert setup_context is not None, f"{name}: a gradient without what it is computed from"
        LIBRARY.impl(name, _autograd(name, setup_context, backward), "Autograd", with_keyset=True)
    _switch_autocast_off(name)


def _autograd(name: str, setup_context: Callable[..., None], backward: Callable[..., Any]) -> Any:
    """The kernel of the key Autograd: a node of the graph where an operand asks for its gradient.

    What :func:`torch.library.register_autograd` makes, without keyword-only arguments and lists of tensors
    (our schemas have none): those cost more than a kernel's pass over 100,000 elements.
    """
    op = getattr(torch.ops.pyquant, name).default
    defaults = tuple(argument.default_value for argument in op._schema.arguments)
    below, after = torch._C._AutoDispatchBelowAutograd, torch._C._after_autograd_keyset

    def forward(ctx: Any, *args: Any) -> Any:
        *operands, keys = args
        with below():
            result = op.redispatch(keys & after, *operands)
            # The dispatcher leaves out arguments that are equal to their defaults.
            setup_context(ctx, (*operands, *defaults[len(operands) :]), result)
        return result

    def formula(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        found = backward(ctx, *grads)
        return (*found, None) if isinstance(found, tuple) else (found, None)

    methods = {"forward": staticmethod(forward), "backward": staticmethod(formula)}
    node: Any = type(f"pyquant_{name}", (torch.autograd.Function,), methods)

    def kernel(keys: Any, *args: Any) -> Any:
        if torch.is_grad_enabled() and torch._C._any_requires_grad(*args):
            return node.apply(*args, keys)
        with below():
            return op.redispatch(keys & after, *args)

    return kernel


def _switch_autocast_off(name: str) -> None:
    """Autocast may neither cast an edge on its way in nor anything inside the op.

    An s16 edge rounded to bfloat16 is wrong in 96 % of its values, so a half-precision edge is an
    error (the checks of the op say so), and never a silent cast.
    """
    op = getattr(torch.ops.pyquant, name)
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)
    keys = keys | torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCUDA)

    def rule(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(keys):
            return op(*args, **kwargs)

    for key in _AUTOCAST_KEYS:
        LIBRARY.impl(name, rule, key)


def autocast_off(like: torch.Tensor) -> AbstractContextManager[Any]:
    """No autocast on the device of `like`: backward formulas run in float32 wherever they are called."""
    kind = like.device.type
    if torch.is_autocast_enabled(kind):
        return torch.autocast(device_type=kind, enabled=False)
    return nullcontext()
