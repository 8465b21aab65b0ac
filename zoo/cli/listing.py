"""What there is: `zoo list` and `zoo plugins`."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import click

from zoo import registry
from zoo.cli.columns import columns

if TYPE_CHECKING:
    from zoo.registry import Entry, Plugin


@click.command("list")
@click.argument("pattern", default="*")
@click.option("--kind", type=click.Choice([*registry.USES]), help="Only names of this kind.")
@click.option("--pretrained", is_flag=True, help="The published stages instead, as name.tag.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_names(pattern: str, kind: str | None, *, pretrained: bool, as_json: bool) -> None:
    """List the names that a sentence can use.

    PATTERN is a glob, as in 'conv*'.
    """
    found = registry.names(pattern, kind=kind, pretrained=pretrained)
    if pretrained:
        rows = [{"name": name, "kind": "stage"} for name in found]
    else:
        kinds = [kind] if kind else [kind for kind in registry.USES if kind != "command"]
        offers = [entry for plugin in registry.plugins() for entry in plugin.offers if entry.name in found]
        rows = [_row(entry) for kind in kinds for entry in offers if entry.kind == kind]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif rows:
        click.echo(columns([[*row.values()] for row in rows]))
    else:
        click.echo("Nothing of that name." if pattern != "*" else "Nothing yet.", err=True)
    if note := registry.unused():
        click.echo(note, err=True)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def plugins(ctx: click.Context, *, as_json: bool) -> None:
    """Show the plugins, what they offer, and why one is not in use."""
    installed = registry.plugins()
    own = set(getattr(ctx.parent, "command", click.Group()).commands)
    clashes = _clashes(installed, own)
    if as_json:
        click.echo(json.dumps({"plugins": [_described(plugin) for plugin in installed], "clashes": clashes}, indent=2))
        return
    for plugin in installed:
        click.echo(f"{plugin.name}  ({plugin.distribution} {plugin.version})")
        if plugin.error is not None:
            click.echo(f"  not in use: {plugin.error}")
        for kind, names in _by_kind(plugin).items():
            click.echo(f"  {kind}: {', '.join(names)}")
    for clash in clashes:
        click.echo(f"clash: {clash}")


def _row(entry: Entry) -> dict[str, str]:
    return {"name": entry.name, "kind": entry.kind, "plugin": entry.plugin, "origin": entry.origin}


def _described(plugin: Plugin) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "error": plugin.error,
        "offers": [{"name": entry.name, "kind": entry.kind, "reference": entry.reference} for entry in plugin.offers],
    }


def _by_kind(plugin: Plugin) -> dict[str, list[str]]:
    found = {kind: [entry.name for entry in plugin.offers if entry.kind == kind] for kind in registry.USES}
    return {kind: names for kind, names in found.items() if names}


def _clashes(installed: list[Plugin], own: set[str]) -> list[str]:
    """One sentence for every name that is offered more than once, and for every command that the zoo has itself."""
    offered: dict[tuple[bool, str], list[Entry]] = defaultdict(list)
    for plugin in installed:
        for entry in plugin.offers:
            offered[entry.kind == "command", entry.name].append(entry)
    found = []
    for (command, name), rivals in offered.items():
        places = " and ".join(f"{entry.plugin} ({entry.origin})" for entry in rivals)
        if command and name in own:
            found.append(f"the command {name!r} of {places} is not reached: the zoo has one of this name")
        elif len(rivals) > 1:
            found.append(f"{name!r} is offered by {places}: block one of them with {registry.BLOCKED}")
    return found
