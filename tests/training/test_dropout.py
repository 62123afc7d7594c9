"""Dropout and stochastic depth of the original come back in `train()`, and nowhere else."""

from __future__ import annotations

import copy
import functools
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pyquant as pq
from pyquant.graph.train_functions import attention_dropout
from tests.training.drop_models import WAYS, WIDTH, DropPath, Layer, model_of, tokens

X = tokens(32)


@functools.cache
def made(way: str, dropout: bool, config: str) -> pq.Prepared:
    return pq.quantize(model_of(way), [X], config, progress=False, dropout=dropout)


def prepared(way: str = "encoder", dropout: bool = True, config: str = "W8A8") -> pq.Prepared:
    return copy.deepcopy(made(way, dropout, config))


def seeded(model: nn.Module, x: Tensor = X, seed: int = 1) -> Tensor:
    torch.manual_seed(seed)
    y: Tensor = model(x)
    return y


def fates(model: pq.Prepared) -> dict[str, str]:
    return {row.site: row.reason for row in model.coverage() if "train()" in row.reason}


@pytest.mark.parametrize("way", WAYS)
def test_in_float_it_is_the_original_in_training(way: str) -> None:
    """With the same seed: the same probabilities, at the same places, in the same order."""
    original = model_of(way).double().train()
    model = prepared(way).double().train()
    pq.set_mode(model, "float")
    x = X.double()
    # Both in float64; the order of sums differs, and folded scales: some hundred roundings of 1e-16.
    torch.testing.assert_close(seeded(model, x), seeded(original, x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(seeded(model, x, 2), seeded(original, x, 2), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(seeded(model, x), model_of(way).double()(x), rtol=1e-3)
    assert set(fates(model).values()) == {"in train() only"}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_deployed_knows_nothing_of_it(way: str) -> None:
    plain, model = prepared(way, dropout=False), prepared(way).train()
    dropped = seeded(model)
    assert torch.equal(model.eval()(X), plain(X))
    assert not torch.equal(dropped, plain(X))
    engine = pq.convert(model.train())
    assert engine.digest() == pq.convert(plain).digest()
    assert pq.compare(model, engine, X).identical
    assert model.training


@pytest.mark.parametrize("way", ["encoder", "depth_row", "sdpa"])
def test_gradients_are_those_of_the_original(way: str) -> None:
    original, model = model_of(way).double().train(), prepared(way).double().train()
    pq.set_mode(model, "float")
    x = X.double()
    seeded(original, x).square().sum().backward()
    seeded(model, x).square().sum().backward()
    mine = dict(model.named_parameters())
    for name, parameter in original.named_parameters():
        torch.testing.assert_close(mine[name].grad, parameter.grad, rtol=1e-9, atol=1e-9)


def test_the_gradient_is_masked() -> None:
    """d/d bias of the sum is 1 / (1 - p) for each value that is kept and lies inside its range."""
    torch.manual_seed(0)
    original = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.75))
    with torch.no_grad():
        original[0].bias.fill_(5.0)  # no value is 0 by itself
    x = torch.randn(40, 6)
    model = pq.quantize(original, [x], progress=False, dropout=True).train()
    site = model.sites()["0"]
    q = torch.round(model.eval()(x) / site.output.scale) + site.output.zero_point
    y = seeded(model.train(), x)
    y.sum().backward()
    inside = (q > site.output.quant_min) & (q < site.output.quant_max)
    expected = 4.0 * ((y != 0) & inside).sum(0)
    assert 0 < int((y != 0).sum()) < y.numel() // 2
    torch.testing.assert_close(model.get_parameter("0.bias").grad, expected)


@pytest.mark.parametrize(
    ("causal", "mask"), [(False, None), (False, "boolean"), (False, "additive"), (True, None)]
)
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_attention_dropout(causal: bool, mask: str | None, kv_heads: int) -> None:
    """With y the plain attention it is torch's own, mask for mask, and so is its gradient."""
    generator = torch.Generator().manual_seed(0)

    def leaf(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()

    q, k, v = leaf(3, 4, 5, 8), leaf(3, kv_heads, 6, 8), leaf(3, kv_heads, 6, 8)
    where: Tensor | None = None
    if mask is not None:
        where = torch.rand(3, 1, 5, 6, generator=generator) < 0.6
        where[..., 0] = True
        where = where if mask == "boolean" else torch.where(where, 0.3, float("-inf")).double()
    options: Any = {"is_causal": causal, "scale": 0.4, "enable_gqa": kv_heads != 4}

    def ours() -> Tensor:
        plain = F.scaled_dot_product_attention(q, k, v, where, 0.0, **options)
        torch.manual_seed(3)
        return attention_dropout(plain, q, k, v, where, 0.3, *options.values())

    def theirs() -> Tensor:
        torch.manual_seed(3)
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            return F.scaled_dot_product_attention(q, k, v, where, 0.3, **options)

    torch.testing.assert_close(ours(), theirs(), rtol=1e-12, atol=1e-12)
    for a, b in zip(*(torch.autograd.grad(f().sin().sum(), (q, k, v)) for f in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert torch.autograd.gradcheck(lambda *_: ours(), (q, k, v))


def test_a_row_that_sees_nothing_stays_zero() -> None:
    q, where = torch.randn(1, 1, 2, 4), torch.tensor([[True, True], [False, False]])
    plain = F.scaled_dot_product_attention(q, q, q, where).nan_to_num()
    assert torch.equal(
        attention_dropout(plain, q, q, q, where, 0.5, False, 0.5, False)[..., 1, :], plain[..., 1, :]
    )


def test_the_next_integer_op_quantizes_what_left_the_grid() -> None:
    """x / (1 - p) lies between the steps of the edge: the next site rounds it onto them, and clamps."""
    torch.manual_seed(0)
    original = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.3), nn.Linear(6, 4))
    x = torch.randn(40, 6)
    model = pq.quantize(original, [x], progress=False, dropout=True).train()
    seen: dict[str, Any] = {}
    second = model.sites()["2"]
    second.register_forward_pre_hook(lambda site, args: seen.update(args=args))
    y = seeded(model, x)
    edge, *rest = seen["args"]
    values, scale, zero_point = edge
    operand = second.operands[0]
    steps = torch.round(values / scale)
    assert not torch.equal(steps * scale, values)
    steps = steps.clamp(operand.quant_min - int(zero_point), operand.quant_max - int(zero_point))
    assert torch.equal(second((steps * scale, scale, zero_point), *rest), y)


@pytest.mark.parametrize("mode", ["float", "weights", "quantized", "frozen"])
def test_every_mode(mode: str) -> None:
    model = prepared()
    pq.set_mode(model, mode)
    assert not torch.equal(seeded(model.train()), model.eval()(X))
    assert torch.equal(seeded(model.train()), seeded(model))
    assert not torch.equal(seeded(model, seed=1), seeded(model, seed=2))


def test_copies_and_pickles_drop_alike() -> None:
    model = prepared().train()
    expected = seeded(model)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(seeded(other), expected)
        assert torch.equal(other.eval()(X), copy.deepcopy(model).eval()(X))


def test_checkpoints_go_both_ways() -> None:
    plain, model = prepared(dropout=False), prepared()
    assert plain.state_dict().keys() == model.state_dict().keys()
    fresh = pq.prepare(model_of("encoder"), X, dropout=True)
    fresh.load_state_dict(plain.state_dict())
    pq.set_mode(fresh, "quantized")
    assert torch.equal(seeded(fresh.train()), seeded(model.train()))
    pq.prepare(model_of("encoder"), X).load_state_dict(model.state_dict())


def test_compiled() -> None:
    torch.compiler.reset()
    model = prepared().train()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(seeded(compiled), seeded(model))
    assert torch.equal(compiled.eval()(X), model.eval()(X))
    torch.compiler.reset()


def test_calibration_does_not_see_it() -> None:
    plain = pq.quantize(model_of("encoder").train(), [X, tokens(8, 5)], progress=False)
    model = pq.prepare(model_of("encoder").train(), X, dropout=True)
    assert model.training
    calls: list[bool] = []

    def forward(module: nn.Module, batch: Tensor) -> Any:
        calls.append(module.training)
        return module(batch)

    before = torch.get_rng_state()
    pq.calibrate(model, [X, tokens(8, 5)], forward=forward, progress=False)
    assert torch.equal(torch.get_rng_state(), before)
    assert calls == [False, False]
    assert model.training
    mine = model.state_dict()
    assert all(torch.equal(value, mine[name]) for name, value in plain.state_dict().items())
    with pytest.raises(pq.CalibrationError):
        pq.calibrate(model, [X * float("nan")], progress=False)
    assert model.training
    table = pq.sensitivity(model, [X], progress=False, candidates=["W4"])
    assert torch.equal(torch.get_rng_state(), before)
    assert table.rows == pq.sensitivity(plain, [X], progress=False, candidates=["W4"]).rows


def test_the_teacher_never_drops() -> None:
    model = prepared().train()
    distillation = pq.Distillation(model)
    output, _ = distillation(X)
    assert model.training
    assert not distillation.teacher.training
    torch.testing.assert_close(distillation.teacher(X), model_of("encoder")(X), rtol=1e-4, atol=1e-5)
    assert not torch.equal(output, model.eval()(X))


def test_it_trains() -> None:
    torch.manual_seed(0)
    model = prepared("encoder", config="W8A8-lsq").train()
    labels = X.mean(1)[:, :3].argmax(1)
    optimizer = torch.optim.Adam(pq.param_groups(model, lr=5e-3))
    losses = []
    for _ in range(30):
        loss = F.cross_entropy(model(X), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert pq.compare(model, pq.convert(model), X).identical


# -- what cannot come back is listed -------------------------------------------------------------------------


class OnlyInTraining(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.3) if self.training else x


class Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * torch.randn_like(x) if self.training else x


class DropPathAndMore(nn.Module):
    """By its name it is stochastic depth, and it is not the identity."""

    def __init__(self) -> None:
        super().__init__()
        self.drop_prob = 0.5

    def forward(self, x: Tensor) -> Tensor:
        return x * 0.5


@pytest.mark.parametrize(
    ("inner", "reason"),
    [
        (OnlyInTraining(), "called 1 times in train() and 0 in eval()"),
        (Noise(), "random values of the model's own, in train() only"),
        (DropPathAndMore(), "in eval() it is not the identity"),
    ],
)
def test_what_is_lost(inner: nn.Module, reason: str) -> None:
    torch.manual_seed(0)
    model = pq.quantize(Layer(inner), [X], progress=False, dropout=True)
    assert fates(model)["inner"] == f"not in train(): {reason}"
    assert torch.equal(seeded(model.train()), model.eval()(X))


def test_one_that_stands_in_the_way_is_left_out_and_the_others_stay() -> None:
    """Batch norm folds into the linear before it; a dropout between them has no place in the integers."""
    torch.manual_seed(0)
    original = nn.Sequential(
        *(nn.Dropout(0.1), nn.Linear(8, 8), nn.Dropout(0.2), nn.BatchNorm1d(8), nn.ReLU()),
        *(nn.Dropout(0.3), nn.Linear(8, 3)),
    )
    x = torch.randn(20, 8)
    model = pq.quantize(original, [x], progress=False, dropout=True)
    assert fates(model) == {
        "0": "in train() only",
        "2": "not in train(): it stands inside what becomes one integer operation",
        "5": "in train() only",
    }
    assert pq.convert(model).digest() == pq.convert(pq.quantize(original, [x], progress=False)).digest()


def test_one_mask_where_a_value_is_read_in_two_ways() -> None:
    """As an edge by the linear, and as it is by an op that stays float."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.head = nn.Dropout(0.5), nn.Linear(WIDTH, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            x = self.drop(x)
            return self.head(x), torch.cumsum(x, 1)

    torch.manual_seed(0)
    original = Both()
    model = pq.quantize(original, [X], progress=False, dropout=True).train()
    pq.set_mode(model, "float")
    for mine, expected in zip(seeded(model), seeded(original), strict=True):
        torch.testing.assert_close(mine, expected)


def test_a_model_that_does_not_run_in_training() -> None:
    class EvalOnly(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                raise NotImplementedError("no training here")
            return x * 2

    with pytest.raises(pq.CaptureError, match=r"has to run once in training mode.*no training here"):
        pq.prepare(nn.Sequential(nn.Linear(8, 8), EvalOnly()), X, dropout=True)
    pq.prepare(nn.Sequential(nn.Linear(8, 8), EvalOnly()), X)


def test_the_model_and_the_generator_are_untouched() -> None:
    model = Layer(nn.Sequential(nn.Dropout(0.3), DropPath(0.2))).train()
    before, flags = torch.get_rng_state(), [m.training for m in model.modules()]
    pq.prepare(model, X, dropout=True)
    assert torch.equal(torch.get_rng_state(), before)
    assert [m.training for m in model.modules()] == flags
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


# -- transformers --------------------------------------------------------------------------------------------


def images(batch: int) -> Tensor:
    return torch.randn(batch, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def vit(attention: str) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=16,
        patch_size=8,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.2,
        num_labels=5,
        attn_implementation=attention,
    )
    model: nn.Module = transformers.ViTForImageClassification(config).eval()
    return model


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_vit(attention: str) -> None:
    x = {"pixel_values": images(8)}
    plain = pq.quantize(vit(attention), [x], progress=False)
    model = pq.quantize(vit(attention), [x], progress=False, dropout=True)
    listed = fates(model)
    assert set(listed.values()) == {"in train() only"}
    assert sum("attention" in name and "output" not in name for name in listed) == 2
    assert pq.convert(model).digest() == pq.convert(plain).digest()
    assert torch.equal(model(**x).logits, plain(**x).logits)
    x["labels"] = torch.arange(8) % 5
    labelled = pq.prepare(vit(attention), x, dropout=True).train()
    original = vit(attention).train()
    torch.manual_seed(1)
    mine = labelled(**x)
    torch.manual_seed(1)
    theirs = original(**x)
    torch.testing.assert_close(mine.logits, theirs.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mine.loss, theirs.loss, rtol=1e-4, atol=1e-5)
    torch.manual_seed(1)
    torch.testing.assert_close(labelled(x["pixel_values"]).logits, mine.logits)


def test_swin() -> None:
    """DropPath, dropout and attention dropout, some of it in attention that stays float."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.SwinConfig(
        image_size=16,
        patch_size=2,
        embed_dim=8,
        depths=[2, 1],
        num_heads=[2, 2],
        window_size=4,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.1,
        drop_path_rate=0.4,
        num_labels=5,
    )
    original = transformers.SwinForImageClassification(config).eval()
    x = images(4)
    plain = pq.quantize(original, [x], progress=False)
    model = pq.quantize(original, [x], progress=False, dropout=True)
    rows = [row for row in model.coverage() if "train()" in row.reason]
    assert {row.reason for row in rows} == {"in train() only"}
    assert sum(row.op == "SwinDropPath" for row in rows) == 2  # the first block's rate is 0
    assert pq.convert(model, partial=True)(x).logits.equal(pq.convert(plain, partial=True)(x).logits)
    assert torch.equal(model(x).logits, plain(x).logits)
    model.train()
    torch.manual_seed(1)
    first = model(x).logits
    torch.manual_seed(1)
    assert torch.equal(model(x).logits, first)
    assert not torch.equal(first, plain(x).logits)
    first.square().sum().backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(g is not None and bool(g.isfinite().all()) for g in gradients)
