"""Which modules of a model are its blocks."""

from __future__ import annotations

import pytest

from pyquant.graph.segments import blocks_of, even_blocks


def sites(*modules: str, parts: str = "norm query key value context add fc1 act fc2 add#1") -> list[str]:
    return [f"{module}.{part}" for module in modules for part in parts.split()]


VIT = ["patches", "embeddings.add", *sites("vit.layers.0", "vit.layers.1", "vit.layers.2"), "head"]
SWIN = [
    "patches",
    *sites("swin.layers.0.blocks.0", "swin.layers.0.blocks.1"),
    *sites("swin.layers.0.downsample", parts="concat norm reduction"),
    *sites("swin.layers.1.blocks.0", "swin.layers.1.blocks.1"),
]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (VIT, {"vit.layers.0", "vit.layers.1", "vit.layers.2"}),
        (SWIN, {f"swin.layers.{i}.blocks.{j}" for i in (0, 1) for j in (0, 1)}),
        # torchvision: the number is the end of a name, and a numbered list lies inside
        (
            sites(
                "encoder.layer_0", "encoder.layer_1", parts="norm in_proj context add mlp.0 mlp.1 mlp.3 add#1"
            ),
            {"encoder.layer_0", "encoder.layer_1"},
        ),
        # ResNet: both numbers
        (
            [
                "stem",
                *sites("layer1.0", "layer1.1", "layer2.0", "layer2.1", parts="conv1 relu conv2 add relu#1"),
            ],
            {"layer1.0", "layer1.1", "layer2.0", "layer2.1"},
        ),
        # two stacks side by side, and one that is short
        (
            sites("encoder.0", "encoder.1", "decoder.0", "decoder.1", "decoder.2"),
            {"encoder.0", "encoder.1", "decoder.0", "decoder.1", "decoder.2"},
        ),
        # blocks of a sequence that is the model
        (sites("0", "1", "2"), {"0", "1", "2"}),
        # stages of different layers, whose inner lists hold too little
        (
            sites(
                "stages.0", "stages.1", parts="a b c d e f inner.0.x inner.0.y inner.0.z inner.1.x inner.1.y"
            ),
            {"stages.0", "stages.1"},
        ),
    ],
)
def test_blocks(names: list[str], expected: set[str]) -> None:
    found = blocks_of(names)
    assert set(found.values()) == expected
    assert all(name.startswith(block + ".") for name, block in found.items())


@pytest.mark.parametrize(
    "names",
    [
        ["0", "1", "2", "3", "4"],  # linear layers and functions
        ["fc1", "act", "fc2", "fc2.narrow"],
        [*sites("layers.0"), "head"],  # not repeated
        [*sites("layers.0", "layers.1", parts="a b c"), *sites("body", parts="a b c d e f g")],
    ],
)
def test_none(names: list[str]) -> None:
    with pytest.raises(ValueError, match="found no repeated numbered modules"):
        blocks_of(names)


def test_a_glob_takes_the_outermost_module() -> None:
    found = blocks_of(SWIN, "swin.layers.*")
    assert set(found.values()) == {"swin.layers.0", "swin.layers.1"}
    assert "patches" not in found
    assert set(blocks_of(SWIN, "*.downsample").values()) == {"swin.layers.0.downsample"}
    with pytest.raises(
        ValueError, match=r"blocks: 'x' matches no module; .* like patches, swin.layers.0.blocks.0"
    ):
        blocks_of(SWIN, "x")


@pytest.mark.parametrize("segments", [1, 3, 7, 10])
def test_even(segments: int) -> None:
    names = sites("a")
    found = even_blocks(names, segments)
    sizes = [list(found.values()).count(block) for block in dict.fromkeys(found.values())]
    assert len(sizes) == segments
    assert sum(sizes) == len(names)
    assert max(sizes) - min(sizes) <= 1
