"""What is asked of ``fit``, looked at before anything is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.errors import DataError, SpecError, TrainingError
from zoo.training.options import DEFAULT_EPOCHS, Options

if TYPE_CHECKING:
    from zoo.data import Images
    from zoo.stack import Stack


def chosen(options: dict[str, Any]) -> Options:
    """The options of a call.

    Raises:
        TrainingError: there is none of such a name, or a value means nothing.
    """
    known = Options.__dataclass_fields__
    for name in options:
        if name not in known:
            raise TrainingError(f"fit has no option {name!r}; there are: {', '.join(known)}")
    if all(options.get(name) is None for name in ("epochs", "steps", "minutes")):
        options = {**options, "epochs": DEFAULT_EPOCHS}
    return Options(**options)


def finished(stack: Stack) -> int:
    """How many levels were brought by the sentence, trained already."""
    return 0 if stack.brought is None else stack.brought.levels


def swept_level(stack: Stack, level: int | None) -> int:
    """The level that is swept: the one that is named, else the first that is not trained, else the top one.

    Raises:
        TrainingError: a level below it is not trained.
    """
    trained = [bool(part.trained) for part in stack.lower()]
    top = len(trained) + (stack.head is not None)
    level = level or (trained.index(False) + 1 if False in trained else top)
    if not all(trained[: level - 1]):
        raise TrainingError(
            f"level {level} learns from the codes of those below, and level {trained.index(False) + 1} is not trained: "
            "train it first, or leave out level"
        )
    return level


def check_labels(stack: Stack, options: Options, shown: list[Images]) -> None:
    """Say now, not when the levels below are trained, that a head learns by class and there are no classes.

    Raises:
        DataError: so it is.
    """
    if stack.head is None or not stack.head.labelled or options.level not in (None, len(stack.levels) + 1):
        return
    for unlabelled in (part.name for part in shown if part.labels is None):
        raise DataError(
            f"{stack.spec.levels[-1]} learns by class, and {unlabelled} has no labels: take data that has, as images "
            "with a folder for each class, or leave out classes=true"
        )


def check_levels(stack: Stack, options: Options) -> None:
    """Say now what the levels of a stack cannot be trained with.

    Raises:
        TrainingError: there is no such level, or nothing is left to train.
        SpecError: a term wants pixels on a level that learns from codes, or a level has no posterior to draw from.
    """
    parts = len(stack.levels) + (stack.head is not None)
    if options.progressive and options.level not in (None, 1):
        raise TrainingError(f"progressive: only level 1 learns from images that grow, not level {options.level}")
    if options.level is not None and not 1 <= options.level <= parts:
        raise TrainingError(f"level {options.level}: {stack.spec} has levels 1 to {parts}")
    if options.level is None and not options.refine and finished(stack) == parts:
        raise TrainingError(
            f"every level of {stack.spec} came trained, so nothing is left to train: put a level on top, or name one "
            "to train on (--level 1, level=1)"
        )
    upper = stack.head is not None
    for number, level in reversed([*enumerate(stack.lower(), 1)]):
        if upper and options.codes == "moments" and level.stage.place.posterior == "point":
            raise SpecError(
                f"level {number}, {stack.spec.levels[number - 1]}, has one code for each image and no posterior to "
                "draw from: leave the levels above on its means, or give it a regularizer with a posterior, as in '+kl'"
            )
        upper = True
        for name, term in level.terms.items():
            on_codes = number > 1 and options.loss_in == "codes"
            if on_codes and getattr(term, "needs_pixels", False):
                raise SpecError(f"{name} on level {number} reads pixels: add --loss-in pixels (loss_in='pixels')")
