"""What the source says of sizes and kinds, and what is wanted of ours, judged."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.experiments.page import Page
    from zoo.experiments.recipes import Recipe

    Errors = dict[tuple[str, int], float]
    Kids = dict[tuple[str, int], dict[str, float]]

PLAIN, VARIATIONAL, WASSERSTEIN = "ae", "kl", "wae_mmd"
"""The kinds that the claims are about, as the recipe calls them."""
RETURNED = f"{PLAIN}, what comes back"
"""No samples, but the plain kind's reconstructions, for comparison: small codes blur, whatever is sampled."""


def judge_claims(
    page: Page, recipe: Recipe, errors: Errors, components: dict[int, float], doubled: dict[str, float], kids: Kids
) -> None:
    """Judge all claims.

    Args:
        page: takes the claims.
        recipe: with the kinds and the sizes.
        errors: on test images, by kind and size.
        components: of as many principal components, by size.
        doubled: on test images at one size, after twice the steps.
        kids: of samples, by kind and size.
    """
    _judge_errors(page, recipe, errors)
    _judge_samples(page, recipe, kids)
    _judge_ours(page, recipe, errors, components, doubled)


def _judge_errors(page: Page, recipe: Recipe, errors: Errors) -> None:
    sizes, kinds = recipe.settings["sizes"], list(recipe.stacks)
    lowest = [size for size in sizes if errors[PLAIN, size] == min(errors[kind, size] for kind in kinds)]
    page.claim(
        "the plain kind has the lowest error", len(lowest) == len(sizes), f"at {len(lowest)} of {len(sizes)} sizes"
    )
    better = [size for size in sizes if errors[VARIATIONAL, size] < errors[WASSERSTEIN, size]]
    page.claim(
        "the variational kind has a lower error than the Wasserstein kind for most sizes",
        2 * len(better) > len(sizes),
        f"at {len(better)} of {len(sizes)} sizes: {better}",
    )
    falls = all(errors[kind, a] > errors[kind, b] for kind in kinds for a, b in pairwise(sizes))
    page.claim("the error falls with the size of the code", falls, "for every kind, from each size to the next")


def _judge_samples(page: Page, recipe: Recipe, kids: Kids) -> None:
    sizes, shown = recipe.settings["sizes"], recipe.settings["shown"]
    others = [kind for kind in recipe.stacks if kind != PLAIN]
    factors = {kind: kids[PLAIN, shown]["KID"] / kids[kind, shown]["KID"] for kind in others}
    page.claim(
        f"samples of the plain kind are mostly noise (at {shown} numbers, KID at least twice that of the others)",
        min(factors.values()) >= 2,
        ", ".join(f"{factor:.1f} times that of {kind}" for kind, factor in factors.items())
        + f"; {kids[PLAIN, shown]['KID'] / kids[RETURNED, shown]['KID']:.1f} times that of real images which come back",
    )
    two = [kids[kind, shown]["KID"] for kind in (VARIATIONAL, WASSERSTEIN)]
    page.claim(
        "samples of the variational and the Wasserstein kind are about as good (KID within half as much again)",
        max(two) <= 1.5 * min(two),
        f"KID {two[0]:.3f} and {two[1]:.3f}",
    )
    largest = sizes[-1]
    holes = {kind: kids[kind, largest]["KID"] / min(kids[kind, size]["KID"] for size in sizes) for kind in others}
    page.claim(
        f"{largest} numbers leave holes: samples are worse than at the best size",
        min(holes.values()) > 1,
        ", ".join(f"{kind} {factor:.2f} times its best KID" for kind, factor in holes.items()),
    )


def _judge_ours(
    page: Page, recipe: Recipe, errors: Errors, components: dict[int, float], doubled: dict[str, float]
) -> None:
    settings = recipe.settings
    below = {size: 1 - errors[PLAIN, size] / pca for size, pca in components.items() if size <= settings["doubled"]}
    page.claim(
        f"ours: a plain kind at least 20 % under PCA, up to {settings['doubled']} numbers",
        min(below.values()) >= 0.2,
        ", ".join(f"{size}: {share:.0%}" for size, share in below.items()),
    )
    gains = {kind: 1 - error / errors[kind, settings["doubled"]] for kind, error in doubled.items()}
    page.claim(
        "ours: twice the steps gain less than 5 %",
        max(gains.values()) < 0.05,
        ", ".join(f"{kind} {gain:.1%}" for kind, gain in gains.items()),
    )
