"""Batch norm that follows its batches in training until it is frozen; weights are folded all the while."""

from __future__ import annotations

import copy
import functools
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

import pyquant as pq
from pyquant.graph.train_functions import batch_norm_correction


class Net(nn.Module):
    """A convolution that stays float, a patch convolution and a linear that become integers (a linear with a
    cumulative mean), one grouped, and a batch norm that nothing can absorb."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.grouped, self.bn2 = nn.Conv2d(8, 8, 3, stride=1, groups=4), nn.BatchNorm2d(8, affine=False)
        self.patches, self.bn3 = nn.Conv2d(8, 6, 2, 2), nn.BatchNorm2d(6, momentum=0.3, eps=1e-3)
        self.alone = nn.BatchNorm2d(6)
        self.linear, self.bn4 = nn.Linear(6, 6), nn.BatchNorm1d(6, momentum=None)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv(x)).relu()
        x = self.bn2(self.grouped(x)).relu()
        x = self.alone(self.bn3(self.patches(x)).relu())
        return self.head(self.bn4(self.linear(x.mean((2, 3)))).relu())


class Mlp(nn.Sequential):
    """Integer from end to end."""

    def __init__(self) -> None:
        super().__init__(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8, bias=False), nn.BatchNorm1d(8),
            *(nn.ReLU(), nn.Linear(8, 3)),
        )  # fmt: skip


KINDS: dict[str, Any] = {"net": (Net, (3, 10, 10)), "mlp": (Mlp, (6,))}


def batches(kind: str, count: int = 3) -> list[Tensor]:
    """Each with a mean and a spread of its own."""
    generator = torch.Generator().manual_seed(0)
    shape = (12, *KINDS[kind][1])
    return [torch.randn(shape, generator=generator) * (1 + i / 2) + i / 2 for i in range(count)]


def original(kind: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: nn.Module = KINDS[kind][0]()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.3 * torch.randn_like(parameter))
            for x in batches(kind):
                model(x)
    return model.eval()


@functools.cache
def made(kind: str, batch_statistics: bool, config: str) -> pq.Prepared:
    return pq.quantize(
        original(kind), batches(kind), config, progress=False, batch_statistics=batch_statistics
    )


def prepared(kind: str, batch_statistics: bool = True, config: str = "W8A8") -> pq.Prepared:
    return copy.deepcopy(made(kind, batch_statistics, config))


def statistics(model: nn.Module) -> dict[str, Tensor]:
    return {n: b.clone() for n, b in model.named_buffers() if "running_" in n or "tracked" in n}


@pytest.mark.parametrize("kind", KINDS)
def test_in_float_it_is_the_original_in_training(kind: str) -> None:
    """Results, gradients and running statistics after several batches, all in float64."""
    reference, model = original(kind).double().train(), prepared(kind).double().train()
    pq.set_mode(model, "float")
    mine = dict(model.named_parameters())
    for x in (x.double() for x in batches(kind)):
        reference.zero_grad()
        model.zero_grad()
        expected, y = reference(x), model(x)
        torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)
        expected.sin().sum().backward()
        y.sin().sum().backward()
        for name, parameter in reference.named_parameters():
            torch.testing.assert_close(mine[name].grad, parameter.grad, rtol=1e-8, atol=1e-8)
    expected_statistics = statistics(reference)
    for name, value in statistics(model).items():
        torch.testing.assert_close(value, expected_statistics[name], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("axis", [1, -1])
def test_the_correction_against_the_definition(bias: bool, affine: bool, axis: int) -> None:
    """Whatever the layer gave: S / s (y - beta) + beta + gamma (M - m) / s, and its gradient."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    shape = (5, 4, 3) if axis == 1 else (5, 3, 4)
    y, z, b, beta, gamma = random(*shape), random(*shape), random(4), random(4), random(4)
    mean, variance = random(4), random(4).square() + 0.1
    leaves = [t.requires_grad_() for t in (y, z, *([b] if bias else []), *([beta, gamma] if affine else []))]

    def run() -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        buffers = (mean.clone(), variance.clone(), torch.tensor(4))
        found = batch_norm_correction(
            *(y, z, b if bias else None, beta if affine else None, gamma if affine else None),
            *((mean, variance), buffers, 0.1, 1e-3, axis, "bn"),
        )
        return found, buffers

    found, buffers = run()
    assert torch.autograd.gradcheck(lambda *_: run()[0], leaves)

    def first(t: Tensor) -> Tensor:
        return t.movedim(axis, 1)

    values = first(z) + (b[:, None] if bias else 0.0)
    m, v = values.mean((0, 2)), values.var((0, 2), unbiased=False)
    s, S = (v + 1e-3).sqrt(), (variance + 1e-3).sqrt()
    beta_, gamma_ = (beta, gamma) if affine else (torch.zeros(4), torch.ones(4))
    expected = (S / s)[:, None] * (first(y) - beta_[:, None]) + (beta_ + gamma_ * (mean - m) / s)[:, None]
    torch.testing.assert_close(first(found), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(buffers[0], 0.9 * mean + 0.1 * m)
    torch.testing.assert_close(buffers[1], 0.9 * variance + 0.1 * values.var((0, 2)))
    assert int(buffers[2]) == 5
    if affine:  # of the folded float layer it is batch norm itself
        folded = gamma[:, None] * (values - mean[:, None]) / S[:, None] + beta[:, None]
        y = folded.movedim(1, axis)
        there = F.batch_norm(values, None, None, gamma, beta, True, 0.1, 1e-3)
        torch.testing.assert_close(first(run()[0]), there, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_deployed_is_the_folded_expression_of_today(kind: str) -> None:
    plain, model, x = prepared(kind, batch_statistics=False), prepared(kind), batches(kind)[0]
    assert torch.equal(model(x), plain(x))
    before = statistics(model)
    model.train()(batches(kind)[2])
    assert all(not torch.equal(value, before[name]) for name, value in statistics(model).items())
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model.eval()(x), plain.eval()(x))
    if kind == "mlp":
        engine = pq.convert(model.train())
        assert engine.digest() == pq.convert(plain).digest()
        assert pq.compare(model, engine, x).identical
    else:
        expected = pq.convert(plain, partial=True)(x)
        assert torch.equal(pq.convert(model.train(), partial=True)(x), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_it_is_what_is_deployed(kind: str) -> None:
    model, x = prepared(kind).train(), batches(kind)[2]
    assert model.norms_frozen is False
    assert not torch.equal(model(x), copy.deepcopy(model).eval()(x))
    assert pq.freeze_batch_norm(model) is model
    assert model.norms_frozen is True
    before = statistics(model)
    assert torch.equal(model(x), model.eval()(x))
    assert all(torch.equal(value, before[name]) for name, value in statistics(model).items())
    pq.freeze_batch_norm(model.train(), frozen=False)(x)
    assert not torch.equal(statistics(model)["bn1.running_mean" if kind == "net" else "1.running_mean"],
                           before["bn1.running_mean" if kind == "net" else "1.running_mean"])  # fmt: skip


def test_weights_do_not_move_with_the_batch() -> None:
    """They are quantized as `eval()` quantizes them, whatever the batch (that of one state)."""
    model = prepared("mlp")
    site, seen = model.sites()["0"], []
    site.register_forward_pre_hook(lambda site, args: seen.append(args[1].detach().clone()))
    x, other = batches("mlp")[:2]
    model.eval()(x)
    for batch in (x, other):
        copied = copy.deepcopy(model).train()
        copied.sites()["0"].register_forward_pre_hook(lambda s, args: seen.append(args[1].detach().clone()))
        copied(batch)
    assert len(seen) >= 3
    assert all(torch.equal(weight, seen[0]) for weight in seen)


def test_the_integer_site_is_corrected_behind_its_grid() -> None:
    """The linear gives the integers that `eval()` gives; their values get the statistics of the batch."""
    model, x = prepared("mlp"), batches("mlp")[2]
    before, kept = statistics(model), {}
    for name in ("0", "2"):
        model.sites()[name].register_forward_hook(lambda s, args, y: kept.update({s.name: (args, y)}))
    model.eval()(x)
    plain = kept["0"][1].double()
    x_edge = kept["0"][0][0][0].double()
    model.train()(x)
    assert torch.equal(kept["0"][1].double(), plain)
    entering = kept["2"][0][0][0].double()
    linear = original("mlp").double()[0]
    values = linear(x_edge)
    gamma, beta = (model.get_parameter(f"1.{n}").double() for n in ("weight", "bias"))
    m, s = values.mean(0), (values.var(0, unbiased=False) + 1e-5).sqrt()
    M, S = before["1.running_mean"].double(), (before["1.running_var"].double() + 1e-5).sqrt()
    expected = (S / s) * (plain - beta) + beta + gamma * (M - m) / s
    # float32 arithmetic on values of about 1: a dozen roundings of 6e-8 each
    torch.testing.assert_close(entering, expected, rtol=1e-5, atol=1e-5)


def test_gradients_of_the_integers_agree_with_float() -> None:
    """With running statistics that have settled, 8 bits point where the original points."""
    reference, x = original("mlp").train(), torch.randn(256, 6, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        for _ in range(80):  # 0.9^80 is 2e-4
            reference(x)
    # Ranges with some room: where a value is clipped its gradient is 0, and terms no longer cancel.
    model = pq.quantize(reference, [1.2 * x], progress=False, batch_statistics=True).train()
    expected, y = reference(x), model(x)
    assert (y - expected).norm() < 0.03 * expected.norm()  # 8-bit edges: some steps of 1 / 127 of the range
    expected.square().sum().backward()
    y.square().sum().backward()
    mine = dict(model.named_parameters())
    for name, parameter in reference.named_parameters():
        if name != "0.bias":  # batch norm removes it: its gradient is 0 but for rounding
            cosine = F.cosine_similarity(mine[name].grad.flatten(), parameter.grad.flatten(), dim=0)
            assert cosine > 0.99, name


@pytest.mark.parametrize("mode", ["float", "weights", "quantized", "frozen"])
def test_every_mode(mode: str) -> None:
    model, x = prepared("net").train(), batches("net")[2]
    pq.set_mode(model, mode)
    before = statistics(model)
    model(x).sum().backward()
    assert all(not torch.equal(value, before[name]) for name, value in statistics(model).items())


def test_it_trains_with_learned_scales_then_freezes() -> None:
    model = prepared("mlp", config="W8A8-lsq").train()
    x = torch.cat(batches("mlp"))
    labels = x[:, :3].argmax(1)
    schedule = pq.Schedule(model, {0: "weights", 10: "quantized"}, freeze_batch_norm=30)
    optimizer = torch.optim.Adam(pq.param_groups(model, lr=1e-2))
    losses = []
    for step in range(40):
        assert model.norms_frozen is (step >= 30)
        loss = F.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    assert torch.equal(model(x), model.eval()(x))
    assert pq.compare(model, pq.convert(model), x).identical


# -- state ---------------------------------------------------------------------------------------------------


def test_the_state_is_in_the_state_dict() -> None:
    model, x = prepared("mlp").train(), batches("mlp")[1]
    open_state = copy.deepcopy(model.state_dict())
    pq.freeze_batch_norm(model)
    fresh = pq.prepare(original("mlp"), x, batch_statistics=True)
    assert fresh.norms_frozen is False
    fresh.load_state_dict(model.state_dict())
    assert fresh.norms_frozen is True
    fresh.load_state_dict(open_state)
    assert fresh.norms_frozen is False
    plain = prepared("mlp", batch_statistics=False)
    assert plain.norms_frozen is None
    plain.load_state_dict(model.state_dict())
    assert plain.norms_frozen is None
    fresh.load_state_dict(plain.state_dict())  # says nothing of it
    assert fresh.norms_frozen is False
    assert open_state.keys() == plain.state_dict().keys()


def test_copies_and_pickles() -> None:
    model, x = pq.freeze_batch_norm(prepared("net")).train(), batches("net")[1]
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.norms_frozen is True
        assert torch.equal(other(x), model(x))
        pq.freeze_batch_norm(other, frozen=False)(x)
        assert model.norms_frozen is True
        assert not torch.equal(statistics(other)["bn1.running_var"], statistics(model)["bn1.running_var"])


def test_a_schedule_goes_on() -> None:
    model = prepared("mlp")
    schedule = pq.Schedule(model, {0: "quantized"}, freeze_batch_norm=2)
    seen = []
    for _ in range(3):
        seen.append(model.norms_frozen)
        schedule.step()
    assert seen == [False, False, True]
    other = prepared("mlp")
    again = pq.Schedule(other, {0: "quantized"}, freeze_batch_norm=2)
    again.load_state_dict(schedule.state_dict())
    assert other.norms_frozen is True
    again.load_state_dict({"steps": 1})
    assert other.norms_frozen is False
    for bad in (-1, True, 1.5):
        with pytest.raises(ValueError, match="expected freeze_batch_norm to be an integer >= 0, got"):
            pq.Schedule(model, {0: "float"}, freeze_batch_norm=bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="schedule: no batch norm of the model follows its batches"):
        pq.Schedule(prepared("mlp", batch_statistics=False), {0: "float"}, freeze_batch_norm=1)


def test_errors() -> None:
    with pytest.raises(TypeError, match="freeze_batch_norm: expected a Prepared, got Linear"):
        pq.freeze_batch_norm(nn.Linear(2, 2))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="prepare it with batch_statistics=True"):
        pq.freeze_batch_norm(prepared("mlp", batch_statistics=False))
    with pytest.raises(
        ValueError, match=r"batch norm '1': expected more than one value a channel .* \(1, 8\)"
    ):
        prepared("mlp").train()(batches("mlp")[0][:1])


def test_calibration_uses_and_keeps_the_running_statistics() -> None:
    model = pq.prepare(original("mlp").train(), batches("mlp")[0], batch_statistics=True)
    before = statistics(model)
    pq.calibrate(model, batches("mlp"), progress=False)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in statistics(model).items())
    expected = prepared("mlp", batch_statistics=False).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items()
               if not name.endswith("_extra_state"))  # fmt: skip


def test_compiled() -> None:
    torch.compiler.reset()
    model, x = prepared("mlp").train(), batches("mlp")[1]
    reference = copy.deepcopy(model)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), reference(x))
    for name, value in statistics(reference).items():
        torch.testing.assert_close(statistics(model)[name], value)
    pq.freeze_batch_norm(model)
    pq.freeze_batch_norm(reference)
    assert torch.equal(compiled(x), reference(x))
    torch.compiler.reset()


@pytest.mark.skipif(not distributed.is_gloo_available(), reason="torch was built without gloo")
def test_distributed_data_parallel_broadcasts_the_statistics(tmp_path: Path) -> None:
    model, x = prepared("mlp").train(), batches("mlp")[1]
    reference = copy.deepcopy(model)
    distributed.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        wrapped = DistributedDataParallel(model)
        named = {name for name, _ in model.named_buffers()} - set(wrapped.parameters_to_ignore)
        assert {"1.running_mean", "1.running_var", "1.num_batches_tracked"} <= named
        for _ in range(2):
            wrapped(x).sum().backward()
            reference(x).sum().backward()
    finally:
        distributed.destroy_process_group()
    for name, value in statistics(reference).items():
        torch.testing.assert_close(statistics(model)[name], value)


# -- which batch norms ---------------------------------------------------------------------------------------


def test_coverage() -> None:
    rows = {row.site: row for row in prepared("net").coverage() if "train()" in row.reason}
    assert set(rows) == {"bn1", "bn2", "bn3", "bn4", "alone"}
    assert all("statistics of the batch in train(), until frozen" in row.reason for row in rows.values())
    assert {name: row.kind for name, row in rows.items() if row.kind != "folded"} == {"alone": "float"}
    assert not any("train()" in row.reason for row in prepared("net", batch_statistics=False).coverage())


def test_statistics_over_processes_stay_frozen() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.SyncBatchNorm(4), nn.Linear(4, 2)).eval()
    made = pq.quantize(model, [batches("mlp")[0]], progress=False, batch_statistics=True)
    assert made.norms_frozen is None
    (row,) = [row for row in made.coverage() if "train()" in row.reason]
    assert row.reason == "not in train(): statistics over several processes stay frozen"


def test_in_front_of_a_projection_that_is_split_it_stays_frozen() -> None:
    """One layer with batch norm makes query, key and value; the deployed graph has three."""

    class Projection(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.bn, self.head = nn.Conv2d(8, 24, 1), nn.BatchNorm2d(24), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.bn(self.qkv(x)).reshape(-1, 3, 2, 4, 9).permute(1, 0, 2, 4, 3).unbind(0)
            return self.head(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    torch.manual_seed(0)
    x = torch.randn(6, 8, 3, 3)
    model = Projection().eval()
    made = pq.quantize(model, [x], progress=False, batch_statistics=True).train()
    assert made.norms_frozen is None
    (row,) = [row for row in made.coverage() if "train()" in row.reason]
    assert row.reason == "not in train(): it stands inside what becomes one integer operation"
    assert pq.compare(made, pq.convert(made), x).identical
    pq.set_mode(made, "float")
    torch.testing.assert_close(made(x), model(x))


def test_one_batch_norm_for_two_layers() -> None:
    """Both batches move it, as in the original; each layer is corrected from what it was folded with."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.bn = nn.Linear(6, 4), nn.Linear(6, 4, bias=False), nn.BatchNorm1d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.bn(self.first(x)).relu() + self.bn(self.second(x)).relu()

    torch.manual_seed(0)
    reference = Shared().eval()
    x = batches("mlp")[1]
    model = pq.quantize(reference, [x], progress=False, batch_statistics=True).double().train()
    pq.set_mode(model, "float")
    reference = reference.double().train()
    for _ in range(2):
        torch.testing.assert_close(model(x.double()), reference(x.double()), rtol=1e-10, atol=1e-10)
    expected = statistics(reference)
    for name, value in statistics(model).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-10, atol=1e-10)


def test_channels_that_are_not_those_of_the_linear() -> None:
    """[batch, tokens, features]: BatchNorm1d normalises tokens, which no weight of the linear can absorb."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))
    x = torch.randn(7, 5, 6)
    for _ in range(3):
        model(x * 2 + 1)
    made = pq.quantize(model.eval(), [x], progress=False, batch_statistics=True)
    pq.set_mode(made, "float")
    torch.testing.assert_close(made(x), model(x))
    torch.testing.assert_close(made.train()(x), model.train()(x))


def test_with_dropout() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3)
    ).eval()
    x = batches("mlp")[1]
    made = pq.quantize(model, [x], progress=False, batch_statistics=True, dropout=True).double().train()
    pq.set_mode(made, "float")
    torch.manual_seed(1)
    y = made(x.double())
    torch.manual_seed(1)
    torch.testing.assert_close(y, model.double().train()(x.double()), rtol=1e-10, atol=1e-10)
    pq.freeze_batch_norm(made)
    assert not torch.equal(made(x.double()), made(x.double()))
    torch.testing.assert_close(made.eval()(x.double()), made(x.double()), rtol=0, atol=0)
