"""Tiny models of four families, each with a way to make batches. Weights are random, inputs too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor, nn

__all__ = ["ZOO", "Entry", "logits_of"]

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Entry:
    """One model of the zoo.

    `make` gives the same weights each time; `batch(size, seed)` gives its inputs by name, in the order of the
    signature, without labels.
    """

    make: Callable[[], nn.Module]
    batch: Callable[[int, int], Batch]
    classes: int
    takes_labels: bool
    whole: bool  # nothing stays float


def _seeded(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    def run() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return make().eval()

    return run


def _random(size: int, seed: int, *shape: int) -> Tensor:
    return torch.randn(size, *shape, generator=torch.Generator().manual_seed(seed))


def _images(size: int, seed: int) -> Batch:
    return {"pixel_values": _random(size, seed, 3, 8, 8)}


def _vit() -> nn.Module:
    config = transformers.ViTConfig(
        image_size=8,
        patch_size=4,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=3,
    )
    return transformers.ViTForImageClassification(config)


class Encoder(nn.Module):
    """An `nn.TransformerEncoder`, then a learned query that attends by `nn.MultiheadAttention`."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, 0.1, "gelu", batch_first=True, norm_first=True)
        self.inward = nn.Linear(6, 16)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.query = nn.Parameter(torch.randn(1, 1, 16))
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, tokens, 6] -> [batch, 3]."""
        tokens = self.encoder(self.inward(x))
        pooled, _ = self.attention(self.query.expand(x.shape[0], -1, -1), tokens, tokens, need_weights=False)
        return self.head(pooled[:, 0])


def _tokens(size: int, seed: int) -> Batch:
    return {"x": _random(size, seed, 5, 6)}


def _bert() -> nn.Module:
    config = transformers.BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        num_labels=3,
    )
    return transformers.BertForSequenceClassification(config)


def _words(size: int, seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 40, (size, 6), generator=generator)
    mask = torch.ones(size, 6, dtype=torch.long)
    mask[:, 5] = torch.randint(0, 2, (size,), generator=generator)
    return {"input_ids": ids, "attention_mask": mask}


class Block(nn.Module):
    """Two convolutions with batch norm and a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        return torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))


class ResNet(nn.Module):
    """A stem, a block, average pooling and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.block = Block(8)
        self.fc = nn.Linear(8, 3)
        for norm in (self.bn, self.block.bn1, self.block.bn2):
            nn.init.uniform_(norm.running_mean, -0.2, 0.2)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """[batch, 3, 8, 8] -> [batch, 3]."""
        return self.fc(self.block(torch.relu(self.bn(self.stem(pixel_values)))).mean((2, 3)))


ZOO: dict[str, Entry] = {
    "vit": Entry(_seeded(_vit), _images, 3, takes_labels=True, whole=True),
    "mha": Entry(_seeded(Encoder), _tokens, 3, takes_labels=False, whole=True),
    "bert": Entry(_seeded(_bert), _words, 3, takes_labels=True, whole=False),
    "resnet": Entry(_seeded(ResNet), _images, 3, takes_labels=False, whole=False),
}


def logits_of(output: Any) -> Tensor:
    """The scores, whatever they are wrapped in."""
    return output if isinstance(output, Tensor) else output.logits
