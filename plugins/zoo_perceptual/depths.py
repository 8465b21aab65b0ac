"""Where in a network one looks: depths and names of layers to names of modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from zoo.errors import SpecError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

DEPTHS = ("early", "middle", "late")


def located(network: nn.Module, layers: str | Sequence[str | int], *, name: str) -> tuple[str, ...]:
    """The modules whose outputs are meant.

    Args:
        network: of timm or torchvision.
        layers: ``early``, ``middle`` or ``late``: half of its levels, rounded up, from there; or layers one by one,
            each the number of a level from 0, a layer of a plain chain such as ``relu1_2``, or a module's name.
        name: of the network, for errors.

    Raises:
        SpecError: it has no such layer.
    """
    if isinstance(layers, str) and layers in DEPTHS:
        levels = _levels(network, name)
        many = (len(levels) + 1) // 2
        start = {"early": 0, "middle": (len(levels) - many + 1) // 2, "late": len(levels) - many}[layers]
        return levels[start : start + many]
    wanted = [layers] if isinstance(layers, str) else list(layers)
    found = tuple(_one(network, layer, name) for layer in wanted)
    if not found or len(set(found)) < len(found):
        raise SpecError(f"layers={list(wanted)}: at least one layer, and each of them once")
    return found


def _one(network: nn.Module, layer: str | int, name: str) -> str:
    if isinstance(layer, int):
        levels = _levels(network, name)
        if not 0 <= layer < len(levels):
            raise SpecError(f"layers: {name} has levels 0 to {len(levels) - 1}, not {layer}")
        return levels[layer]
    chain, modules = _chain(network), dict(network.named_modules())
    if layer in chain or layer in modules:
        return chain.get(layer, layer)
    raise SpecError(f"layers: {name} has no layer {layer!r}; {nearest(layer, chain or modules)}")


def _levels(network: nn.Module, name: str) -> tuple[str, ...]:
    """The last layers of each resolution, or the blocks where it has one resolution only, shallow first."""
    info: Any = getattr(network, "feature_info", None)
    if info is not None:
        names = [level["module"] for level in info]
        return tuple(one for one in names if not isinstance(network.get_submodule(one), nn.MaxPool2d))
    chain = [layer for layer in _chain(network) if layer.startswith("relu")]
    last = {layer.partition("_")[0]: layer for layer in chain}
    if not last:
        raise SpecError(f"nobody says what levels {name} has: name its layers, as in layers=[layer1, layer2]")
    return tuple(_chain(network)[layer] for layer in last.values())


def _chain(network: nn.Module) -> dict[str, str]:
    """The layers of a plain chain, as in VGG: relu2_1 is the first ReLU behind the first pooling."""
    features = getattr(network, "features", None)
    if not isinstance(features, nn.Sequential):
        return {}
    block, place, found = 1, 0, {}
    for number, layer in features.named_children():
        if isinstance(layer, nn.MaxPool2d):
            block, place = block + 1, 0
        elif isinstance(layer, nn.Conv2d):
            place += 1
            found[f"conv{block}_{place}"] = f"features.{number}"
        elif isinstance(layer, nn.ReLU):
            found[f"relu{block}_{place}"] = f"features.{number}"
    return found
