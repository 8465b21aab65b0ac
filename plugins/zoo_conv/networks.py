"""The networks that ``conv`` can be made of, by their word in the spec, as in ``conv1000(network=pooled)``.

``residual`` is the zoo's own. To add the network of a source: a file of its own here with a function from a ``Plan`` to
an encoder and a decoder, its word in ``Name``, and a line in ``NETWORKS``. Its tests count its parameters.

- The encoder maps (B, C, H, W), pixels in [-1, 1] or unit-scale codes, to a mean and a log variance, None for points.
- The decoder maps (B, *code) back to that scale. Where ``plan.place.output`` is ``sigmoid``, ``conv`` puts a sigmoid of
  twice the decoder's numbers behind it.
- Of ``width``, ``blocks``, ``up``, ``norm``, ``hidden`` and ``linear`` it has those that its ``options`` name,
  ``width`` and ``up`` at least, each with its default; one that it does not have is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from zoo.errors import SpecError
from zoo_conv import pooled, residual

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

    from zoo.interfaces import Place, Shape
    from zoo_conv.plan import Plan

Name = Literal["residual", "pooled"]


@dataclass(frozen=True)
class Network:
    """A network that can be asked for.

    Args:
        build: the encoder and the decoder.
        options: those that it has, with the defaults that they have for this place and code.
        source: the paper or page it comes from.
    """

    build: Callable[[Plan], tuple[nn.Module, nn.Module]]
    options: Callable[[Place, Shape], dict[str, Any]]
    source: str


NETWORKS: dict[Name, Network] = {
    "residual": Network(residual.build, residual.options, residual.SOURCE),
    "pooled": Network(pooled.build, pooled.options, pooled.SOURCE),
}


def settle(name: Name, given: Mapping[str, Any], place: Place, code: Shape) -> dict[str, Any]:
    """The options of a network: those that are given in place of its own, None being not given.

    Raises:
        SpecError: one is given that it does not have.
    """
    own = NETWORKS[name].options(place, code)
    given = {option: value for option, value in given.items() if value is not None}
    for option in given.keys() - own.keys():
        raise SpecError(f"network={name} has no {option}, which is as in its source; it has {', '.join(own)}")
    return own | given
