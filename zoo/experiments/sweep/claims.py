"""What the source says of sizes and kinds, and what is wanted of ours, judged."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.experiments.page import Page
    from zoo.experiments.recipes import Recipe

PLAIN, VARIATIONAL, WASSERSTEIN = "ae", "kl", "wae_mmd"
"""The kinds that the claims are about, as the recipe calls them."""
RETURNED = f"{PLAIN}, what comes back"
"""No samples, but the plain kind's reconstructions, for comparison: small codes blur, whatever is sampled."""
SLOWER = 1.1
"""A step that takes this many times as long is no slower: times of runs one after another differ as much."""


@dataclass(frozen=True)
class Found:
    """All numbers that claims are judged by.

    Args:
        errors: on test images, by kind and size.
        weighed: the same at other weights, which are over the default's, by kind, size and weight.
        doubled: the same at one size, after twice the steps, by kind.
        components: of as many principal components, by size.
        kids: of samples, by kind and size.
        parameters: of the level, by kind and size.
        seconds: of a step, by kind and size.
    """

    errors: dict[tuple[str, int], float]
    weighed: dict[tuple[str, int, float], float]
    doubled: dict[str, float]
    components: dict[int, float]
    kids: dict[tuple[str, int], dict[str, float]]
    parameters: dict[tuple[str, int], int]
    seconds: dict[tuple[str, int], float]


def judge_claims(page: Page, recipe: Recipe, found: Found) -> None:
    """Judge all claims about the kinds and the sizes of a recipe."""
    _judge_errors(page, recipe, found)
    _judge_weight(page, recipe, found)
    _judge_samples(page, recipe, found)
    _judge_effort(page, recipe, found)
    _judge_ours(page, recipe, found)


def _judge_errors(page: Page, recipe: Recipe, found: Found) -> None:
    sizes, kinds, errors = recipe.settings["sizes"], list(recipe.stacks), found.errors
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


def _judge_weight(page: Page, recipe: Recipe, found: Found) -> None:
    """The source's own reason for the second of its claims: where the Wasserstein kind is behind, its weight is why."""
    smaller = [weight for kind, _, weight in found.weighed if kind == WASSERSTEIN and weight < 1]
    behind = [size for size in recipe.settings["weighed"]
              if found.errors[WASSERSTEIN, size] > found.errors[VARIATIONAL, size]]  # fmt: skip
    claim = "the Wasserstein kind is behind as its weight is too strong: with a smaller one it is not"
    if not smaller or not behind:
        page.claim(claim, None, "it is not behind where other weights were tried" if smaller else "none was tried")
        return
    least = min(smaller)
    pairs = {size: (found.weighed[WASSERSTEIN, size, least], found.errors[VARIATIONAL, size]) for size in behind}
    page.claim(
        claim,
        all(ours <= other for ours, other in pairs.values()),
        f"with {least:g} times its weight and the variational kind, at "
        + ", ".join(f"{size} numbers {ours:.4f} and {other:.4f}" for size, (ours, other) in pairs.items()),
    )


def _judge_samples(page: Page, recipe: Recipe, found: Found) -> None:
    sizes, shown, kids = recipe.settings["sizes"], recipe.settings["shown"], found.kids
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


def _judge_effort(page: Page, recipe: Recipe, found: Found) -> None:
    """Simpler: what there is to learn, and to compute."""
    shown = recipe.settings["shown"]
    one, other = (found.parameters[kind, shown] for kind in (WASSERSTEIN, VARIATIONAL))
    times = [sum(found.seconds[kind, size] for size in recipe.settings["sizes"]) for kind in (WASSERSTEIN, VARIATIONAL)]
    page.claim(
        "the Wasserstein kind is simpler than the variational kind (fewer parameters, and a step takes at most "
        f"{SLOWER:g} times as long)",
        one < other and times[0] <= SLOWER * times[1],
        f"{one:,} and {other:,} parameters at {shown} numbers, {times[0] / times[1]:.2f} times the time of a step",
    )


def _judge_ours(page: Page, recipe: Recipe, found: Found) -> None:
    settings, errors = recipe.settings, found.errors
    components = {size: error for size, error in found.components.items() if size <= settings["doubled"]}
    below = {size: 1 - errors[PLAIN, size] / error for size, error in components.items()}
    page.claim(
        f"ours: a plain kind at least 20 % under PCA, up to {settings['doubled']} numbers",
        min(below.values()) >= 0.2,
        ", ".join(f"{size}: {share:.0%}" for size, share in below.items()),
    )
    gains = {kind: 1 - error / errors[kind, settings["doubled"]] for kind, error in found.doubled.items()}
    page.claim(
        "ours: twice the steps gain less than 5 %",
        max(gains.values()) < 0.05,
        ", ".join(f"{kind} {gain:.1%}" for kind, gain in gains.items()),
    )
