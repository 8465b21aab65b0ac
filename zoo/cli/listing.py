"""What there is: `zoo list` and `zoo plugins`."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import click

from zoo import registry
from zoo.cli import COMMANDS, shelf
from zoo.cli.columns import columns
from zoo.errors import RegistryError

if TYPE_CHECKING:
    from zoo.registry import Entry, Plugin


@click.command("list")
@click.argument("pattern", default="*")
@click.option("--kind", type=click.Choice([*registry.USES]), help="Only names of this kind.")
@click.option("--pretrained", is_flag=True, help="The published stages instead, as name.tag.")
@click.option("--code", metavar="SHAPE", help="Of these, codes of this shape, as in 7x7x10.")
@click.option("--data", metavar="GLOB", help="Of these, those trained on it.")
@click.option("--licence", metavar="GLOB", help="Of these, weights under it, as in 'cc-by*'.")
@click.option("--metric", metavar="BOUND", help="Of these, what was measured within it, as in 'mse<0.01'.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_names(pattern: str, kind: str | None, *, pretrained: bool, as_json: bool, **filters: str | None) -> None:
    """List the names that a spec can use.

    PATTERN is a glob, as in 'conv*'.
    """
    filtered = any(value is not None for value in filters.values())
    if pretrained and kind is not None:
        raise click.UsageError("--pretrained lists stages: it takes no --kind.")
    if filtered and not pretrained:
        raise click.UsageError(
            "--code, --data, --licence and --metric are of published stages: they take --pretrained."
        )
    if pretrained:
        stages = registry.search(pattern, **filters)
        rows, text = [shelf.as_json(stage) for stage in stages], shelf.as_rows(stages)
    else:
        rows = _rows(pattern, kind)
        text = columns([[*row.values()] for row in rows] or [[]])
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif rows:
        click.echo(text)
    else:
        click.echo("Nothing of that name." if pattern != "*" or filtered else "Nothing yet.", err=True)
    for note in filter(None, (registry.unused(), _missing() if pretrained else "")):
        click.echo(note, err=True)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plugins(*, as_json: bool) -> None:
    """Show the plugins, what they offer, and why one is not in use."""
    installed = registry.plugins()
    broken, published_twice = _registry_problems()
    clashes = _clashes(installed) + published_twice
    if as_json:
        described = [_described(plugin, broken) for plugin in installed]
        click.echo(json.dumps({"plugins": described, "clashes": clashes}, indent=2))
        return
    for plugin in installed:
        click.echo(f"{plugin.name}  ({plugin.distribution} {plugin.version})")
        if plugin.error is not None:
            click.echo(f"  not in use: {plugin.error}")
        for kind, names in _by_kind(plugin).items():
            click.echo(f"  {kind}: {', '.join(names)}")
        for reference in plugin.registries:
            problem = broken.get(reference)
            click.echo(f"  registry: {f'not in use: {problem}' if problem else reference}")
    for clash in clashes:
        click.echo(f"clash: {clash}")


def _rows(pattern: str, kind: str | None) -> list[dict[str, str]]:
    """What a spec can name, kind by kind."""
    found = registry.names(pattern, kind=kind)
    kinds = [kind] if kind else [kind for kind in registry.USES if kind != "command"]
    offers = sorted(
        (entry for plugin in registry.plugins() for entry in plugin.offers if entry.name in found),
        key=lambda entry: entry.name,
    )
    return [
        {"name": entry.name, "kind": entry.kind, "plugin": entry.plugin, "origin": entry.origin}
        for kind in kinds
        for entry in offers
        if entry.kind == kind
    ]


def _missing() -> str:
    """A line that says that some published stages are left out; empty where none are."""
    found = registry.catalogue()
    return "Some published stages are left out; `zoo plugins` says why." if found.broken or found.clashes else ""


def _registry_problems() -> tuple[dict[str, str], list[str]]:
    """What is wrong with each registry file that cannot be used, and a spec for every name published twice."""
    try:
        found = registry.catalogue()
    except RegistryError as error:
        return {}, [str(error)]
    twice = [
        f"{name!r} is published in {' and '.join(str(rival.registry) for rival in rivals)}: neither is used"
        for name, rivals in found.clashes.items()
    ]
    return found.broken, twice


def _described(plugin: Plugin, broken: dict[str, str]) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "error": plugin.error,
        "offers": [{"name": entry.name, "kind": entry.kind, "reference": entry.reference} for entry in plugin.offers],
        "registries": [{"reference": name, "error": broken.get(name)} for name in plugin.registries],
    }


def _by_kind(plugin: Plugin) -> dict[str, list[str]]:
    found = {kind: [entry.name for entry in plugin.offers if entry.kind == kind] for kind in registry.USES}
    return {kind: names for kind, names in found.items() if names}


def _clashes(installed: list[Plugin]) -> list[str]:
    """One spec for every name that is offered more than once, and for every command that the zoo has itself."""
    offered: dict[tuple[bool, str], list[Entry]] = defaultdict(list)
    for plugin in installed:
        for entry in plugin.offers:
            offered[entry.kind == "command", entry.name].append(entry)
    found = []
    for (command, name), rivals in offered.items():
        places = " and ".join(f"{entry.plugin} ({entry.origin})" for entry in rivals)
        if command and name in COMMANDS:
            found.append(f"the command {name!r} of {places} is not reached: the zoo has one of this name")
        elif len(rivals) > 1:
            found.append(f"{name!r} is offered by {places}: block one of them with {registry.BLOCKED}")
    return found
