"""All published stages: those of the zoo's own registry.json, and those of the files that plugins bring."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.util import find_spec
from operator import ge, gt, le, lt
from pathlib import Path

from zoo.errors import RegistryError, nearest
from zoo.registry.discovery import installed
from zoo.registry.forms import read
from zoo.registry.stages import METRICS, Published

_COMPARISON = re.compile(r"(?P<name>[a-z]+)\s*(?P<sign><=|>=|<|>)\s*(?P<value>[0-9]*\.?[0-9]+([eE][+-]?[0-9]+)?)")
_SIGNS = {"<": lt, "<=": le, ">": gt, ">=": ge}


@dataclass(frozen=True)
class Catalogue:
    """What all registry files say.

    Args:
        stages: by their names.
        clashes: names that are published more than once, each with its entries; none of these is in ``stages``.
        broken: references to files of plugins that cannot be used, each with the reason.
    """

    stages: dict[str, Published]
    clashes: dict[str, tuple[Published, ...]]
    broken: dict[str, str]


def published() -> dict[str, Published]:
    """Each published stage by its name with shape and tag, as in ``conv7x7x10.fashion_mnist``.

    Raises:
        RegistryError: the zoo's own registry.json is missing or damaged. A plugin's that is so is left out, and
            `zoo plugins` says why.
    """
    return dict(catalogue().stages)


def pretrained(name: str) -> Published:
    """The published stage of this name, whose plugins are installed.

    Raises:
        RegistryError: there is none, it is published twice, or it takes a plugin that is not in use.

    """
    found = catalogue()
    if rivals := found.clashes.get(name):
        places = " and ".join(str(rival.registry) for rival in rivals)
        raise RegistryError(f"{name!r} is published {len(rivals)} times, in {places}: uninstall one of them")
    if name not in found.stages:
        raise RegistryError(
            f"{name} names a pretrained stage, and no registry.json has one of this name; {nearest(name, found.stages)}"
        )
    entry = found.stages[name]
    offered = {offer.name for plugin in installed() for offer in plugin.offers}
    for part, distribution in entry.plugins.items():
        if part not in offered:
            raise RegistryError(f"{name} takes {part!r}, which no plugin in use offers: install {distribution}")
    return entry


def search(
    pattern: str = "*",
    *,
    code: str | None = None,
    data: str | None = None,
    licence: str | None = None,
    metric: str | None = None,
) -> list[Published]:
    """The published stages of which all of this is so, in alphabetical order.

    Args:
        pattern: a glob for the name, as in ``"conv*"``.
        code: the shape of the code, height x width x channels, or its width: ``"7x7x10"``.
        data: a glob for the name of what it was trained on.
        licence: a glob for the licence of the weights; capitals do not matter.
        metric: a bound on what it is known by, the first of its measurements: ``"mse<0.01"``.

    Raises:
        RegistryError: the bound is none.
    """
    bound = None if metric is None else _bound(metric)
    return [
        entry
        for name, entry in sorted(published().items())
        if fnmatchcase(name, pattern)
        and code in (None, entry.code)
        and (data is None or fnmatchcase(entry.data.name, data))
        and (licence is None or fnmatchcase(entry.licence.lower(), licence.lower()))
        and (bound is None or _holds(bound, entry))
    ]


@cache
def catalogue() -> Catalogue:
    """All registry files, read once in a process."""
    entries = [*read(own()).values()]
    broken = {}
    for reference in (reference for plugin in installed() for reference in plugin.registries):
        try:
            entries += read(locate(reference)).values()
        except RegistryError as error:
            broken[reference] = " ".join(str(error).split())
    stages: dict[str, list[Published]] = {}
    for entry in entries:
        stages.setdefault(entry.name, []).append(entry)
    return Catalogue(
        {name: rivals[0] for name, rivals in stages.items() if len(rivals) == 1},
        {name: tuple(rivals) for name, rivals in stages.items() if len(rivals) > 1},
        broken,
    )


def own() -> Path:
    """The zoo's own registry.json: within the package where it is installed, above it in a checkout."""
    package = Path(__file__).parents[1]
    beside = package / "registry.json"
    return beside if beside.exists() else package.parent / "registry.json"


def locate(reference: str) -> Path:
    """The file behind ``"package:path/registry.json"``; nothing is imported but the package that another lies in.

    Raises:
        RegistryError: there is no such package, or no such file in it, or what it lies in cannot be imported.
    """
    package, _, path = reference.partition(":")
    try:
        found = find_spec(package)
    except (ImportError, ValueError):
        found = None
    except (Exception, SystemExit) as error:  # whatever a stranger's module may raise
        raise RegistryError(
            f"the registry {reference!r} cannot be found: looking for {package} raises {type(error).__name__}: {error}"
        ) from error
    for folder in found.submodule_search_locations or () if found else ():
        if (Path(folder) / path).is_file():
            return Path(folder, path)
    what = f"no file {path!r} in it" if found else "no such package"
    raise RegistryError(f"the registry {reference!r} cannot be found: there is {what}")


def _bound(text: str) -> re.Match[str]:
    found = _COMPARISON.fullmatch(text.strip())
    if found is None or found["name"] not in METRICS:
        raise RegistryError(f"{text!r} is no bound: one is {', '.join(METRICS)}, a sign and a number, as in mse<0.01")
    return found


def _holds(bound: re.Match[str], entry: Published) -> bool:
    value = entry.metrics[0].values.get(bound["name"])
    return value is not None and bool(_SIGNS[bound["sign"]](value, float(bound["value"])))
