"""Whose features samples are judged by: a small classifier that is trained on the spot, or a network of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import timm
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from zoo import files
from zoo.evaluation.features import Network
from zoo.seeding import seeded

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from zoo.data import Images

STEPS, BATCH = 600, 128
WIDTHS = (32, 64, 128)
HALVES = 10


def trained(train: Images, kept: Path) -> Network:
    """A small convolutional classifier of the data's own labels, trained once and kept: it needs nothing else.

    Its features are the 128 means over the pixels of its last layer.
    """
    if train.labels is None:
        raise ValueError(f"{train.name} has no labels to train a judge on")
    channels, height, width = train.shape
    with seeded():
        body, last = _body(channels), nn.Linear(WIDTHS[-1], int(train.labels.max()) + 1)
        if kept.is_file():
            body.load_state_dict(files.read_tensors(kept)[0])
        else:
            _learn(body, last, train)
            files.write_tensors(kept, dict(body.state_dict()), {})
    body.eval().requires_grad_(False)
    return Network("a small classifier of its labels", body, body, (height, width), channels)


def residual(file: Path) -> Network:
    """A ResNet-18 for 64x64 images in [-1, 1], its first convolution of stride 1, with the weights of a file."""
    model = timm.create_model("resnet18", num_classes=0)
    cast("nn.Conv2d", model.conv1).stride = (1, 1)
    weights = {key: value.float() if value.is_floating_point() else value
               for key, value in files.read_tensors(file)[0].items() if not key.startswith("fc.")}  # fmt: skip
    model.load_state_dict(weights)
    model.eval().requires_grad_(False)
    half = (0.5, 0.5, 0.5)
    return Network("ResNet-18 trained on Tiny ImageNet", model, model, (64, 64), 3, half, half)


def _body(channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in WIDTHS:
        layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _learn(body: nn.Module, last: nn.Module, train: Images) -> None:
    optimizer = torch.optim.AdamW([*body.parameters(), *last.parameters()], lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=STEPS)
    body.train()
    for _ in range(STEPS):
        index = torch.randint(len(train), (BATCH,))
        loss = cross_entropy(last(body(train.batch(index))), train.labels[index])  # type: ignore[index]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def kid(real: Tensor, fake: Tensor) -> dict[str, float]:
    """Unbiased KID (Binkowski et al. 2018, arXiv:1801.01401) of all features, and its standard error.

    The error is the deviation over random halves of both, drawn without replacement: the variance of a mean over half a
    set about that of the whole is that of the whole.
    """
    count = min(len(real), len(fake))
    real, fake = real[:count].double(), fake[:count].double()
    rr, ff, rf = (((a @ b.T) / a.shape[1] + 1).pow(3) for a, b in ((real, real), (fake, fake), (real, fake)))
    generator = torch.Generator().manual_seed(0)
    halves = [[torch.randperm(count, generator=generator)[: count // 2] for _ in range(2)] for _ in range(HALVES)]
    several = torch.stack([_discrepancy(rr[i][:, i], ff[j][:, j], rf[i][:, j]) for i, j in halves])
    return {"kid": _discrepancy(rr, ff, rf).item(), "kid_std": several.std().item()}


def _discrepancy(rr: Tensor, ff: Tensor, rf: Tensor) -> Tensor:
    n = len(rr)
    return (rr.sum() - rr.trace() + ff.sum() - ff.trace()) / (n * (n - 1)) - 2 * rf.mean()
