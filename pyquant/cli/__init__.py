"""The command ``pyquant``: look at this machine, check it, look into a saved program, run it, time it, find
out which layer hurts, and put it all on one page.

Commands that work on files do without torch. Messages go to standard error, results to standard output; the
exit code is 0, 1 (a known answer is not met) or 2 (a file or argument is wrong).
"""

from __future__ import annotations

from pyquant.cli import machine, program, study  # noqa: F401  each adds its commands
from pyquant.cli.common import app

__all__ = ["app", "main"]


def main() -> None:
    """Entry point of the console script."""
    app()
