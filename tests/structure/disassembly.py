"""What objdump says about an object: its innermost loops of multiply-adds, and spills in those."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.structure.project import run


@dataclass(frozen=True, kw_only=True)
class Machine:
    """How to read the code of one architecture (AT&T syntax for x86)."""

    multiply_add: re.Pattern[str]
    jump: re.Pattern[str]
    spill: re.Pattern[str]
    frame_spill: re.Pattern[str]
    sets_frame: re.Pattern[str]


# A spill slot lies at a fixed distance from the stack pointer; an array on the stack is walked by another
# register or an index. The frame pointer is one only where the function makes it one.
X86 = Machine(
    multiply_add=re.compile(r"vpmaddwd|vpmaddubsw|vpdp\w+"),
    jump=re.compile(r"j\w+\s+([0-9a-f]+)\b"),
    spill=re.compile(r"v\w+ .*-?(?:0x[0-9a-f]+)?\(%rsp\)"),
    frame_spill=re.compile(r"v\w+ .*-?(?:0x[0-9a-f]+)?\(%rbp\)"),
    sets_frame=re.compile(r"mov +%rsp,%rbp"),
)
AARCH64 = Machine(
    multiply_add=re.compile(r"[su]dot|usdot|[su]mmla|usmmla"),
    jump=re.compile(r"(?:b(?:\.\w+)?|cbn?z|tbn?z)\s+(?:[^\s,]+, )*([0-9a-f]+)\b"),
    spill=re.compile(r"(?:ld|st)(?:r|p|ur)\s+[qd]\d+,.*\[sp(?:, #-?\d+)?\]"),
    frame_spill=re.compile(r"(?:ld|st)(?:r|p|ur)\s+[qd]\d+,.*\[x29(?:, #-?\d+)?\]"),
    sets_frame=re.compile(r"mov\s+x29, sp"),
)


@dataclass(frozen=True)
class Instruction:
    address: int
    text: str


@dataclass(frozen=True)
class Loop:
    """From the target of a backward jump to the last jump there."""

    function: str
    length: int
    multiply_adds: int
    spills: tuple[str, ...]

    @property
    def is_tile(self) -> bool:
        """Whether it is the loop of a register tile, and not one that happens to multiply.

        Already in a tile of one row a fifth of all instructions are multiply-adds, where 4-bit weights are
        unpacked a ninth; a softmax or a LayerNorm has one or two in sixty.
        """
        return self.multiply_adds >= 4 and 10 * self.multiply_adds >= self.length


def functions(target: Path, objdump: str) -> Iterator[tuple[str, list[Instruction]]]:
    name, code = "", list[Instruction]()
    for line in run(objdump, "-d", "--no-show-raw-insn", target).splitlines():
        if start := re.fullmatch(r"[0-9a-f]+ <(.+)>:", line):
            if code:
                yield name, code
            name, code = start.group(1), []
        elif found := re.match(r"\s+([0-9a-f]+):\t(.*)", line):
            code.append(Instruction(int(found.group(1), 16), found.group(2).strip()))
    if code:
        yield name, code


def innermost(code: list[Instruction], machine: Machine) -> list[tuple[int, int]]:
    """First and last address of the innermost loops that multiply and add."""
    ends = dict[int, int]()  # the last jump to each target, so that no two loops begin alike
    for at in code:
        jump = machine.jump.match(at.text)
        if jump and code[0].address <= int(jump.group(1), 16) <= at.address:
            ends[int(jump.group(1), 16)] = at.address
    sums = [at.address for at in code if machine.multiply_add.match(at.text)]
    loops = [(low, high) for low, high in ends.items() if any(low <= address <= high for address in sums)]
    return [
        (low, high)
        for low, high in loops
        if not any((low, high) != other and low <= other[0] and other[1] <= high for other in loops)
    ]


def loops(target: Path, machine: Machine, objdump: str) -> list[Loop]:
    """The innermost loops of an object that multiply and add."""
    found = []
    for name, code in functions(target, objdump):
        patterns = [machine.spill]
        if any(machine.sets_frame.match(at.text) for at in code):
            patterns.append(machine.frame_spill)
        for low, high in innermost(code, machine):
            body = [at.text for at in code if low <= at.address <= high]
            sums = sum(machine.multiply_add.match(text) is not None for text in body)
            spills = tuple(text for text in body if any(pattern.match(text) for pattern in patterns))
            found.append(Loop(name, len(body), sums, spills))
    return found
