"""Images of a class that a stack has not seen, found among those of classes that it has."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import torch
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from zoo import builder
from zoo.data import images
from zoo.errors import EvaluationError
from zoo.evaluation import anomalies, pca, protocol
from zoo.pictures.grids import fitting, labelled

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.data import Images
    from zoo.experiments.bench import Bench
    from zoo.experiments.page import Page
    from zoo.experiments.recipes import Recipe
    from zoo.stack import Stack

BOTH = "both"  # what `zoo anomalies` calls the score; the names of the others are those of the columns


def run(recipe: Recipe, bench: Bench) -> Page:
    """Train a stack for every class, and measure how well each score tells the unusual test images from the others."""
    page, (spec,), settings = bench.page(), recipe.stacks.values(), recipe.settings
    test = bench.test(builder.build(spec))
    train = images(bench.data, test.shape, split="train")
    if test.labels is None or train.labels is None:
        raise EvaluationError(f"{test.name} has no labels: no class can be told from the others")
    others = settings["normal"] == "others"
    rows: list[dict[str, Any]] = []
    worst = []
    for label in settings.get("classes") or test.labels.unique().tolist():
        normal = train.subset(((train.labels != label) if others else (train.labels == label)).nonzero().flatten())
        stack = bench.train(f"class-{label}", spec, data=normal).stack
        scores = _scores(stack, normal, test)
        unusual = (test.labels == label) == others
        areas = {name: float(roc_auc_score(unusual.numpy(), score.numpy())) for name, score in scores.items()}
        rows.append({"class": test.classes[label] if test.classes else f"class {label}"} | areas)
        worst.append(test.batch(scores[BOTH].argsort(descending=True)[: fitting(test.batch(slice(0, 1)))]))
    mean = {name: sum(row[name] for row in rows) / len(rows) for name in areas}
    page.table("Areas under the ROC curve", [*rows, {"class": "mean"} | mean])
    page.say(
        "**Both** is the score of `zoo anomalies`, the larger of **error** and **distance** in deviations of normal "
        "images; principal components are as wide as the code, and the isolation forest is one of pixels."
    )
    beside = [f"{row['class']}\n{row[BOTH]:.3f}" for row in rows]
    path = labelled(worst, bench.folder / "worst.png", title="The most unusual test images, run by run", beside=beside)
    page.picture(path, "The most unusual test images, run by run, beside the area under the ROC curve")
    for name in [name for name in mean if name != BOTH]:
        page.claim(f"on average both numbers together tell more than: {name}", mean[BOTH] > mean[name],
                   f"{mean[BOTH]:.3f} against {mean[name]:.3f}")  # fmt: skip
    return page


def _scores(stack: Stack, normal: Images, test: Images) -> dict[str, Tensor]:
    """Every score of the test images, (N,) each, the higher the more unusual."""
    few = normal.subset(
        torch.randperm(len(normal), generator=protocol.stream(0, "normal images"))[: protocol.FITTED_ON]
    )
    found = anomalies(stack, test, few)
    x, x_test = (shown.batch(slice(0, len(shown))).flatten(1) for shown in (few, test))
    components = pca.fit(x, (prod(stack.code_shape),), seed=0)
    x_hat = components.decode(components.encode(x_test)).flatten(1).clamp(0, 1)
    forest = IsolationForest(random_state=0).fit(x.numpy())
    return {
        BOTH: found.score,
        "error": found.error,
        "distance": found.distance,
        "PCA error": (x_hat - x_test).square().mean(1),
        "isolation forest": -torch.from_numpy(forest.score_samples(x_test.numpy())),
    }
