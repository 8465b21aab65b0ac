"""Encoding and decoding beside diffusers' autoencoders, untrained, in turn."""

from __future__ import annotations

import json
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

import zoo
from benchmarks.pairs import Pairs, in_turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

BATCH, TURNS = 8, 5
STAGES = {"AutoencoderTiny": "64x64x3/conv8x8x4", "AutoencoderKL": "64x64x3/conv8x8x4"}


def main() -> None:
    """A line for every peer and direction."""
    from diffusers import AutoencoderKL, AutoencoderTiny

    torch.manual_seed(0)
    x = torch.rand(BATCH, 3, 64, 64)
    channels = (128, 256, 512, 512)  # of Stable Diffusion's; the class by itself is a toy of 64
    large = AutoencoderKL(
        block_out_channels=channels, layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    ).eval()  # fmt: skip
    small = AutoencoderTiny().eval()
    peers: dict[str, tuple[Any, Callable[[Tensor], Tensor]]] = {
        "AutoencoderTiny": (small, lambda x: small.encode(x).latents),
        "AutoencoderKL": (large, lambda x: large.encode(x).latent_dist.mean),
    }
    for name, (peer, encode) in peers.items():
        stack = zoo.build(STAGES[name]).eval()
        with torch.inference_mode():
            z = stack.encode(x)
            if encode(x).shape != z.shape:
                raise RuntimeError(f"{name} has codes of {tuple(encode(x).shape)}, not {tuple(z.shape)}")
            _say("encoding", name, in_turn(partial(stack.encode, x), partial(encode, x), turns=TURNS))
            _say("decoding", name, in_turn(partial(stack.decode, z), partial(peer.decode, z), turns=TURNS))


def _say(what: str, peer: str, pairs: Pairs) -> None:
    anchor = median(BATCH / theirs.processor for _, theirs in pairs)
    ratio = median(theirs.processor / ours.processor for ours, theirs in pairs)
    print(json.dumps({"what": what, "peer": peer, "shape": STAGES[peer], "ours": anchor * ratio, "anchor": anchor}),
          flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
