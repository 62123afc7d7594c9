"""Quantization-aware training of a vision transformer whose forward pass is the deployed program.

    python examples/qat_vit.py                                          scikit-learn's digits, a minute
    python examples/qat_vit.py --data DIR --checkpoint DIR --epochs 3   a transformers ViT on CIFAR-10
    python examples/qat_vit.py --plan plan.yaml                         methods and bits of a plan (pq.assign)

The files of --data and --checkpoint are those of quantize_cifar10_vit.py. Everything goes to --out: a
checkpoint (written whole or not at all; a run that was killed goes on from it, and ends in the same bits),
curve.csv, curve.png and the integer program of the best epoch.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

import pyquant as pq

HELD_OUT = 0.1  # of the training images: they choose the epoch, and stop the run
# Few enough bits that calibration alone loses every sixth digit; four of each lose none.
DIGITS = pq.QuantConfig(
    base=pq.SiteConfig(
        weight_bits=2, activation_bits=3, weight_observer="mse", quantizer="lsq", weight_quantizer="lsq"
    )
)
CIFAR10 = "W4A4-lsq"


@dataclass
class Task:
    """A trained float model and its data."""

    model: nn.Module
    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    augment: bool


@dataclass
class Progress:
    """Where a run stands: what the checkpoint holds besides model and optimizer."""

    epoch: int = 0
    step: int = 0  # within the epoch
    losses: list[float] = field(default_factory=list)  # of the epoch so far
    history: list[dict[str, float]] = field(default_factory=list)
    best: float = -math.inf
    since: int = 0  # epochs since the best one


def digits(images: int) -> Task:
    """The model of `make demo`."""
    from digits_vit import load_data, load_model

    data = load_data()
    train = (data.train_images[:images], data.train_labels[:images])
    return Task(load_model(), *train, data.test_images, data.test_labels, augment=False)


def cifar10(data: Path, checkpoint: Path, images: int, tests: int) -> Task:
    """A transformers ViT."""
    from quantize_cifar10_vit import read
    from transformers import ViTForImageClassification

    model = ViTForImageClassification.from_pretrained(checkpoint).eval()
    return Task(
        model, *read(data / "train.bin", images, seed=0), *read(data / "test.bin", tests), augment=True
    )


def logits_of(output: Any) -> Tensor:
    """A tensor, or the field of a transformers output."""
    found: Tensor = output if isinstance(output, Tensor) else output["logits"]
    return found


def augmented(images: Tensor, seed: int) -> Tensor:
    """Shifted by up to four pixels and mirrored, one choice an image; the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    count, _, height, width = images.shape
    padded = F.pad(images, (4, 4, 4, 4))
    rows, columns = torch.randint(0, 9, (2, count), generator=generator).tolist()
    mirrored = (torch.rand(count, generator=generator) < 0.5).tolist()
    made = [padded[i, :, rows[i] : rows[i] + height, columns[i] : columns[i] + width] for i in range(count)]
    return torch.stack([x.flip(-1) if mirror else x for x, mirror in zip(made, mirrored, strict=True)])


def shuffled(count: int, seed: int) -> Tensor:
    """The numbers of the images in an order that depends on the seed alone."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def held_out(count: int) -> int:
    """How many of the first images validate."""
    return max(1, int(HELD_OUT * count))


def save_whole(path: Path, state: dict[str, Any]) -> None:
    """Write beside the old file and take its place: a kill leaves the one or the other."""
    beside = path.with_suffix(".part")
    with beside.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


class Run:
    """Training that may stop at any step and go on."""

    def __init__(self, task: Task, options: argparse.Namespace) -> None:
        self.task, self.options = task, options
        order, held = shuffled(len(task.images), options.seed), held_out(len(task.images))
        self.validation, self.training = order[:held], order[held:]
        calibration = task.images[self.training[: options.calib]].split(options.batch)
        self.model = pq.quantize(
            task.model,
            calibration,
            config=options.config,
            plan=options.plan,
            dropout=options.dropout,
            progress=not options.quiet,
        ).train()
        self.optimizer = torch.optim.AdamW(
            pq.param_groups(self.model, options.lr, options.weight_decay, scale_lr=options.scale_lr)
        )
        self.steps = max(1, len(self.training) // options.batch)
        total = self.steps * options.epochs
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: 0.5 * (1.0 + math.cos(math.pi * min(step / total, 1.0)))
        )
        self.teacher = pq.Distillation(self.model) if options.distill > 0 else None
        self.at = Progress()
        self.checkpoint = options.out / "checkpoint.pt"

    def load(self) -> bool:
        """Go on from the checkpoint, if there is one."""
        if not self.checkpoint.exists():
            return False
        state = torch.load(self.checkpoint, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.at = Progress(**state["at"])
        return True

    def save(self) -> None:
        """All that the rest of the run depends on."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "at": vars(self.at),
        }
        save_whole(self.checkpoint, state)

    def train(self) -> None:
        """Until the last epoch, or until validation has not improved for `patience` epochs."""
        while self.at.epoch < self.options.epochs and self.at.since < self.options.patience:
            self._epoch()
            self._finish_epoch()

    def _epoch(self) -> None:
        options, at = self.options, self.at
        order = self.training[shuffled(len(self.training), options.seed * 100_003 + at.epoch)]
        title = f"epoch {at.epoch + 1} of {options.epochs}"
        with tqdm(total=self.steps, initial=at.step, desc=title, disable=options.quiet, leave=False) as bar:
            while at.step < self.steps:
                chosen = order[at.step * options.batch : (at.step + 1) * options.batch]
                images, labels = self.task.images[chosen], self.task.labels[chosen]
                if self.task.augment:
                    images = augmented(images, at.epoch * self.steps + at.step)
                if options.dropout:  # a run that goes on drops what it would have dropped
                    torch.manual_seed((options.seed * 100_003 + at.epoch) * self.steps + at.step)
                at.losses.append(self._step(images, labels))
                at.step += 1
                bar.update()
                bar.set_postfix(loss=f"{np.mean(at.losses[-20:]):.4f}")
                if options.save_every and at.step % options.save_every == 0:
                    self.save()

    def _step(self, images: Tensor, labels: Tensor) -> float:
        if self.teacher is None:
            loss = F.cross_entropy(logits_of(self.model(images)), labels)
        else:
            output, distance = self.teacher(images)
            share = self.options.distill
            loss = share * distance + (1.0 - share) * F.cross_entropy(logits_of(output), labels)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        return float(loss.detach())

    def _finish_epoch(self) -> None:
        at = self.at
        accuracy = self.accuracy(self.task.images[self.validation], self.task.labels[self.validation])
        at.history.append({"epoch": at.epoch + 1, "loss": float(np.mean(at.losses)), "validation": accuracy})
        at.epoch, at.step, at.losses, at.since = at.epoch + 1, 0, [], at.since + 1
        if accuracy > at.best:
            at.best, at.since = accuracy, 0
            pq.convert(self.model).save(self.options.out / "best.safetensors")
        self.save()
        with (self.options.out / "curve.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["epoch", "loss", "validation"])
            writer.writeheader()
            writer.writerows(at.history)

    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """Of the integers, in percent."""
        engine = pq.convert(self.model)
        batches = list(zip(images.split(64), labels.split(64), strict=True))
        return float(pq.evaluate(engine, batches, progress=False).top1)


def draw(path: Path, history: list[dict[str, float]], before: float) -> None:
    """Loss and validation accuracy by epoch; `before` training stands at epoch 0."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    epochs = [row["epoch"] for row in history]
    figure, left = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
    right = left.twinx()
    left.plot(epochs, [row["loss"] for row in history], color="#D55E00", marker="o")
    right.plot([0, *epochs], [before, *(row["validation"] for row in history)], color="#0072B2", marker="s")
    left.set_xlabel("epoch")
    left.set_ylabel("training loss", color="#D55E00")
    right.set_ylabel("validation top-1 of the integers, %", color="#0072B2")
    left.xaxis.get_major_locator().set_params(integer=True)
    left.set_xlim(-0.2, max(epochs) + 0.2)
    left.grid(color="#e4e4e4", linewidth=0.7)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, help="CIFAR-10's binary files; digits without it")
    parser.add_argument("--checkpoint", type=Path, help="a transformers ViT for --data")
    parser.add_argument("--images", type=int, default=50_000, help="training images")
    parser.add_argument("--tests", type=int, default=10_000, help="test images of --data")
    parser.add_argument(
        "--config",
        help=f"a preset, or a .yaml or .json file; {CIFAR10} with --data, 2-bit weights, 3-bit edges without",
    )
    parser.add_argument(
        "--plan", type=Path, help="a plan of pq.assign; its own configuration is the default of --config"
    )
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--patience", type=int, default=3, help="epochs without progress until it stops")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--calib", type=int, default=512, help="images for calibration")
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--scale-lr", type=float, help="of learned scales, as a share of their size; as --lr")
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument(
        "--distill", type=float, default=0.9, help="share of the distance from the float model"
    )
    parser.add_argument("--dropout", action="store_true", help="train with the dropout of the original")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="of torch; a run goes on in the same bits with as many")
    parser.add_argument(
        "--save-every", type=int, default=50, help="steps between checkpoints; 0: epochs only"
    )
    parser.add_argument("--fresh", action="store_true", help="begin anew where a checkpoint is")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    parser.add_argument("--out", type=Path, default=Path("qat_out"))
    options = parser.parse_args(arguments)
    if (options.data is None) != (options.checkpoint is None):
        parser.error("--data and --checkpoint go together")
    if options.config is None and options.plan is None:
        options.config = DIGITS if options.data is None else CIFAR10
    return options


def main() -> None:
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.threads:
        torch.set_num_threads(options.threads)
    task = (
        digits(options.images)
        if options.data is None
        else cifar10(options.data, options.checkpoint, options.images, options.tests)
    )
    tests = list(zip(task.test_images.split(64), task.test_labels.split(64), strict=True))
    real = pq.evaluate(task.model, tests, progress=False).top1
    run = Run(task, options)
    ptq = run.accuracy(task.test_images, task.test_labels)
    held = run.accuracy(task.images[run.validation], task.labels[run.validation])
    if options.fresh:
        run.checkpoint.unlink(missing_ok=True)
    elif run.load():
        print(f"goes on at epoch {run.at.epoch + 1}, step {run.at.step}")
    run.train()
    draw(options.out / "curve.png", run.at.history, held)

    simulated = pq.evaluate(run.model, tests, progress=False)
    engine = pq.convert(run.model)
    integer = pq.evaluate(engine, tests, progress=False)
    wrong = int(np.count_nonzero(simulated.logits != integer.logits))
    best = pq.IntegerModel.load(options.out / "best.safetensors")
    print(f"Top-1 on {integer.count:,} test images")
    print(f"  float                {real:.2f} %")
    print(f"  after calibration    {ptq:.2f} %")
    print(f"  after training       {integer.top1:.2f} %")
    print(f"  best epoch           {pq.evaluate(best, tests, progress=False).top1:.2f} %")
    print(f"outputs that differ between the trained model and the engine: {wrong} of {integer.logits.size:,}")
    print(f"digest {engine.digest()}")
    print(f"wrote {options.out / 'best.safetensors'}, curve.csv, curve.png")
    if wrong:
        raise SystemExit("the engine and the trained model differ")


if __name__ == "__main__":
    main()
