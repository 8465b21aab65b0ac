"""What something is, and whose idea it was: `zoo show` and `zoo cite`."""

from __future__ import annotations

import json

import click

from zoo import registry
from zoo.cli import shelf
from zoo.cli.targets import complete_target, outlined, saved

FOUNDATIONS = {
    "PyTorch": "Paszke, A. et al. (2019). PyTorch: An Imperative Style, High-Performance Deep Learning Library. "
    "NeurIPS. arXiv:1912.01703",
    "Accelerate": "Gugger, S. et al. (2022). Accelerate: Training and inference at scale made simple, efficient and "
    "adaptable. https://github.com/huggingface/accelerate",
    "AdamW": "Loshchilov, I. and Hutter, F. (2019). Decoupled Weight Decay Regularization. ICLR. arXiv:1711.05101",
    "cosine schedule": "Loshchilov, I. and Hutter, F. (2017). SGDR: Stochastic Gradient Descent with Warm Restarts. "
    "ICLR. arXiv:1608.03983",
    "averaged weights": "Polyak, B. T. and Juditsky, A. B. (1992). Acceleration of Stochastic Approximation by "
    "Averaging. SIAM Journal on Control and Optimization 30(4)",
    "scikit-learn": "Pedregosa, F. et al. (2011). Scikit-learn: Machine Learning in Python. JMLR 12",
    "TorchMetrics": "Detlefsen, N. S. et al. (2022). TorchMetrics: Measuring Reproducibility in PyTorch. Journal of "
    "Open Source Software 7(70), 4101",
}
"""What every stack is trained and measured with."""


@click.command()
@click.argument("target", metavar="SPEC|DIR|NAME", shell_complete=complete_target)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(target: str, *, as_json: bool) -> None:
    """Show what a spec, a saved stack or a name is.

    Of a spec: its levels with their shapes, sizes, parameters and terms, and their sources. Of the folder of a
    saved stack: its report as well. Of a name, as conv or kl: what it does, and its options. Of a published stage, as
    NAME.TAG: its entry as well.
    """
    from zoo.cli import descriptions

    entry = None if saved(target) else _published(target)
    if entry is not None:
        target = str(entry.folder or entry.spec)  # one on the Hub is described without being fetched
    if not saved(target) and target in registry.names():
        part = descriptions.of_part(registry.find(target))
        click.echo(json.dumps(part, indent=2) if as_json else descriptions.part_in_words(part))
        return
    stack = outlined(target)
    described = descriptions.of_stack(stack)
    if as_json:
        published = {} if entry is None else {"published": shelf.as_json(entry)}
        click.echo(json.dumps(published | described | {"report": stack.report}, indent=2))
        return
    if entry is not None:
        click.echo(f"{shelf.as_page(entry)}\n")
    click.echo(descriptions.stack_in_words(described))
    if stack.report is not None:
        from zoo.evaluation import table

        click.echo(f"\nreport\n\n{table(stack.report)}")


@click.command()
@click.argument("target", metavar="SPEC|DIR", shell_complete=complete_target)
def cite(target: str) -> None:
    """Print the sources of a stack.

    They are those of its parts, and of what every stack is trained and measured with.
    """
    from zoo.cli import descriptions

    sources = descriptions.of_stack(outlined(target))["sources"]
    for name, source in (sources | FOUNDATIONS).items():
        click.echo(f"{name}: {source}")


def _published(target: str) -> registry.Published | None:
    """The published stage of this name, if there is one."""
    found = registry.catalogue() if "." in target else None
    return registry.pretrained(target) if found and target in (*found.stages, *found.clashes) else None
