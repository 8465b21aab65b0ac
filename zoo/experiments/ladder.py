"""A ladder: its two terms beside a source's, ways to build it, and what each rung decides."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING, Any

import torch

from zoo import builder
from zoo.evaluation import protocol, redraw
from zoo.experiments.bench import batches
from zoo.pictures import rungs as pictures
from zoo.pictures.album import Easel
from zoo.pictures.mixing import animation, strip

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.evaluation import Redrawn
    from zoo.experiments.bench import Bench
    from zoo.experiments.page import Page
    from zoo.experiments.recipes import Recipe
    from zoo.experiments.runs import Run
    from zoo.stack import Stack

IMAGES, OTHERS, DRAWS = 3, 12, 10  # in pictures: those shown, those that rungs are taken from, draws of each rung
MIXTURES, FRAMES = 9, 21
LONG = "long"
STACKS = "concat", "gated", "inverted", "annealed"


def run(recipe: Recipe, bench: Bench) -> Page:
    """Train the ladder for as long as the source did, and every way to build it for less; measure, and draw."""
    page, settings = bench.page(), recipe.settings
    budget = {key: value for key, value in settings[LONG].items() if key != "stack"}
    first = settings[LONG]["stack"]
    judge = bench.judge(builder.build(recipe.stacks[first]))
    runs = {LONG: bench.train(LONG, recipe.stacks[first], **budget)}
    runs |= {name: bench.train(name, spec) for name, spec in recipe.stacks.items()}
    found = {name: _measured(run, bench) for name, run in runs.items()}
    most = settings["redrawn"]
    redrawn = {name: redraw(run.stack, bench.test(run.stack), judge.labels, most=most) for name, run in runs.items()}
    _against_source(page, runs[LONG], found[LONG], bench)
    rows = [
        {"run": name, "ladder": f"`{recipe.stacks.get(name, recipe.stacks[first])}`", **vars(terms),
         "total": terms.total, "ms a step": 1000 * runs[name].step_seconds(1)}
        for name, terms in found.items()
    ]  # fmt: skip
    page.table("Ways to build it", rows)
    page.say(
        f"Test images, one draw of the code each, in the source's convention: **reconstruction** is half the sum of "
        f"squared errors in [-1, 1], **latent** the Monte Carlo estimate, nats an image; **used** are numbers of the "
        f"code whose mean KL divergence is above {settings['used']:g} nats. **{LONG}** is **{first}** trained longer "
        f"({_words(budget)}); all others have had equal budgets ({_words(recipe.training)})."
    )
    _by_rung(page, redrawn, judge.accuracy)
    _draw(page, runs, redrawn, bench)
    _judge(page, found, redrawn, first, bench)
    return page


@dataclass(frozen=True)
class Measured:
    """Nats an image over the whole test set, in the source's convention, and the numbers of the code in use."""

    reconstruction: float
    latent: float
    used: int

    @property
    def total(self) -> float:
        """Of both terms."""
        return self.reconstruction + self.latent


def _measured(run: Run, bench: Bench) -> Measured:
    """By the stage's own codes: bringing them to unit scale, as a finished level does, is none of the source's."""
    stage, shown = run.stack.level(1).stage, bench.test(run.stack)
    generator = protocol.stream(0, "draws of a ladder")
    totals, nats = torch.zeros(2, dtype=torch.float64), torch.zeros(stage.code_shape, dtype=torch.float64)
    with protocol.measuring(run.stack):
        for x in batches(shown):
            posterior = stage.encode(x)
            noise = torch.randn(posterior.mean.shape, generator=generator)
            z, logvar = posterior.mean + posterior.std * noise, 2 * posterior.std.log()
            error = 2 * (stage.decode(z) - x).square().sum()
            latent = (z.square() - noise.square() - logvar).sum() / 2
            totals += torch.stack([error, latent]).double()
            nats += (posterior.mean.square() + logvar.exp() - 1 - logvar).double().sum(0) / 2
    error, latent = (totals / len(shown)).tolist()
    return Measured(error, latent, int((nats / len(shown) > bench.recipe.settings["used"]).sum()))


def _against_source(page: Page, run: Run, found: Measured, bench: Bench) -> None:
    """Both terms as they were in training, at the source's epochs, and on test images."""
    epochs = bench.recipe.settings[LONG]["epochs"]
    rows = []
    told = (bench.recipe.told(column) or [] for column in ("epoch", "reconstruction", "latent"))
    for epoch, *theirs in zip(*told, strict=True):
        ours = _in_epoch(run, epoch, epochs)
        rows.append({"epoch": f"{epoch}, training", "reconstruction": ours[0], "latent": ours[1], "total": sum(ours)}
                    | {"the source's": theirs[0], "its latent": theirs[1], "its total": sum(theirs)})  # fmt: skip
    rows.append({"epoch": f"{epochs}, test", "reconstruction": found.reconstruction, "latent": found.latent,
                 "total": found.total})  # fmt: skip
    page.table("Beside the source", rows)
    page.say(
        f"The source's numbers are of {' or '.join(bench.recipe.settings['alike'])}, while it trained, dropout "
        f"included; ours are of {bench.data}. In training they are means over the epoch, of some of its steps."
    )


def _in_epoch(run: Run, epoch: int, epochs: int) -> tuple[float, float]:
    """The means of both terms over one epoch; NaN where it has not come to it, or no line tells of it."""
    lines = [line for line in run.history if "terms" in line]
    length = lines[-1]["step"] / epochs
    within = [line["terms"] for line in lines if epoch - 1 < line["step"] / length <= epoch]
    if not within:
        return float("nan"), float("nan")
    return 2 * mean(terms["mse"] for terms in within), mean(terms["mc"] for terms in within)


def _by_rung(page: Page, redrawn: dict[str, list[Redrawn]], accuracy: float | None) -> None:
    rows: list[dict[str, Any]] = []
    for title, number in (("another class", "changed"), ("pixel variance", "variance"), ("nats", "nats")):
        for name, found in redrawn.items():
            cells = {_name(one): getattr(one, number) for one in found}
            rows.append({"drawn anew": f"{title}, {name}", **cells})
    page.table("Rung by rung, 1 the shallowest", rows)
    page.say(
        "One rung is drawn anew from the prior, the others stay. **Another class**: the share of draws that a "
        f"classifier (test accuracy {accuracy:.3f}) takes for another class than what comes back of the image. **Pixel "
        "variance**: over the draws, in [0, 1]. **Nats**: what the rung says of an image, as KL divergence of codes at "
        "unit scale."
    )


def _draw(page: Page, runs: dict[str, Run], redrawn: dict[str, list[Redrawn]], bench: Bench) -> None:
    """Pictures of the long run, and one rung drawn anew in the inverted ladder beside it."""
    stack, folder = runs[LONG].stack, bench.folder
    shown = bench.test(stack)
    x = shown.batch(torch.randperm(len(shown), generator=protocol.stream(0, "pictures of a ladder"))[: OTHERS + 1])
    for name, caption in {LONG: "", "inverted": " The ladder is inverted: rung 1 is the shallowest to encode."}.items():
        beside = [f"{one.changed:.0%} another class" for one in redrawn[name] if one.changed is not None]
        path = folder / f"redrawn-{name}.png"
        pictures.redraws(runs[name].stack, x[:IMAGES], path, draws=DRAWS, beside=beside)
        page.picture(path, f"One rung drawn anew, the others as in the image.{caption}")
    path = pictures.swaps(stack, x[:1], x[1:], folder / "swapped.png")
    page.picture(path, "The left image with one rung of each of the others")
    for rung in range(1, stack.code_shape[0] + 1):
        path = pictures.traversal(stack, x[:1], folder / f"rung-{rung}.png", rung=rung)
        page.picture(path, f"Rung {rung} over a grid, the others fixed")
    page.picture(pictures.traversal(stack, x[:1], folder / "random.png", rung=1, others="random"),
                 "Rung 1 over a grid, the others drawn for every place")  # fmt: skip
    with torch.inference_mode():
        easel = Easel(stack, shown, folder, seed=0)
        page.picture(easel.similar(), "Images, what comes back of them, and three draws from the posterior of each")
        page.picture(easel.samples(), "Samples from the prior")
    _mix(page, stack, folder, x)


def _mix(page: Page, stack: Stack, folder: Path, x: torch.Tensor) -> None:
    path = strip(stack, x[:1], x[3:4], MIXTURES, folder / "strip.png")
    page.picture(path, "Image, what comes back of it, mixtures, what comes back of the other image, that image")
    path = animation(stack, x[:1], x[3:4], FRAMES, folder / "mix.gif")
    page.picture(path, "The same as an animation: the mixture is in the middle")


def _judge(page: Page, found: dict[str, Measured], redrawn: dict[str, list[Redrawn]], first: str, bench: Bench) -> None:
    """Every claim, by the runs with equal budgets but for the first three."""
    rungs = [one for one in redrawn[LONG] if one.rung is not None]
    changed, variance = [one.changed or 0.0 for one in rungs], [one.variance for one in rungs]
    page.claim("the deeper the rung that is drawn anew, the more often the class changes", changed == sorted(changed),
               ", ".join(f"{share:.1%}" for share in changed))  # fmt: skip
    page.claim("pixels vary most with the shallowest rung", variance[0] == max(variance),
               ", ".join(f"{number:.4f}" for number in variance))  # fmt: skip
    if bench.recipe.reference:
        theirs = bench.recipe.told("reconstruction", -1) + bench.recipe.told("latent", -1)
        known = bench.data in bench.recipe.settings["alike"]
        page.claim(
            f"{theirs:.1f} nats in all after as many epochs, on {bench.recipe.settings['alike'][0]}",
            found[LONG].total <= theirs if known else None,
            f"{found[LONG].total:.1f} on {bench.data}",
        )
    for other, text in {
        "concat": "rungs that are added are at least as good as rungs side by side",
        "gated": "rungs that are added are at least as good as rungs through gates",
        "inverted": "rungs at their own depth are better than the other way round",
    }.items():
        page.claim(text, found[first].total <= found[other].total,
                   f"{found[first].total:.2f} against {found[other].total:.2f} nats")  # fmt: skip
    page.claim(
        "with the latent term warmed up more numbers of the code are used",
        found["annealed"].used > found[first].used,
        f"{found['annealed'].used} against {found[first].used}, at {found['annealed'].total:.2f} against "
        f"{found[first].total:.2f} nats",
    )


def _name(one: Redrawn) -> str:
    return "all" if one.rung is None else f"rung {one.rung}"


def _words(options: dict[str, Any]) -> str:
    budget = {key: options[key] for key in ("epochs", "steps", "minutes") if key in options}
    return ", ".join(f"{value:g} {key}" for key, value in budget.items())
