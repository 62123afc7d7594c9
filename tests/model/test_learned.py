"""Models whose scales learn go through every part of a training loop, for each family of the zoo."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode

import pyquant as pq
from pyquant.graph.watch import learned_scales
from tests.model.conftest import example_of
from tests.model.zoo import ZOO, Batch, logits_of

LABELS = torch.tensor([0, 1, 2, 0, 1])
TAKE_LABELS = [name for name, entry in ZOO.items() if entry.takes_labels]
WHOLE = [name for name, entry in ZOO.items() if entry.whole]

_MADE: dict[str, pq.Prepared] = {}


def make(name: str) -> pq.Prepared:
    """A copy, calibrated, in integers."""
    if name not in _MADE:
        entry = ZOO[name]
        prepared = pq.prepare(entry.make(), example_of(entry), "W4A8-lsq")
        pq.calibrate(prepared, [entry.batch(8, 0), entry.batch(5, 1)], progress=False)
        _MADE[name] = prepared
    return copy.deepcopy(_MADE[name])


def batch_of(name: str) -> Batch:
    return ZOO[name].batch(5, 1)


def loss_of(model: Callable[..., Any], name: str) -> Tensor:
    return F.cross_entropy(logits_of(model(**batch_of(name))), LABELS)


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(pq.param_groups(model, 1e-3, 0.01))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, name: str, steps: int = 2) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model, name).backward()
        optimizer.step()


def scales_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: scale.detach().clone() for name, scale in learned_scales(model)}


def assert_all_moved(before: dict[str, Tensor], model: nn.Module) -> None:
    after = scales_of(model)
    assert before
    assert [name for name, scale in before.items() if torch.equal(scale, after[name])] == []


def assert_same_state(a: nn.Module, b: nn.Module) -> None:
    ours, theirs = a.state_dict(), b.state_dict()
    assert ours.keys() == theirs.keys()
    assert [name for name, value in ours.items() if not torch.equal(value, theirs[name])] == []


def assert_deploys(model: pq.Prepared, name: str) -> None:
    """The engine gives what the model gives, where there is an engine of it."""
    if ZOO[name].whole:
        assert pq.compare(model, pq.convert(model), **batch_of(name)).identical


# -- compilers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ZOO)
def test_forward_and_backward_are_one_graph(name: str) -> None:
    """Traced whole, with the bits of eager, gradients of scales included."""
    eager, traced = make(name), make(name)
    compiled = torch.compile(traced, fullgraph=True, backend="aot_eager")
    ours, theirs = loss_of(compiled, name), loss_of(eager, name)
    assert torch.equal(ours, theirs)
    ours.backward()
    theirs.backward()
    for (key, a), (_, b) in zip(traced.named_parameters(), eager.named_parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), key
        assert a.grad is None or torch.equal(a.grad, b.grad), key
    torch.compiler.reset()


def test_a_graph_for_any_batch_size() -> None:
    """Its gradients know the batch where the batch is not the first axis."""
    eager, traced = make("mha"), make("mha")
    compiled = torch.compile(traced, fullgraph=True, backend="aot_eager", dynamic=True)
    for size in (5, 3):
        labels, batch = torch.zeros(size, dtype=torch.long), ZOO["mha"].batch(size, 1)
        for model, called in ((traced, compiled), (eager, eager)):
            model.zero_grad()
            F.cross_entropy(logits_of(called(**batch)), labels).backward()
        for (key, a), (_, b) in zip(traced.named_parameters(), eager.named_parameters(), strict=True):
            assert a.grad is None or torch.equal(a.grad, b.grad), key
    torch.compiler.reset()


@pytest.mark.slow
def test_inductor_trains() -> None:
    """The same bits forward. Sums of gradients have another order: 1e-5 is a hundred roundings."""
    eager, traced = make("mha"), make("mha")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # inductor warns about its own internals
        compiled = torch.compile(traced, fullgraph=True)
        ours, theirs = compiled(**batch_of("mha")), eager(**batch_of("mha"))
        assert torch.equal(ours, theirs)
        for output in (ours, theirs):
            F.cross_entropy(output, LABELS).backward()
    largest = max(float(p.grad.abs().max()) for p in eager.parameters() if p.grad is not None)
    for (key, a), (_, b) in zip(traced.named_parameters(), eager.named_parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), key
        if a.grad is not None:
            # Gradients that are 0 in exact arithmetic (the bias of k) are noise of the others' size.
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5 * largest, msg=key)
    before = scales_of(traced)
    train(compiled, optimizer_of(traced), "mha")
    assert_all_moved(before, traced)
    torch.compiler.reset()


# -- the transformers Trainer, accelerate --------------------------------------------------------------------


def trainer_of(name: str, model: pq.Prepared, folder: Path, lr: float, groups: bool, **options: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    rows = ZOO[name].batch(8, 2)
    data = [{**{k: v[i] for k, v in rows.items()}, "labels": torch.tensor(i % 3)} for i in range(8)]
    arguments = transformers.TrainingArguments(
        str(folder),
        per_device_train_batch_size=2,
        learning_rate=lr,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        **{"save_strategy": "no", "max_steps": 4, **options},
    )
    optimizer = torch.optim.AdamW(pq.param_groups(model, lr, 0.01)) if groups else None
    return transformers.Trainer(
        model=model, args=arguments, train_dataset=data, eval_dataset=data, optimizers=(optimizer, None)
    )


@pytest.mark.parametrize("name", TAKE_LABELS)
@pytest.mark.parametrize(
    ("groups", "lr", "options"),
    [
        (True, 1e-3, {}),
        (True, 1e-3, {"gradient_accumulation_steps": 2, "max_steps": 2}),
        (True, 1e-3, {"bf16": True}),
        (False, 1e-5, {}),
        (False, 1e-5, {"weight_decay": 0.01}),
    ],
    ids=["groups", "accumulation", "bf16", "own", "own, decay"],
)
def test_trainer(name: str, groups: bool, lr: float, options: dict[str, Any], tmp_path: Path) -> None:
    """Unchanged, with an optimizer of `param_groups` and with one of its own; no warning either."""
    model = make(name)
    before = scales_of(model)
    trainer = trainer_of(name, model, tmp_path, lr, groups, **options)
    assert trainer.train().global_step == trainer.args.max_steps
    assert_all_moved(before, model)
    assert torch.isfinite(torch.tensor(trainer.evaluate()["eval_loss"]))
    assert_deploys(model, name)


def test_the_trainers_own_optimizer_at_a_rate_for_weights_says_what_to_do(tmp_path: Path) -> None:
    """Adam moves a scale of 0.00003 by its rate as well."""
    model = make("bert")
    assert min(float(scale.min()) for scale in scales_of(model).values()) < 1e-3
    with pytest.raises(RuntimeError, match=r"site 'bert\..*fell to zero: lower its rate.*param_groups"):
        trainer_of("bert", model, tmp_path, 1e-3, groups=False).train()


def test_trainer_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    whole, first, second = make("vit"), make("vit"), make("vit")
    # The length of a run is part of the schedule of its rate.
    trainer_of("vit", whole, tmp_path / "whole", 1e-3, groups=True).train()
    trainer_of(
        "vit", first, tmp_path / "parts", 1e-3, groups=True, save_strategy="steps", save_steps=2
    ).train()
    again = trainer_of("vit", second, tmp_path / "parts", 1e-3, groups=True, save_steps=2)
    again.train(resume_from_checkpoint=str(tmp_path / "parts" / "checkpoint-2"))
    assert_same_state(first, whole)
    assert_same_state(second, whole)


@pytest.mark.parametrize("name", ZOO)
def test_accelerate(name: str) -> None:
    """Accumulation, clipping and all, with the bits of a plain loop."""
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    ours, plain = make(name), make(name)
    before = scales_of(ours)
    wrapped, optimizer = accelerator.prepare(ours, optimizer_of(ours))
    theirs = optimizer_of(plain)
    for step in range(4):
        with accelerator.accumulate(wrapped):
            accelerator.backward(loss_of(wrapped, name))
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(wrapped.parameters(), 0.1)
            optimizer.step()
            optimizer.zero_grad()
        (loss_of(plain, name) / 2).backward()
        if step % 2:
            nn.utils.clip_grad_norm_(plain.parameters(), 0.1)
            theirs.step()
            theirs.zero_grad()
    assert accelerator.unwrap_model(wrapped) is ours
    assert_same_state(ours, plain)
    assert_all_moved(before, ours)
    assert_deploys(ours, name)


# -- accumulating, clipping, scaling losses ------------------------------------------------------------------


@pytest.mark.parametrize("name", WHOLE)
def test_a_batch_in_parts_has_the_gradients_of_the_whole(name: str) -> None:
    """Of the mean loss: no part of a scale's gradient depends on how many samples stand beside.

    The sums run in another order; 1e-5 is a hundred roundings of float32.
    """
    whole, parts = make(name), make(name)
    batch, labels = ZOO[name].batch(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    F.cross_entropy(logits_of(whole(**batch)), labels).backward()
    for rows in (slice(0, 1), slice(1, 3), slice(3, 6)):
        part = {key: value[rows] for key, value in batch.items()}
        (F.cross_entropy(logits_of(parts(**part)), labels[rows], reduction="sum") / 6).backward()
    largest = max(float(p.grad.abs().max()) for p in whole.parameters() if p.grad is not None)
    for (key, a), (_, b) in zip(whole.named_parameters(), parts.named_parameters(), strict=True):
        if a.grad is not None:
            torch.testing.assert_close(b.grad, a.grad, rtol=1e-5, atol=1e-6 * largest, msg=key)
    assert all(bool(scale.grad.any()) for _, scale in learned_scales(whole))


@pytest.mark.parametrize("name", ZOO)
def test_a_grad_scaler_changes_nothing(name: str) -> None:
    """Its factors are powers of two, so no bit does; a step with infinite gradients is left out."""
    scaled, plain = make(name), make(name)
    ours, theirs = optimizer_of(scaled), optimizer_of(plain)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for _ in range(2):
        ours.zero_grad()
        scaler.scale(loss_of(scaled, name)).backward()
        scaler.unscale_(ours)
        nn.utils.clip_grad_norm_(scaled.parameters(), 0.1)
        scaler.step(ours)
        scaler.update()
        theirs.zero_grad()
        loss_of(plain, name).backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 0.1)
        theirs.step()
    assert_same_state(scaled, plain)
    beyond = torch.amp.GradScaler("cpu", init_scale=2.0**126)
    for factor in (2.0**20, 1.0):
        ours.zero_grad()
        (beyond.scale(loss_of(scaled, name)) * factor).backward()
        beyond.step(ours)
        beyond.update()
        if factor > 1.0:
            assert_same_state(scaled, plain)


# -- autocast ------------------------------------------------------------------------------------------------


class Dtypes(TorchDispatchMode):
    """What ops compute in."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, set[torch.dtype]] = {}

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = op(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.seen.setdefault(str(op), set()).add(result.dtype)
        return result


@pytest.mark.parametrize("name", ZOO)
def test_autocast(name: str) -> None:
    """What stays float runs in bfloat16, integers do not feel it, gradients arrive in float32."""
    model = make(name)
    with torch.no_grad(), Dtypes() as dtypes, torch.autocast("cpu", torch.bfloat16):
        got = logits_of(model(**batch_of(name)))
    integer = {dtype for op, found in dtypes.seen.items() if op.startswith("pyquant.") for dtype in found}
    assert integer == {torch.float32}
    assert got.dtype == torch.float32
    if ZOO[name].whole:
        assert torch.bfloat16 not in set().union(*dtypes.seen.values())
        assert torch.equal(got, logits_of(model(**batch_of(name))))
    if name == "resnet":
        assert dtypes.seen["aten.convolution.default"] == {torch.bfloat16}
    before, optimizer = scales_of(model), optimizer_of(model)
    for _ in range(2):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model, name)
        loss.backward()
        assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}
        optimizer.step()
    assert_all_moved(before, model)
    assert_deploys(model, name)


def test_a_loss_is_no_part_of_what_deploys() -> None:
    """`prepare` with labels, as the Trainer needs it, gives the program of a model without."""
    entry = ZOO["vit"]
    model = entry.make()
    prepared = pq.prepare(model, example_of(entry), strict=True)
    without = pq.prepare(model, entry.batch(2, 0))
    for each in (prepared, without):
        pq.calibrate(each, [entry.batch(8, 0)], progress=False)
    assert not prepared.coverage().float_rows
    row = next(row for row in prepared.coverage() if row.op == "cross_entropy_loss")
    assert (row.kind, row.reason) == ("folded", "not part of inference")
    assert pq.convert(prepared).digest() == pq.convert(without).digest()


def test_labels_that_decide_every_output_are_an_input() -> None:
    class Conditioned(nn.Module):
        def forward(self, x: Tensor, labels: Tensor) -> Tensor:
            return torch.cumsum(x * labels[:, None], dim=1)

    prepared = pq.prepare(Conditioned(), (torch.randn(2, 4), torch.randn(2)))
    assert "cumsum" in {row.op for row in prepared.coverage().float_rows}


def test_autocast_with_labels_has_the_same_bits() -> None:
    """A loss does not make a model of integers less of one."""
    model = make("vit")
    plain = model(**batch_of("vit"), labels=LABELS)
    with torch.autocast("cpu", torch.bfloat16):
        cast = model(**batch_of("vit"), labels=LABELS)
    assert torch.equal(cast.logits, plain.logits)
    assert torch.equal(cast.loss, plain.loss)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_edge_in_half_precision_is_an_error(dtype: torch.dtype) -> None:
    """Of the op, forward and backward: a site never hands one on."""
    site = make("vit").sites()["vit.layers.0.mlp.fc1"]
    x = torch.zeros(2, 16, dtype=dtype)
    scale, zero_point = torch.tensor(0.1), torch.tensor(0, dtype=torch.int32)
    with pytest.raises(RuntimeError, match=rf"x of dtype torch.float32, got {dtype}.*half precision"):
        site.integer((x, scale, zero_point), torch.zeros(32, 16), None)
    grid = (scale, zero_point, -128, 127)
    for y in (x, x.float()):
        with pytest.raises(RuntimeError, match=rf"dtype torch.float32, got {dtype}"):
            torch.ops.pyquant.edge_backward_learned(x, y, y, *grid)


# -- averages, copies, workers, files ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("use_buffers", [False, True])
def test_a_moving_average_is_a_model(name: str, use_buffers: bool) -> None:
    """Of weights and scales alike; it computes in integers and deploys."""
    model = make(name)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.75), use_buffers=use_buffers)
    optimizer, expected = optimizer_of(model), None
    for _ in range(3):
        train(model, optimizer, name, steps=1)
        average.update_parameters(model)
        now = {key: value.detach().double() for key, value in model.named_parameters()}
        expected = (
            now if expected is None else {key: expected[key].lerp(value, 0.25) for key, value in now.items()}
        )
    averaged = average.module
    assert isinstance(averaged, pq.Prepared)
    for key, value in averaged.named_parameters():
        # Two roundings an update, of float32.
        torch.testing.assert_close(value.detach().double(), expected[key], rtol=1e-6, atol=1e-9, msg=key)
    assert_all_moved(scales_of(model), averaged)
    assert {site.mode for site in averaged.sites().values()} == {"quantized"}
    assert torch.isfinite(logits_of(average(**batch_of(name)))).all()
    assert_deploys(averaged, name)


@pytest.mark.parametrize("name", ZOO)
def test_a_copy_in_the_middle_goes_its_own_way(name: str) -> None:
    model = make(name)
    optimizer = optimizer_of(model)
    train(model, optimizer, name)
    other = copy.deepcopy(model)
    theirs = optimizer_of(other)
    theirs.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    kept = copy.deepcopy(model)
    train(model, optimizer, name)
    assert_same_state(other, kept)
    train(other, theirs, name)
    assert_same_state(model, other)


@pytest.mark.parametrize("name", ZOO)
def test_a_checkpoint_in_safetensors_goes_on_to_the_same_bits(name: str, tmp_path: Path) -> None:
    model = make(name)
    optimizer = optimizer_of(model)
    train(model, optimizer, name)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    entry = ZOO[name]
    fresh = pq.prepare(entry.make(), example_of(entry), "W4A8-lsq")
    fresh.load_state_dict(load_file(tmp_path / "model.safetensors"))
    pq.set_mode(fresh, "quantized")
    again = optimizer_of(fresh)
    again.load_state_dict(torch.load(tmp_path / "optimizer.pt", weights_only=True))
    for each, its in ((model, optimizer), (fresh, again)):
        train(each, its, name)
    assert_same_state(model, fresh)


class Scored(torch.utils.data.Dataset[Tensor]):
    """Samples as a model sees them: a data set that holds a model."""

    def __init__(self, model: pq.Prepared, batch: Batch) -> None:
        self.model, self.batch = model, batch

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        with torch.no_grad():
            return logits_of(
                self.model(**{key: value[index : index + 1] for key, value in self.batch.items()})
            )


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_data_loader_run_it(method: str) -> None:
    model = make("vit")
    train(model, optimizer_of(model), "vit")
    data = Scored(model, batch_of("vit"))
    loader = torch.utils.data.DataLoader(
        data, batch_size=2, num_workers=1, multiprocessing_context=method, timeout=120
    )
    got = torch.cat(list(loader)).flatten(0, 1)
    assert torch.equal(got, torch.cat([data[i] for i in range(4)]))
