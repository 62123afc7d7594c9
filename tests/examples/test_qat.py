"""examples/qat_vit.py: trains, and a run that is killed goes on to the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pyquant as pq
from tests.examples.paths import EXAMPLES, load

SMALL = {"--epochs": 2, "--images": 600, "--batch": 128, "--calib": 128, "--save-every": 2, "--threads": 1}
ARGUMENTS = ["--quiet", *(str(part) for pair in SMALL.items() for part in pair)]
# Kills itself: before a step is done, or when a checkpoint is written and has not taken its place.
KILLERS = {
    "step": """
import os, signal, types, qat_vit
step, count = qat_vit.Run._step, [0]
def killing(self, *args):
    count[0] += 1
    if count[0] == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *args)
qat_vit.Run._step = killing
qat_vit.main()
""",
    "save": """
import os, signal, types, qat_vit
count = [0]
def killing(file):
    count[0] += 1
    if count[0] == 3:
        os.kill(os.getpid(), signal.SIGKILL)
qat_vit.os = types.SimpleNamespace(fsync=killing)
qat_vit.main()
""",
}


def run(out: Path, code: str = "import qat_vit; qat_vit.main()", *more: str, killed: bool = False) -> str:
    command = [sys.executable, "-c", code, *ARGUMENTS, "--out", str(out), *more]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(EXAMPLES), str(EXAMPLES.parent)])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == (-9 if killed else 0), done.stderr
    return done.stdout


def top1(text: str, when: str) -> float:
    return float(next(line for line in text.splitlines() if line.strip().startswith(when)).split()[-2])


def digest(text: str) -> str:
    return next(line for line in text.splitlines() if line.startswith("digest"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp("whole")
    return run(out), out


def test_it_trains_and_writes_what_it_says(whole: tuple[str, Path]) -> None:
    text, out = whole
    assert "differ between the trained model and the engine: 0 of 3,600" in text
    assert (out / "curve.png").stat().st_size > 10_000
    rows = (out / "curve.csv").read_text().splitlines()
    assert rows[0] == "epoch,loss,validation"
    assert len(rows) == 3
    assert not list(out.glob("*.part"))


@pytest.mark.parametrize("where", KILLERS)
def test_killed_and_resumed_is_the_same_run(where: str, whole: tuple[str, Path], tmp_path: Path) -> None:
    run(tmp_path, KILLERS[where], killed=True)
    assert (tmp_path / "checkpoint.pt").exists()
    assert (tmp_path / "checkpoint.part").exists() == (where == "save")
    text = run(tmp_path)
    assert "goes on at epoch" in text
    assert digest(text) == digest(whole[0])
    for name in ("curve.csv", "best.safetensors"):
        assert (tmp_path / name).read_bytes() == (whole[1] / name).read_bytes()


def test_calibration_loses_what_training_wins_back(whole: tuple[str, Path]) -> None:
    """Else the example shows nothing. 600 of 1,437 images and eight steps are a beginning; the whole run ends
    within a percent or two of float."""
    text, _ = whole
    real, before, after = (top1(text, when) for when in ("float", "after calibration", "after training"))
    assert before < real - 5
    assert after > before + 2


@pytest.mark.parametrize("given", [(), ("--config", "W4A4-lsq")], ids=["its own bits", "other bits"])
def test_a_plan_from_its_file(given: tuple[str, ...], tmp_path: Path) -> None:
    """Methods of the plan, bits of its own configuration unless there is another."""
    qat_vit = load("qat_vit")
    task = qat_vit.digits(600)
    calibration = [task.images[:32]]
    qmodel = pq.quantize(task.model, calibration, config=qat_vit.DIGITS, progress=False)
    table = pq.sensitivity(qmodel, calibration, candidates=["softmax=ibert", "unary=ivit"], progress=False)
    pq.assign(table).save(tmp_path / "plan.yaml")
    text = run(
        tmp_path / "out", "import qat_vit; qat_vit.main()", "--plan", str(tmp_path / "plan.yaml"), *given
    )
    assert "differ between the trained model and the engine: 0 of 3,600" in text
    config = pq.QuantConfig.from_dict(
        pq.IntegerModel.load(tmp_path / "out" / "best.safetensors").metadata["config"]
    )
    attention, gelu = config.for_site("blocks.2.attention.context"), config.for_site("blocks.2.mlp.1")
    assert attention.softmax.startswith("ibert")
    assert gelu.unary.startswith("ivit")
    bits = (attention.weight_bits, attention.activation_bits, attention.quantizer)
    assert bits == ((4, 4, "lsq") if given else (2, 3, "lsq"))


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    qat_vit = load("qat_vit")
    for arguments, config in (
        ([], qat_vit.DIGITS),
        (["--data", "a", "--checkpoint", "b"], "W4A4-lsq"),
        (["--config", "W8A8-lsq"], "W8A8-lsq"),
        (["--plan", "p.yaml"], None),
    ):
        monkeypatch.setattr(sys, "argv", ["qat_vit.py", *arguments])
        assert qat_vit.parse().config == config
