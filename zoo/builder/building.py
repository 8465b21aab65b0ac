"""Spec to stack: what it brings is fetched, the rest is assembled on top with fresh weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from zoo.builder.assembly import assemble
from zoo.builder.bringing import bring
from zoo.seeding import seeded
from zoo.spec import StackSpec, parse

if TYPE_CHECKING:
    from zoo.stack import Stack

DEFAULT_INPUT = (64, 64, 3)
"""Height, width and channels of the images where the spec does not say."""


def build(spec: str | StackSpec, *, input: tuple[int, int, int] | None = None, seed: int = 0) -> Stack:
    """Assemble a stack from its spec, with fresh weights above the levels that it brings.

    The first level may stand for levels that were trained already: ``hub(user/name@revision)`` on the Hub, one with a
    tag, as in ``conv7x7x10.fashion_mnist``, in registry.json, ``folder(runs/mine)`` on disk; ``levels=1`` takes only
    the first of them. They come in through the gate, as by ``zoo.load``, and ``zoo.fit`` leaves them as they are.

    Args:
        spec: as in ``"28x28x1/conv7x7x10/fc8+kl"``.
        input: height, width and channels of the images; the spec's own input wins. Where neither says, it is that
            of the levels that are brought, else 64x64x3.
        seed: same seed, same weights. The global random state is left alone.

    Raises:
        SpecError: the spec cannot be understood, or its shapes do not fit.
        RegistryError: a name that no installed plugin offers, or that registry.json has not.
        FileError: levels that it brings are damaged.
        HubError: the Hub has not got them, or does not give them.

    >>> build("conv8x8x64+wae_mmd").code_shape
    (64, 8, 8)
    """
    parsed = parse(spec) if isinstance(spec, str) else parse(str(spec))
    parsed = StackSpec(parsed.levels, parsed.input or input)
    bottom = None
    if parsed.levels[0].items[0].brings:
        parsed, bottom = bring(parsed)
    with seeded(seed, torch.get_default_device()):
        return assemble(StackSpec(parsed.levels, parsed.input or DEFAULT_INPUT), bottom).eval()
