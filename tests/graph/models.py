"""Tiny models with random weights, one for each way of writing a transformer that the graph part must
understand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, HEADS, PATCH, IMAGE, CLASSES = 24, 3, 4, 12, 7
TOKENS = (IMAGE // PATCH) ** 2


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A model whose norms and biases are random too: zeros and ones hide mistakes."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make().eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.2 * torch.randn_like(parameter))
                elif not name.endswith("embeddings"):
                    parameter.mul_(1.5)
            for name, buffer in model.named_buffers():
                if name.endswith("running_mean"):
                    buffer.normal_(0.0, 0.3)
                elif name.endswith("running_var"):
                    buffer.uniform_(0.5, 2.0)
    return model


def images(batch: int, seed: int = 1, size: int = IMAGE) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


class QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "tanh_gelu": lambda: nn.GELU(approximate="tanh"),
    "silu": nn.SiLU,
    "quick_gelu": QuickGELU,
}


# -- attention, in the ways people write it ------------------------------------------------------------------


class Attention(nn.Module):
    """Shared by the styles below: projections, and the final one."""

    def __init__(self, fused: bool = True, bias: bool = True) -> None:
        super().__init__()
        self.fused = fused
        if fused:
            self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=bias)
        else:
            self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH, bias=bias) for _ in range(3))
        self.proj = nn.Linear(WIDTH, WIDTH, bias=bias)
        self.scale = (WIDTH // HEADS) ** -0.5

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v [batch, heads, tokens, d], timm's way where fused."""
        batch, tokens, _ = x.shape
        if self.fused:
            q, k, v = (
                self.qkv(x).reshape(batch, tokens, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
            )
            return q, k, v
        parts = [
            layer(x).view(batch, tokens, HEADS, -1).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        ]
        return parts[0], parts[1], parts[2]

    def merge(self, y: Tensor) -> Tensor:
        return self.proj(y.transpose(1, 2).reshape(y.shape[0], y.shape[2], WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return self.merge(self.attend(*self.heads(x)))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        raise NotImplementedError


class SDPA(Attention):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v)


class Causal(Attention):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)


class BooleanMask(Attention):
    """Each token sees its neighbours: a constant Boolean mask."""

    def __init__(self) -> None:
        super().__init__()
        place = torch.arange(TOKENS + 1)
        self.register_buffer("mask", (place[:, None] - place).abs() < 4)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask)


class AdditiveMask(Attention):
    """A bias for each head and pair of tokens, -inf where they must not meet."""

    def __init__(self, written_out: bool = False) -> None:
        super().__init__()
        self.written_out = written_out
        place = torch.arange(TOKENS + 1)
        bias = torch.randn(HEADS, TOKENS + 1, TOKENS + 1)
        self.register_buffer("mask", bias.masked_fill((place[:, None] - place).abs() > 6, float("-inf")))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.written_out:
            return torch.softmax(q @ k.transpose(-2, -1) * self.scale + self.mask, -1) @ v
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask)


class MaskedFill(Attention):
    """GPT's way: a triangle of a larger buffer, masked_fill on the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("tril", torch.ones(1, 1, 32, 32).tril())

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = q @ k.transpose(-2, -1) * self.scale
        tokens = q.shape[-2]
        scores = scores.masked_fill(self.tril[:, :, :tokens, :tokens] == 0, float("-inf"))
        return scores.softmax(-1) @ v


class LearnedBias(Attention):
    """Swin's way: a table of relative positions, a parameter, looked up for each pair."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(2 * TOKENS + 1, HEADS) * 0.3)
        place = torch.arange(TOKENS + 1)
        self.register_buffer("index", place[:, None] - place + TOKENS)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        tokens = TOKENS + 1
        bias = self.table[self.index.view(-1)].view(tokens, tokens, HEADS).permute(2, 0, 1).contiguous()
        return ((q * self.scale) @ k.transpose(-2, -1) + bias.unsqueeze(0)).softmax(dim=-1) @ v


class ScaleAfter(Attention):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.softmax(q @ k.transpose(-2, -1) / math.sqrt(WIDTH // HEADS), dim=-1) @ v


class ScaleBefore(Attention):
    """timm's way without its fused form."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = F.dropout((q * self.scale @ k.transpose(-2, -1)).softmax(dim=-1), 0.1, self.training)
        return weights @ v


class ScaleBoth(Attention):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        root = self.scale**0.5
        return torch.matmul(F.softmax(torch.matmul(q * root, (k * root).mT), -1, dtype=torch.float32), v)


class Einsum(Attention):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = torch.softmax(torch.einsum("bhid,bhjd->bhij", q, k) * self.scale, dim=-1)
        return torch.einsum("bhij,bhjd->bhid", weights, v)


class EinsumTokens(Attention):
    """Heads stay behind the tokens, as einsum allows."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (HEADS, -1)) for t in self.qkv(x).chunk(3, dim=-1))
        weights = torch.softmax(torch.einsum("bihd,bjhd->bhij", q, k) * self.scale, dim=-1)
        return self.proj(torch.einsum("bhij,bjhd->bihd", weights, v).flatten(2))


class Chunk(Attention):
    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            t.view(x.shape[0], -1, HEADS, WIDTH // HEADS).permute(0, 2, 1, 3)
            for t in self.qkv(x).chunk(3, -1)
        )
        return self.merge((q @ k.transpose(2, 3) * self.scale).softmax(3) @ v)


class Split(Attention):
    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in self.qkv(x).split(WIDTH, dim=-1))
        return self.merge(F.scaled_dot_product_attention(q, k, v))


class Slices(Attention):
    """Heads outermost in the fused projection (as in some checkpoints), cut by indexing."""

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.qkv(x).view(x.shape[0], -1, HEADS, 3 * (WIDTH // HEADS)).transpose(1, 2)
        d = WIDTH // HEADS
        q, k, v = mixed[..., :d], mixed[..., d : 2 * d], mixed[..., 2 * d :]
        return self.merge(F.scaled_dot_product_attention(q, k, v))


class Bmm(Attention):
    """Batch and heads in one axis."""

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        d = WIDTH // HEADS
        q, k, v = (
            t.reshape(batch, tokens, HEADS, d).transpose(1, 2).reshape(batch * HEADS, tokens, d)
            for t in self.qkv(x).chunk(3, dim=-1)
        )
        weights = torch.softmax(torch.bmm(q * self.scale, k.transpose(1, 2)), dim=-1)
        y = torch.bmm(weights, v).view(batch, HEADS, tokens, d).transpose(1, 2).reshape(batch, tokens, WIDTH)
        return self.proj(y)


class SingleHead(Attention):
    """No axis for heads at all."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.query(x), self.key(x), self.value(x)
        return self.proj(torch.softmax(q @ k.transpose(1, 2) / math.sqrt(WIDTH), dim=-1) @ v)


class KeyFirst(Attention):
    """Scores as k @ q.T, transposed afterwards: softmax over the keys is over the first of the two."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (k @ q.transpose(-2, -1) * self.scale).transpose(-2, -1).softmax(-1) @ v


class Torch(nn.Module):
    """nn.MultiheadAttention."""

    def __init__(self, need_weights: bool = False, batch_first: bool = True, bias: bool = True) -> None:
        super().__init__()
        self.mha = nn.MultiheadAttention(WIDTH, HEADS, batch_first=batch_first, bias=bias, dropout=0.1)
        self.need_weights, self.batch_first = need_weights, batch_first

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.batch_first else x.transpose(0, 1)
        y = self.mha(x, x, x, need_weights=self.need_weights)[0]
        return y if self.batch_first else y.transpose(0, 1)


# -- whole models --------------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(
        self,
        attention: nn.Module,
        activation: str = "gelu",
        pre_norm: bool = True,
        bias: bool = True,
        rms: bool = False,
    ) -> None:
        super().__init__()
        norm: Any = nn.RMSNorm if rms else nn.LayerNorm
        self.norm1, self.norm2 = norm(WIDTH), norm(WIDTH)
        self.attention, self.pre_norm = attention, pre_norm
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 2 * WIDTH, bias=bias),
            ACTIVATIONS[activation](),
            nn.Dropout(0.1),
            nn.Linear(2 * WIDTH, WIDTH, bias=bias),
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.pre_norm:
            x = x + self.attention(self.norm1(x))
            return x + self.mlp(self.norm2(x))
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.mlp(x))


class Classifier(nn.Module):
    """Patches, position table, blocks, pooling, head."""

    def __init__(
        self, blocks: nn.Module, pool: str = "token", embed: str = "conv", bias: bool = True
    ) -> None:
        super().__init__()
        self.embed: nn.Module = (
            nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=bias)
            if embed == "conv"
            else nn.Linear(3 * PATCH * PATCH, WIDTH, bias=bias)
        )
        self.pool = pool
        tokens = TOKENS + (pool == "token")
        if pool == "token":
            self.cls_token = nn.Parameter(torch.randn(1, 1, WIDTH) * 0.5)
        self.position = nn.Parameter(torch.randn(1, tokens, WIDTH) * 0.5)
        self.blocks = blocks
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES, bias=bias)

    def patches(self, x: Tensor) -> Tensor:
        if isinstance(self.embed, nn.Conv2d):
            return self.embed(x).flatten(2).transpose(1, 2)
        side = IMAGE // PATCH
        x = x.view(x.shape[0], 3, side, PATCH, side, PATCH).permute(0, 2, 4, 3, 5, 1)
        return self.embed(x.reshape(x.shape[0], TOKENS, -1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x)
        if self.pool == "token":
            x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        x = self.norm(self.blocks(x + self.position))
        return self.head(x[:, 0] if self.pool == "token" else x.mean(dim=1))


class SequenceFirst(nn.Module):
    """A TransformerEncoder with batch_first=False between two transposes."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x.transpose(0, 1)).transpose(0, 1)


def blocks(attention: Callable[[], nn.Module], depth: int = 2, **options: Any) -> nn.Sequential:
    return nn.Sequential(*[Block(attention(), **options) for _ in range(depth)])


def encoder(norm_first: bool, batch_first: bool, activation: Any = "relu") -> nn.Module:
    layer = nn.TransformerEncoderLayer(
        WIDTH,
        HEADS,
        2 * WIDTH,
        dropout=0.1,
        activation=activation,
        batch_first=batch_first,
        norm_first=norm_first,
    )
    stack = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return stack if batch_first else SequenceFirst(stack)


class TiedHead(nn.Module):
    """Language-model shape: token ids in, logits by the embedding table, causal attention."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(17, WIDTH), nn.Embedding(12, WIDTH)
        self.blocks = blocks(Causal)
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 17, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids: Tensor) -> Tensor:
        place = torch.arange(ids.shape[1], device=ids.device)
        return self.head(self.norm(self.blocks(self.tokens(ids) + self.positions(place))))


class SharedBlock(nn.Module):
    """One block used twice: repeated calls get names of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Block(SDPA())

    def forward(self, x: Tensor) -> Tensor:
        return self.block(self.block(x))


class Probabilities(nn.Module):
    """A model that ends in its softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Classifier(blocks(SDPA, depth=1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.model(x), dim=-1)


class SoftmaxPool(nn.Module):
    """Softmax outside attention: channels that share each token, and tokens that share each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.gate = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mix(F.softmax(self.gate(x), dim=2))
        return x + F.softmax(x.transpose(1, 2), dim=-1, dtype=torch.float32).transpose(1, 2)


def transformers_vit(kind: str, **options: Any) -> nn.Module:
    """ViT or DeiT of transformers, with a head unless `kind` ends in "Model"."""
    import transformers

    family = "DeiT" if kind.startswith("DeiT") else "ViT"
    config = getattr(transformers, f"{family}Config")(
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        intermediate_size=2 * WIDTH,
        image_size=IMAGE,
        patch_size=PATCH,
        num_labels=CLASSES,
        **options.pop("config", {}),
    )
    return getattr(transformers, kind)(config, **options)


INTEGER_MODELS: dict[str, Callable[[], nn.Module]] = {
    "vit": lambda: transformers_vit("ViTForImageClassification"),
    "vit_eager": lambda: transformers_vit(
        "ViTForImageClassification", config={"attn_implementation": "eager"}
    ),
    "vit_no_bias": lambda: transformers_vit("ViTForImageClassification", config={"qkv_bias": False}),
    "vit_quick_gelu": lambda: transformers_vit(
        "ViTForImageClassification", config={"hidden_act": "quick_gelu"}
    ),
    "vit_tanh_gelu": lambda: transformers_vit("ViTForImageClassification", config={"hidden_act": "gelu_new"}),
    "vit_pooler": lambda: transformers_vit("ViTModel"),
    "vit_bare": lambda: transformers_vit("ViTModel", add_pooling_layer=False),
    "deit": lambda: transformers_vit("DeiTForImageClassification"),
    "deit_distilled": lambda: transformers_vit("DeiTForImageClassificationWithTeacher"),
    "encoder_post_batch": lambda: Classifier(encoder(False, True)),
    "encoder_pre_batch": lambda: Classifier(encoder(True, True, "gelu")),
    "encoder_post_sequence": lambda: Classifier(encoder(False, False), pool="mean"),
    "encoder_pre_sequence": lambda: Classifier(encoder(True, False, F.silu)),
    "mha": lambda: Classifier(blocks(Torch)),
    "mha_weights": lambda: Classifier(blocks(lambda: Torch(need_weights=True))),
    "mha_sequence": lambda: Classifier(blocks(lambda: Torch(batch_first=False))),
    "mha_no_bias": lambda: Classifier(blocks(lambda: Torch(bias=False), bias=False), bias=False),
    "sdpa": lambda: Classifier(blocks(SDPA), pool="mean"),
    "sdpa_separate": lambda: Classifier(blocks(lambda: SDPA(fused=False)), embed="linear"),
    "no_bias": lambda: Classifier(blocks(lambda: SDPA(bias=False), bias=False), bias=False),
    "post_norm": lambda: Classifier(blocks(SDPA, pre_norm=False)),
    "rms_norm": lambda: Classifier(blocks(SDPA, rms=True)),
    "scale_after": lambda: Classifier(blocks(ScaleAfter)),
    "scale_before": lambda: Classifier(blocks(ScaleBefore)),
    "scale_both": lambda: Classifier(blocks(ScaleBoth)),
    "einsum": lambda: Classifier(blocks(Einsum)),
    "einsum_tokens": lambda: Classifier(blocks(EinsumTokens)),
    "chunk": lambda: Classifier(blocks(Chunk)),
    "split": lambda: Classifier(blocks(Split)),
    "slices": lambda: Classifier(blocks(Slices)),
    "bmm": lambda: Classifier(blocks(Bmm)),
    "single_head": lambda: Classifier(blocks(lambda: SingleHead(fused=False))),
    "key_first": lambda: Classifier(blocks(KeyFirst)),
    "causal": lambda: Classifier(blocks(Causal)),
    "boolean_mask": lambda: Classifier(blocks(BooleanMask)),
    "additive_mask": lambda: Classifier(blocks(AdditiveMask)),
    "additive_mask_written": lambda: Classifier(blocks(lambda: AdditiveMask(written_out=True))),
    "masked_fill": lambda: Classifier(blocks(MaskedFill)),
    "learned_bias": lambda: Classifier(blocks(LearnedBias)),
    "shared_block": lambda: Classifier(SharedBlock()),
    "tied_head": TiedHead,
    "softmax_head": Probabilities,
    "softmax_alone": lambda: Classifier(SoftmaxPool(), pool="mean"),
    **{
        f"mlp_{name}": lambda name=name: Classifier(blocks(SDPA, activation=name, depth=1))  # type: ignore[misc]
        for name in ACTIVATIONS
    },
}


def batch_for(name: str, batch: int, seed: int = 1) -> Tensor:
    """Random inputs of a model of `INTEGER_MODELS`."""
    if name == "tied_head":
        return torch.randint(0, 17, (batch, 10), generator=torch.Generator().manual_seed(seed))
    return images(batch, seed)
