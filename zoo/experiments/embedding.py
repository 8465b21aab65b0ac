"""A small variational autoencoder of labelled images: nats, similarity, neighbours, and what changes them."""

from __future__ import annotations

from statistics import mean
from typing import TYPE_CHECKING, Any

from zoo import evaluation
from zoo.data import images
from zoo.evaluation.neighbours import DRAWS
from zoo.experiments.likelihoods import measured
from zoo.experiments.strips import strips
from zoo.pictures.densities import densities

if TYPE_CHECKING:
    from zoo.data import Images
    from zoo.experiments.bench import Bench
    from zoo.experiments.page import Page
    from zoo.experiments.recipes import Recipe
    from zoo.experiments.runs import Run

    Runs = dict[str, Run]
    Rows = dict[str, dict[str, Any]]


def run(recipe: Recipe, bench: Bench) -> Page:
    """Train the main stacks, then the variants beside a short run of the first, and compare the main ones' codes."""
    page, settings = bench.page(), recipe.settings
    runs = {name: _train(name, bench) for name in recipe.stacks}
    rows = {name: _row(run, _held(name, run, bench)) for name, run in runs.items()}
    main = {name: run for name, run in runs.items() if name not in settings["variants"]}
    page.table("Nats and similarity", [{"stack": name, **rows[name]} for name in main])
    page.table(
        "The same on test images", [{"stack": name, **_row(run, bench.test(run.stack))} for name, run in main.items()]
    )
    page.say(
        "The first table, like the one of what changes it, is of the part of the training images that chose the "
        "weights and nothing was learned from, which is what the source measures on: with the same seed, the very "
        "same images. **nats** is the cross-entropy of what comes back of the posterior's mean plus the "
        "divergence, which is what the source's log holds; of a draw from the posterior, which bounds the likelihood, "
        "it is **nats, drawn**. **SSIM** has the source's window: 5 pixels, zeros outside."
    )
    page.picture(
        strips(main, bench, "strips.png", "Test images and reconstructions"),
        "Test images, and what comes back of the posterior's mean",
    )
    again = {f"{settings['small']}, seed {seed}": _again(seed, bench) for seed in settings.get("again", [])}
    accuracies = _compared(page, main | again, bench)
    page.table("What changes it", [{"stack": name, **rows[name]} for name in settings["variants"]])
    page.say(f"Each trained like the first of them, `{settings['variants'][0]}`, but for what its name says.")
    known = bench.data == recipe.data
    _judge_main(page, recipe, rows, runs, known=known)
    _judge_codes(page, recipe, accuracies, [settings["small"], *again], known=known)
    _judge_variants(page, recipe, rows)
    return page


def _train(name: str, bench: Bench) -> Run:
    """A run by its name, with the options of its own."""
    return bench.train(name, bench.recipe.stacks[name], **_options(name, bench.recipe))


def _again(seed: int, bench: Bench) -> Run:
    """The small network once more: how well neighbours of its codes do is a matter of the seed, too."""
    recipe, small = bench.recipe, bench.recipe.settings["small"]
    return bench.train(f"{small} {seed}", recipe.stacks[small], **_options(small, recipe) | {"seed": seed})


def _options(name: str, recipe: Recipe) -> dict[str, Any]:
    """Over those of the recipe: what all variants have, then a run's own."""
    options = recipe.settings["short"] if name in recipe.settings["variants"] else {}
    own: dict[str, Any] = options | recipe.settings["options"].get(name, {})
    return own


def _held(name: str, run: Run, bench: Bench) -> Images:
    """The fold that chose the weights."""
    options = bench.recipe.training | _options(name, bench.recipe)
    train = images(bench.data, run.stack.input_shape, split="train")
    number, of = map(int, options["fold"].split("/"))
    return train.subset(train.fold(number, of, seed=options["seed"])[1])


def _row(run: Run, shown: Images) -> dict[str, Any]:
    return {
        "parameters": sum(parameter.numel() for parameter in run.stack.parameters()),
        **measured(run.stack, shown),
        "minutes": run.seconds / 60,
    }


def _compared(page: Page, runs: Runs, bench: Bench) -> dict[str, float | None]:
    """Neighbours among codes, components and UMAP, by the protocol of ``zoo compare``: test accuracies by name."""
    stacks = {name: run.stack for name, run in runs.items()}
    first = next(iter(stacks.values()))
    if images(bench.data, first.input_shape, split="test").labels is None:
        return {}
    found = evaluation.compare(
        stacks, bench.data, most=bench.recipe.settings["compared"], seed=0, progress=bench.progress
    )
    rows = []
    for row in found.rows:
        knn = row.found.get("knn", {})
        validated = row.found.get("validated", {})
        best = max((share for shares in validated.values() for share in shares.values()), default=None)
        rows.append({"embedding": row.name, "numbers": row.numbers, "kNN, folds": best,
                     "kNN, test": knn.get("accuracy"), "deviation": knn.get("deviation"), "k": knn.get("neighbours"),
                     "probe": row.found.get("probe"), "k-means NMI": row.found.get("nmi"),
                     "note": row.note})  # fmt: skip
    page.table("Codes compared", rows)
    page.say(
        f"**kNN, test**: the test images among 500 training images of each class, votes equal, **k** the best on five "
        f"stratified folds; the mean of {DRAWS} draws of these images, the same for all, and their **deviation**. "
        "docs/codes.md has the protocol."
    )
    panels = {row.name: row.test for row in found.rows if row.test is not None and row.name != "pixels"}
    path = densities(panels, found.test.labels, found.test.classes, bench.folder / "densities.png",
                     title=f"{len(found.test):,} test images", seed=0)  # fmt: skip
    page.picture(path, "Where the test images lie: the first two principal components of each embedding")
    return {row.name: row.found.get("knn", {}).get("accuracy") for row in found.rows}


def _judge_main(page: Page, recipe: Recipe, rows: Rows, runs: Runs, *, known: bool) -> None:
    """``known``: the source's numbers are of these data; those of others say nothing of them."""
    settings, told = recipe.settings, recipe.reference
    small, ours = settings["small"], settings["ours"]
    count = int(rows[small]["parameters"])
    page.claim(f"the network has {told['parameters']:,} parameters", count == told["parameters"], f"{count:,}")
    page.claim(
        f"it reaches {told['nats']:g} nats in {recipe.training['epochs']} epochs" if "epochs" in recipe.training
        else f"it reaches {told['nats']:g} nats",
        rows[small]["nats"] <= told["nats"] if known else None,
        f"{rows[small]['nats']:.1f}; of a draw {rows[small]['nats, drawn']:.1f}",
    )  # fmt: skip
    ssim = rows[small]["SSIM"]
    page.claim(f"and an SSIM of {told['ssim']:g}", ssim >= told["ssim"] if known else None, f"{ssim:.4f}")
    page.claim(
        f"ours: `{recipe.stacks[ours]}` beats both within {settings['minutes']:g} minutes",
        rows[ours]["nats"] < told["nats"]
        and rows[ours]["SSIM"] > told["ssim"]
        and runs[ours].seconds <= 60 * settings["minutes"]
        if known
        else None,
        f"{rows[ours]['nats']:.1f} nats, SSIM {rows[ours]['SSIM']:.4f}, {runs[ours].seconds / 60:.1f} minutes",
    )


def _judge_codes(
    page: Page, recipe: Recipe, accuracies: dict[str, float | None], small: list[str], *, known: bool
) -> None:
    """By the mean over the seeds of the small network."""
    told = recipe.reference
    pca = next((value for name, value in accuracies.items() if name.startswith("PCA")), None)
    umap = next((value for name, value in accuracies.items() if name.startswith("UMAP")), None)
    found = [value for name in small if (value := accuracies.get(name)) is not None]
    if not found or pca is None:
        return
    codes = mean(found)
    seeds = f", {', '.join(f'{value:.4f}' for value in found)} by seed" if len(found) > 1 else ""
    page.claim(
        f"neighbours of its codes find {told['knn']:.4f} of the test images' classes, those of PCA {told['pca']:.4f}",
        codes >= told["knn"] and codes > pca if known else None,
        f"{codes:.4f}{seeds}; PCA {pca:.4f}",
    )
    ours = recipe.settings["ours"]
    if (value := accuracies.get(ours)) is not None:
        page.claim(
            f"ours: those of the codes of `{recipe.stacks[ours]}` do",
            value >= told["knn"] and value > pca if known else None,
            f"{value:.4f}; PCA {pca:.4f}",
        )
    page.claim(
        "UMAP does about as well as the codes (within 0.02)",
        None if umap is None else abs(umap - codes) <= 0.02,
        "umap-learn is not installed: pip install umap-learn" if umap is None else f"{umap:.4f}",
    )


def _judge_variants(page: Page, recipe: Recipe, rows: Rows) -> None:
    base = rows[recipe.settings["variants"][0]]
    for name, (text, kind) in recipe.settings["claims"].items():
        row = rows[name]
        change = row["SSIM"] / base["SSIM"] - 1
        gain = base["nats"] - row["nats"]
        holds = {"similar": abs(change) <= 0.1, "no help": gain <= 0, "help": gain > 0}[kind]
        page.claim(text, holds, f"SSIM {change:+.1%}, {gain:.1f} nats gained")
