"""Gradient checkpointing: the same bits from less memory, once counted and once observed."""

from __future__ import annotations

import copy
import pickle
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pyquant as pq
from tests.training.blocks import CLASSES, Blocks, assert_same, blocks, gradients, images, step

LABELS = torch.tensor([0, 1, 2, 0])


def runs(model: pq.Prepared) -> dict[str, int]:
    """Site -> how often it ran since; the dict fills as passes go."""
    counts = dict.fromkeys(model.sites(), 0)

    def count(site: Any, *_: Any) -> None:
        counts[site.name] += 1

    for site in model.sites().values():
        site.register_forward_hook(count)
    return counts


@pytest.mark.parametrize("config", ["W4A4-lsq", "W8A8"])
@pytest.mark.parametrize("call", [{}, {"labels": LABELS}])
@pytest.mark.parametrize(
    "choice", [{}, {"blocks": "blocks.*"}, {"segments": 5}, {"segments": 1}, {"every_n_layers": 2}]
)
def test_the_same_bits(config: str, call: dict[str, Any], choice: dict[str, Any]) -> None:
    """With a loss and without, for values that cross all borders, whatever the segments."""
    plain, model = blocks(config), blocks(config)
    model.gradient_checkpointing_enable(**choice)
    expected = step(plain, **call)
    assert_same(step(model, **call), expected)
    assert_same(step(model, **call), expected)
    model.gradient_checkpointing_disable()
    assert_same(step(model, **call), expected)


def test_blocks_run_again_and_what_lies_around_them_does_not() -> None:
    model = blocks()
    counts = runs(model)
    model.gradient_checkpointing_enable(every_n_layers=2)
    step(model)
    twice = {name for name, count in counts.items() if count == 2}
    assert twice
    assert {name.rpartition("blocks.")[2][0] for name in twice} == {"0", "2"}
    assert all(count in (1, 2) for count in counts.values())
    assert model.training_passes == 1
    model.eval()
    before = dict(counts)
    step(model)
    with torch.no_grad():
        model.train()(images())
    assert all(count == before[name] + 2 for name, count in counts.items())
    assert model.training_passes == 1


def saved(model: nn.Module) -> tuple[int, int]:
    """Bytes that a pass keeps for its backward pass, and outputs of sites that live on."""
    sizes: dict[int, int] = {}
    alive: list[weakref.ref[Tensor]] = []

    def pack(x: Tensor) -> Tensor:
        if not isinstance(x, nn.Parameter):
            sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    hooks = [
        site.register_forward_hook(lambda _, __, y: alive.append(weakref.ref(y)))
        for site in model.get_submodule("pq_sites").children()
    ]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        output = model(images(32))["logits"].sum()
    for hook in hooks:
        hook.remove()
    count = sum(y() is not None for y in alive)
    output.backward()
    return sum(sizes.values()), count


def test_memory_falls() -> None:
    """Of a block its input stays, and what goes into all of them, instead of a dozen tensors."""
    model = blocks(count=6)
    before, tensors = saved(model)
    model.gradient_checkpointing_enable()
    after, fewer = saved(model)
    assert after < 0.3 * before
    assert fewer < 0.3 * tensors
    model.gradient_checkpointing_enable(every_n_layers=2)
    half, _ = saved(model)
    assert after < half < before


@pytest.mark.parametrize("config", ["W4A4-lsq", {"base": {"residual_observer": "ema", "observer": "ema"}}])
def test_observers_see_a_batch_once(config: Any) -> None:
    plain = pq.prepare(blocks_again(), {"x": images(2)}, config).train()
    model = copy.deepcopy(plain)
    model.gradient_checkpointing_enable()
    for each in (plain, model):
        pq.set_mode(each, "observe")
        step(each)
        step(each)
    for (name, mine), theirs in zip(model.named_buffers(), plain.named_buffers(), strict=True):
        assert torch.equal(mine, theirs[1]), name
    assert model.training_passes == 2


def blocks_again() -> nn.Module:
    torch.manual_seed(0)
    return Blocks(2)


def test_a_calibration_by_gradients() -> None:
    """The hessian observer keeps the outputs of all sites, in train() as in eval()."""
    config = pq.QuantConfig(base=pq.SiteConfig(observer="hessian"))
    found = []
    for enable in (False, True):
        model = pq.prepare(blocks_again(), {"x": images(2)}, config).train()
        if enable:
            model.gradient_checkpointing_enable()
        pq.calibrate(model, [{"x": images(8)}], loss=lambda y, _: y["logits"].square().sum(), progress=False)
        found.append(model.state_dict())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_modes_are_those_of_the_first_pass() -> None:
    """A mode that is switched back before the backward pass, and frozen scales."""
    plain, model = blocks(), blocks()
    model.gradient_checkpointing_enable()
    found = []
    for each in (plain, model):
        with pq.mode(each, "weights", "blocks.1.*"):
            loss = each(images())["logits"].square().sum()
        each.eval()
        modes = {site.mode for site in each.sites().values()}
        loss.backward()
        assert modes == {site.mode for site in each.sites().values()} == {"quantized"}
        assert all(scale.requires_grad for site in each.sites().values() for scale in site.learned_scales())
        found.append(([loss.detach()], gradients(each)))
    assert_same(*found)


def test_under_autocast() -> None:
    """The loss stays float, so that autocast reaches it; blocks run again as they ran."""
    plain, model = blocks(), blocks()
    model.gradient_checkpointing_enable()
    found = []
    for each in (plain, model):
        with torch.autocast("cpu", torch.bfloat16):
            output = each(images(), labels=LABELS)
        output["loss"].backward()
        found.append(([output["logits"].detach()], gradients(each)))
    assert_same(*found)


def test_distillation_reads_sites_within_blocks() -> None:
    plain, model = blocks(), blocks()
    model.gradient_checkpointing_enable()
    found = []
    for each in (plain, model):
        names = [name for name in each.sites() if name.startswith("blocks.2")]
        distillation = pq.Distillation(each, features=names, logits="logits")
        output, loss = distillation(images())
        (loss + output["logits"].square().sum()).backward()
        found.append(([loss.detach()], gradients(each)))
    assert_same(*found)


def test_random_numbers_repeat() -> None:
    """A random mask on a site's output: what dropout is to checkpointing."""
    plain, model = blocks("W8A8"), blocks("W8A8")
    model.gradient_checkpointing_enable({"preserve_rng_state": True})
    found = []
    for each in (plain, model):
        for name, site in each.sites().items():
            if name.startswith("blocks.1"):
                site.register_forward_hook(lambda _, __, y: y * (torch.rand(y.shape) > 0.2))
        torch.manual_seed(3)
        found.append(step(each))
    assert_same(*found)
    model.gradient_checkpointing_enable({"preserve_rng_state": False})
    torch.manual_seed(3)
    assert not all(torch.equal(value, found[0][1][name]) for name, value in step(model)[1].items())


@pytest.mark.parametrize("way", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_keep_the_setting(way: Any) -> None:
    model = blocks()
    assert not model.is_gradient_checkpointing
    model.gradient_checkpointing_enable(every_n_layers=2)
    made = way(model)
    assert made.is_gradient_checkpointing
    counts, others = runs(made), runs(model)
    assert_same(step(made), step(model))
    assert counts == others
    assert 2 in counts.values()
    made.gradient_checkpointing_disable()
    assert model.is_gradient_checkpointing
    model.load_state_dict(blocks().state_dict())  # the setting is not part of it
    assert model.is_gradient_checkpointing


def test_the_names_of_later_transformers() -> None:
    model = blocks()
    model.activation_checkpointing_enable({"use_reentrant": False}, every_n_layers=1, offload=True)
    assert model.is_activation_checkpointing
    assert_same(step(model), step(blocks()))
    model.activation_checkpointing_disable()
    assert not model.is_activation_checkpointing


def test_a_second_gradient_of_the_first_pass() -> None:
    """`retain_graph`, and gradients of a part of the parameters."""
    plain, model = blocks(), blocks()
    model.gradient_checkpointing_enable()
    found = []
    for each in (plain, model):
        y = each(images())["logits"].square().sum()
        up = [p for name, p in each.named_parameters() if "up.weight" in name]
        first = torch.autograd.grad(y, up, retain_graph=True)
        y.backward()
        found.append(([y.detach(), *first], gradients(each)))
    assert_same(*found)


def test_under_a_compiler() -> None:
    torch.compiler.reset()
    model = blocks()
    model.gradient_checkpointing_enable()
    expected = step(blocks())
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert_same(step(compiled), ([*expected[0]], {f"_orig_mod.{k}": v for k, v in expected[1].items()}))
    assert model.training_passes == 1
    torch.compiler.reset()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"blocks": "nowhere.*"},
            ValueError,
            r"blocks: 'nowhere.\*' matches no module; sites lie in modules",
        ),
        ({"blocks": 3}, TypeError, "blocks: expected a glob over module paths, got 3"),
        ({"blocks": "blocks.*", "segments": 2}, ValueError, "expected one of them, got 'blocks.*' and 2"),
        (
            {"segments": 0},
            ValueError,
            r"segments: expected an integer from 1 to the number of sites, \d+, got 0",
        ),
        ({"segments": True}, ValueError, "segments: expected an integer .* got True"),
        ({"every_n_layers": 0}, ValueError, "every_n_layers: expected an integer >= 1, got 0"),
        ({"offload": 1}, ValueError, "offload: expected True or False, got 1"),
        ({"gradient_checkpointing_kwargs": [1]}, TypeError, r"expected a mapping, got \[1\]"),
        (
            {"gradient_checkpointing_kwargs": {"use_reentrant": True}},
            ValueError,
            "expected use_reentrant False, got True",
        ),
        ({"gradient_checkpointing_kwargs": {"luck": 1}}, ValueError, "expected use_reentrant, .* got 'luck'"),
        ({"gradient_checkpointing_kwargs": {"debug": 1}}, ValueError, "expected debug True or False, got 1"),
        (
            {"gradient_checkpointing_kwargs": {"determinism_check": "no"}},
            ValueError,
            "expected determinism_check default or none, got 'no'",
        ),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    model = blocks()
    with pytest.raises(error, match=message):
        model.gradient_checkpointing_enable(**arguments)
    assert not model.is_gradient_checkpointing


def test_a_model_without_blocks_can_be_cut() -> None:
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    layers = nn.Sequential(*[nn.Linear(4, 4) if i % 2 == 0 else nn.GELU() for i in range(8)])
    model = pq.quantize(layers, [x], progress=False).train()
    with pytest.raises(ValueError, match=r"found no repeated numbered modules .* \(segments=4\)"):
        model.gradient_checkpointing_enable()
    plain = copy.deepcopy(model)
    model.gradient_checkpointing_enable(segments=3)
    for each in (plain, model):
        each(x).square().sum().backward()
    assert all(torch.equal(value, gradients(plain)[name]) for name, value in gradients(model).items())


def test_the_trainer(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    data = [{"x": images(1)[0] + i, "labels": torch.tensor(i % CLASSES)} for i in range(8)]
    found = []
    for enable in (False, True):
        model = blocks()
        counts = runs(model)
        arguments = transformers.TrainingArguments(
            str(tmp_path / str(enable)),
            max_steps=2,
            per_device_train_batch_size=4,
            learning_rate=1e-2,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            save_strategy="no",
            gradient_checkpointing=enable or None,
        )
        result = transformers.Trainer(model=model, args=arguments, train_dataset=data).train()
        assert result.global_step == 2
        assert model.training_passes == 2
        assert model.is_gradient_checkpointing == enable
        assert set(counts.values()) == ({2, 4} if enable else {2})
        found.append(dict(model.named_parameters()))
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


class Dropping(nn.Module):
    """Blocks with a dropout, and a batch norm behind the first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Linear(8, 16), nn.BatchNorm1d(16)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 16), nn.GELU(), nn.Dropout(0.3)) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x))
        for block in self.blocks:
            x = x + block(x)
        return x


def dropping(**options: Any) -> tuple[pq.Prepared, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(32, 8)
    return pq.quantize(Dropping(), [x], progress=False, **options).train(), x


def test_dropout_repeats_in_the_second_run() -> None:
    plain, x = dropping(dropout=True)
    model = copy.deepcopy(plain)
    model.gradient_checkpointing_enable()
    found = []
    for each in (plain, model):
        torch.manual_seed(5)
        y = each(x)
        y.square().sum().backward()  # type: ignore[no-untyped-call]
        found.append([y.detach(), *(p.grad for p in each.parameters() if p.grad is not None)])
    assert not torch.equal(found[0][0], plain(x))  # it drops
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_batch_norms_that_move_must_be_frozen_first() -> None:
    model, x = dropping(batch_statistics=True)
    model.gradient_checkpointing_enable()
    before = model.get_buffer("norm.running_mean").clone()
    with pytest.raises(RuntimeError, match=r"gradient checkpointing: .*freeze_batch_norm first"):
        model(x)
    assert torch.equal(model.get_buffer("norm.running_mean"), before)
    pq.freeze_batch_norm(model)
    model(x).sum().backward()
    assert torch.equal(model.get_buffer("norm.running_mean"), before)
