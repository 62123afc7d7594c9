"""A small vision transformer in plain PyTorch, and scikit-learn's handwritten digits.

Nothing here knows of quantization: it is the "trained model" that the other examples start from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

CHECKPOINT = Path(__file__).with_name("digits_vit.safetensors")
# Of the pixels of the training images, which lie in 0..16.
MEAN, DEVIATION = 4.88, 6.02


class Attention(nn.Module):
    """Multi-head self-attention; x [batch, tokens, width]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        context = F.scaled_dot_product_attention(q, k, v)
        return self.projection(context.transpose(1, 2).reshape(batch, tokens, width))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.mlp(self.norm2(x)))


class DigitsViT(nn.Module):
    """ViT on 8 x 8 grey images: float32 [batch, 1, 8, 8] -> logits [batch, 10]."""

    def __init__(
        self, width: int = 64, depth: int = 4, heads: int = 4, hidden: int = 128, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, kernel_size=2, stride=2)  # 16 patches
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 17, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads, hidden, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(images.shape[0], -1, -1), patches], dim=1)
        tokens = self.blocks(tokens + self.positions)
        return self.head(self.norm(tokens[:, 0]))


@dataclass(frozen=True)
class Digits:
    """Normalised images float32 [n, 1, 8, 8] and labels int64 [n]."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    def test_batches(self, size: int = 64) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.test_images.split(size), self.test_labels.split(size), strict=True))


def load_data() -> Digits:
    """The 1,797 images of the package, a fifth of them (the same ones each time) held out for the test."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).sub(MEAN).div(DEVIATION).unsqueeze(1)
    labels = torch.tensor(digits.target, dtype=torch.int64)
    train, test = train_test_split(range(len(labels)), test_size=0.2, random_state=0, stratify=labels.numpy())
    return Digits(images[train], labels[train], images[test], labels[test])


def load_model(checkpoint: Path = CHECKPOINT) -> DigitsViT:
    """The trained model, in eval mode."""
    model = DigitsViT()
    model.load_state_dict(load_file(checkpoint))
    return model.eval()
