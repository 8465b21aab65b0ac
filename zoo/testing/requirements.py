"""What the contracts of the four kinds have in common, and how a breach of one is told."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar, cast

import safetensors.torch
import torch
from torch import Tensor, nn

from zoo.builder.parts import is_plain, misfit
from zoo.errors import SpecError, ZooError
from zoo.files.specs import FILE_OPTIONS
from zoo.interfaces import Part
from zoo.spec.words import KEY, KEY_RULE, check_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from zoo.interfaces import Shape

P = TypeVar("P", bound=Part)

SURE = 4.0
"""Times its weights, a critic is sure of some of what it sees; a power of two, which can be taken back exactly."""


class ConformanceError(ZooError):
    """A plugin breaks the contract of its kind; the message names the class and what it should have done."""


def require(condition: object, part: type, problem: str) -> None:
    """Raise a ``ConformanceError`` about this class unless the condition holds."""
    if not condition:
        raise ConformanceError(f"{part.__module__}.{part.__qualname__}: {problem}")


@contextmanager
def during(part: type, action: str) -> Iterator[None]:
    """Say what was being tried when the plugin's own code raised."""
    try:
        yield
    except ConformanceError:
        raise
    except Exception as error:
        raise ConformanceError(
            f"{part.__module__}.{part.__qualname__}: {action} raises {type(error).__name__}: {error}"
        ) from error


def check_declaration(part: type[Part], kind: type[Part]) -> None:
    """A concrete class of its kind, with a source, and options that a spec can give."""
    require(issubclass(part, kind), part, f"is not a {kind.__name__}")
    require(not inspect.isabstract(part), part, f"is abstract: {sorted(getattr(part, '__abstractmethods__', ()))}")
    require(part.source.strip(), part, "source is empty: name the paper, as in 'Authors (year). Title. arXiv:number'")
    parameters = [*inspect.signature(part).parameters.values()]
    placed = parameters and parameters[0].kind is not inspect.Parameter.KEYWORD_ONLY
    require(placed, part, "__init__ takes its Place first")
    options = parameters[1:]
    for option in options:
        wanted = "an option is keyword-only, with an annotation and a default"
        sound = option.kind is option.KEYWORD_ONLY and option.default is not option.empty
        require(sound and option.annotation is not option.empty, part, f"__init__({option}): {wanted}")
        _check_option(part, kind, option)
    names = [option.name for option in options]
    require(part.positional is None or part.positional in names, part, f"positional={part.positional!r} is no option")


def _check_option(part: type[Part], kind: type[Part], option: inspect.Parameter) -> None:
    """A spec can give it, and a saved stack can write it out and be built of that again."""
    name, default, said = option.name, option.default, f"__init__({option})"
    require(KEY.fullmatch(name), part, f"{said}: {KEY_RULE}")
    plain = "a spec gives numbers, truths, texts and lists of these: int, float, bool, str, tuple, Literal or None"
    require(is_plain(option, part), part, f"{said}: {plain}")
    file = "names a file that is read once and no saved stack mentions, so its default is None: call others otherwise"
    require(name not in FILE_OPTIONS or default is None, part, f"{said}: {name} {file}")
    if default is None:
        taken = f"a {kind.__name__} has an attribute {name}, which would be saved as what None is: call it otherwise"
        require(name not in {*dir(kind), *vars(nn.Module())}, part, f"{said}: {taken}")
        return
    require(not isinstance(default, list), part, f"{said}: a list of a spec is a tuple")
    try:
        problem = misfit(check_value(default), option, part)
    except SpecError as error:
        problem = error.problem
    require(problem is None, part, f"{said}: no spec can write this default: {problem}")


def require_tensor(part: type, name: str, value: object, shape: Sequence[int]) -> Tensor:
    """A finite floating-point tensor of this shape."""
    require(isinstance(value, Tensor), part, f"{name} is a {type(value).__name__}, not a tensor")
    tensor = cast("Tensor", value)
    require(tensor.shape == tuple(shape), part, f"{name} has shape {tuple(tensor.shape)}, not {tuple(shape)}")
    require(tensor.is_floating_point(), part, f"{name} is {tensor.dtype}, not floating point")
    require(tensor.isfinite().all(), part, f"{name} holds NaN or infinity")
    return tensor


def require_scalar(part: type, name: str, value: object) -> Tensor:
    """A finite float32 number."""
    tensor = require_tensor(part, name, value, ())
    require(tensor.dtype == torch.float32, part, f"{name} is {tensor.dtype}: compute it in float32")
    return tensor


def check_reached(part: type, parameters: Iterable[tuple[str, nn.Parameter]], number: str) -> None:
    """After ``number`` went backward, every parameter that learns has a finite gradient that is not all zero."""
    learning = [(name, parameter.grad) for name, parameter in parameters if parameter.requires_grad]
    silent = [name for name, gradient in learning if gradient is None or not gradient.any()]
    require(not silent, part, f"no gradient of {number} reaches {', '.join(silent)}")
    broken = [name for name, gradient in learning if gradient is not None and not gradient.isfinite().all()]
    require(not broken, part, f"the gradient of {number} is NaN or infinite at {', '.join(broken)}")


def check_untouched(part: type, parameters: Iterable[tuple[str, nn.Parameter]], number: str) -> None:
    """After ``number`` went backward, none of these has a gradient."""
    touched = [name for name, parameter in parameters if parameter.grad is not None and parameter.grad.any()]
    require(not touched, part, f"{number} sends a gradient to {', '.join(touched)}, which it must leave alone")


def check_saving(module: P, build: Callable[[], P], outputs: Callable[[P], Sequence[Tensor]]) -> None:
    """The state, through safetensors, into an instance built afresh or on ``meta`` gives bit-equal outputs.

    ``zoo.load`` builds on ``meta``: a constant kept as a plain tensor or a non-persistent buffer has no value there.
    """
    part = type(module)
    floats = {name: value.dtype for name, value in module.state_dict().items() if value.is_floating_point()}
    odd = [name for name, kind in floats.items() if kind != torch.float32]
    require(not odd, part, f"{', '.join(odd)} is not float32, in which stacks are saved")
    with during(part, "saving its state_dict as safetensors"):
        saved = safetensors.torch.save({name: value.contiguous() for name, value in module.state_dict().items()})
    wanted = outputs(module)
    for device, words in (("cpu", "built afresh"), ("meta", "built on the meta device, as zoo.load does,")):
        with during(part, f"an instance {words} and given the saved state"):
            with torch.device(device):
                fresh = build()
            fresh.load_state_dict(safetensors.torch.load(saved), strict=True, assign=device == "meta")
            same = all(map(torch.equal, wanted, outputs(fresh.train(module.training))))
        require(same, part, f"an instance {words} and given the saved state computes something else: state is missing")


def opinions(critic: Sequence[tuple[str, nn.Parameter]]) -> Iterator[None]:
    """Twice around: with a critic as it begins, then with one that is surer of itself.

    Of a critic that doubts, a hinge loss takes as much of what is true as of what is not: the gradients of its last
    bias cancel, but for rounding, and only one that is sure of some tells whether they arrive.
    """
    yield
    _scale(critic, SURE)
    yield
    _scale(critic, 1 / SURE)


def _scale(parameters: Iterable[tuple[str, nn.Parameter]], factor: float) -> None:
    with torch.no_grad():
        for _, parameter in parameters:
            parameter.mul_(factor)


def critic_parameters(module: nn.Module, *, critic: bool) -> list[tuple[str, nn.Parameter]]:
    """The parameters of the critic that a term or head owns, or all the others."""
    return [(name, value) for name, value in module.named_parameters() if name.startswith("critic.") is critic]


def devices() -> list[torch.device]:
    """Where parts have to work: the CPU, and the accelerator where this machine has one."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return [torch.device("cpu"), *([] if accelerator is None else [accelerator])]


def as_trained(device: torch.device) -> str:
    """What messages say of where something failed that works elsewhere."""
    return f" on {device.type}, channels last as zoo.fit lays maps (reshape takes them, view does not)"


def inputs(shape: Shape, n: int, *, pixels: bool) -> Tensor:
    """Images in [0, 1], or unit-scale codes, (n, *shape)."""
    return torch.rand(n, *shape) if pixels else torch.randn(n, *shape)


@torch.no_grad()
def disturb(module: nn.Module, amount: float = 0.05) -> None:
    """Move every parameter a little, so that a layer that starts at zero hides nothing behind it."""
    for parameter in module.parameters():
        parameter.add_(amount * torch.randn_like(parameter))
