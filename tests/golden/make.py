"""Make golden stacks: train tiny ones for a few steps, save them, and keep what they make of a few images.

Those that are there are never made again: see README.md beside this file.
"""

from __future__ import annotations

import copy
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import zoo
from zoo import files
from zoo.data import Images, images
from zoo.interfaces import HeadBatch

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.interfaces import Head
    from zoo.stack import Stack

HERE = Path(__file__).parent
GOLDEN = "golden.safetensors"
SHOWN, SAMPLED, CLASSES = 3, 2, 2
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
"""Another processor, or another version of torch, adds in another order and rounds a sum of thousands elsewhere: some
1e-6 of the numbers here, which are about 1. A change of meaning is far above a ten-thousandth."""

STACKS: dict[str, tuple[str, dict[str, Any]]] = {
    "grey-two-levels": ("14x14x1/conv7x7x3(width=4)/fc4(hidden=[12])+kl", {}),
    "colour-three-levels-and-head": (
        "8x8x3/conv4x4x6(width=4)/conv2x2x6(width=4, blocks=1)+wae_mmd/fc5(hidden=[12, 8])+mc/normal",
        {},
    ),
    "codes-on-codes": ("12x12x1/conv6x6x3(width=4)/conv3x3x5(width=6)/fc4(hidden=[8])", {}),
    "noise-of-features": ("12x12x1/conv3x3x4(noise=feature, width=4)+kl(0.5)+mse", {}),
    "noise-shared": ("8x8x3/conv2x2x4(noise=shared, width=4, up=nearest, norm=group)+stl+mae", {}),
    "probabilities": ("10x10x1/fc5(hidden=[12])+bernoulli+wae_mmd(10, kernel=rbf, detach=true)", {}),
    "dense-bottleneck": ("12x12x3/conv5(width=4, up=transpose, norm=batch, hidden=8)+ssim(window=3)/normal", {}),
    "without-linear-path": ("8x8x1/conv4x4x2(linear=false, width=4)/fc3(linear=false, hidden=[8])+mc", {}),
    "oblong": ("12x8x3/conv4x2x5(width=4)+wae_mmd(biased=true)+gaussian(2)", {}),
    "refined-in-pixels": (
        "8x8x1/conv4x4x4(width=4)+stl/fc4(hidden=[8])+kl+ssim(0.1, window=3)",
        {"loss_in": "pixels", "refine": True},
    ),
    "head-on-pixels": ("6x6x1/normal", {}),
    "critics-of-maps-and-vectors": (
        "8x8x1/conv4x4x2(width=4)+wae_gan(width=6, depth=2)/fc3(hidden=[8])+wae_gan(2, depth=3, width=6, trick=true)",
        {},
    ),
    "mixture-by-class": ("8x8x1/fc3(hidden=[4])/mixture(5, classes=true)", {}),
    "mixture-of-maps": ("8x8x1/conv2x2x2(width=2)/mixture(3, covariance=diagonal)", {}),
    "flow-by-class": (
        "8x8x1/fc3(hidden=[4])/flow(width=4, blocks=1, steps=3, classes=true)",
        {"steps": 400, "lr": 0.03},
    ),
    "flow-of-maps": ("8x8x1/conv2x2x2(width=2)/flow(width=4, blocks=1, steps=3)", {"steps": 400, "lr": 0.03}),
    "balanced-codes": ("8x8x1/conv4x4x2(width=2, blocks=0)/began(2, width=2, mode=pixels)", {}),
    "balanced-images": ("6x6x1/began(2, width=2, gamma=0.5, rate=1)", {}),
    "whole-image": (
        "10x8x1/fc_conv3(down=6, up=5, standardise=true)+kl+bernoulli+ssim(0.2, window=3)",
        {},
    ),
    "whole-map": ("8x8x1/conv4x4x2(width=2)/fc_conv3(down=4, up=3)+mc", {}),
    "ladder": ("10x10x1/vlae2x2(width=2, hidden=5)+kl/fc2(hidden=[4])", {}),
    "ladder-selu": (
        "8x8x1/conv4x4x2(width=2)/vlae2x2(style=selu, merge=concat, order=inverted, width=2, hidden=4)+mc",
        {},
    ),
    "backbone": ("8x8x3/resnet4x4x3(backbone=test_efficientnet, width=2)+kl", {}),
    "seen-by-a-network-and-a-critic": (
        "8x8x1/conv4x4x2(width=2)+feature(vgg11, layers=[relu1_1], gram=true, pretrained=false)"
        "+adversary(width=2, depth=1, start=0.3, adaptive=false)",
        {},
    ),
    "seen-as-people-do": (
        "8x8x3/fc3(hidden=[4])+lpips(0.5, net=alex, layers=1, pretrained=false, calibrated=false)",
        {},
    ),
    "pooled-and-blurred": ("8x8x1/conv3(network=pooled, width=2, up=shuffle_blur)+kl", {}),
    "uneven-steps": ("12x12x1/conv4x4x3(width=4, up=transpose_uneven)", {}),
}
"""Sentences by the names of their folders, and how each is trained."""


@torch.inference_mode()
def outputs(stack: Stack, pixels: Tensor) -> dict[str, Tensor]:
    """All that a stack makes of images, uint8 (B, C, H, W): posteriors, reconstructions, terms, samples."""
    x = pixels.float() / 255
    found = {}
    for number, level in enumerate(stack.lower(), 1):
        posterior = stack.posterior(x, number)
        found[f"level-{number}.mean"] = posterior.mean
        if posterior.logvar is not None:
            found[f"level-{number}.logvar"] = posterior.logvar
        found[f"level-{number}.pixels"] = stack.to_pixels(posterior.mean, number)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            trip = level.round_trip(stack.encode(x, number - 1))
            terms = {name: term for name, term in level.terms.items() if number == 1 or not _reads_pixels(term)}
            found |= {f"level-{number}.{name}": term(trip) for name, term in terms.items()}
    found["x_hat"] = stack(x)
    if stack.head is not None or stack.level(len(stack.levels)).prior is not None:
        found["samples"] = stack.sample(SAMPLED, seed=0)
    if stack.head is not None:
        labels = stack.head.labels()
        found |= {f"samples of {label}": stack.sample(SAMPLED, seed=0, label=label) for label in labels}
        told = torch.tensor(labels)[torch.arange(len(x)) % len(labels)] if labels else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            batch = HeadBatch(stack.encode(x), told, x, stack.encode, stack.to_pixels)
            found |= {"head": stack.head.loss(batch), **_of_the_critic(stack.head, batch)}
    return found


def _of_the_critic(head: Head, batch: HeadBatch) -> dict[str, Tensor]:
    """What a head that owns a critic says of itself, before and after a turn of it."""
    if head.critic is None:
        return {}
    after = copy.deepcopy(head).train()
    found = {"critic": after.critic_loss(batch)}
    found |= {f"head.{name}": value.clone() for name, value in head.measures().items()}
    return found | {f"head.{name} then": value for name, value in after.measures().items()}


def differing(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> list[str]:
    """The names of the wanted outputs that are missing or not the same; what was not yet recorded then is left out."""
    same = {name for name in found.keys() & wanted.keys() if torch.allclose(found[name], wanted[name], **TOLERANCE)}
    return sorted(wanted.keys() - same)


def make(name: str, folder: Path) -> None:
    """Train, save and record one stack."""
    torch.set_num_threads(1)  # the models are tiny, and threads that wait for each other slower than one
    spec, options = STACKS[name]
    stack = zoo.build(spec)
    x = _images(stack.input_shape)
    data = x
    if stack.head is not None and stack.head.labelled:
        data = Images((x * 255).round().byte(), labels=torch.arange(len(x)) % CLASSES)
    chosen = {"steps": 80, "batch_size": 32, "lr": 4e-3, "ema": 0.9, "precision": "fp32", **options}
    zoo.fit(stack, data, progress=False, **chosen)
    _shake(stack)
    pixels = (x[:SHOWN] * 255).round().byte()
    _check(name, stack, pixels)
    stack.save(folder)
    files.write_tensors(folder / GOLDEN, {"images": pixels, **outputs(stack, pixels)})


def _images(shape: tuple[int, ...]) -> Tensor:
    """The first of the sample; in colour, an image, its mirror image and its negative."""
    channels, height, width = shape
    grey = images("sample", (1, height, width), split="train").batch(slice(0, 512))
    return grey if channels == 1 else torch.cat([grey, grey.flip(3), 1 - grey], 1)


@torch.no_grad()
def _shake(stack: Stack) -> None:
    """Move every number a little: one that a few steps leave at 0 or 1 would not tell whether it was read."""
    generator = torch.Generator().manual_seed(0)

    def noise(tensor: Tensor) -> Tensor:
        return 0.05 * torch.randn(tensor.shape, generator=generator)

    for parameter in stack.parameters():
        parameter.add_(noise(parameter))
    for number, level in enumerate(stack.lower(), 1):
        level.shift.add_(noise(level.shift))
        level.scale.mul_(noise(level.scale).exp())
        if number > 1:  # images are taken as they are
            level.emphasis.mul_(noise(level.emphasis).exp())


def _check(name: str, stack: Stack, pixels: Tensor) -> None:
    """Refuse a stack whose outputs would not tell when some of its tensors were read or used otherwise."""
    wanted, generator = outputs(stack, pixels), torch.Generator().manual_seed(0)
    idle = []
    for key, tensor in stack.state_dict().items():
        if tensor.is_floating_point():
            kept = tensor.clone()
            tensor.add_(0.1 * torch.rand(tensor.shape, generator=generator))
            idle += [] if differing(outputs(stack, pixels), wanted) else [key]
            tensor.copy_(kept)
    if idle:
        sys.exit(f"{name}: no output tells of {', '.join(idle)}")


def _reads_pixels(term: Any) -> bool:
    return bool(getattr(term, "needs_pixels", False))


def main(names: list[str]) -> None:
    """Make these; all that are missing where none is named."""
    parent = HERE / f"version-{files.FORMAT_VERSION}"
    for name in names or [name for name in STACKS if not (parent / name).exists()]:
        if name not in STACKS:
            sys.exit(f"{name}: there is no such row; there are {', '.join(STACKS)}")
        if (parent / name).exists():
            sys.exit(f"{parent / name} is there, and a golden stack is never made again")
        with tempfile.TemporaryDirectory() as cache:
            os.environ["ZOO_CACHE"] = cache
            make(name, parent / name)


if __name__ == "__main__":
    main(sys.argv[1:])
