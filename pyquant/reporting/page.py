"""A page of sections as one HTML file that needs nothing else. Needs Jinja2."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from jinja2 import Environment, StrictUndefined

from pyquant._version import __version__
from pyquant.reporting.parts import Section

__all__ = ["page"]


def page(title: str, note: str, sections: Sequence[Section]) -> str:
    """The HTML. Every text is escaped: names of sites are names that a user gave to modules."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    source = resources.files(__package__ or "pyquant.reporting").joinpath("page.html.j2").read_text("utf-8")
    return environment.from_string(source).render(
        title=title, note=note, sections=sections, version=__version__
    )
