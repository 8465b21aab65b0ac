"""A network of timm, cut behind the level whose maps have the size that is asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import timm
import torch
from timm.models import group_parameters
from torch import nn

from zoo.catalogue import from_catalogue
from zoo.errors import SpecError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from fractions import Fraction

_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)?")
STEM_STRIDES = (1, 2)


@dataclass(frozen=True)
class Backbone:
    """A network without what lies behind one of its levels.

    Args:
        network: images, normalised, to a list of one map, (B, channels, H / reduction, W / reduction).
        channels: of the map.
        level: which one, from 0.
        groups: the beginnings of its parameters' names, group by group, the input's first.
    """

    network: nn.Module
    channels: int
    level: int
    groups: tuple[tuple[str, ...], ...]


def check_name(name: str) -> None:
    """Refuse what is no network of timm, and places: these are for ``weights=``.

    Raises:
        SpecError: it says what there is.
    """
    if name.startswith(("hf-hub:", "hf_hub:", "local-dir:")):
        raise SpecError(f"backbone={name!r} is a place; write weights={name!r}, and the network is the one it says")
    if not _NAME.fullmatch(name):
        raise SpecError(f"backbone={name!r}: the name of a network of timm, as in resnet18 or resnet18.a1_in1k")
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = nearest(architecture, timm.list_models())
        near = near if near.startswith("did") else "timm.list_models() names them"
        raise SpecError(f"timm has no network {architecture!r}; {near}")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise SpecError(f"timm has no weights {tag!r} of {architecture}; {nearest(tag, tags)}")


def described(name: str) -> Any:
    """What timm says of a network: ``mean``, ``std``, ``first_conv``, ``classifier`` and more."""
    return timm.get_pretrained_cfg(name)


def build(
    name: str,
    channels: int,
    factor: Fraction,
    *,
    level: int | None = None,
    stem_stride: int | None = None,
    source: Mapping[str, Any] | None = None,
) -> Backbone:
    """A network of timm, cut behind the level whose maps are ``factor`` times smaller than its input.

    Args:
        name: as timm has it.
        channels: of the input.
        factor: how much smaller the map is, per side.
        level: this one, from 0; the last that fits where None.
        stem_stride: of the first convolution, instead of its own.
        source: where its weights are, as timm's ``pretrained_cfg_overlay``; fresh ones where None.

    Raises:
        SpecError: no level fits.
        RuntimeError: the weights do not fit, as torch says it.
    """
    outline = _outline(name, channels)
    ratio = 1.0 if stem_stride is None else stem_stride / _stem(name, outline).stride[0]
    levels = [(info["num_chs"], info["reduction"] * ratio) for info in cast("Any", outline.feature_info).info]
    found = _fitting(name, levels, factor, level)
    network = _create(name, channels, found, source)
    if stem_stride is not None:
        _stem(name, network).stride = (stem_stride, stem_stride)
    for module in network.modules():
        module._non_persistent_buffers_set.clear()  # a saved stage is all that it computes with
    return Backbone(network, levels[found][0], found, _groups(network))


def is_fresh(network: nn.Module) -> bool:
    """Whether none of its batch norms has statistics of any image."""
    norms = [part for part in network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    return not any(norm.running_mean is not None and norm.running_mean.any() for norm in norms)


def _outline(name: str, channels: int) -> nn.Module:
    """The whole network without weights, to look at."""
    try:
        with torch.device("meta"):
            return _create(name, channels)
    except (AttributeError, TypeError, AssertionError, RuntimeError) as error:
        raise SpecError(
            f"{name} is no network whose maps can be taken out at any size of input ({error}); ResNets, ConvNeXts, "
            "EfficientNets, ViTs and most others of timm are"
        ) from error


def _create(name: str, channels: int, level: int | None = None, source: Mapping[str, Any] | None = None) -> nn.Module:
    chosen: dict[str, Any] = {"features_only": True, "feature_cls": "getter", "in_chans": channels}
    if level is not None:
        chosen["out_indices"] = (level,)
    if source is not None:
        chosen |= {"pretrained": True, "pretrained_cfg_overlay": dict(source)}
    if described(name).fixed_input_size:  # a transformer: its positions follow the size of the map
        chosen["dynamic_img_size"] = True
    with from_catalogue():
        return timm.create_model(name, **chosen)


def _fitting(name: str, levels: list[tuple[int, float]], factor: Fraction, level: int | None) -> int:
    """The number of the level that was asked for, or of the last with maps of this size."""
    fitting = [number for number, (_, reduction) in enumerate(levels) if reduction == factor]
    if level is not None and level not in fitting:
        raise SpecError(f"level={level}: {name} has maps {factor} times smaller at {fitting or 'none of its levels'}")
    if not fitting:
        there = ", ".join(sorted({f"{reduction:g}" for _, reduction in levels}, key=float))
        raise SpecError(
            f"this code is {factor} times smaller than what {name} sees, whose maps are {there} times smaller: choose "
            "a code of such a size, or let it see the images larger or smaller with zoom="
        )
    return fitting[-1] if level is None else level


def _stem(name: str, network: nn.Module) -> nn.Conv2d:
    """The first convolution, where it is one whose stride can be chosen."""
    first = described(name).first_conv
    stem = network.get_submodule(f"model.{first}") if isinstance(first, str) else None
    if not isinstance(stem, nn.Conv2d) or stem.stride[0] not in STEM_STRIDES:
        raise SpecError(f"stem_stride: {name} has no first convolution of stride {' or '.join(map(str, STEM_STRIDES))}")
    return stem


def _groups(network: nn.Module) -> tuple[tuple[str, ...], ...]:
    """The groups that timm makes of a network's parameters, each by as short beginnings of names as tell it apart."""
    model = cast("Any", network).model
    of = {name: group for group, names in group_parameters(model, model.group_matcher(coarse=True)).items()
          for name in names}  # fmt: skip
    beginnings: dict[int, dict[str, None]] = {}
    for name, group in of.items():
        parts = name.split(".")
        for length in range(1, len(parts) + 1):
            begin = ".".join(parts[:length])
            if all(of[other] == group for other in of if other == begin or other.startswith(f"{begin}.")):
                beginnings.setdefault(group, {})[f"model.{begin}"] = None
                break
    return tuple(tuple(beginnings[group]) for group in sorted(beginnings))
