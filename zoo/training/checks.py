"""What is asked of ``fit``, looked at before anything is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from zoo.errors import DataError, RegistryError, SpecError, TrainingError, nearest
from zoo.training.options import DEFAULT_EPOCHS, Options

if TYPE_CHECKING:
    from zoo.data import Images
    from zoo.interfaces import Stage, Term
    from zoo.phases import Phase
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
    """How many levels were brought by the spec, trained already."""
    return 0 if stack.brought is None else stack.brought.levels


def swept_level(stack: Stack, level: int | None) -> int:
    """The level that is swept: the one that is named, else the first that is not trained, else the top one.

    Raises:
        TrainingError: a level below it is not trained.
    """
    trained = [bool(part.trained) for part in stack.lower()]
    level = level or (trained.index(False) + 1 if False in trained else _parts(stack))
    check_below(stack, level)
    return level


def check_below(stack: Stack, level: int) -> None:
    """Say now that a level has nothing to learn from yet.

    Raises:
        TrainingError: a level below it is not trained.
    """
    trained = [bool(part.trained) for part in stack.lower()]
    if not all(trained[: level - 1]):
        raise TrainingError(
            f"level {level} learns from the codes of those below, and level {trained.index(False) + 1} is not trained: "
            "train it first, or leave out level"
        )


def check_labels(stack: Stack, options: Options, shown: list[Images]) -> None:
    """Say now, not when the levels below are trained, that a head learns by class and there are none, or not such.

    Args:
        stack: that is trained.
        options: how.
        shown: the images to learn from, then others that are looked at.

    Raises:
        DataError: there are no labels.
        TrainingError: the head cannot learn those that there are.
    """
    if stack.head is None or not stack.head.labelled or options.level not in (None, len(stack.levels) + 1):
        return
    for unlabelled in (part.name for part in shown if part.labels is None):
        raise DataError(
            f"{stack.spec.levels[-1]} learns by class, and {unlabelled} has no labels: take data that has, as images "
            "with a folder for each class, or leave out classes=true"
        )
    labels = shown[0].labels
    stack.head.check_labels([] if labels is None else labels.unique().tolist())


def check_levels(stack: Stack, options: Options) -> None:
    """Say now what the levels of a stack cannot be trained with.

    Raises:
        TrainingError: there is no such level, nothing is left to train, or a phase trains nothing.
        RegistryError: a phase counts a term that its level has not got.
        SpecError: a term wants pixels on a level that learns from codes, or a level has no posterior to draw from.
    """
    parts = _parts(stack)
    if options.progressive and options.level not in (None, 1):
        raise TrainingError(f"progressive: only level 1 learns from images that grow, not level {options.level}")
    if options.level is not None and not 1 <= options.level <= parts:
        raise TrainingError(f"level {options.level}: {stack.spec} has levels 1 to {parts}")
    if options.refine and options.level is not None:
        raise TrainingError(f"refine trains all levels at once, level={options.level} one alone: leave out one of them")
    if options.refine and not len(stack.levels):
        raise TrainingError(f"refine: {stack.spec} is a head alone and has no levels to refine")
    if options.level is None and not options.refine and finished(stack) == parts:
        raise TrainingError(
            f"every level of {stack.spec} came trained, so nothing is left to train: put a level on top, or name one "
            "to train on (--level 1, level=1)"
        )
    for number in range(1, len(stack.levels) + 1):
        _check_phases(stack, number)
        if learns(stack, options, number):
            _check_each_phase(stack, number)
        refined = options.refine and number == len(stack.levels)
        if number > 1 and (refined or (learns(stack, options, number) and options.loss_in == "pixels")):
            _check_in_pixels(stack, number)
    for number in range(parts, 0, -1):
        if learns(stack, options, number) and number > 1 and _loss_in(stack, options, number) == "codes":
            _check_on_codes(stack, options, number)


def learns(stack: Stack, options: Options, number: int) -> bool:
    """Whether it is this level's turn: the one that was asked for, else all but those that came finished."""
    return number == options.level if options.level else number > finished(stack)


def _check_phases(stack: Stack, number: int) -> None:
    """A phase of a term comes before those of the stage, and trains what the first of these would leave alone."""
    level = stack.level(number)
    before = [phase.name for term in level.terms.values() for phase in cast("Term", term).phases()]
    if before and len(level.stage.phases()) > 1 and not level.trained:
        raise SpecError(
            f"level {number}, {stack.spec.levels[number - 1]}: the phase {before[0]!r} of a term would train the whole "
            "stage before the stage's own phases do so part by part: leave one of them out (pretrain=, tune=)"
        )


def _check_each_phase(stack: Stack, number: int) -> None:
    """What a phase names is there: the parameters that learn, and the terms that count."""
    level = stack.level(number)
    before = [] if level.trained else [phase for term in level.terms.values() for phase in cast("Term", term).phases()]
    for phase in (*before, *level.stage.phases()):
        check_rates(level.stage, phase)
        unknown = next((name for name in phase.terms or () if name not in level.terms), None)
        if unknown is not None:
            raise RegistryError(
                f"phase {phase.name!r} counts {phase.terms}, and level {number}, {stack.spec.levels[number - 1]}, has "
                f"no term {unknown!r}; {nearest(unknown, level.terms)}"
            )


def check_rates(stage: Stage, phase: Phase) -> None:
    """Say now that a phase would train nothing of a stage that learns, and leave it as it began.

    Raises:
        TrainingError: so it is.
    """
    if phase.idle(name for name, parameter in stage.named_parameters() if parameter.requires_grad):
        raise TrainingError(
            f"phase {phase.name!r} trains nothing of {type(stage).__name__}: no parameter that learns begins as one of "
            f"its rates above 0 does, {dict(phase.rates or {})}. Names of parameters begin with "
            f"{', '.join(name for name, _ in stage.named_children())}"
        )


def _check_in_pixels(stack: Stack, number: int) -> None:
    """An upper level whose terms read the pixels that level 1 gives."""
    linear = stack.level(1).stage.place.output == "linear"
    for name, term in stack.level(number).terms.items():
        if linear and getattr(term, "output", "linear") == "sigmoid":
            raise SpecError(
                f"{name} on level {number} judges pixels between 0 and 1, which level 1 was not built to give: name "
                f"{name} on level 1 as well"
            )


def _check_on_codes(stack: Stack, options: Options, number: int) -> None:
    """A level, or a head, that is to learn on the codes of the one below it."""
    below = stack.level(number - 1)
    if options.codes == "moments" and below.stage.place.posterior == "point":
        raise SpecError(
            f"level {number - 1}, {stack.spec.levels[number - 2]}, has one code for each image and no posterior to "
            "draw from: leave the levels above on its means, or give it a regularizer with a posterior, as in '+kl'"
        )
    for name, term in stack.level(number).terms.items() if number <= len(stack.levels) else ():
        if getattr(term, "needs_pixels", False):
            raise SpecError(f"{name} on level {number} reads pixels: add --loss-in pixels (loss_in='pixels')")


def _loss_in(stack: Stack, options: Options, number: int) -> str:
    head = stack.head if number > len(stack.levels) else None
    return options.loss_in if head is None else head.loss_in or options.loss_in


def _parts(stack: Stack) -> int:
    """The levels, and the head."""
    return len(stack.levels) + (stack.head is not None)
