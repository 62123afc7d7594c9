"""``python -m pyquant.cli``."""

from __future__ import annotations

from pyquant.cli import main

if __name__ == "__main__":
    main()
