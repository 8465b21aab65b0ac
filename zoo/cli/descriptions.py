"""Stacks and the classes they are made of, described in data that is ready for JSON and in words."""

from __future__ import annotations

import inspect
import math
import sys
from typing import TYPE_CHECKING, Any, Literal, cast, get_args, get_origin

from zoo.cli import plans
from zoo.cli.columns import columns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from zoo.interfaces import Part, Term
    from zoo.level import Level
    from zoo.registry import Entry
    from zoo.stack import Stack

FLAGS = {
    "stage": ("exportable", "compilable", "any_size"),
    "regularizer": ("posterior", "prior"),
    "reconstruction": ("likelihood", "output", "needs_pixels"),
    "head": (),
}
"""What a class of each kind declares about itself."""


def of_part(entry: Entry) -> dict[str, Any]:
    """What a registered class says about itself."""
    part: type[Part] = entry.load()
    parameters = inspect.signature(part).parameters.values()
    return {
        "name": entry.name,
        "kind": entry.kind,
        "plugin": entry.plugin,
        "origin": entry.origin,
        "reference": entry.reference,
        "source": part.source,
        "flags": {flag: getattr(part, flag) for flag in FLAGS[entry.kind]},
        "positional": part.positional,
        "options": [
            {"name": option.name, "type": _type(option, part), "default": option.default}
            for option in parameters
            if option.kind is inspect.Parameter.KEYWORD_ONLY
        ],
        "documentation": inspect.getdoc(part) or "",
    }


def part_in_words(part: Mapping[str, Any]) -> str:
    """The same for a terminal."""
    options = [(f"  {option['name']}", option["type"], _default(option["default"])) for option in part["options"]]
    alone = f"; a value alone is its {part['positional']}" if part["positional"] else ""
    flags = ", ".join(f"{name}={value}" for name, value in part["flags"].items())
    blocks = [
        f"{part['name']}: a {part['kind']} of {part['plugin']} ({part['origin']}), {part['reference']}",
        part["documentation"],
        f"options{alone}\n{columns(options)}" if options else "no options",
        f"flags\n  {flags}" if flags else "",
        f"source\n  {part['source']}" if part["source"] else "",
    ]
    return "\n\n".join(filter(None, blocks))


def of_stack(stack: Stack) -> dict[str, Any]:
    """A stack level by level. Shapes are those of tensors: channels, height, width."""
    pixels = math.prod(stack.input_shape)
    code = math.prod(stack.code_shape)
    head = None if stack.head is None else {"spec": str(stack.spec.levels[-1]), "parameters": _size(stack.head)}
    return {
        "spec": str(stack.spec),
        "input_shape": list(stack.input_shape),
        "code_shape": list(stack.code_shape),
        "pixels": pixels,
        "numbers": code,
        "compression": pixels / code,
        "parameters": _size(stack),
        "levels": [
            _level(level, str(spec), pixels) for level, spec in zip(stack.lower(), stack.spec.levels, strict=False)
        ],
        "head": head,
        "sources": _sources(stack),
    }


def stack_in_words(stack: Mapping[str, Any]) -> str:
    """The same for a terminal."""
    levels = stack["levels"]
    shapes: list[tuple[object, ...]] = [
        ("level", "spec", "in", "out", "numbers", "compression", "encoder par.", "decoder par.", "terms par.")
    ]
    terms: list[tuple[object, ...]] = [("level", "term", "kind", "weight")]
    for number, level in enumerate(levels, 1):
        sizes = [level["parameters"][part] for part in ("encoder", "decoder", "terms")]
        ends = _shape(level["input_shape"]), _shape(level["code_shape"])
        shapes.append((number, level["spec"], *ends, level["numbers"], f"{level['compression']:.3g}", *sizes))
        terms += [(number, term["name"], term["kind"], f"{term['weight']:g}") for term in level["terms"]]
    head = stack["head"]
    blocks = [
        stack["spec"],
        f"{stack['pixels']:,} numbers in ({_shape(stack['input_shape'])}), {stack['numbers']:,} out "
        f"({_shape(stack['code_shape'])}): {stack['compression']:.3g} to 1; {stack['parameters']:,} parameters",
        columns(shapes) if levels else "",
        columns(terms) if levels else "",
        plans.in_words(levels),
        f"head  {head['spec']}  {head['parameters']:,} parameters" if head else "",
        "sources\n" + "\n".join(f"  {name}: {source}" for name, source in stack["sources"].items()),
    ]
    return "\n\n".join(filter(None, blocks))


def _level(level: Level, spec: str, pixels: int) -> dict[str, Any]:
    numbers = math.prod(level.code_shape)
    halves = {"encoder": _size(level.stage.encoder), "decoder": _size(level.stage.decoder)}
    return {
        "spec": spec,
        "input_shape": list(level.input_shape),
        "code_shape": list(level.code_shape),
        "numbers": numbers,
        "compression": pixels / numbers,
        "parameters": halves | {"terms": _size(level.terms)},
        "terms": [_term(name, term) for name, term in _terms(level).items()],
        "phases": plans.of_level(level),
    }


def _terms(level: Level) -> dict[str, Term]:
    return {name: cast("Term", term) for name, term in level.terms.items()}


def _term(name: str, term: Term) -> dict[str, Any]:
    from zoo.interfaces import Regularizer

    kind = "regularizer" if isinstance(term, Regularizer) else "reconstruction"
    return {"name": name, "kind": kind, "weight": term.weight}


def _sources(stack: Stack) -> dict[str, str]:
    """The source of every part, by the name that the spec gives it."""
    parts: dict[str, Part] = {}
    for level, spec in zip(stack.lower(), stack.spec.levels, strict=False):
        parts |= {spec.items[0].name: level.stage, **_terms(level)}
    if stack.head is not None:
        parts[stack.spec.levels[-1].items[0].name] = stack.head
    return {name: part.source for name, part in parts.items() if part.source}


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _shape(shape: list[int]) -> str:
    """As the spec writes it: height x width x channels."""
    ordered = [*shape[1:], shape[0]] if len(shape) == 3 else shape
    return "x".join(map(str, ordered))


def _default(value: object) -> str:
    """Where it is None, what stands for it follows from other options: the text above says how."""
    return "" if value is None else f"= {value}"


def _type(option: inspect.Parameter, part: type[Part]) -> str:
    """The annotation of an option, choices where it names some."""
    annotation: object = option.annotation
    if not isinstance(annotation, str):
        return inspect.formatannotation(annotation)
    known = vars(sys.modules[part.__module__])
    parts = [known.get(name, name) for name in annotation.split(" | ")]  # a name of choices, or "Choices | None"
    return " | ".join(
        choice for one in parts for choice in (map(str, get_args(one)) if get_origin(one) is Literal else [str(one)])
    )
