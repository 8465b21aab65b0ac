"""Reconstructions beside each other on one small variational autoencoder: what each trains, and what it leaves."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from zoo import builder
from zoo.data import images
from zoo.experiments.likelihoods import measured
from zoo.experiments.strips import strips
from zoo.interfaces import Reconstruction

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.experiments.bench import Bench
    from zoo.experiments.page import Page
    from zoo.experiments.recipes import Recipe
    from zoo.experiments.runs import Run
    from zoo.interfaces import RoundTrip
    from zoo.stack import Stack

    Rows = dict[str, dict[str, Any]]

ALIKE = 0.02
"""What differs by less than this in SSIM is called alike."""


class Standardised(Reconstruction):
    """Another reconstruction whose target is standardised, and so no image in [0, 1] any more."""

    def __init__(self, inner: Reconstruction, mean: float, deviation: float) -> None:
        super().__init__(inner.place, inner.weight)
        self.inner, self.mean, self.deviation, self.item = inner, mean, deviation, inner.item

    def forward(self, trip: RoundTrip) -> Tensor:
        """The inner number for the standardised target."""
        value: Tensor = self.inner(replace(trip, x=(trip.x - self.mean) / self.deviation))
        return value


def run(recipe: Recipe, bench: Bench) -> Page:
    """Train every stack, measure all of them alike, and judge what the source says of its losses."""
    page = bench.page()
    runs = {name: _train(name, bench) for name in recipe.stacks}
    rows = {name: measured(run.stack, bench.test(run.stack)) for name, run in runs.items()}
    page.table("Losses", [{"level": name, "terms": _terms(recipe.stacks[name]), **row} for name, row in rows.items()])
    page.say(
        "Over the whole test set, whatever a level was trained by: **BCE** is the cross-entropy of what comes back of "
        "the posterior's mean, **nats** that and the divergence, **SSIM** has a window of 5 pixels; a number of the "
        "code is **active** if its mean varies by more than 0.01."
    )
    target = recipe.settings["target"]
    own = measured(runs[target].stack, bench.test(runs[target].stack), target=_scale(bench))["SSIM"]
    page.picture(
        strips(runs, bench, "strips.png", "Test images and reconstructions"),
        "Test images, and what comes back of the posterior's mean",
    )
    _judge_plain(page, rows)
    _judge_mended(page, rows)
    _judge_others(page, rows, own)
    return page


def _train(name: str, bench: Bench) -> Run:
    spec, settings = bench.recipe.stacks[name], bench.recipe.settings
    if name != settings["target"]:
        return bench.train(name, spec)
    return bench.train(name, spec, change=lambda stack: _standardise(stack, bench))


def _standardise(stack: Stack, bench: Bench) -> None:
    """Give a stack's reconstruction a standardised target; its stage standardises what it encodes for itself."""
    mean, deviation = _scale(bench)
    terms = stack.level(1).terms
    for name, term in list(terms.items()):
        if isinstance(term, Reconstruction):
            terms[name] = Standardised(term, mean, deviation)


def _scale(bench: Bench) -> tuple[float, float]:
    """The mean and the deviation of the training images."""
    shape = builder.build(next(iter(bench.recipe.stacks.values()))).input_shape
    x = images(bench.data, shape, split="train").batch(slice(0, 10_000))
    return x.mean().item(), x.std().item()


def _terms(spec: str) -> str:
    """What stands behind the stage, and the options of the stage that are given."""
    return f"`{spec.partition('/')[2]}`"


def _judge_plain(page: Page, rows: Rows) -> None:
    """The source's losses, as they come."""
    plain = ("bernoulli", "mse", "ssim, unscaled")
    told = ", ".join(f"{name} {rows[name]['SSIM']:.4f}" for name in plain)
    best = max(plain, key=lambda name: rows[name]["SSIM"])
    page.claim("as they come, BCE is best of BCE, MSE and SSIM (by SSIM)", best == "bernoulli", told)
    kl = {name: rows[name]["KL"] for name in plain}
    page.claim(
        "summed MSE is worse because the divergence dominates it: fewer nats are coded",
        rows["mse"]["SSIM"] < rows["bernoulli"]["SSIM"] and kl["mse"] < kl["bernoulli"],
        f"KL {kl['mse']:.1f} nats, {rows['mse']['active']} active; of BCE {kl['bernoulli']:.1f}, "
        f"{rows['bernoulli']['active']}",
    )
    naive = rows["ssim, unscaled"]
    page.claim(
        "SSIM as it comes, a number up to 2 an image, does not train: no number of the code is in use",
        naive["active"].startswith("0 "),
        f"{naive['active']} active, KL {naive['KL']:.2f} nats, SSIM {naive['SSIM']:.4f}",
    )


def _judge_mended(page: Page, rows: Rows) -> None:
    """What the zoo does instead."""
    bce = rows["bernoulli"]
    page.claim(
        "ours: a likelihood that knows its own variance mends MSE (its error is not above that of BCE)",
        rows["gaussian"]["MSE"] <= bce["MSE"],
        f"MSE {rows['gaussian']['MSE']:.4f}, of mse {rows['mse']['MSE']:.4f}, of BCE {bce['MSE']:.4f}",
    )
    page.claim(
        "ours: SSIM times the pixels of an image trains, and leaves the best SSIM of all",
        rows["ssim"]["SSIM"] >= max(row["SSIM"] for row in rows.values()),
        f"SSIM {rows['ssim']['SSIM']:.4f}, of BCE {bce['SSIM']:.4f}",
    )
    both = rows["bernoulli + ssim"]
    page.claim(
        "ours: both together have the better SSIM at nearly the nats of BCE alone (within 2 %)",
        both["SSIM"] > bce["SSIM"] and both["nats"] <= 1.02 * bce["nats"],
        f"SSIM {both['SSIM']:.4f} against {bce['SSIM']:.4f}, {both['nats']:.1f} nats against {bce['nats']:.1f}",
    )


def _judge_others(page: Page, rows: Rows, own: float) -> None:
    """Balancing, and standardised images."""
    bce, balanced = rows["bernoulli"], rows["balanced"]
    page.claim(
        "balancing the two terms by their running means does not help",
        balanced["SSIM"] <= bce["SSIM"],
        f"SSIM {balanced['SSIM']:.4f} against {bce['SSIM']:.4f}; KL {balanced['KL']:.1f} nats against {bce['KL']:.1f}",
    )
    seen, target = rows["standardised input"], rows["standardised input and target"]
    page.claim(
        "standardised images as the source has them, input and target, lower SSIM to a half or less",
        max(target["SSIM"], own) <= bce["SSIM"] / 2,
        f"SSIM {target['SSIM']:.4f} with the image, {own:.4f} with the standardised one, which is how the source "
        f"measures; without either {bce['SSIM']:.4f}",
    )
    page.claim(
        "it is the input that harms",
        seen["SSIM"] < bce["SSIM"] - ALIKE,
        f"with a standardised input and the image as target SSIM is {seen['SSIM']:.4f}",
    )
