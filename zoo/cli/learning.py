"""How a level learns: the options that `zoo train` and `zoo lr-find` have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")
POSITIVE = click.IntRange(min=1)
ABOVE_ZERO = click.FloatRange(min=0, min_open=True)


def _heights(text: str) -> tuple[int, ...]:
    try:
        return tuple(POSITIVE(part) for part in text.split(","))
    except click.BadParameter:
        raise click.BadParameter(f"{text!r} is no list of heights in pixels, as in 16,32") from None


OPTIONS = (
    click.option(
        "--loss-in",
        type=click.Choice(["codes", "pixels"]),
        show_default="codes",
        help="The loss of upper levels: in cached codes, or in pixels through the levels below.",
    ),
    click.option(
        "--codes",
        type=click.Choice(["mean", "moments"]),
        show_default="mean",
        help="What upper levels learn from: each posterior's mean, or draws from its moments.",
    ),
    click.option(
        "--code-dtype",
        type=click.Choice(["float32", "float16"]),
        show_default="float32",
        help="How the cache keeps codes; float16 is half as large.",
    ),
    click.option(
        "--augment",
        metavar="WORDS",
        show_default="none",
        help="Fresh views of the images every time: flip, shiftN (pixels), rotateN (degrees), joined by +.",
    ),
    click.option(
        "--corrupt",
        metavar="WORDS",
        show_default="none",
        help="Learn to bring back clean images from corrupted ones: noise=0.3, mask=0.5, joined by +.",
    ),
    click.option(
        "--views",
        type=click.IntRange(min=0),
        metavar="K",
        show_default="0",
        help="Augmented copies of each image to encode for the upper levels; takes --augment.",
    ),
    click.option(
        "--progressive",
        type=_heights,
        metavar="N,N",
        show_default="none",
        help="Heights of smaller images that level 1 learns from first; its stage grows with them.",
    ),
    click.option("--batch-size", type=POSITIVE, metavar="N", help="Images a step.", show_default="64"),
    click.option("--seed", type=int, metavar="N", help="Same seed, same machine, same numbers.", show_default="0"),
    click.option("--optimizer", type=click.Choice(["adamw", "adam", "adamax", "sgd"]), show_default="adamw"),
    click.option(
        "--weight-decay",
        type=click.FloatRange(min=0),
        metavar="X",
        help="Of the weights, not of biases, by adamw and sgd.",
        show_default="0.01",
    ),
    click.option(
        "--clip",
        type=click.FloatRange(min=0),
        metavar="X",
        help="Largest gradient norm; 0 for no clipping.",
        show_default="1.0",
    ),
    click.option(
        "--precision",
        type=click.Choice(["auto", "fp32", "bf16"]),
        show_default="auto",
        help="auto takes bf16 where a short probe shows a gain at equal loss.",
    ),
    click.option("--strict", is_flag=True, help="Refuse data with unreadable files instead of passing over them."),
)
"""In the order of the help. As with those of ``train``, one that is not given is left to zoo.training.Options."""


def learning_options(command: F) -> F:
    """A command that takes them all."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command
