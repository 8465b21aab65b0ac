"""One image turning into another: as a strip, and as an animation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image

from zoo.errors import EvaluationError
from zoo.files import replacing
from zoo.pictures.grids import labelled, tiles
from zoo.pictures.interpolation import between, curved

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.stack import Stack

STEP = 90  # milliseconds that a frame stands
REST = 8  # frames' time that the first and the last stand
LARGER = 2  # times the size that a picture would have


def strip(stack: Stack, first: Tensor, last: Tensor, steps: int, path: str | Path) -> Path:
    """Write two images in one row, and between them what ``steps`` mixtures of their codes decode to, ends included.

    Args:
        stack: in eval mode.
        first, last: (1, C, H, W) in [0, 1].
        steps: mixtures, at least 2.
        path: the PNG.
    """
    way = _way(stack, first, last, steps)
    row = torch.cat([first.cpu(), way, last.cpu()])
    above = ["image", *(f"{place / (steps - 1):.3g}" for place in range(steps)), "image"]
    title = f"{'an arc' if curved(stack) else 'a straight line'} between codes: {stack.spec}"
    return labelled([row], path, title=title, above=above)


def animation(stack: Stack, first: Tensor, last: Tensor, steps: int, path: str | Path) -> Path:
    """Write a GIF of the mixture going from the first image to the last and back: image, what comes back, mixture, ...

    Args:
        stack: in eval mode.
        first, last: (1, C, H, W) in [0, 1].
        steps: mixtures one way, at least 2.
        path: the GIF.
    """
    way = _way(stack, first, last, steps)
    first, last = first.cpu(), last.cpu()
    frames = [Image.fromarray(tiles(torch.cat([first, way[:1], mix[None], way[-1:], last]), 5)) for mix in way]
    frames = [frame.resize((LARGER * frame.width, LARGER * frame.height), Image.Resampling.NEAREST) for frame in frames]
    there_and_back = [*frames, *frames[-2:0:-1]]
    durations = [STEP * (REST if place in (0, steps - 1) else 1) for place in range(len(there_and_back))]
    with replacing(Path(path)) as temporary:
        there_and_back[0].save(
            temporary, "GIF", save_all=True, append_images=there_and_back[1:], duration=durations, loop=0
        )
    return Path(path)


@torch.inference_mode()
def _way(stack: Stack, first: Tensor, last: Tensor, steps: int) -> Tensor:
    """The mixtures, (steps, C, H, W), on the CPU."""
    if not len(stack.levels):
        raise EvaluationError(f"{stack.spec} has no level that encodes images: there are no codes to mix")
    return between(stack, first.to(stack.device), last.to(stack.device), steps)[0]
