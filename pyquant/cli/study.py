"""``pyquant sensitivity`` and ``pyquant report``: which layer hurts, and one page about a model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pyquant.cli.common import app, fail, failing
from pyquant.cli.named import data_of, model_of
from pyquant.sensitivity_table import SensitivityTable
from pyquant.sensitivity_table.table import shown
from pyquant.tables import text_table

__all__ = ["report", "sensitivity"]

NAMED = "MODULE:FUNCTION"
ModelName = Annotated[
    str | None,
    typer.Option("--model", metavar=NAMED, help="Function without arguments that returns a torch.nn.Module."),
]
DataName = Annotated[
    str | None, typer.Option("--data", metavar=NAMED, help="Function that returns, or yields, batches.")
]
CalibrationName = Annotated[
    str | None,
    typer.Option(
        "--calibration", metavar=NAMED, help="Batches to choose scales from. Default: those of --data."
    ),
]
ConfigName = Annotated[
    str | None, typer.Option("--config", help="A preset (W8A8, W4A8, W6A6), or a .yaml or .json file.")
]


@app.command()
def sensitivity(
    file: Annotated[
        Path | None, typer.Argument(metavar="TABLE.json", help="What SensitivityTable.save wrote.")
    ] = None,
    model: ModelName = None,
    data: DataName = None,
    calibration: CalibrationName = None,
    config: ConfigName = None,
    candidates: Annotated[
        str | None,
        typer.Option(
            help="What to try, with commas: softmax=ibert,W4,A6. Default: every method where it fits."
        ),
    ] = None,
    select: Annotated[str | None, typer.Option(help="A glob over names of sites. Default: all.")] = None,
    scope: Annotated[
        str | None, typer.Option(help="site (default), or output: slow, at the model's output.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="A file for an interrupted run, which then goes on from there.")
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Write the table, as JSON.")] = None,
    by: Annotated[str | None, typer.Option(help="The score to rank by. Default: delta, if there.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Rows to print, most damage first.")] = 20,
    csv: Annotated[Path | None, typer.Option(help="Write every row as CSV.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it: .png, .svg or .pdf.")] = None,
    kind: Annotated[str, typer.Option(help="Of the plot: heatmap, bars or depth.")] = "heatmap",
) -> None:
    """Rank, plot and convert a sensitivity table; or measure one first, of a model on batches.

    The functions are found on Python's path and in the current folder: `--model my_project.models:vit`.
    """
    measured = {
        "--model": model, "--data": data, "--calibration": calibration, "--config": config,
        "--candidates": candidates, "--select": select, "--scope": scope, "--resume": resume, "--out": out,
    }  # fmt: skip
    if file is not None:
        given = [name for name, value in measured.items() if value is not None]
        if given:
            fail(f"sensitivity: expected a table or {given[0]}, got both")
        with failing():
            table = SensitivityTable.load(file)
    else:
        table = _measure(model, data, calibration, config, candidates, select, scope, resume)
    with failing():
        if out is not None:
            table.save(out)
        typer.echo(_ranking(table, by, top))
        if csv is not None:
            table.to_csv(csv)
        if plot is not None:
            table.plot(kind, score=by).savefig(plot, dpi=150, bbox_inches="tight")
    for path in (out, csv, plot):
        if path is not None:
            typer.echo(f"wrote {path}", err=True)


def _measure(
    model: str | None,
    data: str | None,
    calibration: str | None,
    config: str | None,
    candidates: str | None,
    select: str | None,
    scope: str | None,
    resume: Path | None,
) -> SensitivityTable:
    if model is None or data is None:
        fail("sensitivity: expected the file of a table, or --model and --data")
    with failing():
        import pyquant

        run = pyquant.sensitivity
        return run(
            model_of("--model", model),
            data_of("--data", data),
            config=config,
            calibration=None if calibration is None else data_of("--calibration", calibration),
            candidates=None if candidates is None else _split(candidates),
            scope=scope or "site",
            select=select or "*",
            progress=_progress(),
            resume=resume,
        )


def _ranking(table: SensitivityTable, by: str | None, top: int) -> str:
    """The worst rows, all scores of each."""
    if not table.rows:
        raise ValueError("sensitivity: the table is empty")
    rows = table.rank(by or table.main_score)
    cells = [
        [row.site, row.kind, row.candidate, *(shown(getattr(row, name)) for name in table.measured)]
        for row in rows[:top]
    ]
    lines = [text_table(["site", "kind", "candidate", *table.measured], cells, 3)]
    if len(rows) > top:
        lines.append(f"{top} of {len(rows)} rows, by {by or table.main_score}")
    return "\n".join([*lines, table.summary()])


def _split(text: str) -> list[str]:
    """Pieces between commas, but for those inside parentheses: ``ibert(bits=8,n=30)`` is one."""
    pieces, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += letter
    return [piece.strip() for piece in pieces]


def _progress() -> bool:
    """Bars are for people."""
    return sys.stderr.isatty()


@app.command()
def report(
    model: ModelName = None,
    data: DataName = None,
    calibration: CalibrationName = None,
    config: ConfigName = None,
    table: Annotated[Path | None, typer.Option(help="What pyquant sensitivity -o wrote.")] = None,
    plan: Annotated[Path | None, typer.Option(help="What Plan.save wrote.")] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="The HTML file.")] = Path("report.html"),
    latency: Annotated[bool, typer.Option(help="Time one sample, step by step.")] = True,
    worst: Annotated[int, typer.Option(min=1, help="Sites of which to show bars and values.")] = 12,
    title: Annotated[str | None, typer.Option(help="Default: the model's name.")] = None,
    note: Annotated[str, typer.Option(help="A line below the title.")] = "",
) -> None:
    """Quantize a model, and write one HTML page about it, which needs nothing else to open.

    Accuracy is measured where the batches of --data hold targets. The functions are found on Python's path
    and in the current folder.
    """
    if model is None or data is None:
        fail("report: expected --model and --data")
    with failing():
        import pyquant

        run: Any = pyquant.report
        written = run(
            model_of("--model", model),
            table,
            plan,
            path=out,
            batches=data_of("--data", data),
            calibration=None if calibration is None else data_of("--calibration", calibration),
            config=config,
            latency=latency,
            worst=worst,
            title=title,
            note=note,
            progress=_progress(),
        )
    typer.echo(f"wrote {written}", err=True)
