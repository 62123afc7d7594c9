"""Integer programs: building them, keeping them in files, and running them in the C engine."""

from pyquant.engine.builder import ProgramBuilder
from pyquant.engine.model import IntegerModel, TraceEntry
from pyquant.engine.profile import Limits, Profile, ProfileRow
from pyquant.engine.spec import Instruction, ProgramSpec, Value
from pyquant.engine.structure import Output

__all__ = [
    "Instruction",
    "IntegerModel",
    "Limits",
    "Output",
    "Profile",
    "ProfileRow",
    "ProgramBuilder",
    "ProgramSpec",
    "TraceEntry",
    "Value",
]
