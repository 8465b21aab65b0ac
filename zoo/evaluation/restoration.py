"""How much of corrupted images a stack brings back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.evaluation.protocol import stream
from zoo.evaluation.reconstruction import batches, decibels

if TYPE_CHECKING:
    from zoo.data import Images
    from zoo.data.corruption import Corruption
    from zoo.stack import Stack


def restore(
    stack: Stack, shown: Images, corruption: Corruption, *, batch_size: int = 256, seed: int = 0
) -> dict[str, Any]:
    """Squared errors and PSNR, against the clean images, of corrupted ones and of what comes back of these.

    Args:
        stack: in eval mode.
        shown: clean images.
        corruption: what they suffer before they are encoded.
        batch_size: images at once; other batches draw other noise.
        seed: of what is drawn.

    Returns:
        ``corrupt``, the corruption in words; ``mse_corrupted``, ``psnr_corrupted``, ``mse`` and ``psnr``.
    """
    generator = stream(seed, "corruption")
    before = after = 0.0
    for part in batches(len(shown), batch_size):
        x = shown.batch(part)
        seen = corruption.apply(x, generator)
        x_hat = stack(seen.to(stack.device)).cpu()
        before += (seen - x).square().mean().item() * len(x)
        after += (x_hat - x).square().mean().item() * len(x)
    mse, mse_corrupted = after / len(shown), before / len(shown)
    return {
        "corrupt": str(corruption),
        "mse_corrupted": mse_corrupted,
        "psnr_corrupted": decibels(mse_corrupted),
        "mse": mse,
        "psnr": decibels(mse),
    }
