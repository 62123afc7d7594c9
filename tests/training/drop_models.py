"""Models that drop values in every way that people write, small."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, TOKENS, HEADS = 8, 5, 2


class DropPath(nn.Module):
    """As timm has it."""

    def __init__(self, drop_prob: float, scale_by_keep: bool = True) -> None:
        super().__init__()
        self.drop_prob, self.scale_by_keep = drop_prob, scale_by_keep

    def forward(self, x: Tensor) -> Tensor:
        if self.drop_prob == 0.0 or not self.training:
            return x
        keep = 1.0 - self.drop_prob
        noise = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * (noise / keep if self.scale_by_keep else noise)


class StochasticDepth(nn.Module):
    """As torchvision has it."""

    def __init__(self, p: float, mode: str) -> None:
        super().__init__()
        self.p, self.mode = p, mode

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        size = [x.shape[0]] + [1] * (x.ndim - 1) if self.mode == "row" else [1] * x.ndim
        noise = torch.empty(size, dtype=x.dtype, device=x.device).bernoulli_(1.0 - self.p)
        return x * (noise / (1.0 - self.p) if self.p < 1.0 else noise)


class Attention(nn.Module):
    """Its probabilities are dropped by `scaled_dot_product_attention`, or by hand."""

    def __init__(self, p: float, by_hand: bool, causal: bool = False) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.p, self.by_hand, self.causal = p, by_hand, causal

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[0]
        q, k, v = (
            self.qkv(x).reshape(batch, TOKENS, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
        )
        if self.by_hand:
            weights = (q @ k.transpose(-2, -1) * (WIDTH // HEADS) ** -0.5).softmax(-1)
            y = F.dropout(weights, self.p, self.training) @ v
        else:
            p = self.p if self.training else 0.0
            y = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=self.causal)
        return self.proj(y.transpose(1, 2).reshape(batch, TOKENS, WIDTH))


class Layer(nn.Module):
    """One module between two linears, the second after a shortcut."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(WIDTH, WIDTH), inner, nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last((x + self.inner(x)).mean(1))


class Functional(nn.Module):
    def __init__(self, kind: str, p: float) -> None:
        super().__init__()
        self.kind, self.p = kind, p

    def forward(self, x: Tensor) -> Tensor:
        dropped: Tensor = getattr(F, self.kind)(x, self.p, training=self.training)
        return dropped


class MultiHead(nn.Module):
    def __init__(self, need_weights: bool) -> None:
        super().__init__()
        self.mha = nn.MultiheadAttention(WIDTH, HEADS, dropout=0.3, batch_first=True)
        self.need_weights = need_weights

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.mha(x, x, x, need_weights=self.need_weights)[0]
        return y


class Twice(nn.Module):
    """One module, called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(x.relu()) + self.drop(x)


WAYS: dict[str, Any] = {
    "dropout": lambda: nn.Dropout(0.3),
    "all": lambda: nn.Dropout(1.0),
    "twice": Twice,
    "functional": lambda: Functional("dropout", 0.4),
    "dropout1d": lambda: nn.Dropout1d(0.3),
    "alpha": lambda: nn.AlphaDropout(0.2),
    "feature_alpha": lambda: nn.FeatureAlphaDropout(0.2),
    "drop_path": lambda: DropPath(0.4),
    "drop_path_unscaled": lambda: DropPath(0.4, scale_by_keep=False),
    "depth_row": lambda: StochasticDepth(0.4, "row"),
    "depth_batch": lambda: StochasticDepth(0.5, "batch"),
    "sdpa": lambda: Attention(0.3, by_hand=False),
    "sdpa_causal": lambda: Attention(0.3, by_hand=False, causal=True),
    "by_hand": lambda: Attention(0.3, by_hand=True),
    "mha": lambda: MultiHead(need_weights=False),
    "mha_weights": lambda: MultiHead(need_weights=True),
    "encoder": lambda: nn.TransformerEncoderLayer(WIDTH, HEADS, 16, dropout=0.2, batch_first=True),
}


def tokens(batch: int, seed: int = 0) -> Tensor:
    return torch.randn(batch, TOKENS, WIDTH, generator=torch.Generator().manual_seed(seed))


def model_of(way: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Layer(WAYS[way]()).eval()
