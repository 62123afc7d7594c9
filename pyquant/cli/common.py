"""What the commands share: the application, errors of one line, tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import typer

__all__ = ["app", "fail", "failing", "table"]

app = typer.Typer(
    name="pyquant",
    help="Quantize a PyTorch model to integers, and run exactly what you simulated.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def fail(message: object) -> NoReturn:
    """One line on standard error, and exit code 2."""
    typer.echo(f"pyquant: {' '.join(str(message).split())}", err=True)
    raise typer.Exit(2)


@contextmanager
def failing() -> Iterator[None]:
    """What the library raises for bad input and bad files, as `fail`."""
    try:
        yield
    except typer.Exit:  # which is a RuntimeError
        raise
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else error)
    except (ImportError, RuntimeError, TypeError, ValueError) as error:
        fail(error)


def table(rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as their longest cell."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)
