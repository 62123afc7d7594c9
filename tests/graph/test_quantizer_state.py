"""Quantizers of the registry at sites: training, modes, state, copies, compiled code; and every mistake."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch

import pyquant as pq
from pyquant.graph.quantizers import QuantizerGrid
from pyquant.quantizer_text import PARAMETERS
from pyquant.quantizers import QUANTIZERS
from pyquant.quantizers.base import _parameters
from tests.graph.quantized import EDGES, Small, configured, data, learned, quantized, train


@pytest.mark.parametrize("name", EDGES)
@pytest.mark.parametrize("field", ["quantizer", "weight_quantizer"])
def test_what_is_learned_moves_and_survives(name: str, field: str) -> None:
    settings = {field: name, "activation_bits": 4, "weight_bits": 4}
    model = quantized(configured(**settings))
    expected = set(QUANTIZERS[name].learned)
    before = {key: value.detach().clone() for key, value in learned(model).items()}
    assert {key.rpartition(".")[2] for key in before} == expected
    losses = train(model, 4)
    assert all(loss == loss for loss in losses)
    moved = {key for key, value in before.items() if not torch.equal(value, learned(model)[key])}
    # A clip, or an offset, moves only where its edge is clipped.
    assert {key.rpartition(".")[2] for key in moved} == expected
    assert all(learned(model)[key].grad is not None for key in before)
    x = data(16)[0]
    fresh = pq.prepare(Small(), x[:1], config=configured(**settings))
    fresh.load_state_dict(model.state_dict(), strict=True)
    pq.set_mode(fresh, "quantized")
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    for other in (fresh, copy.deepcopy(model), torch.load(buffer, weights_only=False)):
        assert torch.equal(other(x), model(x))
        assert learned(other).keys() == learned(model).keys()
        assert all(p.requires_grad for p in learned(other).values())
        train(other, 1)


@pytest.mark.parametrize("mode", ["float", "observe", "frozen", "weights"])
def test_modes_say_what_wants_gradients(mode: str) -> None:
    model = quantized(configured(quantizer="pact", weight_quantizer="tqt"))
    pq.set_mode(model, mode)
    wanting = {name for name, p in learned(model).items() if p.requires_grad}
    assert all("weight_quantizer" in name for name in wanting)
    assert len(wanting) == (3 if mode == "weights" else 0)
    model(data(8)[0]).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    pq.set_mode(model, "quantized")
    assert all(p.requires_grad for p in learned(model).values())


@pytest.mark.parametrize("name", ["pact", "adalog"])
def test_beside_learned_scales(name: str) -> None:
    """LSQ's scales get gradients behind another quantizer's edge, and on a simulated site's grid."""
    settings = {"quantizer": "lsq", "weight_quantizer": "lsq", "activation_bits": 4, "weight_bits": 4}
    model = quantized(configured(**settings).override("mid", quantizer=name))
    before = {key: value.detach().clone() for key, value in learned(model).items()}
    train(model, 3)
    assert any(key.endswith("mid.weight_scale") for key in before)
    assert all(
        not torch.equal(value, learned(model)[key]) for key, value in before.items() if "clip" not in key
    )
    x = data(16)[0]
    if name == "pact":
        assert pq.compare(model, pq.convert(model), x).identical
    else:
        assert torch.equal(pq.convert(model, partial=True)(x), model(x))


def test_calibrating_again_keeps_what_an_optimizer_holds() -> None:
    config = configured(quantizer="pact", weight_quantizer="tqt").override("softmax", quantizer="dsq")
    model = quantized(config)
    before = {id(p): p.detach().clone() for p in learned(model).values()}
    pq.calibrate(model, [3.0 * data(64, seed=1)[0]], progress=False)
    after = {id(p): p for p in learned(model).values()}
    assert before.keys() == after.keys()
    assert any(not torch.equal(value, after[key]) for key, value in before.items())


def test_half_precision_leaves_quantizers_in_float32() -> None:
    model = quantized(configured(quantizer="pact", weight_quantizer="tqt"))
    x = data(16)[0]
    model.to(torch.float64).to(torch.float32)
    want = model(x)
    assert all(p.dtype == torch.float32 for p in learned(model.half()).values())
    assert model.float()(x).shape == want.shape
    assert pq.compare(model, pq.convert(model), x).identical


def test_autocast_changes_nothing() -> None:
    for name in ("pact", "adalog"):
        model = quantized(configured("softmax", quantizer=name))
        x = data(16)[0]
        want = model(x)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(model(x), want)


@pytest.mark.parametrize("name", ["pact", "tqt", "adalog", "dsq"])
def test_compiled_it_gives_the_same(name: str) -> None:
    torch.compiler.reset()
    model = quantized(configured(quantizer=name, weight_quantizer="tqt"))
    x = data(16)[0]
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    want = model(x)
    assert torch.equal(compiled(x), want)
    want.sum().backward()
    grads = {n: p.grad for n, p in model.named_parameters()}
    model.zero_grad()
    compiled(x).sum().backward()
    for key, parameter in model.named_parameters():
        assert torch.allclose(parameter.grad, grads[key], rtol=1e-5, atol=1e-6), key  # type: ignore[arg-type]


# -- other settings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EDGES)
def test_a_candidate_is_what_calibration_would_have_made(name: str) -> None:
    x = data(64)[0]
    model = quantized(configured("softmax", quantizer=name, activation_bits=8))
    site = model.sites()["softmax"]
    before = {key: value.clone() for key, value in site.state_dict().items()}
    made = site.with_settings({"activation_bits": 4})
    other = quantized(configured("softmax", quantizer=name, activation_bits=4)).sites()["softmax"]
    assert isinstance(made.output, QuantizerGrid)
    assert made.output.quantizer.state_dict().keys() == other.output.quantizer.state_dict().keys()  # type: ignore
    for key, value in made.output.state_dict().items():
        assert torch.equal(value, other.output.state_dict()[key]), key
    assert all(torch.equal(value, site.state_dict()[key]) for key, value in before.items())
    same = site.with_settings({})
    assert not {id(p) for p in same.parameters()} & {id(p) for p in site.parameters()}
    table = pq.sensitivity(model, [x], candidates=["A4", "current"], select="softmax", progress=False)
    assert table.row("softmax", "A4").accumulated <= table.row("softmax", "current").accumulated


def test_a_loaded_model_has_no_data_to_begin_with() -> None:
    x = data(8)[0]
    config = configured("softmax", quantizer="adalog")
    fresh = pq.prepare(Small(), x[:1], config=config)
    fresh.load_state_dict(quantized(config).state_dict())
    pq.set_mode(fresh, "quantized")
    with pytest.raises(pq.CalibrationError, match=r"site 'softmax': quantizer 'adalog' begins with data"):
        fresh.sites()["softmax"].with_settings({"activation_bits": 4})


def test_weights_with_other_bits_have_a_quantizer_of_their_own() -> None:
    model = quantized(configured(weight_quantizer="tqt"))
    site = model.sites()["mid"]
    made = site.with_settings({"weight_bits": 4}, model.mid.weight, model.mid.bias)
    assert made.weight_quantizer.bits == 4  # type: ignore[union-attr]
    assert site.weight_quantizer.bits == 8  # type: ignore[union-attr]
    assert not {id(p) for p in made.parameters()} & {id(p) for p in site.parameters()}
    table = pq.sensitivity(model, [data(16)[0]], candidates=["W4", "W8"], progress=False)
    assert table.row("mid", "W4").accumulated < table.row("mid", "W8").accumulated


# -- mistakes ------------------------------------------------------------------------------------------------


def test_the_texts_that_configurations_know_are_the_registry() -> None:
    assert list(PARAMETERS)[: len(QUANTIZERS)] == list(QUANTIZERS)
    for name, cls in QUANTIZERS.items():
        assert dict(PARAMETERS[name]) == _parameters(cls), name


def test_bits_in_the_text() -> None:
    config = pq.SiteConfig(quantizer=" pact( bits = 4 )", weight_quantizer="tqt(bits=6)")
    assert config == pq.SiteConfig(quantizer="pact", activation_bits=4, weight_quantizer="tqt", weight_bits=6)
    assert pq.SiteConfig(quantizer="lsq(bits=8)", weight_quantizer="lsq(signed=true)") == pq.SiteConfig(
        quantizer="lsq", weight_quantizer="lsq"
    )
    message = r"quantizer: expected the bits of activation_bits, 4, or none in the text, got 'pact\(bits=6\)'"
    with pytest.raises(ValueError, match=message):
        pq.SiteConfig(quantizer="pact(bits=6)", activation_bits=4)
    with pytest.raises(
        ValueError, match="weight_quantizer: expected fixed or lsq with group_size 32, got 'tqt'"
    ):
        pq.SiteConfig(weight_quantizer="tqt", weight_bits=4, group_size=32)
    round_trip = pq.QuantConfig.from_dict(pq.QuantConfig(base=config).to_dict())
    assert round_trip.base == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quantizer": "dsq(alpha=2)"}, r"site 'x': quantizer: dsq: expected alpha in \(0, 1\), got 2.0"),
        (
            {"quantizer": "pact", "symmetric": True},
            "quantizer: expected zero point 0, since symmetric is set",
        ),
        (
            {"weight_quantizer": "adalog(denominator=0)"},
            "site 'up': weight_quantizer: adalog: expected denom",
        ),
    ],
)
def test_what_prepare_finds(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pq.prepare(Small(), data(2)[0], config=configured(**settings))


def test_attention_needs_zero_points_of_zero() -> None:
    class Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q = torch.nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q = self.q(x).unsqueeze(1)
            return torch.nn.functional.scaled_dot_product_attention(q, q, q)

    x = torch.randn(4, 5, 8, generator=torch.Generator().manual_seed(0))
    message = "site 'q': quantizer: expected zero point 0, since attention reads its edge, got 'pact'"
    with pytest.raises(ValueError, match=message):
        pq.prepare(Attention(), x, config=configured("q", quantizer="pact"))
    for name in ("affine", "tqt", "pow2"):
        model = pq.quantize(Attention(), [x], config=configured("q", quantizer=name), progress=False)
        assert int(model.sites()["q"].output.zero_point) == 0
        assert pq.compare(model, pq.convert(model), x).identical
    model = pq.quantize(Attention(), [x], config=configured("q", quantizer="dsq"), progress=False)
    assert model.sites()["context"].simulated == "reads 'q', quantizer 'dsq'"
    assert torch.equal(pq.convert(model, partial=True)(x), model(x))


SPOILED = [
    ("pact", "clip", -0.5, "site 'softmax': .*the scale of y .*got -0.*a learned scale fell to zero"),
    ("tqt", "log2_threshold", float("nan"), "site 'softmax': .*the scale of y .*got nan"),
    ("lsq_plus", "scale", 0.0, "site 'softmax': lsq_plus: expected scale > 0, got 0.0.*a learned scale fell"),
    ("lsq_plus", "offset", float("nan"), "site 'softmax': lsq_plus: expected a finite offset, got nan"),
    ("dsq", "low", 9.0, "site 'softmax': dsq: expected low < high, got 9.0 and"),
    ("adalog(learn_scale=true)", "scale", -1.0, "site 'softmax': adalog: expected scale > 0, got -1.0"),
]


@pytest.mark.parametrize(("name", "part", "value", "message"), SPOILED)
def test_what_training_spoils_is_named(name: str, part: str, value: float, message: str) -> None:
    model = quantized(configured("softmax", quantizer=name))
    with torch.no_grad():
        getattr(model.sites()["softmax"].output.quantizer, part).fill_(value)  # type: ignore[union-attr]
    with pytest.raises(RuntimeError, match=message):
        model(data(4)[0])


def test_nan_is_named_where_no_integer_op_sees_it() -> None:
    model = quantized(configured("mid", weight_quantizer="dorefa", quantizer="dsq"))
    with torch.no_grad():
        model.mid.bias[0] = float("nan")
    with pytest.raises(RuntimeError, match=r"site 'mid': dsq: expected no NaN.*; training diverged"):
        model(data(4)[0])


def test_data_of_several_processes_is_refused(tmp_path: Any) -> None:
    """Which values are the first is another matter on each; ranges merge."""
    x = data(16)[0]
    network = Small()
    model = pq.prepare(network, x, config=configured("softmax", quantizer="adalog"))
    pq.observe(model, [x], progress=False)
    with pytest.raises(
        pq.CalibrationError, match="site 'softmax': its quantizer begins with the first batches"
    ):
        pq.save_observations(model, tmp_path / "seen")
    model = pq.prepare(network, x, config=configured(quantizer="lsq_plus"))
    pq.observe(model, [x], progress=False)
    pq.save_observations(model, tmp_path / "seen")
    pq.finish_calibration(pq.merge_observations(model, tmp_path / "seen"))
    whole = pq.quantize(network, [x], config=configured(quantizer="lsq_plus"), progress=False)
    assert whole.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in learned(whole).items())


def test_a_failed_calibration_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails at the last layer's weights, when the others have their new quantizers."""
    config = configured(quantizer="adalog", weight_quantizer="symmetric")
    model = quantized(config.override("mid", weight_quantizer="tqt"))
    kept = model.sites()["softmax"].output.first_observer.values.clone()  # type: ignore[union-attr]
    with torch.no_grad():
        model.up.weight.mul_(2.0)
        model.mid.weight.mul_(2.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = 5.0 * data(64)[0]

    def failing(weight: torch.Tensor) -> None:
        raise MemoryError

    monkeypatch.setattr(model.sites()["head"].weight_quantizer, "initialize", failing)
    with pytest.raises(MemoryError):
        pq.calibrate(model, [x], progress=False)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    assert torch.equal(model.sites()["softmax"].output.first_observer.values, kept)  # type: ignore[union-attr]


def test_the_first_values_are_bounded_and_whole_samples() -> None:
    from pyquant.observers import first

    keeper = first.FirstValues()
    sample = first.CAPACITY // 4
    keeper(torch.ones(3, sample))
    keeper(torch.ones(2, sample + 1))  # of another shape
    keeper(2 * torch.ones(3, sample))
    assert keeper.values.shape == (4, sample)
    assert keeper.values[:, 0].tolist() == [1.0, 1.0, 1.0, 2.0]
    keeper.reset()
    assert keeper.empty
    keeper(torch.tensor(3.0))
    assert keeper.values.tolist() == [3.0]
    assert not keeper.state_dict()


def test_clips_decay_where_that_is_asked_for() -> None:
    model = quantized(configured(quantizer="pact", weight_quantizer="tqt"))
    assert {g["weight_decay"] for g in pq.param_groups(model, 0.1, 0.5) if "scales" in g["name"]} == {0.0}
    groups = {g["name"]: g for g in pq.param_groups(model, 0.1, relative=False, clip_decay=0.01)}
    clips = [p for name, p in learned(model).items() if name.endswith("clip")]
    assert {id(p) for p in groups["clips"]["params"]} == {id(p) for p in clips}
    assert (groups["clips"]["weight_decay"], groups["scales"]["weight_decay"]) == (0.01, 0.0)
    relative = pq.param_groups(model, 0.1)
    rates = {id(p): g["lr"] for g in relative for p in g["params"]}
    assert all(rates[id(p)] == 0.1 for name, p in learned(model).items() if name.endswith("threshold"))
    for clip in clips:
        assert 0.5 <= rates[id(clip)] / (0.1 * float(clip.detach())) <= 1.0
    with pytest.raises(ValueError, match="clip_decay to be a finite number >= 0, got -1"):
        pq.param_groups(model, 0.1, clip_decay=-1)
    with pytest.raises(
        ValueError, match=r"expected scales > 0, got 0.0 at .*output.quantizer.clip; calibrate"
    ):
        pq.param_groups(pq.prepare(Small(), data(1)[0], config=configured(quantizer="pact")), 0.1)
