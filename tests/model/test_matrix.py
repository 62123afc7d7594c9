"""A prepared model does whatever a module does, for each family of the zoo."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pyquant as pq
from tests.model.conftest import CONFIG, Case, make_case
from tests.model.zoo import logits_of


def run(model: nn.Module, case: Case) -> Tensor:
    with torch.no_grad():
        return logits_of(model(**case.batch))


def assert_same(got: Tensor, expected: Tensor) -> None:
    """Bit for bit."""
    assert got.dtype == expected.dtype
    assert torch.equal(got, expected)


def modes_of(model: pq.Prepared) -> list[str]:
    return [site.mode for site in model.sites().values()]


# -- what it computes ----------------------------------------------------------------------------------------


def test_coverage(case: Case) -> None:
    """Whole models are whole but for the loss; what stays float is named, with its path and a reason."""
    floats = [row for row in case.prepared.coverage().float_rows if row.op != "cross_entropy_loss"]
    assert case.entry.whole == (not floats)
    assert all(row.site and row.op and row.reason for row in floats)
    if case.name == "resnet":
        assert {row.site for row in floats} == {"stem", "block.conv1", "block.conv2"}


def test_float_mode_is_the_original(case: Case) -> None:
    with pq.mode(case.prepared, "float"):
        torch.testing.assert_close(run(case.prepared, case), run(case.model, case), rtol=1e-5, atol=1e-6)


def test_quantized_is_near_the_original(case: Case) -> None:
    """Per-site errors of 8 bits add up to some percent in these untrained models; 12 dB would be a defect."""
    reference = run(case.model, case)
    noise = (case.expected - reference).norm()
    assert 0 < noise < 0.1 * reference.norm()


def test_outputs_keep_their_structure(case: Case) -> None:
    with torch.no_grad():
        ours, theirs = case.prepared(**case.batch), case.model(**case.batch)
    assert type(ours) is type(theirs)
    if not isinstance(theirs, Tensor):
        assert list(ours.keys()) == list(theirs.keys())


@pytest.mark.parametrize("size", [1, 5])
def test_batch_sizes_agree(case: Case, size: int) -> None:
    """Integers do not depend on how a batch is split (what stays float may, by rounding)."""
    part = {name: value[:size] for name, value in case.batch.items()}
    with torch.no_grad():
        got = logits_of(case.prepared(**part))
    if case.entry.whole:
        assert_same(got, case.expected[:size])
    else:
        step = float(list(case.prepared.sites().values())[-1].output.scale)
        torch.testing.assert_close(got, case.expected[:size], rtol=0, atol=50 * step)


def test_positional_and_keyword_calls_agree(case: Case) -> None:
    with torch.no_grad():
        assert_same(logits_of(case.prepared(*case.batch.values())), case.expected)
        first, *rest = case.batch
        mixed = case.prepared(case.batch[first], **{name: case.batch[name] for name in rest})
    assert_same(logits_of(mixed), case.expected)


def test_wrong_calls_are_type_errors(case: Case) -> None:
    first = next(iter(case.batch))
    with pytest.raises(TypeError, match="missing"):
        case.prepared()
    with pytest.raises(TypeError, match=r"unexpected|prepared without"):
        case.prepared(**case.batch, no_such_input=torch.zeros(5))
    with pytest.raises(TypeError, match="multiple values"):
        case.prepared(case.batch[first], **case.batch)
    with pytest.raises(TypeError, match="positional"):
        case.prepared(*[case.batch[first]] * 20)
    with pytest.raises(TypeError, match=r"expected .* to be a tensor, got list"):
        case.prepared(**{**case.batch, first: [1, 2]})


def test_an_input_that_was_not_in_the_example_is_refused(labelled: Case) -> None:
    without = pq.prepare(labelled.model, labelled.entry.batch(2, 0))
    with pytest.raises(TypeError, match="prepared without 'labels'"):
        without(**labelled.batch, labels=labelled.labels)


def test_labels_give_the_loss(labelled: Case) -> None:
    with torch.no_grad():
        output = labelled.prepared(**labelled.batch, labels=labelled.labels)
        assert labelled.prepared(**labelled.batch).get("loss") is None
    assert_same(output.logits, labelled.expected)
    torch.testing.assert_close(output.loss, F.cross_entropy(labelled.expected, labelled.labels))


def test_train_and_eval_make_no_difference(case: Case) -> None:
    model = copy.deepcopy(case.prepared)
    assert_same(run(model.train(), case), case.expected)
    assert model.training
    assert_same(run(model.eval(), case), case.expected)


# -- the user's model ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
def test_the_original_is_unchanged(case: Case, training: bool) -> None:
    original = case.entry.make().train(training)
    calls: list[str] = []
    original.register_forward_hook(lambda *_: calls.append("hook"))
    parameters = dict(original.named_parameters())
    before = {name: value.clone() for name, value in original.state_dict().items()}
    for value in parameters.values():
        value.grad = torch.ones_like(value)

    prepared = pq.prepare(original, case.example())
    calls.clear()  # capture runs a copy, hooks included: they may be part of what the model computes
    pq.calibrate(prepared, [case.batch], progress=False)
    logits_of(prepared(**case.batch)).sum().backward()
    with torch.no_grad():
        for value in prepared.parameters():
            value.add_(1.0)

    assert dict(original.named_parameters()) == parameters  # the same objects
    assert all(torch.equal(value, before[name]) for name, value in original.state_dict().items())
    assert all(torch.equal(value.grad, torch.ones_like(value)) for value in parameters.values())
    assert all(module.training == training for module in original.modules())
    assert len(original._forward_hooks) == 1
    assert not calls
    shared = {value.data_ptr() for value in original.state_dict().values() if value.numel()}
    assert not shared & {value.data_ptr() for value in prepared.state_dict().values() if value.numel()}


# -- training ------------------------------------------------------------------------------------------------


def test_training_lowers_the_loss(case: Case) -> None:
    model = copy.deepcopy(case.prepared).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = F.cross_entropy(logits_of(model(**case.batch)), case.labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(site.mode == "quantized" for site in model.sites().values())


def test_gradients_reach_what_they_reach_in_float(case: Case) -> None:
    model, original = copy.deepcopy(case.prepared), copy.deepcopy(case.model)
    for each in (model, original):
        F.cross_entropy(logits_of(each(**case.batch)), case.labels).backward()
    reached = {name for name, value in original.named_parameters() if value.grad is not None}
    ours = dict(model.named_parameters())
    # A batch norm that was folded still trains: its parameters are part of the folded expression.
    assert {name for name, value in ours.items() if value.grad is not None} >= reached & set(ours)
    assert reached <= set(ours)
    for name in reached:
        theirs, got = original.get_parameter(name).grad, ours[name].grad
        assert torch.isfinite(got).all()
        assert bool(got.any()) == bool(theirs.any()), name


# -- saving and copying --------------------------------------------------------------------------------------


def through_pickle(model: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(model))


def through_file(model: nn.Module) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@pytest.mark.parametrize("way", [copy.deepcopy, through_pickle, through_file])
def test_copies_compute_the_same(case: Case, way: Callable[[pq.Prepared], pq.Prepared]) -> None:
    made = way(case.prepared)
    assert_same(run(made, case), case.expected)
    assert made.coverage() == case.prepared.coverage()
    assert made.quant_config == case.prepared.quant_config
    assert modes_of(made) == modes_of(case.prepared)
    assert list(made.state_dict()) == list(case.prepared.state_dict())
    again = way(made)
    assert_same(run(again, case), case.expected)
    with torch.no_grad():
        for value in made.parameters():
            value.zero_()
    assert_same(run(case.prepared, case), case.expected)  # nothing is shared


def test_state_dict_reload(case: Case) -> None:
    """Everything calibration chose is in the state, weight scales of the search included."""
    fresh = case.prepare_again()
    state = case.prepared.state_dict()
    assert any(name.endswith("weight_scale") and value.numel() for name, value in state.items())
    fresh.load_state_dict(copy.deepcopy(state), strict=True)
    pq.set_mode(fresh, "quantized")
    assert_same(run(fresh, case), case.expected)
    torch_state = io.BytesIO()
    torch.save(state, torch_state)
    torch_state.seek(0)
    assert torch.load(torch_state, weights_only=True).keys() == state.keys()


def test_original_names_are_kept(case: Case) -> None:
    ours = case.prepared.state_dict()
    for name, value in case.model.state_dict().items():
        assert torch.equal(ours[name], value), name


# -- number formats ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_scales_stay_float32(case: Case, dtype: torch.dtype) -> None:
    model = copy.deepcopy(case.prepared).to(dtype)
    for name, value in model.state_dict().items():
        if name.startswith("pq_sites."):
            original = case.prepared.state_dict()[name]
            assert value.dtype == original.dtype
            assert torch.equal(value, original)
    if case.entry.whole and dtype == torch.float64:  # what stays float wants one dtype throughout
        inputs = {n: v.to(dtype) if v.is_floating_point() else v for n, v in case.batch.items()}
        with torch.no_grad():
            assert_same(logits_of(model(**inputs)), case.expected)


def test_autocast(case: Case) -> None:
    """Integer ops do not feel it; what stays float does."""
    with torch.autocast("cpu", torch.bfloat16):
        got = run(case.prepared, case)
    assert got.dtype == torch.float32
    if case.entry.whole and not case.entry.takes_labels:
        assert_same(got, case.expected)
    else:
        torch.testing.assert_close(got, case.expected, rtol=0, atol=0.1 * float(case.expected.abs().max()))


def test_training_under_autocast(case: Case) -> None:
    model = copy.deepcopy(case.prepared)
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(logits_of(model(**case.batch)), case.labels)
    loss.backward()
    grads = [value.grad for value in model.parameters() if value.grad is not None]
    assert grads
    assert all(grad.dtype == torch.float32 and torch.isfinite(grad).all() for grad in grads)


# -- compilers and training loops ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mha", "bert"])
def test_compile(name: str) -> None:
    """One graph, the same bits."""
    case = make_case(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # inductor warns about its own internals
        compiled = torch.compile(copy.deepcopy(case.prepared), fullgraph=True)
        got = run(compiled, case)
    if case.entry.whole:
        assert_same(got, case.expected)
    else:
        torch.testing.assert_close(got, case.expected, rtol=0, atol=0.01 * float(case.expected.abs().max()))
    torch.compiler.reset()


def test_trainer(labelled: Case, tmp_path: Path) -> None:
    """Two steps of the transformers Trainer (which runs on accelerate), then evaluation."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    model = copy.deepcopy(labelled.prepared)
    before = {name: value.clone() for name, value in model.named_parameters()}
    rows = labelled.entry.batch(8, 2)
    data = [{**{k: v[i] for k, v in rows.items()}, "labels": torch.tensor(i % 3)} for i in range(8)]
    arguments = transformers.TrainingArguments(
        str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
    )
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=data, eval_dataset=data)
    result = trainer.train()
    assert result.global_step == 2
    assert result.training_loss > 0
    assert trainer.evaluate()["eval_loss"] > 0
    assert trainer.predict(data).predictions.shape == (8, 3)
    assert any(not torch.equal(value, before[name]) for name, value in model.named_parameters())
    trainer.save_model(str(tmp_path / "saved"))
    assert list((tmp_path / "saved").iterdir())


def test_accelerate(case: Case) -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    model = copy.deepcopy(case.prepared)
    model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.01))
    loss = F.cross_entropy(logits_of(model(**case.batch)), case.labels)
    accelerator.backward(loss)
    optimizer.step()
    assert type(accelerator.unwrap_model(model)).__name__ == type(case.prepared).__name__


def test_configurations_survive(case: Case) -> None:
    assert case.prepared.quant_config == pq.QuantConfig.from_dict(CONFIG)
