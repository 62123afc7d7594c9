"""RESULTS.md and the rooflines, from the result files: ``python -m benchmarks.report``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import goals, results
from benchmarks.machine import HELD
from benchmarks.workload import OURS, WORKLOADS

__all__ = ["main", "markdown"]

Document = Mapping[str, Any]
Row = Mapping[str, Any]

# Instruction sets that have kernels, best known first in each architecture; one without results is named.
ISAS = {
    "avx2": "x86-64 with AVX2",
    "avx512": "x86-64 with AVX-512 but no VNNI",
    "avx512vnni": "x86-64 with AVX-512 VNNI",
    "neon": "AArch64 without dot products",
    "neondot": "AArch64 with dot products",
}
HEADER = """# Results

Generated from `results/*.json` by `python -m benchmarks.report`; how it was measured is in
[README](README.md).

A ratio is a peer's time over pyquant's in the same round: above 1 pyquant is faster, **below 1 (bold) it
loses**. The median is followed by the middle half of the rounds. "of vpmaddwd" and the like is the share of
what that instruction does from registers alone, measured in the same rounds; "of read" and "of copy" of what
memory gives. † The machine's own limit moved by more than 5 % while the row was measured: it is noisy.
"""


def markdown(documents: Sequence[Document], pictures: Sequence[str] = ()) -> str:
    """The whole page."""
    parts = [HEADER]
    for isa, meaning in ISAS.items():
        here = [d for d in documents if d["isa"] == isa]
        parts.append(f"## {isa}: {meaning}\n")
        if not here:
            parts.append("Not measured: no such machine was met.\n")
            continue
        parts.append(_machine(here))
        parts += [f"![Roofline, {isa}]({name})\n" for name in pictures if name == f"roofline-{isa}.png"]
        several = len({_cpu(d) for d in here}) > 1
        for document in sorted(here, key=lambda d: (_order(d["workload"]), d["threads"])):
            parts.append(_section(document, several))
        parts.append(_goals(here))
    return "\n".join(part for part in parts if part)


def _order(workload: str) -> tuple[int, str]:
    return (WORKLOADS.index(workload) if workload in WORKLOADS else len(WORKLOADS), workload)


def _cpu(document: Document) -> str:
    """The CPU, and what held it to an instruction set."""
    machine = document["machine"]
    set_ = machine.get("environment", {})
    held = [f"{name}={set_[name]}" for name in HELD if name in set_]
    return f"{machine['cpu']}{' held by ' if held else ''}{', '.join(held)}"


def _machine(documents: Sequence[Document]) -> str:
    """CPU, compiler and versions, once if all files agree."""
    lines = []
    for what, values in (
        ("CPU", [_cpu(d) for d in documents]),
        ("Compiler", [d["build"]["compiler"] for d in documents]),
        ("Commit", [d["commit"] for d in documents]),
        ("Versions", [", ".join(f"{k} {v}" for k, v in d["versions"].items()) for d in documents]),
    ):
        lines.append(f"* {what}: {'; '.join(dict.fromkeys(values))}")
    return "\n".join(lines) + "\n"


def _section(document: Document, name_cpu: bool) -> str:
    threads = document["threads"]
    where = f", {_cpu(document)}" if name_cpu else ""
    title = f"### {document['title']}; {threads} thread{'s' if threads > 1 else ''}{where}\n"
    rows = document["rows"]
    if not rows:
        return title + "\nNo rows.\n"
    lines = _lines(rows)
    names = [f"{row['name']}{' †' if row['noisy'] else ''}" for row in rows]
    if len(rows) > len(lines):  # the longer list goes down the page
        table = [["", *(label for label, _ in lines)]]
        table += [[name, *(cells[i] for _, cells in lines)] for i, name in enumerate(names)]
    else:
        table = [["", *names], *([label, *cells] for label, cells in lines)]
    text = [_row(table[0]), _row(["---", *["---:"] * (len(table[0]) - 1)]), *map(_row, table[1:])]
    return "\n".join([title, *text, "", *_gaps(rows)])


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _lines(rows: Sequence[Row]) -> list[tuple[str, list[str]]]:
    """What is said of every row: pyquant's figure, its share of the limit, and the ratio to each peer."""
    lines = [(f"pyquant, {_unit(rows[0])}", [_figure(row) for row in rows])]
    for limit in dict.fromkeys(name for row in rows for name in row["of_limit"]):
        cells = [_percent(row["of_limit"][limit]) if limit in row["of_limit"] else "" for row in rows]
        lines.append((f"of {limit}", cells))
    peers = dict.fromkeys(name for row in rows for name in row["ratios"])
    return lines + [(f"over {peer}", [_ratio(row, peer) for row in rows]) for peer in peers]


def _unit(row: Row) -> str:
    return "ns an element" if row["unit"] == "element" else "ms and GMAC/s"


def _figure(row: Row) -> str:
    seconds = row["candidates"][OURS]["seconds"]["median"]
    if row["unit"] == "element":
        return f"{1e9 * seconds / row['work']:.3g}"
    return f"{1e3 * seconds:.3g} / {1e-9 * row['work'] / seconds:.3g}"


def _percent(share: Mapping[str, float]) -> str:
    return f"{100 * share['median']:.0f} % ({100 * share['low']:.0f} .. {100 * share['high']:.0f})"


def _ratio(row: Row, peer: str) -> str:
    """Empty where a row never asked for that peer."""
    if peer not in row["ratios"]:
        return "not measured" if peer in row["gaps"] else ""
    ratio = row["ratios"][peer]
    digits = 1 if ratio["median"] >= 10 else 2
    median = f"{ratio['median']:.{digits}f}"
    median = f"**{median}**" if ratio["median"] < 1 else median
    return f"{median} ({ratio['low']:.{digits}f} .. {ratio['high']:.{digits}f})"


def _gaps(rows: Sequence[Row]) -> list[str]:
    """One line a gap, with the rows it concerns if not all."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for name, why in row["gaps"].items():
            found.setdefault((name, why), []).append(row["name"])
    lines = [
        f"* Not measured: {name} ({why}){'' if len(at) == len(rows) else ' at ' + ', '.join(at)}"
        for (name, why), at in found.items()
    ]
    return [*lines, ""] if lines else []


def _goals(documents: Sequence[Document]) -> str:
    """What was asked, beside what was found: a line a goal, worst and best of its rows."""
    by_goal: dict[goals.Goal, list[goals.Outcome]] = {}
    for outcome in goals.outcomes(documents):
        by_goal.setdefault(outcome.goal, []).append(outcome)
    if not by_goal:
        return ""
    lines = [
        "### Asked and found\n",
        "What was asked comes from figures of a Zen 3; times of an element depend on the clock as well.\n",
        "| workload | rows | what | asked | found, worst and best | reached by |",
        "|---|---|---|---:|---:|---|",
    ]
    for goal, found in by_goal.items():
        values = sorted((outcome.value for outcome in found), reverse=goal.at_most)
        reached = sum(outcome.reached for outcome in found)
        threads = f", {goal.threads} threads" if goal.threads > 1 else ""
        rows = found[0].row if len(found) == 1 else f"{len(found)} rows"
        limits = f"{values[0]:.2f}" if len(found) == 1 else f"{values[0]:.2f} .. {values[-1]:.2f}"
        verdict = f"{reached} of {len(found)}"
        lines.append(
            f"| {goal.workload}{threads} | {rows}{' †' if any(o.noisy for o in found) else ''} | {goal.what} "
            f"| {'≤' if goal.at_most else '≥'} {goal.asked:.2f} | {limits} "
            f"| {verdict if reached == len(found) else f'**{verdict}**'} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Read, draw, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--results", type=Path, default=results.FOLDER)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    options = parser.parse_args(arguments)
    documents = results.load_all(options.results)
    pictures = []
    try:
        from benchmarks import roofline

        pictures = [path.name for path in roofline.draw_all(documents, options.out)]
    except ImportError as missing:
        print(f"no pictures: {missing.name} is not installed")
    page = options.out / "RESULTS.md"
    page.write_text(markdown(documents, pictures), encoding="utf-8")
    print(f"wrote {page.name} and {len(pictures)} pictures from {len(documents)} result files")


if __name__ == "__main__":
    main()
