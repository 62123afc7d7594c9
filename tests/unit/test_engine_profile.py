"""`IntegerModel.profile`: what each step has to do, how long it took, and the table."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from pyquant import _C, IntegerModel
from pyquant.engine import Limits, Profile, ProfileRow
from tests.safety.programs import arguments, block

TOKENS, WIDTH, HEADS = 5, 8, 2
LIMITS = Limits("avx2", macs=2e9, hot=4e9, cold=1e9, hot_bytes=1000, cold_bytes=3_000_000)
FC = ProfileRow(("net.fc", "net.act.gelu"), "gemm + table", (2, 3), 2e-3, 3_000_000, 4000, 1.5e-3)
NORM = ProfileRow(("net.norm",), "layernorm", (2, 3), 6e-3, 0, 12_000_000, 3e-3)
PROFILE = Profile((FC, NORM), batch=2, threads=1, repeat=3, run_seconds=1e-2, limits=LIMITS)

TABLE = """\
site               op            shape      ms    share  MMAC      MB  GMAC/s  GB/s  % of limit
net.fc + act.gelu  gemm + table  (2, 3)  2.000   25.0 %   3.0   0.004     1.5  0.00          75
net.norm           layernorm     (2, 3)  6.000   75.0 %        12.000          2.00          50
total                                    8.000  100.0 %   3.0  12.004     0.4  1.50          56
batch 2, 1 thread, median of 3: a plain run takes 10.000 ms, the steps 80.0 % of it
limits: 2.0 GMAC/s (avx2); 4.0 GB/s from 0.0 MB of activations, 1.0 GB/s from 3.0 MB with constants"""


def test_the_table():
    assert str(PROFILE) == TABLE
    text = PROFILE._repr_html_()
    assert text.count("<tr>") == 4
    assert "<td>net.fc + act.gelu</td><td>gemm + table</td>" in text
    assert "<caption>batch 2, 1 thread" in text


def test_names_are_escaped():
    odd = ProfileRow(("<b>",), "add", (1,), 1.0, 0, 1, 0.5)
    assert "<td>&lt;b&gt;</td>" in Profile((odd,), 1, 2, 1, 1.0, LIMITS)._repr_html_()


def test_the_limit_is_the_slower_of_work_and_memory():
    assert LIMITS.seconds(macs=2_000_000, bytes=400, constant_bytes=100) == 1e-3
    assert LIMITS.seconds(macs=2, bytes=4_000_000, constant_bytes=1_000_000) == pytest.approx(2e-3)


def test_rows_as_dictionaries_and_frame(monkeypatch):
    rows = PROFILE.to_rows()
    assert rows[0]["site"] == "net.fc + net.act.gelu"
    assert rows[0]["share"] == pytest.approx(0.25)
    assert rows[1]["macs_per_second"] == 0
    assert rows[1]["bytes_per_second"] == pytest.approx(2e9)
    assert rows[1]["of_limit"] == pytest.approx(0.5)
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=list))
    assert PROFILE.to_frame() == rows
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="to_rows"):
        PROFILE.to_frame()


@pytest.mark.parametrize("threads", [1, 2])
def test_what_a_block_does(threads: int):
    model, batch = block(TOKENS, WIDTH, HEADS), 4
    model.set_num_threads(threads)
    found = model.profile(**arguments(batch, TOKENS, WIDTH), repeat=2)
    assert (found.batch, found.threads, found.repeat, len(found)) == (batch, threads, 2, len(list(found)))
    rows = {row.sites: row for row in found}
    fused = rows["fc1", "gelu"]
    assert fused.op == "gemm + table"
    assert fused.shape == (batch, TOKENS, 2 * WIDTH)
    assert fused.macs == batch * TOKENS * WIDTH * 2 * WIDTH
    # x and the result; weights, bias, multiplier, shift, table. The product between them is not stored.
    assert fused.bytes == batch * TOKENS * 3 * WIDTH + 2 * WIDTH * (WIDTH + 4 + 4 + 1) + 256
    assert rows[("attention",)].macs == batch * 2 * TOKENS * TOKENS * WIDTH
    assert rows[("norm1",)].macs == 0
    # Two of the seven rows of a table are read as often as there are indices.
    assert rows[("embeddings",)].bytes == batch * TOKENS * (4 + 2 * WIDTH + 2 * WIDTH)
    assert ("flat",) not in rows  # a reshape
    assert found.total.macs == sum(row.macs for row in found)
    assert all(row.seconds > 0 and row.limit > 0 for row in found)
    assert found.run_seconds > 0
    assert found.limits.isa in _C.isa_names()


def test_profile_gives_the_sites_of_the_program_once():
    model = block()
    sites = [site for row in model.profile(repeat=1) for site in row.sites]
    steps = [model.spec.values[step.output].name for step in model.spec.instructions if step.op != "reshape"]
    assert sorted(sites) == sorted(steps)


def test_made_up_inputs():
    found = block().profile(batch=3, repeat=1)
    assert found.batch == 3
    assert block(keep=False).profile(repeat=1).batch == 1


def test_a_profile_changes_nothing():
    model, given = block(), arguments()
    before, digest = model(**given).logits, model.digest()
    model.profile(**given, repeat=1)
    assert np.array_equal(model(**given).logits, before)
    assert model.digest() == digest


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"repeat": 0}, "repeat >= 1, got 0"),
        ({"repeat": 2.0}, "repeat >= 1, got 2.0"),
        ({"batch": 0}, "batch >= 1, got 0"),
        ({"batch": True}, "batch >= 1, got True"),
        ({"batch": 2, **arguments()}, "got both"),
    ],
)
def test_bad_options(options, words: str):
    with pytest.raises(ValueError, match=words):
        block().profile(**options)


def test_an_index_outside_its_table_is_reported_as_in_a_run():
    given = arguments()
    given["ids"][1, 2] = 7
    with pytest.raises(IndexError, match="gather"):
        block().profile(**given, repeat=1)


def test_the_probe():
    isa, macs, nanoseconds = _C.probe_multiply_add(2)
    assert isa in _C.isa_names()
    assert macs > 0 < nanoseconds
    read, nanoseconds = _C.probe_read(100_000, threads=1)
    assert read >= 50_000
    assert nanoseconds > 0
    with pytest.raises(MemoryError, match="probe"):
        _C.probe_read(2**62)
    with pytest.raises(ValueError, match="bytes"):
        _C.probe_read(-1)


def test_steps_of_an_empty_program():
    model = IntegerModel.from_bytes(block().to_bytes())
    program = model._program
    assert [row[:2] for row in program.steps(1)] == [row[:2] for row in program.steps(5)]
    assert all(a[4] <= b[4] for a, b in zip(program.steps(1), program.steps(5), strict=True))
    with pytest.raises(ValueError, match="batch"):
        program.steps(-1)
