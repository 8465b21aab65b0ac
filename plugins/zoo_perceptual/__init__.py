"""Partners of a likelihood that look at images as people or networks do: features, LPIPS, and an adversary."""

from __future__ import annotations

from zoo.hookspecs import hookimpl


@hookimpl
def zoo_reconstructions() -> dict[str, str]:
    """Names and references of the reconstructions."""
    return {
        "feature": "zoo_perceptual.feature:FeatureError",
        "lpips": "zoo_perceptual.lpips:LPIPS",
        "adversary": "zoo_perceptual.adversary:Adversary",
    }
