"""From a sentence, or a saved folder, to a stack."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, SimpleNamespace, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

import torch
from torch import nn

from zoo import files, registry
from zoo.errors import FileError, RegistryError, SpecError, nearest
from zoo.interfaces import Head, Part, Place, Reconstruction, Regularizer, Shape, Stage, Term
from zoo.spec import Item, LevelSpec, StackSpec, parse
from zoo.stack import Absent, Level, Stack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.spec import Value

DEFAULT_INPUT = (64, 64, 3)
"""Height, width and channels of the images where the sentence does not say."""

DEFAULT_RECONSTRUCTION = "gaussian"
LARGEST_DIMENSION = 2**26
"""Elements of one image or code; more is a slip of the keyboard, and is refused before anything is allocated."""


def build(spec: str | StackSpec, *, input: tuple[int, int, int] | None = None, seed: int = 0) -> Stack:
    """Assemble a stack from its sentence, with fresh weights.

    Args:
        spec: the sentence, as in ``"28x28x1/conv7x7x10/fc8+kl"``.
        input: height, width and channels of the images; the sentence's own input wins, 64x64x3 is the default.
        seed: same seed, same weights. The global random state is left alone.

    Raises:
        SpecError: the sentence cannot be understood, or its shapes do not fit.
        RegistryError: a name that no installed plugin offers.

    >>> build("conv8x8x64+wae_mmd").code_shape
    (64, 8, 8)
    """
    sentence = parse(spec) if isinstance(spec, str) else parse(str(spec))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _assemble(_with_input(sentence, input)).eval()


def load(
    folder: str | Path, *, part: Literal["encoder", "decoder"] | None = None, root: str | Path | None = None
) -> Stack:
    """Load a saved stack, strictly: every size, hash, name and shape must be what its config says.

    It is built as its config says, on ``meta``, and only when everything fits are its weights read. docs/security.md
    lists what is refused.

    Args:
        folder: what ``stack.save`` wrote; or, of the Hub, ``"hf-hub:user/name@revision"``.
        part: only the encoders or only the decoders; the other half's weights are not kept.
        root: links in the folder may lead to files under it; the folder itself where not given.

    Raises:
        FileError: the folder is missing, damaged or of a newer format, or its files contradict each other.
        HubError: the Hub has no such stack, or does not give it.
        RegistryError: a name that no installed plugin offers, or one of another plugin or a later version.
    """
    if part not in (None, "encoder", "decoder"):
        raise FileError(f"part={part!r}: 'encoder', 'decoder', or None for both")
    saved = files.enter(_local(folder), None if root is None else Path(root))
    stack = _rebuild(saved)
    modules: list[nn.Module] = [*stack.levels, *([] if stack.head is None else [stack.head])]
    other = {"encoder": "decoder", "decoder": "encoder", None: None}[part]

    def kept(key: str) -> bool:
        return other is None or not key.startswith(f"stage.{other}.")

    for module, level in zip(modules, saved.levels, strict=True):
        if other and isinstance(module, Level):
            setattr(module.stage, other, Absent(other, saved.folder))
        level.check_fit(module.state_dict(), kept)
    for module, level in zip(modules, saved.levels, strict=True):
        _fill(module, level.tensors(kept), level.header.path)
    stack.report = files.read_report(saved.folder, saved.root)
    return stack.eval()


def _local(folder: str | Path) -> Path:
    """The folder itself, or that of what a reference to the Hub names."""
    if not str(folder).startswith("hf-hub:"):
        return Path(folder)
    from zoo import hub  # and with it the Hub's client, which is seldom needed

    return hub.pull(str(folder)).folder


def _with_input(spec: StackSpec, asked: tuple[int, int, int] | None) -> StackSpec:
    return spec if spec.input else StackSpec(spec.levels, asked or DEFAULT_INPUT)


def _assemble(spec: StackSpec) -> Stack:
    spec = parse(str(spec))  # so that positions in errors are those of the canonical sentence
    height, width, channels = cast("tuple[int, int, int]", spec.input)
    shape: Shape = (channels, height, width)
    _check_size(shape, spec, None)
    levels: list[Level] = []
    head = None
    for number, level in enumerate(spec.levels, 1):
        parts = _look_up(level, spec)
        if parts[0].kind == "head":
            head = _build_head(level, parts, shape, spec, last=number == len(spec.levels), pixels=number == 1)
        else:
            levels.append(_build_level(level, parts, shape, spec, pixels=number == 1))
            shape = levels[-1].code_shape
    return Stack(files.without_files(spec), (channels, height, width), levels, head)


@dataclass(frozen=True)
class _Found:
    item: Item
    kind: str
    cls: type[Part]


def _look_up(level: LevelSpec, spec: StackSpec) -> list[_Found]:
    found = []
    for place, item in enumerate(level.items):
        if item.tag is not None:
            name = str(Item(item.name, item.shape, item.tag))
            raise RegistryError(
                f"{name} names a pretrained stage, and registry.json has none of that name; "
                f"{nearest(name, registry.names(pretrained=True))}"
            )
        kinds = ("stage", "head") if place == 0 else ("regularizer", "reconstruction")
        entry = registry.find(item.name, kinds=kinds)
        found.append(_Found(item, entry.kind, cast("type[Part]", entry.load())))
    return found


def _build_level(level: LevelSpec, parts: Sequence[_Found], shape: Shape, spec: StackSpec, *, pixels: bool) -> Level:
    first, terms = parts[0], [*parts[1:]]
    if not any(issubclass(part.cls, Reconstruction) and part.cls.likelihood for part in terms):
        default = registry.find(DEFAULT_RECONSTRUCTION, kinds=("reconstruction",))
        terms.insert(0, _Found(Item(DEFAULT_RECONSTRUCTION), default.kind, cast("type[Part]", default.load())))
    _check_terms(level, terms, spec)
    wants_gaussian = any(issubclass(part.cls, Regularizer) and part.cls.posterior == "gaussian" for part in terms)
    wants_sigmoid = any(issubclass(part.cls, Reconstruction) and part.cls.output == "sigmoid" for part in terms)
    place = Place(
        input_shape=shape,
        code_shape=_tensor_shape(first.item.shape) if first.item.shape else None,
        pixels=pixels,
        posterior="gaussian" if wants_gaussian else "point",
        output="sigmoid" if wants_sigmoid and pixels else "linear",
    )
    for checked in (place.code_shape or (), shape):
        _check_size(checked, spec, first.item)
    stage = cast("Stage", _construct(first, place, spec))
    code = stage.code_shape
    _check_size(code, spec, first.item)
    told = Place(shape, code, pixels, place.posterior, place.output)
    return Level(stage, _named_terms([(part, cast("Term", _construct(part, told, spec))) for part in terms]))


def _build_head(
    level: LevelSpec, parts: Sequence[_Found], shape: Shape, spec: StackSpec, *, last: bool, pixels: bool
) -> Head:
    item = level.items[0]
    if not last:
        raise SpecError(f"{item.name} is a head: it ends a stack", str(spec), item.position)
    if len(parts) > 1:
        term = level.items[1]
        raise SpecError(
            f"{item.name} is a head: it brings its own loss and takes no '+{term.name}'", str(spec), term.position
        )
    return cast("Head", _construct(parts[0], Place(shape, _tensor_shape(item.shape) or None, pixels), spec))


def _check_terms(level: LevelSpec, terms: Sequence[_Found], spec: StackSpec) -> None:
    likelihoods = [part.item for part in terms if issubclass(part.cls, Reconstruction) and part.cls.likelihood]
    if len(likelihoods) > 1:
        first, second = likelihoods[:2]
        raise SpecError(
            f"a level has one likelihood, {level.items[0].name} has {first.name} and {second.name}",
            str(spec),
            second.position,
        )
    own_draw = [part for part in terms if issubclass(part.cls, Regularizer) and part.cls.draw is not Regularizer.draw]
    if len(own_draw) > 1:
        raise SpecError(
            f"{own_draw[0].item.name} and {own_draw[1].item.name} both say how the code is drawn: keep one",
            str(spec),
            own_draw[1].item.position,
        )


def _construct(found: _Found, place: Place, spec: StackSpec) -> Part:
    """Call the class with the sentence's arguments, after checking them against its signature."""
    item, cls = found.item, found.cls
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    options: dict[str, Value] = dict(item.options)
    if item.value is not None:
        if cls.positional is None:
            raise SpecError(
                f"{item.name} takes no value without a key; {nearest('', parameters)}", str(spec), item.position
            )
        if cls.positional in options:
            raise SpecError(f"{item.name} is given {cls.positional} twice", str(spec), item.position)
        options[cls.positional] = item.value
    for name, value in options.items():
        if name not in parameters:
            raise SpecError(
                f"{item.name} has no option {name!r}; {nearest(name, parameters)}", str(spec), item.position
            )
        _check_type(item, name, value, parameters[name], cls, spec)
    if item.shape and found.kind in ("regularizer", "reconstruction"):
        raise SpecError(f"{item.name} is a term: it has no shape of its own", str(spec), item.position)
    try:
        part = cast("Part", cast("Any", cls)(place, **options))
    except SpecError as error:
        if error.position is not None:
            raise
        raise SpecError(error.problem, str(spec), item.position) from error
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    part.item = _written_out(item, part, {**defaults, **options})
    return part


def _written_out(item: Item, part: Part, options: dict[str, Any]) -> Item:
    """The item with its shape and all its options."""
    shape = item.shape or (_sentence_shape(part.code_shape) if isinstance(part, Stage) else ())
    settled = {name: getattr(part, name, None) if value is None else value for name, value in options.items()}
    plain = {name: value for name, value in settled.items() if isinstance(value, int | float | str | tuple)}
    return files.without_file(Item(item.name, shape, None, tuple(plain.items())))


def _check_type(item: Item, name: str, value: Value, parameter: inspect.Parameter, cls: type, spec: StackSpec) -> None:
    """Refuse ``width=wide`` where the signature says ``int``, and ``up=shufle`` where it lists its choices."""
    kinds = _plain_kinds(parameter.annotation, cls)
    choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    types = tuple(kind for kind in kinds if isinstance(kind, type) and kind is not NoneType)
    if not kinds or value in choices:
        return
    fits = isinstance(value, types) and (bool in types or not isinstance(value, bool))
    if not fits and not (float in types and isinstance(value, int) and not isinstance(value, bool)):
        wanted = [str(choice) for choice in choices] + [kind.__name__ for kind in types]
        raise SpecError(f"{item.name}: {name} wants {' or '.join(wanted)}, got {value!r}", str(spec), item.position)


def _plain_kinds(annotation: object, cls: type) -> list[Any]:
    """What an annotation allows, where it is made of int, float, bool, str, tuple and Literal; else nothing."""
    holder = SimpleNamespace(__annotations__={"option": annotation})
    try:
        hint = get_type_hints(holder, vars(sys.modules[cls.__module__]))["option"]
    except (NameError, TypeError):  # a name that only type checkers see
        return []
    kinds = list(get_args(hint)) if get_origin(hint) in (Union, UnionType) else [hint]
    kinds = [tuple if get_origin(kind) is tuple else kind for kind in kinds]
    plain = all(kind in (int, float, bool, str, tuple, NoneType) or get_origin(kind) is Literal for kind in kinds)
    return kinds if plain else []


def _named_terms(terms: list[tuple[_Found, Term]]) -> dict[str, Term]:
    named: dict[str, Term] = {}
    for found, term in terms:
        name, copy = found.item.name, 2
        while name in named:
            name, copy = f"{found.item.name}_{copy}", copy + 1
        named[name] = term
    return named


def _tensor_shape(shape: tuple[int, ...]) -> Shape:
    """HxWxC of the sentence to (C, H, W) of the tensors; other ranks stay."""
    return (shape[2], shape[0], shape[1]) if len(shape) == 3 else shape


def _sentence_shape(shape: Shape) -> tuple[int, ...]:
    """(C, H, W) of the tensors to HxWxC of the sentence."""
    return (shape[1], shape[2], shape[0]) if len(shape) == 3 else shape


def _check_size(shape: Shape, spec: StackSpec, item: Item | None) -> None:
    size = 1
    for side in shape:
        size *= side
    if size > LARGEST_DIMENSION:
        where = None if item is None else item.position
        raise SpecError(
            f"{'x'.join(map(str, shape))} is {size} numbers, more than {LARGEST_DIMENSION}", str(spec), where
        )


def _rebuild(saved: files.Saved) -> Stack:
    """The stack of a config on ``meta``, without weights, as large as its files at most, and as the config says."""
    where = saved.config_path
    files.check_plugins(saved)
    files.check_sentences(saved)
    try:
        full = StackSpec(tuple(level.spec for level in saved.levels), saved.spec.input)
        with files.within_budget(saved.headers, f"{where}: levels"), torch.device("meta"):
            stack = _assemble(full)
    except FileError:
        raise
    except RegistryError as error:
        raise RegistryError(f"{where}: {files.cleaned(error)}") from error
    except Exception as error:  # whatever a plugin's constructor makes of a stranger's options
        kind = "" if isinstance(error, SpecError) else f"{type(error).__name__}: "
        raise FileError(f"{where}: levels cannot be built: {kind}{files.cleaned(error)}") from error
    stack.spec = saved.spec
    _check_told(stack, saved)
    return stack


def _check_told(stack: Stack, saved: files.Saved) -> None:
    """What the config says of shapes, range, posterior and prior is so of the stack that it builds."""
    built = stack.description()
    told, made = saved.config["input"], built["input"]
    fields = [(f"input.{key}", told.get(key), made[key]) for key in ("shape", "layout", "range")]
    for number, (level, made) in enumerate(zip(saved.levels, built["levels"], strict=True)):
        fields += [
            (f"levels[{number}].{key}", level.told.get(key), made[key])
            for key in ("input_shape", "code_shape", "posterior", "prior")
            if key in made
        ]
    for field, said, right in fields:
        if not _same(said, right):
            raise FileError(
                f"{saved.config_path}: {field} is {files.shown(said)}, the stack that its spec builds has "
                f"{files.shown(right)}"
            )


def _same(said: Any, right: Any) -> bool:
    """Equal, and not as True is equal to 1."""
    if isinstance(said, list) and isinstance(right, list):
        return len(said) == len(right) and all(map(_same, said, right))
    return type(said) is type(right) and bool(said == right)


def _fill(module: nn.Module, weights: dict[str, torch.Tensor], path: Path) -> None:
    """Give a module built on ``meta`` its tensors, which fit."""
    module.load_state_dict(weights, strict=True, assign=True)
    for name, buffer in module.named_buffers():
        if buffer.is_meta:
            raise FileError(
                f"{path}: the plugin's buffer {name} is not saved, so it cannot be loaded; make it persistent"
            )
