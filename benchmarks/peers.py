"""The same convolutional VAE in pythae's trainer, in a Lightning module and in `zoo.fit`; and codes beside diffusers.

**Training**: pythae 0.1.2's own networks, encoder and decoder, for images of 28x28x1 and of 64x64x3, with 16 numbers a
code. ``zoo.fit`` has them as a stage, with terms that come to pythae's loss (half the squared error and the
divergence). All take as many steps with the same images, batch size and learning rate, in turn within one process;
everything else is each trainer's own default. Ours comes twice: as it is, with the precision it finds best, and in
fp32. What they have learned is measured alike, on held-out images. Peak memory is that of processes of their own.

**Encoding and decoding**: a stage of ours beside diffusers' AutoencoderTiny and AutoencoderKL as they come, for images
and codes of one shape, untrained. Ours are the smaller networks.

**To equal quality**, with ``--long``: seconds that pythae's VAE takes for some epochs of the bundled images, and those
of the shortest run of our default stack, with as many numbers a code, that is as good on test images and in samples.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.environment import told
from benchmarks.rows import Row

if TYPE_CHECKING:
    from collections.abc import Callable

MB = 10**6
SIDES = (28, 64)
TRAINING, CODING, QUALITY = (f"benchmarks.beside.{name}" for name in ("training", "coding", "quality"))


def run(*, long: bool = False) -> list[Row]:
    """Rows of training, of memory, of encoding and decoding, and with ``long`` of equal quality."""
    rows = [row for side in SIDES for row in _training(side)]
    rows += [Row(f"{found['what']} {found['shape']}, images in a second of processor; {found['peer']}",
                 found["ours"], found["anchor"]) for found in told(CODING)]  # fmt: skip
    return rows + (_quality() if long else [])


def _training(side: int) -> list[Row]:
    turns = told(TRAINING, "turns", str(side))
    peaks = {found["trainer"]: found["bytes"] for trainer in ("zoo", "zoo fp32", "pythae", "lightning")
             for found in told(TRAINING, "peak", str(side), trainer)}  # fmt: skip
    what = f"pythae's VAE of {side}x{side}"
    rows = []
    for ours, peer, bar in (
        ("zoo", "pythae", "ratio >= 1.5"),
        ("zoo fp32", "pythae", None),
        ("zoo", "lightning", None),
        ("zoo fp32", "lightning", "ratio >= 1"),
    ):
        pair = f"{ours}; {peer}"
        rows += [
            _compared(f"{what}: images/s of a step, {pair}", turns, ours, peer,
                      lambda one: one["images"] / one["wall"], bar),
            _compared(f"{what}: images in a second of processor, {pair}", turns, ours, peer,
                      lambda one: one["images"] / one["processor"]),
            _compared(f"{what}: loss after equal images, {pair}", turns, ours, peer, lambda one: one["loss"],
                      "ratio <= 1.05"),
            Row(f"{what}: MB held at most, {pair}", peaks[ours] / MB, peaks[peer] / MB),
        ]  # fmt: skip
    return rows


def _compared(
    name: str, turns: list[dict[str, Any]], ours: str, peer: str, measure: Callable[[dict[str, Any]], float],
    bar: str | None = None,
) -> Row:  # fmt: skip
    anchor = median(measure(turn[peer]) for turn in turns)
    return Row(name, anchor * median(measure(turn[ours]) / measure(turn[peer]) for turn in turns), anchor, bar)


def _quality() -> list[Row]:
    (found,) = told(QUALITY)
    ours, peer = found["ours"], found["pythae"]
    what = f"{ours['what']}; pythae's VAE after {peer['epochs']} epochs"
    return [
        Row(f"s to equal quality, {what}", ours["seconds"], peer["seconds"], "ratio <= 0.2"),
        Row(f"mean squared error of test images, {what}", ours["mse"], peer["mse"], "ratio <= 1"),
        Row(f"KID of samples, {what}", ours["kid"], peer["kid"], "ratio <= 1"),
    ]
