"""observe, save_observations, merge_observations, finish_calibration: files in place of one process."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import pyquant as pq
from tests.verbs.models import Mlp, TwoInputs, mlp

X = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
BATCHES = list(X.split(8))
EXACT = ["minmax", "percentile", "mse", "kl", "omse", "lp"]


def config(observer: str = "mse", **base: Any) -> dict[str, Any]:
    settings = {"observer": observer, "residual_observer": observer, "weight_observer": "mse"}
    return {"base": {**settings, **base}}


def loss(output: Tensor, _: Any) -> Tensor:
    return output.square().mean()


class Normed(nn.Module):
    """With a LayerNorm that observes its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.first(x)))


def prepared_of(observer: str, **base: Any) -> pq.Prepared:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return pq.prepare(Normed(), X[:2], config(observer, norm="ptf", **base))


def state(prepared: pq.Prepared, observers: bool = True) -> dict[str, Any]:
    found: dict[str, Any] = {name: site.mode for name, site in prepared.sites().items()}
    for name, value in prepared.state_dict().items():
        if observers or "observer." not in name:
            found[f"state/{name}"] = value.clone()
    return found


def assert_same(after: dict[str, Any], before: dict[str, Any]) -> None:
    assert after.keys() == before.keys()
    for name, value in before.items():
        assert torch.equal(after[name], value) if isinstance(value, Tensor) else after[name] == value, name


def written(path: Path, observer: str, batches: list[Tensor], **base: Any) -> Path:
    """By a process of its own, as it were."""
    prepared = prepared_of(observer, **base)
    pq.observe(prepared, batches, loss=loss, progress=False)
    pq.save_observations(prepared, path)
    return path


@pytest.mark.parametrize("observer", [*EXACT, "ema", "hessian"])
def test_calibrate_is_observe_and_finish(observer: str) -> None:
    whole, halves = prepared_of(observer), prepared_of(observer)
    pq.calibrate(whole, BATCHES, loss=loss, progress=False)
    before = state(halves, observers=False)
    assert pq.observe(halves, BATCHES, loss=loss, progress=False) is halves
    assert_same(state(halves, observers=False), before)
    assert pq.finish_calibration(halves) is halves
    assert_same(state(halves), state(whole))


@pytest.mark.parametrize("observer", [*EXACT, "hessian"])
def test_files_give_what_one_process_gives(observer: str, tmp_path: Path) -> None:
    whole = pq.calibrate(prepared_of(observer), BATCHES, loss=loss, progress=False)
    parts = [BATCHES[:1], BATCHES[1:6], BATCHES[6:]]
    paths = [written(tmp_path / f"{i}.safetensors", observer, part) for i, part in enumerate(parts)]
    for order in (paths, paths[::-1]):
        merged = prepared_of(observer)
        pq.observe(merged, [X * 50], loss=loss, progress=False)  # is forgotten
        assert pq.merge_observations(merged, order) is merged
        pq.finish_calibration(merged)
        want, got = state(whole), state(merged)
        for name in [n for n in want if n.endswith("observer.weights")]:  # sums of squares
            torch.testing.assert_close(got.pop(name), want.pop(name), rtol=1e-14, atol=0)
        assert_same(got, want)


def test_files_of_parts_of_a_model(tmp_path: Path) -> None:
    """No process needs to reach every site, if all together do."""

    def made() -> pq.Prepared:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return pq.prepare(TwoInputs(), {"x": X[:2], "extra": X[:2]}, config())

    batches: list[dict[str, Tensor]] = [{"x": X}, {"x": X, "extra": X}]
    for i, batch in enumerate(batches):
        pq.save_observations(pq.observe(made(), [batch], progress=False), tmp_path / f"{i}.st")
    alone = pq.merge_observations(made(), tmp_path / "0.st")
    with pytest.raises(pq.CalibrationError, match=r"^finish_calibration: no batch reached site 'extra'"):
        pq.finish_calibration(alone)
    both = pq.finish_calibration(pq.merge_observations(made(), [tmp_path / "0.st", tmp_path / "1.st"]))
    assert_same(state(both), state(pq.calibrate(made(), batches, progress=False)))


def test_ema_is_refused_by_name(tmp_path: Path) -> None:
    prepared = pq.prepare(mlp(), X[:2], pq.QuantConfig().override("act", observer="ema"))
    pq.observe(prepared, BATCHES, progress=False)
    for call in (
        lambda: pq.save_observations(prepared, tmp_path / "a"),
        lambda: pq.merge_observations(prepared, tmp_path / "a"),
    ):
        with pytest.raises(pq.CalibrationError, match="site 'act': observer 'ema' depends on the order"):
            call()
    assert not list(tmp_path.iterdir())


def test_nothing_observed(tmp_path: Path) -> None:
    prepared = prepared_of("mse")
    with pytest.raises(pq.CalibrationError, match="save_observations: nothing was observed"):
        pq.save_observations(prepared, tmp_path / "a")
    with pytest.raises(pq.CalibrationError, match="finish_calibration: no batch reached site 'x'"):
        pq.finish_calibration(prepared)
    with pytest.raises(pq.CalibrationError, match="merge_observations: expected at least one file"):
        pq.merge_observations(prepared, [])
    assert not list(tmp_path.iterdir())
    for call in (pq.observe, pq.merge_observations):
        with pytest.raises(TypeError, match="expected a Prepared"):
            call(mlp(), [X])  # type: ignore[operator]
    with pytest.raises(TypeError, match="expected a Prepared"):
        pq.finish_calibration(mlp())  # type: ignore[arg-type]


def test_files_of_something_else(tmp_path: Path) -> None:
    """One clear error that names the file; the observers stay as they were."""
    good = written(tmp_path / "good", "mse", BATCHES[:2])
    prepared = pq.observe(prepared_of("mse"), BATCHES, progress=False)
    before = state(prepared)

    def refused(path: Path, text: str) -> None:
        with pytest.raises(pq.CalibrationError, match=text) as caught:
            pq.merge_observations(prepared, [good, path])
        assert str(path) in str(caught.value)
        assert_same(state(prepared), before)

    head = {"format": "pyquant-observations", "version": "1"}
    other = prepared_of("mse")
    with torch.no_grad():
        other.get_parameter("last.bias")[0] += 1.0
    pq.save_observations(pq.observe(other, BATCHES, progress=False), tmp_path / "model")
    refused(tmp_path / "model", "is of another model$")
    refused(
        written(tmp_path / "kl", "kl", BATCHES), r"another configuration: base.observer is 'kl', here 'mse'"
    )
    refused(written(tmp_path / "bits", "mse", BATCHES, weight_bits=4), "base.weight_bits is 4, here 8")
    save_file({"a": torch.ones(1)}, tmp_path / "foreign")
    refused(tmp_path / "foreign", "no file of save_observations")
    save_file({"a": torch.ones(1)}, tmp_path / "newer", {**head, "version": "2"})
    refused(tmp_path / "newer", r"reads version 1 of observations, .* has 2")
    refused(good, "is listed twice")
    with pytest.raises(OSError, match="nowhere"):
        pq.merge_observations(prepared, tmp_path / "nowhere")
    assert_same(state(prepared), before)


def test_damaged_files(tmp_path: Path) -> None:
    """Cut off anywhere, emptied, or with numbers that no observer leaves."""
    good = written(tmp_path / "good", "mse", BATCHES)
    data = good.read_bytes()
    prepared = pq.observe(prepared_of("mse"), BATCHES, progress=False)
    before = state(prepared)
    bad = tmp_path / "bad"
    for length in (0, 4, 8, 100, 1000, len(data) // 2, len(data) - 1):
        bad.write_bytes(data[:length])
        with pytest.raises(pq.CalibrationError, match=r"bad is cut off, or no file"):
            pq.merge_observations(prepared, [good, bad])
        assert_same(state(prepared), before)
    size = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + size])["__metadata__"]

    def refused(change: Any, text: str) -> None:
        tensors = load_file(good)
        change(tensors)
        save_file(tensors, bad, head)
        with pytest.raises(pq.CalibrationError, match=text):
            pq.merge_observations(prepared, [good, bad])
        assert_same(state(prepared), before)

    counts, channels = "first/observer/counts", "norm/input_observer/minimum"
    refused(lambda t: t[counts].__setitem__(0, -1), "bad: site 'first': .*counts and meta of a histogram")
    refused(lambda t: t[channels].fill_(float("nan")), "bad: site 'norm': channel range: expected finite")
    refused(lambda t: t.pop(counts), rf"expected {counts} \(2048,\) of torch.int64, got nothing")
    refused(lambda t: t.update({counts: torch.zeros(7)}), r"got \(7,\) of torch.float32")
    refused(lambda t: t.update({"more": torch.zeros(7)}), r"expected more nothing, got \(7,\)")


def test_an_old_file_survives_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = written(tmp_path / "good", "mse", BATCHES)
    before = good.read_bytes()

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        written(good, "mse", BATCHES[:1])
    assert good.read_bytes() == before
    assert list(tmp_path.iterdir()) == [good]


@pytest.mark.parametrize("observer", ["mse", "hessian"])
def test_a_failed_observe_leaves_the_observers(observer: str) -> None:
    prepared = pq.observe(prepared_of(observer), BATCHES, loss=loss, progress=False)
    before = state(prepared)
    broken = X.clone()
    broken[0, 0] = float("nan")
    with pytest.raises(pq.CalibrationError, match="site 'x'"):
        pq.observe(prepared, [X * 9, broken], loss=loss, progress=False)
    assert_same(state(prepared), before)
    with pytest.raises(pq.CalibrationError, match="observe: expected at least one batch, got none"):
        pq.observe(prepared, [], loss=loss, progress=False)
    assert_same(state(prepared), before)


@pytest.mark.parametrize("observer", [*EXACT, "lp 4"])
def test_another_observer_from_one_calibration(observer: str) -> None:
    """What sensitivity tries is what calibration would have chosen."""
    name, _, power = observer.partition(" ")
    settings: dict[str, Any] = {"observer": name, **({"lp_norm": float(power)} if power else {})}
    prepared = pq.calibrate(pq.prepare(mlp(), X[:2], config("percentile")), BATCHES, progress=False)
    base = {**config("percentile")["base"], **settings}
    wanted = pq.calibrate(pq.prepare(mlp(), X[:2], {"base": base}), BATCHES, progress=False)
    site, want = prepared.sites()["act"].with_settings(settings), wanted.sites()["act"]
    assert float(site.output.scale) == float(want.output.scale)
    assert int(site.output.zero_point) == int(want.output.zero_point)
    with pytest.raises(ValueError, match="did not keep what 'hessian' needs"):
        prepared.sites()["act"].with_settings({"observer": "hessian"})


# -- gradients -----------------------------------------------------------------------------------------------


def test_weights_are_the_gradients_of_the_loss() -> None:
    """Against autograd through the model itself, and finite differences in float64."""
    model = mlp()
    prepared = pq.prepare(model, X[:2], config("hessian"))
    target = torch.randn(8, 6, generator=torch.Generator().manual_seed(5))

    def distance(output: Tensor, batch: Tensor) -> Tensor:
        assert batch.shape == (8, 4)
        return (output - target).square().mean()

    pq.calibrate(prepared, BATCHES[:1], loss=distance, progress=False)
    exact = copy.deepcopy(model).double().requires_grad_(False)
    first = exact.first(BATCHES[0].double()).detach()

    def rest(value: Tensor) -> Tensor:
        return (exact.last(exact.act(value)) - target.double()).square().mean()

    gradient = torch.zeros_like(first)
    for i in range(first.numel()):
        step = torch.zeros_like(first)
        step.view(-1)[i] = 1e-5
        gradient.view(-1)[i] = (rest(first + step) - rest(first - step)) / 2e-5
    seen = prepared.sites()["first"].observer
    assert float(seen.weights.sum()) == pytest.approx(float(gradient.square().sum()), rel=1e-5)
    exponent = float(seen.meta[3])
    bins = torch.floor(first.float().double() * 1024 / 2**exponent).long() + 1024
    expected = torch.zeros(2048, dtype=torch.float64).index_add_(
        0, bins.flatten(), gradient.square().flatten()
    )
    torch.testing.assert_close(seen.weights, expected, rtol=1e-4, atol=1e-12)
    assert all(value.grad is None for value in prepared.parameters())
    assert all(value.requires_grad for value in prepared.parameters())
    assert all(site.awaiting is None for site in prepared.sites().values())


def test_frozen_parameters_and_no_grad() -> None:
    """Gradients are those of edges: parameters need none, nor does the caller's mode matter."""
    plain = pq.calibrate(pq.prepare(mlp(), X[:2], config("hessian")), BATCHES, loss=loss, progress=False)
    model = mlp().requires_grad_(False)
    with torch.no_grad():
        frozen = pq.calibrate(pq.prepare(model, X[:2], config("hessian")), BATCHES, loss=loss, progress=False)
    assert_same(state(frozen), state(plain))


def test_a_loss_of_the_user_s_forward() -> None:
    def forward(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return model(batch[0]), batch[1]

    def distance(output: tuple[Tensor, Tensor], batch: Any) -> Tensor:
        return torch.nn.functional.cross_entropy(*output)

    labelled = [(x, torch.zeros(len(x), dtype=torch.long)) for x in BATCHES]
    prepared = pq.prepare(mlp(), X[:2], config("hessian"))
    pq.calibrate(prepared, labelled, forward=forward, loss=distance, progress=False)
    assert prepared(X).shape == (64, 6)


def test_without_a_loss() -> None:
    prepared = pq.prepare(mlp(), X[:2], pq.QuantConfig().override("act", observer="hessian"))
    before = state(prepared)
    for verb in (pq.calibrate, pq.observe):
        with pytest.raises(
            pq.CalibrationError, match=r"site 'act': observer 'hessian' needs gradients; give loss="
        ):
            verb(prepared, BATCHES, progress=False)
    assert_same(state(prepared), before)
    pq.set_mode(prepared, "observe")
    with pytest.raises(pq.CalibrationError, match="site 'act': hessian: needs the gradient of a loss"):
        prepared(X)


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (lambda y, _: y, "expected loss to return a tensor of one number, got \\(8, 6\\)"),
        (lambda y, _: 1.0, "got float"),
        (lambda y, _: torch.ones(()), "expected the loss to depend on what the model computed"),
        (lambda y, _: (y * float("nan")).sum(), "site '.*': hessian: expected a finite gradient"),
    ],
)
def test_what_is_no_loss(bad: Any, text: str) -> None:
    prepared = pq.prepare(mlp(), X[:2], config("hessian"))
    before = state(prepared)
    with pytest.raises(pq.CalibrationError, match=text):
        pq.calibrate(prepared, BATCHES, loss=bad, progress=False)
    assert_same(state(prepared), before)


def test_a_site_that_the_loss_does_not_see() -> None:
    prepared = pq.prepare(TwoInputs(), {"x": X[:2], "extra": X[:2]}, config("hessian"))
    with pytest.raises(pq.CalibrationError, match="the loss of no batch depends on site 'extra' and 1 more"):
        pq.calibrate(prepared, [{"x": X, "extra": X}], loss=lambda y, _: y[0].square().sum(), progress=False)


def test_a_loss_that_nobody_needs_is_not_called() -> None:
    def never(*_: Any) -> Tensor:
        raise AssertionError

    assert isinstance(pq.quantize(mlp(), BATCHES, progress=False), pq.Prepared)
    pq.calibrate(pq.prepare(Mlp(), X[:2]), BATCHES, loss=never, progress=False)
