"""Every quantizer of the registry, and the text that names one."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from pyquant.quantizers import QUANTIZERS, Quantizer, canonical, make_quantizer, register_quantizer

NAMES = list(QUANTIZERS)
GRANULAR = [name for name in NAMES if name != "dorefa"]
DYNAMIC = [name for name in GRANULAR if not QUANTIZERS[name].learned]
TRANSFORMS = {"dorefa"}  # quantizes a transform of x, so that its values are not fixed points


def data(*shape: int, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.softmax(3 * torch.randn(shape, generator=g), -1) - 0.01


def ready(text: str, x: Tensor) -> Quantizer:
    quantizer = make_quantizer(text)
    quantizer.initialize(x)
    return quantizer


def test_what_is_in_the_registry() -> None:
    deployable = {name for name, cls in QUANTIZERS.items() if cls.deployable}
    assert deployable == {"affine", "symmetric", "pow2", "lsq", "pact", "tqt"}
    assert set(NAMES) - deployable == {
        *("log2", "log_sqrt2", "shift_uniform_log2", "adalog", "twin_softmax", "twin_gelu"),
        *("lsq_plus", "dorefa", "dsq"),
    }


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("name", NAMES)
def test_forward_stays_on_its_grid(name: str, bits: int) -> None:
    x = data(4, 6, 16)
    quantizer = ready(f"{name}(bits={bits})", x)
    y = quantizer(x).detach()
    assert y.shape == x.shape
    assert y.dtype == torch.float32
    assert len(y.unique()) <= 2**bits
    if name not in TRANSFORMS:
        assert torch.equal(quantizer(y), y)
        finer = ready(f"{name}(bits=8)", x)
        assert (finer(x) - x).square().sum() <= (y - x).square().sum() * (1 + 1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_x_and_what_is_learned(name: str) -> None:
    x = data(4, 6, 16).requires_grad_()
    quantizer = ready(f"{name}(bits=3)", x.detach())
    y = quantizer(x)
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(1)))
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert {part for part, _ in quantizer.named_parameters()} == set(QUANTIZERS[name].learned)
    for part, parameter in quantizer.named_parameters():
        assert parameter.grad is not None, part
        assert parameter.grad.shape == parameter.shape


@pytest.mark.parametrize("name", GRANULAR)
@pytest.mark.parametrize("where", ["axis=0", "axis=-1", "axis=1", "group_size=4"])
def test_granularity_is_a_quantizer_for_each_channel(name: str, where: str) -> None:
    x = data(3, 4, 8) * torch.tensor([1.0, 4.0, 0.25]).reshape(3, 1, 1)
    quantizer = ready(f"{name}(bits=4,{where})", x)
    shape = {"axis=0": (3,), "axis=-1": (8,), "axis=1": (4,), "group_size=4": (24,)}[where]
    main = (*type(quantizer).learned, "scale")[0]
    assert getattr(quantizer, main).shape == shape
    y = quantizer(x)
    if name in ("shift_uniform_log2", "adalog", "twin_softmax", "twin_gelu"):
        return  # one codebook for all channels
    parts = {"axis=0": x.unbind(0), "axis=-1": x.unbind(-1), "axis=1": x.unbind(1)}.get(
        where, x.reshape(24, 4).unbind(0)
    )
    dim = {"axis=0": 0, "axis=-1": -1, "axis=1": 1}.get(where, 0)
    want = torch.stack([ready(f"{name}(bits=4)", part)(part) for part in parts], dim).reshape(x.shape)
    assert torch.equal(y, want)


@pytest.mark.parametrize("name", DYNAMIC)
def test_dynamic_takes_its_range_from_each_tensor(name: str) -> None:
    quantizer = make_quantizer(f"{name}(bits=4,dynamic=true,axis=0)")
    for seed in (1, 2):
        x = data(3, 40, seed=seed) * seed
        assert torch.equal(quantizer(x), ready(f"{name}(bits=4,axis=0)", x)(x))
    assert not bool(quantizer.initialized)


@pytest.mark.parametrize("name", NAMES)
def test_copies_give_the_same_bits(name: str) -> None:
    x = data(3, 40)
    text = f"{name}(bits=4)" if name == "dorefa" else f"{name}(bits=4,axis=0)"
    quantizer = ready(text, x)
    y = quantizer(x)
    loaded = make_quantizer(text)
    loaded.load_state_dict(quantizer.state_dict(), strict=True)
    for other in (loaded, copy.deepcopy(quantizer), pickle.loads(pickle.dumps(quantizer))):
        assert torch.equal(other(x), y)
        assert repr(other) == repr(quantizer)
        assert other.name == name


@pytest.mark.parametrize("name", NAMES)
def test_parameters_stay_float32(name: str) -> None:
    x = data(3, 40)
    model = nn.Sequential(nn.Linear(2, 2), ready(f"{name}(bits=4)", x))
    before = {key: value.clone() for key, value in model[1].state_dict().items()}
    model.half()
    assert model[0].weight.dtype == torch.float16
    for key, value in model[1].state_dict().items():
        assert value.dtype == before[key].dtype, key
        assert torch.equal(value, before[key]), key
    for key in QUANTIZERS[name].learned:
        assert isinstance(getattr(model[1], key), nn.Parameter)
    assert model[1](x.half()).dtype == torch.float16
    model.to(torch.bfloat16)
    assert all(value.dtype in (torch.float32, torch.bool) for value in model[1].state_dict().values())


@pytest.mark.parametrize("name", NAMES)
def test_rules_about_data(name: str) -> None:
    quantizer = make_quantizer(name)
    with pytest.raises(RuntimeError, match=rf"{name}: expected initialize\(x\) before"):
        quantizer(data(3))
    for bad in (torch.empty(0), torch.tensor([1.0, float("nan")]), torch.tensor([float("inf")])):
        with pytest.raises(ValueError, match=f"{name}: expected finite x"):
            quantizer.initialize(bad)
    assert not bool(quantizer.initialized)
    for constant in (torch.zeros(5), torch.full((5,), -2.0), torch.tensor(3.0)):
        quantizer.initialize(constant)
        assert torch.isfinite(quantizer(constant)).all()
    if name == "dorefa":
        return
    with pytest.raises(ValueError, match="expected an axis of"):
        make_quantizer(f"{name}(axis=2)").initialize(data(3, 4))
    with pytest.raises(ValueError, match=r"a last axis in groups of 3, got \(3, 4\)"):
        make_quantizer(f"{name}(group_size=3)").initialize(data(3, 4))


ERRORS = [
    ("log3", "expected one of affine, .*got 'log3'"),
    ("log2(bits=4", "expected name or name\\(parameter"),
    ("log2(4)", "log2: expected parameters bits, axis, .* got '4'"),
    ("log2(base=4)", "got 'base=4'"),
    ("log2(bits=4,bits=5)", "log2: expected bits once"),
    ("log2(bits=4.5)", "log2: expected bits an integer, got '4.5'"),
    ("log2(bits=)", "log2: expected bits an integer, got ''"),
    ("log2(bits=1)", r"log2: expected bits in \[2, 8\], got 1"),
    ("log2(axis=x)", "expected axis an integer or none, got 'x'"),
    ("log2(dynamic=1)", "expected dynamic true or false, got '1'"),
    ("log2(axis=1,group_size=4)", "expected group_size >= 0, and no axis beside it, got 4 and 1"),
    ("log2(group_size=-1)", "group_size >= 0"),
    ("adalog(denominator=0)", r"adalog: expected denominator in \[1, 128\], got 0"),
    ("dsq(alpha=nan)", "dsq: expected alpha a finite number, got 'nan'"),
    ("dsq(alpha=1)", r"dsq: expected alpha in \(0, 1\), got 1.0"),
    ("lsq(dynamic=true)", "got 'dynamic=true'"),
]


@pytest.mark.parametrize(("text", "rule"), ERRORS, ids=[text for text, _ in ERRORS])
def test_text_errors(text: str, rule: str) -> None:
    for read in (make_quantizer, canonical):
        with pytest.raises(ValueError, match=rule):
            read(text)


def test_canonical_text() -> None:
    assert canonical(" log2 ") == "log2"
    assert canonical("log2(bits=8, axis=none)") == "log2"
    assert canonical("log2( axis = -1 ,bits= 04)") == "log2(bits=4,axis=-1)"
    assert canonical("log2()") == "log2"
    assert canonical("affine(dynamic=True)") == "affine(dynamic=true)"
    assert canonical("shift_uniform_log2(powers=false)") == "shift_uniform_log2(powers=false)"
    assert canonical("dsq(alpha=0.25)") == "dsq(alpha=0.25)"
    for name in NAMES:
        assert canonical(canonical(f"{name}(bits=3)")) == f"{name}(bits=3)"


CODEBOOKS = ["log2", "log_sqrt2", "shift_uniform_log2", "adalog", "twin_softmax", "twin_gelu"]


@pytest.mark.parametrize("name", CODEBOOKS)
@pytest.mark.parametrize("where", ["", ",axis=0", ",group_size=8"])
def test_a_codebook_may_learn_its_scale(name: str, where: str) -> None:
    x = data(3, 40)
    plain = ready(f"{name}(bits=3{where})", x)
    quantizer = ready(f"{name}(bits=3,learn_scale=true{where})", x)
    assert [part for part, _ in quantizer.named_parameters()] == ["scale"]
    assert torch.equal(quantizer(x), plain(x))
    quantizer.load_state_dict(plain.state_dict())
    grad = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    quantizer(x).backward(grad)
    assert quantizer.scale.grad is not None
    assert quantizer.scale.grad.shape == plain.scale.shape
    # the derivative of x_hat = level scale - (rounding, held fixed), in float64
    view = plain.view(x)
    scale, levels, g = view.expand(plain.scale).double(), plain.levels.double(), view_of(grad, view.x)
    v = view.x.double() / scale
    d = view_of(plain(x), view.x) / scale - v.clamp(levels[0], levels[-1])
    d = torch.where((v < levels[0]) | (v > levels[-1]), view_of(plain(x), view.x) / scale, d)
    factor = (view.x.numel() // plain.scale.numel() * (len(levels) - 1)) ** -0.5
    want = factor * (g * d).sum_to_size(scale.shape).reshape(plain.scale.shape)
    assert torch.allclose(quantizer.scale.grad.double(), want, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="expected dynamic=False, since scale is learned"):
        make_quantizer(f"{name}(learn_scale=true,dynamic=true)")


def view_of(y: Tensor, like: Tensor) -> Tensor:
    return y.detach().double().reshape(like.shape)


def test_a_new_quantizer_is_one_class() -> None:
    class Nothing(Quantizer):
        deployable = False
        state = ()

    with pytest.raises(ValueError, match="expected a new name"):
        register_quantizer("log2")(Nothing)
    with pytest.raises(ValueError, match="lower case words"):
        register_quantizer("No Thing")(Nothing)
    try:
        assert register_quantizer("nothing")(Nothing) is Nothing
        assert isinstance(make_quantizer("nothing(bits=3)"), Nothing)
    finally:
        del QUANTIZERS["nothing"]


def test_without_torch() -> None:
    code = """
import sys
sys.modules["torch"] = None
import pyquant
from pyquant.quantizers import codebooks
assert len(codebooks.log2(4)) == 16
try:
    pyquant.quantizers.make_quantizer
except pyquant.MissingTorchError as error:
    assert "pyquant.quantizers.make_quantizer needs PyTorch" in str(error), error
else:
    raise AssertionError
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_compiled_as_one_graph(name: str) -> None:
    """aot_eager runs the traced forward and backward graphs: what a code generator is given."""
    torch.compiler.reset()  # all share one forward, which is traced for few classes in one process
    x = data(3, 40)
    results = []
    for compiled in (False, True):
        quantizer = ready(f"{name}(bits=4)", x)
        run = torch.compile(quantizer, fullgraph=True, backend="aot_eager") if compiled else quantizer
        leaf = x.clone().requires_grad_()
        y = run(leaf)
        y.square().sum().backward()
        assert leaf.grad is not None
        results.append([y.detach(), leaf.grad, *(p.grad for p in quantizer.parameters())])
    for eager, traced in zip(*results, strict=True):
        assert torch.equal(eager, traced)
