"""Where the examples are, how tests import them, and what a link looks like."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
LINK = re.compile(r"\[[^\]]+\]\(([^)#\s]+)\)")


def load(name: str) -> Any:
    """A module of the examples, as a script there imports it."""
    if str(EXAMPLES) not in sys.path:
        sys.path.append(str(EXAMPLES))
    return importlib.import_module(name)
