"""Models that do not reach 100 % integer: convolutions, window shifts, masks from the input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.graph.models import images


class BasicBlock(nn.Module):
    """ResNet's block with the shortcut without parameters (option A)."""

    def __init__(self, inside: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inside, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.more = out - inside

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.more:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.more // 2, self.more // 2))
        return F.relu(x + y)


class ResNet20(nn.Module):
    def __init__(self, width: int = 16, depth: int = 3) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.layer1 = self._layer(width, width, 1, depth)
        self.layer2 = self._layer(width, 2 * width, 2, depth)
        self.layer3 = self._layer(2 * width, 4 * width, 2, depth)
        self.linear = nn.Linear(4 * width, 10)

    def _layer(self, inside: int, out: int, stride: int, depth: int) -> nn.Sequential:
        return nn.Sequential(
            BasicBlock(inside, out, stride), *[BasicBlock(out, out, 1) for _ in range(depth - 1)]
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(F.avg_pool2d(x, x.size(3)).flatten(1))


class Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.fn = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(x) + x


def convmixer(width: int = 16, depth: int = 2, kernel: int = 5) -> nn.Module:
    """Depthwise convolution mixes places, 1 x 1 convolution mixes channels."""
    return nn.Sequential(
        nn.Conv2d(3, width, 4, 4),
        nn.GELU(),
        nn.BatchNorm2d(width),
        *[
            nn.Sequential(
                Residual(
                    nn.Sequential(
                        nn.Conv2d(width, width, kernel, groups=width, padding="same"),
                        nn.GELU(),
                        nn.BatchNorm2d(width),
                    )
                ),
                nn.Conv2d(width, width, 1),
                nn.GELU(),
                nn.BatchNorm2d(width),
            )
            for _ in range(depth)
        ],
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(),
        nn.Linear(width, 10),
    )


class MaskedAttention(nn.Module):
    """A key padding mask that comes with the input."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        return self.head(self.attention(x, x, x, key_padding_mask=padding, need_weights=False)[0])


def hugging(kind: str, **config: Any) -> nn.Module:
    import transformers

    name = kind.partition("For")[0].removesuffix("Model")
    return getattr(transformers, kind)(getattr(transformers, f"{name}Config")(**config))


Inputs = dict[str, Tensor]


def pixels(name: str, size: int) -> Callable[[int, int], Inputs]:
    return lambda batch, seed: {name: images(batch, seed, size)}


def words(mask: bool) -> Callable[[int, int], Inputs]:
    def make(batch: int, seed: int) -> Inputs:
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(0, 40, (batch, 8), generator=generator)
        if not mask:
            return {"input_ids": ids}
        length = torch.randint(3, 9, (batch, 1), generator=generator)
        return {"input_ids": ids, "attention_mask": (torch.arange(8) < length).long()}

    return make


def padded(batch: int, seed: int) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    length = torch.randint(2, 7, (batch, 1), generator=generator)
    return {"x": torch.randn(batch, 6, 16, generator=generator), "padding": torch.arange(6) >= length}


def bert() -> nn.Module:
    return hugging(
        "BertForSequenceClassification",
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )


# name -> (model, inputs, ops that stay float)
OTHER_MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[int, int], Inputs], set[str]]] = {
    "resnet": (lambda: ResNet20(8, 1), pixels("x", 16), {"conv2d", "pad"}),
    "convmixer": (convmixer, pixels("input", 16), {"conv2d", "_native_batch_norm_legit_no_training"}),
    "masked_attention": (
        MaskedAttention,
        padded,
        {"scaled_dot_product_attention", "masked_fill", "zeros_like"},
    ),
    "bert": (bert, words(mask=False), set()),
    "bert_mask": (bert, words(mask=True), {"scaled_dot_product_attention"}),
    "swin": (
        lambda: hugging(
            "SwinForImageClassification",
            image_size=16,
            patch_size=2,
            embed_dim=8,
            depths=[2, 2],
            num_heads=[2, 2],
            window_size=4,
            num_labels=5,
        ),
        pixels("pixel_values", 16),
        {"roll", "pad", "scaled_dot_product_attention"},
    ),
    "convnext": (
        lambda: hugging(
            "ConvNextForImageClassification", depths=[1, 1], hidden_sizes=[8, 16], num_stages=2, num_labels=5
        ),
        pixels("pixel_values", 16),
        {"conv2d", "mul"},
    ),
    "mobilevit": (
        lambda: hugging(
            "MobileViTForImageClassification",
            image_size=32,
            hidden_sizes=[8, 8, 8],
            neck_hidden_sizes=[4, 4, 8, 8, 8, 8, 8],
            num_attention_heads=2,
            num_labels=5,
        ),
        pixels("pixel_values", 32),
        {"conv2d", "upsample_bilinear2d"},
    ),
    "segformer": (
        lambda: hugging(
            "SegformerForImageClassification",
            depths=[1, 1],
            num_encoder_blocks=2,
            sr_ratios=[2, 1],
            hidden_sizes=[8, 8],
            patch_sizes=[7, 3],
            strides=[4, 2],
            num_attention_heads=[1, 2],
            mlp_ratios=[2, 2],
            num_labels=5,
        ),
        pixels("pixel_values", 32),
        {"conv2d"},
    ),
}
