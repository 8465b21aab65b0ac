"""The program `zoo`. A command is imported when it is called or told of, and what it alone needs when it runs."""

from __future__ import annotations

import click

from zoo.cli.program import Program

__all__ = ["main"]

COMMANDS = {
    "demo": "zoo.cli.demonstrating:demo",
    "list": "zoo.cli.listing:list_names",
    "show": "zoo.cli.showing:show",
    "plugins": "zoo.cli.listing:plugins",
    "cite": "zoo.cli.showing:cite",
    "train": "zoo.cli.training:train",
    "lr-find": "zoo.cli.rates:lr_find",
    "eval": "zoo.cli.evaluating:evaluate",
    "compare": "zoo.cli.comparing:compare",
    "sample": "zoo.cli.drawing:sample",
    "draw": "zoo.cli.drawing:draw",
    "encode": "zoo.cli.coding:encode",
    "decode": "zoo.cli.coding:decode",
    "nearest": "zoo.cli.searching:nearest",
    "anomalies": "zoo.cli.searching:anomalies",
    "interpolate": "zoo.cli.varying:interpolate",
    "similar": "zoo.cli.varying:similar",
    "rungs": "zoo.cli.rungs:rungs",
    "push": "zoo.cli.sharing:push",
    "pull": "zoo.cli.sharing:pull",
    "publish": "zoo.cli.publishing:publish",
    "verify": "zoo.cli.publishing:verify",
    "reproduce": "zoo.cli.reproducing:reproduce",
    "cache": "zoo.cli.caching:cache",
}
"""The program's own commands in the order of its help, each as ``module:function``."""


@click.group(
    "zoo",
    cls=Program,
    own=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog='Completion in the shell: eval "$(_ZOO_COMPLETE=bash_source zoo)", or zsh_source, or fish_source.',
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="stackzoo", prog_name="zoo")
def main(*, debug: bool) -> None:
    """Train, measure and use stacks of autoencoders.

    A stack is a spec, as in 28x28x1/conv7x7x10/fc8+kl: levels, pixels first, each a stage and the terms of its
    objective. `zoo list` shows the names there are, `zoo demo` trains a first one.
    """
