"""The command line: what it prints, what it writes, and how it fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import pyquant
from pyquant import _C, IntegerModel, ProgramBuilder, QParams, cli, numerics, selftest
from tests.safety.programs import arguments, block

GRID = QParams(0.05, 3, -128, 127)


def call(*words: object) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def classifier() -> IntegerModel:
    """One input, one 2-D output: gemm."""
    rng = np.random.default_rng(0)
    build = ProgramBuilder()
    x = build.input("images", (6,), GRID)
    w = rng.normal(0, 0.3, (4, 6)).astype(np.float32)
    w_scale = numerics.derive_weight_scale(w, None, GRID.scale)
    y = build.gemm(x, numerics.derive_gemm(w, None, w_scale, GRID.scale, GRID.scale), GRID, name="head")
    return build.finish([y], structure={"output": 0})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    classifier().save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    np.save(tmp_path / "images.npy", np.random.default_rng(1).normal(0, 2, (150, 6)).astype(np.float32))
    return tmp_path / "images.npy"


# ---- info and selftest ----


def test_info() -> None:
    result = call("info")
    assert result.exit_code == 0, result.output
    lines = {line.split()[0]: line for line in result.output.splitlines() if line}
    assert pyquant.__version__ in lines["pyquant"]
    assert np.__version__ in lines["numpy"]
    assert _C.isa_active() in lines["isa"]
    assert f" {_C.num_threads()} " in lines["threads"]
    for op in {op for op, *_ in _C.kernels()}:
        isa = [isa for o, isa, _, ok in _C.kernels() if o == op and ok][-1]
        assert lines[op].split()[1] == isa


def test_selftest() -> None:
    result = call("selftest")
    assert result.exit_code == 0, result.output
    for op, isa, _, eligible in _C.kernels():
        expected = [op, isa, "ok"] if eligible else [op, isa, "not"]
        assert any(line.split()[:3] == expected for line in result.output.splitlines()), (op, isa)
    for isa in _C.isa_names():
        assert isa in result.output  # also those that no kernel of this build uses
    assert " 0 mismatched" in result.output


def test_selftest_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = selftest.Result("gemm_s8s8", "ref", "MISMATCH", "1 of 5 cases: 13x130x70 to int8")
    monkeypatch.setattr(selftest, "run", lambda: (bad,))
    result = call("selftest")
    assert result.exit_code == 1
    assert "MISMATCH" in result.output
    assert "13x130x70 to int8" in result.output


# ---- inspect ----


def test_inspect(saved: Path) -> None:
    result = call("inspect", saved)
    assert result.exit_code == 0, result.output
    model = classifier()
    assert "images" in result.output
    assert "(batch, 6)" in result.output
    assert "1: 1 gemm" in result.output
    assert f"{saved.stat().st_size:,} bytes" in result.output
    assert model.digest() in result.output
    assert model.coverage().summary() in result.output


def test_inspect_lists_every_instruction(tmp_path: Path) -> None:
    model = block()
    model.save(tmp_path / "block.safetensors")
    full, brief = (
        call("inspect", tmp_path / "block.safetensors"),
        call("inspect", "--brief", tmp_path / "block.safetensors"),
    )
    for number, step in enumerate(model.spec.instructions):
        words = [str(number), step.op, model.spec.values[step.output].name]
        assert any(line.split()[:3] == words for line in full.output.splitlines())
        assert not any(line.split()[:3] == words for line in brief.output.splitlines())
    constants = sum(np.dtype(v.dtype).itemsize * v.size for v in model.spec.values if v.kind == "const")
    assert f"{constants:,} bytes" in brief.output


def spoilt(data: bytes, how: str) -> bytes:
    return {"empty": b"", "text": b"this is no model", "cut": data[:-1], "header": data[:60]}[how]


@pytest.mark.parametrize("command", ["inspect", "run"])
@pytest.mark.parametrize("how", ["empty", "text", "cut", "header", "missing"])
def test_a_broken_file_is_one_line(saved: Path, images: Path, how: str, command: str) -> None:
    if how == "missing":
        saved.unlink()
    else:
        saved.write_bytes(spoilt(saved.read_bytes(), how))
    result = call(command, saved, *([images] if command == "run" else []))
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith(f"pyquant: {saved}: ")
    assert result.stdout == ""


# ---- run ----


def test_run_writes_what_the_model_gives(saved: Path, images: Path, tmp_path: Path) -> None:
    result = call("run", saved, images, "-o", tmp_path / "out.npy", "--threads", 2)
    assert result.exit_code == 0, result.output
    expected = classifier()(np.load(images))
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected, strict=True)
    assert "output: float32 (150, 4)" in result.output
    assert f"largest at {', '.join(map(str, expected.argmax(1)[:10]))}, ..." in result.output


@pytest.mark.parametrize("batch", [1, 64, 150, 1000])
def test_the_batch_changes_nothing(saved: Path, images: Path, tmp_path: Path, batch: int) -> None:
    result = call("run", saved, images, "-o", tmp_path / "out.npy", "--batch", batch)
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), classifier()(np.load(images)), strict=True)


def test_run_integers(saved: Path, images: Path, tmp_path: Path) -> None:
    """Floats are quantized, integers taken as they are; both give the same integers."""
    floats = np.load(images)
    q = np.clip(np.rint(floats / np.float32(GRID.scale)) + GRID.zero_point, -128, 127).astype(np.int8)
    np.save(tmp_path / "q.npy", q)
    expected = classifier().run_integers(q)
    for source in (images, tmp_path / "q.npy"):
        result = call("run", saved, source, "--integers", "-o", tmp_path / "out.npy")
        assert result.exit_code == 0, result.output
        np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected, strict=True)


def test_run_several_inputs_and_outputs(tmp_path: Path) -> None:
    model, given = block(), arguments(batch=3)
    model.save(tmp_path / "m.safetensors")
    files = []
    for name in model.input_names:
        np.save(tmp_path / f"{name}.npy", given[name])
        files.append(tmp_path / f"{name}.npy")
    result = call("run", tmp_path / "m.safetensors", *files, "-o", tmp_path / "out.npz")
    assert result.exit_code == 0, result.output
    expected = model(**given)
    with np.load(tmp_path / "out.npz") as stored:
        assert set(stored) == {"logits", "extra.0"}
        np.testing.assert_array_equal(stored["logits"], expected.logits)
        np.testing.assert_array_equal(stored["extra.0"], expected.extra[0])
    single = call("run", tmp_path / "m.safetensors", *files, "-o", tmp_path / "out.npy")
    assert single.exit_code == 2
    assert "2 outputs (logits, extra.0)" in single.stderr


def test_run_an_empty_batch(saved: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "none.npy", np.zeros((0, 6), np.float32))
    result = call("run", saved, tmp_path / "none.npy", "-o", tmp_path / "out.npy")
    assert result.exit_code == 0, result.output
    assert np.load(tmp_path / "out.npy").shape == (0, 4)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((2, 5), np.float32), "shape (batch, 6), got (2, 5)"),
        (np.zeros((2, 6), np.float64), "float32, got float64"),
        (np.full((2, 6), np.nan, np.float32), "NaN"),
        (np.zeros((), np.float32), "shape (batch, 6), got ()"),
    ],
)
def test_run_refuses_a_wrong_array(saved: Path, tmp_path: Path, array: np.ndarray, says: str) -> None:
    np.save(tmp_path / "x.npy", array)
    result = call("run", saved, tmp_path / "x.npy")
    assert result.exit_code == 2
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_run_refuses_what_is_no_array(saved: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY no")
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name in ("x.npy", "x.npz", "pickle.npy", "absent.npy"):
        result = call("run", saved, tmp_path / name)
        assert result.exit_code == 2, name
        assert len(result.stderr.splitlines()) == 1
        assert name in result.stderr
    for words in (["-o", tmp_path / "out.txt"], ["-o", tmp_path / "no" / "folder.npy"], ["--threads", 0]):
        assert call("run", saved, images, *words).exit_code == 2
    assert call("run", saved, images, images).exit_code == 2  # one input, two arrays


# ---- as a process ----


def test_it_runs_without_torch(saved: Path, images: Path) -> None:
    """None in sys.modules makes `import torch` fail as if it were not installed."""
    code = "import sys; sys.modules['torch'] = None; from pyquant.cli import main; main()"
    for words in (["info"], ["selftest"], ["inspect", str(saved)], ["run", str(saved), str(images)]):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, *words],
            capture_output=True,
            text=True,
            env={**os.environ, "PYQUANT_ISA": "ref"},
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout
        if words == ["info"]:
            assert "torch cannot be imported" in done.stdout
            assert "PYQUANT_ISA=ref" in done.stdout


# ---- profile ----


def test_profile(saved: Path, images: Path) -> None:
    result = call("profile", saved, "--batch", 3, "--threads", 1, "--repeat", 2)
    assert result.exit_code == 0, result.output
    header, row, total, run, limits = result.stdout.splitlines()
    assert header.split()[:3] == ["site", "op", "shape"]
    assert row.split()[:4] == ["head", "gemm", "(3,", "4)"]
    assert total.startswith("total")
    assert run.startswith("batch 3, 1 thread, median of 2")
    assert limits.startswith("limits: ")
    assert "batch 150, 2 threads" in call("profile", saved, images, "--threads", 2, "--repeat", 1).stdout


def test_profile_refuses_a_wrong_array(saved: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 5), np.float32))
    result = call("profile", saved, tmp_path / "x.npy")
    assert result.exit_code == 2
    assert "images" in result.stderr
