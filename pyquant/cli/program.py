"""``pyquant inspect``, ``run`` and ``profile``: a saved program."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from pyquant.cli.common import app, fail, table
from pyquant.engine import IntegerModel
from pyquant.engine.spec import Value
from pyquant.errors import ProgramError
from pyquant.ops import quantize

__all__ = ["inspect", "profile", "run"]

ModelFile = Annotated[Path, typer.Argument(metavar="FILE", help="What IntegerModel.save wrote.")]


def _load(file: Path) -> IntegerModel:
    try:
        return IntegerModel.load(file)
    except ProgramError as error:
        fail(f"{file}: {error}")
    except OSError as error:
        fail(f"{file}: {error.strerror or error}")


def _describe(value: Value) -> tuple[str, str, str]:
    sizes = ", ".join([*(["batch"] if value.batched else []), *map(str, value.shape)])
    grid = "" if value.grid is None else f"scale {value.scale:.6g}, zero point {value.zero_point}"
    return f"({sizes})", value.dtype, grid


@app.command()
def inspect(
    file: ModelFile,
    brief: Annotated[bool, typer.Option("--brief", help="Leave the table of instructions out.")] = False,
) -> None:
    """Inputs, outputs, instructions and sizes of a program."""
    model = _load(file)
    spec = model.spec
    values = spec.values
    rows = [("input", values[i].name, *_describe(values[i])) for i in spec.inputs]
    rows += [("output", values[i].name, *_describe(values[i])) for i in spec.outputs]
    typer.echo(table(rows))
    if not brief:
        steps = [
            (number, step.op, values[step.output].name, *_describe(values[step.output]))
            for number, step in enumerate(spec.instructions)
        ]
        typer.echo("\n" + table([("#", "op", "site", "shape", "type", "grid"), *steps]))
    counts = Counter(step.op for step in spec.instructions)
    ops = ", ".join(f"{n} {op}" for op, n in counts.most_common())
    constants: Counter[str] = Counter()
    for value in values:
        if value.kind == "const":
            constants[value.dtype] += value.size * np.dtype(value.dtype).itemsize
    rest = ", ".join(f"{dtype} {size:,}" for dtype, size in constants.most_common())
    summary = [
        ("instructions", f"{len(spec.instructions)}: {ops}"),
        ("file", f"{file.stat().st_size:,} bytes"),
        ("constants", f"{sum(constants.values()):,} bytes" + (f" ({rest})" if rest else "")),
        ("coverage", model.coverage().summary()),
        ("digest", model.digest()),
    ]
    typer.echo("\n" + table(summary))


@app.command()
def run(
    file: ModelFile,
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT.npy...", help="An array for each input.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help=".npy, or .npz for several outputs.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Default: OMP_NUM_THREADS, else all.")] = None,
    integers: Annotated[bool, typer.Option("--integers", help="Integers out, and in where given.")] = False,
    batch: Annotated[
        int, typer.Option(min=1, help="Samples at a time; results do not depend on it, working memory does.")
    ] = 64,
) -> None:
    """Run a program on stored arrays."""
    model = _load(file)
    model.set_num_threads(threads)
    arrays = [_read_array(path) for path in inputs]
    try:
        outputs = _run(model, arrays, integers, batch)
    except (TypeError, ValueError, IndexError) as error:
        fail(error)
    for name, array in outputs.items():
        typer.echo(f"{name}: {array.dtype} {array.shape}")
        if array.ndim == 2 and array.size:
            top = array.argmax(axis=1)
            typer.echo(f"  largest at {', '.join(map(str, top[:10]))}{', ...' if len(top) > 10 else ''}")
    if out is not None:
        _write(out, outputs)


@app.command()
def profile(
    file: ModelFile,
    inputs: Annotated[
        list[Path] | None, typer.Argument(metavar="[INPUT.npy...]", help="Default: integers are made up.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Samples where inputs are made up.")] = 1,
    threads: Annotated[int | None, typer.Option(min=1, help="Default: OMP_NUM_THREADS, else all.")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Times are medians of so many runs.")] = 10,
) -> None:
    """Time, multiply-adds, bytes and share of the machine's limit for each step of a program."""
    model = _load(file)
    model.set_num_threads(threads)
    arrays = [_read_array(path) for path in inputs or ()]
    try:
        result = model.profile(*arrays, repeat=repeat, batch=None if arrays else batch)
    except (TypeError, ValueError, IndexError) as error:
        fail(error)
    typer.echo(str(result))


def _read_array(path: Path) -> NDArray[Any]:
    try:
        with open(path, "rb") as stored:  # not np.load, which also opens archives and pickles
            array: NDArray[Any] = np.lib.format.read_array(stored, allow_pickle=False)
    except OSError as error:
        fail(f"{path}: {error.strerror or error}")
    except (ValueError, EOFError) as error:
        fail(f"{path}: {error}")
    return array


def _run(
    model: IntegerModel, arrays: list[NDArray[Any]], integers: bool, batch: int
) -> dict[str, NDArray[Any]]:
    """Outputs by name; samples in pieces of `batch` where all that goes in and out has a batch axis."""
    spec = model.spec
    ends = [spec.values[i] for i in (*spec.inputs, *spec.outputs)]
    counts = {array.shape[0] for array in arrays if array.ndim}
    alike = len(counts) == 1 and all(array.ndim for array in arrays)
    if not alike or len(arrays) != len(spec.inputs) or not all(value.batched for value in ends):
        return _run_once(model, arrays, integers)  # which also says what is wrong, if anything is
    total = max(1, *counts)
    pieces = [
        _run_once(model, [array[i : i + batch] for array in arrays], integers) for i in range(0, total, batch)
    ]
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def _run_once(model: IntegerModel, arrays: list[NDArray[Any]], integers: bool) -> dict[str, NDArray[Any]]:
    if not integers:
        return _by_name(model(*arrays))
    given = [
        _quantized(value, array)
        for value, array in zip((model.spec.values[i] for i in model.spec.inputs), arrays, strict=False)
    ]
    return _by_name(model.run_integers(*given, *arrays[len(given) :]))


def _quantized(value: Value, array: NDArray[Any]) -> NDArray[Any]:
    if value.grid is None or array.dtype.kind in "iu":
        return array
    grid = value.grid
    return quantize(array, grid.scale, grid.zero_point, grid.quant_min, grid.quant_max, dtype=value.dtype)


def _by_name(result: Any, name: str = "") -> dict[str, NDArray[Any]]:
    """The arrays of a nested result: ``logits``, ``hidden_states.0``; one alone is ``output``."""
    if isinstance(result, np.ndarray):
        return {name or "output": result}
    items = result.items() if isinstance(result, dict) else enumerate(result or ())
    found: dict[str, NDArray[Any]] = {}
    for key, item in items:
        found.update(_by_name(item, f"{name}.{key}" if name else str(key)))
    return found


def _write(out: Path, outputs: dict[str, NDArray[Any]]) -> None:
    if out.suffix not in (".npy", ".npz"):
        fail(f"{out}: expected a name that ends in .npy or .npz")
    if out.suffix == ".npy" and len(outputs) != 1:
        fail(f"{out}: the model has {len(outputs)} outputs ({', '.join(outputs)}); they need a name in .npz")
    try:
        if out.suffix == ".npz":
            np.savez(out, allow_pickle=False, **outputs)
        else:
            np.save(out, next(iter(outputs.values())), allow_pickle=False)
    except OSError as error:
        fail(f"{out}: {error.strerror or error}")
    typer.echo(f"wrote {out}", err=True)
