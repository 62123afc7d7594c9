"""How an op of the ``pyquant`` namespace is registered: one call, one block per op.

Schema, fake, autograd, autocast rule and pure-torch body sit together in the module of the op. The
C shim, where it is loaded, adds an implementation for the CPU key only; every other device, and a
build without the shim, runs the body (``CompositeExplicitAutograd``). Both give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
        As :func:`torch.library.register_autograd` takes them. Without them the op is invisible to
        autograd (observers mutate their state and return nothing).
    """
    name = schema[: schema.index("(")]
    LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    LIBRARY.impl(name, body, "CompositeExplicitAutograd")
    torch.library.register_fake(f"pyquant::{name}", fake, lib=LIBRARY)
    if backward is not None:
        torch.library.register_autograd(
            f"pyquant::{name}", backward, setup_context=setup_context, lib=LIBRARY
        )
    else:
        LIBRARY.impl(name, torch.library.fallthrough_kernel, "Autograd")
    _switch_autocast_off(name)


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


@contextmanager
def autocast_off(like: torch.Tensor) -> Iterator[None]:
    """No autocast on the device of `like`: backward formulas run in float32 wherever they are called."""
    with torch.autocast(device_type=like.device.type, enabled=False):
        yield
