"""The self test: its answers are the specification's, and it can fail."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from pyquant import _C, selftest
from pyquant.selftest_answers import ANSWERS
from tests.golden import make_selftest


def test_the_answers_are_the_specifications() -> None:
    assert make_selftest.text() == make_selftest.FILE.read_text()


def test_every_kernel_has_cases_and_every_answer_a_case() -> None:
    assert {op for op, *_ in _C.kernels()} == {case.kernel for case in selftest.CASES}
    assert len({case.key for case in selftest.CASES}) == len(selftest.CASES)
    tables = {f"derive_table: {name}" for name in _C.unary_names()}
    assert set(ANSWERS) == {case.key for case in selftest.CASES} | tables


def test_it_passes_here_and_names_every_row() -> None:
    results = selftest.run()
    assert [(r.kernel, r.isa) for r in results[:-1]] == [(op, isa) for op, isa, _, _ in _C.kernels()]
    eligible = [ok for *_, ok in _C.kernels()]
    assert [r.status == "ok" for r in results[:-1]] == eligible, results
    assert results[-1].status == "ok"


def test_products_run_on_the_kernels_of_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packing chooses among kernels by more than the instruction set, so the limit alone proves nothing."""
    ran = list[tuple[str, str]]()
    gemm = _C.gemm

    def noting(x: Any, weights: _C.GemmWeights, **options: Any) -> Any:
        ran.append(weights.kernel)
        return gemm(x, weights, **options)

    monkeypatch.setattr(_C, "gemm", noting)
    selftest.run()
    rows = [(op, isa) for op, isa, _, eligible in _C.kernels() if eligible]
    assert ran == [
        (op, isa) for op, isa in rows for case in selftest.CASES if case.kernel == op and "gemm" in op
    ]
    assert ("gemm_chains", "ref") in ran


@pytest.mark.parametrize("key", list(ANSWERS))
def test_a_wrong_answer_is_found_where_it_is(key: str) -> None:
    kernel, _, name = key.partition(": ")
    wrong = [r for r in selftest.run({**ANSWERS, key: "0" * 32}) if r.status == "MISMATCH"]
    assert wrong
    assert {r.kernel for r in wrong} == {kernel}
    assert all(name in r.detail for r in wrong)


def test_it_leaves_the_choice_of_kernels_as_it_was() -> None:
    before = _C.isa_active()
    selftest.run()
    assert _C.isa_active() == before


def test_the_environment_says_what_is_not_checked() -> None:
    code = "from pyquant import selftest\nfor r in selftest.run(): print(r.isa, r.status, r.detail, sep='|')"
    environment = {**os.environ, "PYQUANT_ISA": "ref"}
    command = [sys.executable, "-c", code]
    lines = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    checked = {line.split("|")[0] for line in lines if "|ok|" in line}
    assert checked == {"ref", "libm"}
    assert any(line.endswith("not checked|PYQUANT_ISA=ref") or "not checked|no " in line for line in lines)
