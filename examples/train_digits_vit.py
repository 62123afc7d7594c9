"""Trains the model of `digits_vit.py` and saves its checkpoint: under two minutes on two cores.

    python examples/train_digits_vit.py [--epochs N] [--out FILE]

The checkpoint in the repository was made by this script with its defaults.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from digits_vit import CHECKPOINT, DigitsViT, load_data
from safetensors.torch import save_file
from torch import Tensor
from tqdm import trange

SEED = 0
BATCH = 64


def accuracy(model: DigitsViT, images: Tensor, labels: Tensor) -> float:
    """Percent."""
    model.eval()
    with torch.no_grad():
        return float((model(images).argmax(1) == labels).float().mean() * 100)


def train(epochs: int) -> tuple[DigitsViT, float]:
    """The model after the last epoch, and its test accuracy in percent (which chose nothing)."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # matrices this small gain nothing from a second, and sums keep one order
    generator = torch.Generator().manual_seed(SEED)
    data = load_data()
    model = DigitsViT()
    steps = epochs * -(-len(data.train_labels) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps, pct_start=0.2)
    bar = trange(epochs, desc="train", unit="epoch")
    for _ in bar:
        model.train()
        for chosen in torch.randperm(len(data.train_labels), generator=generator).split(BATCH):
            loss = F.cross_entropy(
                model(data.train_images[chosen]), data.train_labels[chosen], label_smoothing=0.05
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}")
    return model, accuracy(model, data.test_images, data.test_labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--out", type=Path, default=CHECKPOINT)
    options = parser.parse_args()
    begin = time.perf_counter()
    model, top1 = train(options.epochs)
    save_file(model.state_dict(), options.out)
    count = sum(p.numel() for p in model.parameters())
    print(
        f"test accuracy {top1:.2f} %, {count:,} parameters, {time.perf_counter() - begin:.0f} s; "
        f"wrote {options.out} ({options.out.stat().st_size / 1000:.0f} kB)"
    )


if __name__ == "__main__":
    main()
