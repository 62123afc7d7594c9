"""The result files: one JSON document for a workload, an instruction set and a number of threads."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["FOLDER", "SCHEMA", "check", "load_all", "save"]

FOLDER = Path(__file__).parent / "results"
SCHEMA = 1

_SPREAD = {"median": float, "low": float, "high": float, "min": float}
_DOCUMENT: dict[str, Any] = {
    "schema": int,
    "workload": str,
    "title": str,
    "isa": str,
    "threads": int,
    "commit": str,
    "machine": dict,
    "build": dict,
    "versions": dict,
    "settings": dict,
    "rows": list,
}
_ROW: dict[str, Any] = {
    "name": str,
    "work": float,
    "unit": str,
    "traffic": float,
    "float_traffic": float,
    "checked": str,
    "candidates": dict,
    "ratios": dict,
    "of_limit": dict,
    "gaps": dict,
    "probe": dict,
    "noisy": bool,
}
_CANDIDATE: dict[str, Any] = {"seconds": dict, "rounds": int, "loops": int, "settings": str}


def _fields(where: str, value: Any, kinds: Mapping[str, type]) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected an object, got {type(value).__name__}")
    for name, kind in kinds.items():
        if name not in value:
            raise ValueError(f"{where}: {name} is missing")
        allowed = (int, float) if kind is float else (kind,)
        if not isinstance(value[name], allowed) or (kind is not bool and isinstance(value[name], bool)):
            raise ValueError(f"{where}: expected {name} as {kind.__name__}, got {value[name]!r}")


def check(document: Any) -> None:
    """Raise ValueError, naming the place, unless `document` is a result file of this schema."""
    _fields("document", document, _DOCUMENT)
    if document["schema"] != SCHEMA:
        raise ValueError(f"document: expected schema {SCHEMA}, got {document['schema']}")
    for row in document["rows"]:
        _fields("row", row, _ROW)
        where = f"row {row['name']!r}"
        if not row["checked"]:
            raise ValueError(f"{where}: its integers were not checked")
        for name, candidate in row["candidates"].items():
            _fields(f"{where}, {name!r}", candidate, _CANDIDATE)
            _fields(f"{where}, {name!r}, seconds", candidate["seconds"], _SPREAD)
        for kind in ("ratios", "of_limit"):
            for name, spread in row[kind].items():
                _fields(f"{where}, {kind} {name!r}", spread, _SPREAD)


def file_name(document: Mapping[str, Any]) -> str:
    """``<workload>-threads<n>-<isa>.json``."""
    return f"{document['workload']}-threads{document['threads']}-{document['isa']}.json"


def save(document: Mapping[str, Any], folder: Path = FOLDER) -> Path:
    """Check and write, replacing what the same workload, threads and instruction set gave before."""
    check(document)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name(document)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(_rounded(document), indent=1) + "\n", encoding="utf-8")
    os.replace(unfinished, path)
    return path


def _rounded(value: Any) -> Any:
    """Five digits are more than any of the figures has."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, Mapping):
        return {name: _rounded(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return value


def load_all(folder: Path = FOLDER) -> list[dict[str, Any]]:
    """Every result file of a folder, in the order of their names.

    Raises
    ------
    ValueError
        A file is not of this schema.
    """
    return list(_load(sorted(folder.glob("*.json"))))


def _load(paths: Iterable[Path]) -> Iterable[dict[str, Any]]:
    for path in paths:
        document = json.loads(path.read_text(encoding="utf-8"))
        try:
            check(document)
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from None
        yield document
