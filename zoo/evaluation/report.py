"""A report in words: a table for the terminal, and the same in Markdown for the model card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Report = Mapping[str, Any]

NOTHING = "-"


@dataclass(frozen=True)
class Table:
    """Rows under a heading; the first column is words, the others are numbers."""

    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def text(self) -> str:
        """Aligned columns."""
        lines = [self.heading, *self.rows]
        widths = [max(len(line[place]) for line in lines) for place in range(len(self.heading))]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if place else cell.ljust(width)
                for place, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )

    def markdown(self) -> str:
        """Pipes."""
        rule = "|---" + "|---:" * (len(self.heading) - 1) + "|"
        lines = ([cell.replace("|", "\\|") for cell in line] for line in (self.heading, *self.rows))
        head, *rows = (f"| {' | '.join(line)} |" for line in lines)
        return "\n".join([head, rule, *rows])


def table(report: Report) -> str:
    """The report as plain text.

    Raises:
        EvaluationError: it does not have the form that ``evaluate`` gives, as one of another version of the zoo.
    """
    try:
        parts = [_title(report), *(part.text() for part in _tables(report)), "\n".join(_sentences(report))]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise EvaluationError(
            f"this report was not written by this version of the zoo ({error!r}): evaluate again"
        ) from error
    return "\n\n".join(filter(None, parts))


def markdown(report: Report) -> str:
    """The report as Markdown."""
    sentences = "\n".join(f"- {sentence}" for sentence in _sentences(report))
    parts = [f"{_title(report)}.", *(part.markdown() for part in _tables(report)), sentences, _protocol(report)]
    return "\n\n".join(filter(None, parts))


def _title(report: Report) -> str:
    protocol = report["protocol"]
    size, data = "x".join(map(str, protocol["preprocessing"]["size"])), protocol["data"]
    return f"{protocol['stack']} on {data['name']}, {data['split']}: {data['count']:,} images of {size}"


def _tables(report: Report) -> list[Table]:
    if not report["levels"]:
        return []
    quality = ("", "numbers", "MSE", "MAE", "PSNR dB", "SSIM", "kNN", "probe")
    size = ("", "bytes", "MSE", "PSNR dB", "SSIM")
    spread = ("", "mean", "std", "W2 to prior", "W2 floor", "active")
    return [
        Table(quality, tuple(row for level in report["levels"] for row in _quality(level))),
        Table(size, tuple(row for level in report["levels"] for row in _bytes(level))),
        Table(spread, tuple(_spread(level) for level in report["levels"])),
    ]


def _quality(level: Report) -> Iterator[tuple[str, ...]]:
    """The rows of one level: end to end, and principal components of equal width."""
    yield (
        _name(level),
        f"{level['numbers_out']:,}",
        *_errors(level["reconstruction"]),
        *_accuracies(level["representation"]),
    )
    pca = level["pca"]
    if "skipped" not in pca:
        name = f"  PCA of {pca['of']}"
        yield (name, f"{level['numbers_out']:,}", *_errors(pca), *_accuracies(level["pca_representation"]))
    if level["codes"]:
        yield (f"  in codes of level {level['level'] - 1}", "", number(level["codes"]["mse"]), *[""] * 5)
        if "skipped" not in level["codes"]["pca"]:
            yield ("  PCA of these", "", number(level["codes"]["pca"]["mse"]), *[""] * 5)


def _bytes(level: Report) -> Iterator[tuple[str, ...]]:
    """The rows of one level: its codes as bytes, and JPEG."""
    compression = level["compression"]
    for kind in ("float16", "uint8"):
        mse, _, psnr, ssim = _errors(compression[kind])
        yield (f"level {level['level']} as {kind}", f"{compression[kind]['bytes']:,}", mse, psnr, ssim)
    jpeg = compression["jpeg"]
    if "skipped" not in jpeg:
        mse, _, psnr, ssim = _errors(jpeg)
        name = f"  JPEG, quality {jpeg['quality']}" if jpeg["fits"] else "  JPEG, the smallest"
        yield (name, f"{jpeg['bytes']:,.0f}", mse, psnr, ssim)


def _spread(level: Report) -> tuple[str, ...]:
    prior = level["prior"]
    distance = prior["sliced_wasserstein_draws"]
    return (
        f"codes of level {level['level']}" + ("" if prior["prior"] else ", no prior"),
        *(
            f"{number(prior[key]['median'])} ({number(prior[key]['min'])} to {number(prior[key]['max'])})"
            for key in ("mean", "std")
        ),
        number(prior["sliced_wasserstein_means"] if distance is None else distance),
        number(prior["sliced_wasserstein_floor"]),
        f"{prior['active']:,} of {prior['of']:,}" if "active" in prior else NOTHING,
    )


def _sentences(report: Report) -> list[str]:
    """What fits no table."""
    sentences = [
        f"level {level['level']} has no PCA beside it: {level['pca']['skipped']}"
        for level in report["levels"]
        if "skipped" in level["pca"]
    ]
    if report.get("throughput"):
        speed = report["throughput"]
        sentences.append(
            f"{speed['encode']:,.0f} images/s encoded, {speed['decode']:,.0f} decoded: {report['protocol']['device']}, "
            f"{report['protocol']['precision']}, {speed['batch_size']} at once"
        )
    if report.get("generation"):
        found = report["generation"]
        sentences.append(
            f"FID {number(found['fid'])}, KID {_kid(found)}: "
            f"{found['samples']:,} samples, {found['real']:,} real images, features of {found['features']['network']}"
        )
    if report.get("reconstruction_distance"):
        found = report["reconstruction_distance"]
        sentences.append(
            f"FID of reconstructions {number(found['fid'])}, KID {_kid(found)}: "
            f"{found['real']:,} images, features of {found['features']['network']}"
        )
    if report.get("restoration"):
        found = report["restoration"]
        sentences.append(
            f"of images with {found['corrupt']}, {found['psnr_corrupted']:.2f} dB from the clean ones, what comes back "
            f"is {found['psnr']:.2f} dB from them (MSE {number(found['mse_corrupted'])} and {number(found['mse'])})"
        )
    if report.get("recognition"):
        sentences.append(_recognition(report["recognition"]))
    return sentences + list(report.get("notes", []))


def _recognition(found: Report) -> str:
    levels = (f"{_fixed(right, 3)} through level {number}" for number, right in enumerate(found["levels"], 1))
    left = f"; {found['unknown']} more classes it does not know" if found["unknown"] else ""
    originals = f"{_fixed(found['originals'], 3)} on {found['images']:,} images of {found['classes']} classes"
    return f"accuracy of {found['classifier']['network']}: {', '.join([originals, *levels])}{left}"


def _protocol(report: Report) -> str:
    protocol = report["protocol"]
    versions = ", ".join(f"{name} {version}" for name, version in protocol["versions"].items())
    train = protocol["train"]
    return (
        f"Protocol {protocol['version']} of docs/evaluation.md: pixels in [0, 1]; PCA, kNN (10 neighbours) and probe "
        f"fitted on {train['fitted_on']:,} training images of {train['name']}; W2 is the sliced Wasserstein-2 distance "
        f"of the codes to the prior, the floor that of the prior's own samples; {protocol['precision']} on "
        f"{protocol['device']}; seed {protocol['seed']}; {versions}."
    )


def _name(level: Report) -> str:
    return f"level {level['level']}: {level['spec']}"


def _errors(errors: Report) -> tuple[str, str, str, str]:
    return (number(errors["mse"]), number(errors["mae"]), _fixed(errors["psnr"], 2), _fixed(errors["ssim"], 3))


def _accuracies(accuracies: Report) -> tuple[str, str]:
    return (_fixed(accuracies.get("knn"), 3), _fixed(accuracies.get("probe"), 3))


def _fixed(value: float | None, digits: int) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}"


def number(value: float | None) -> str:
    """Three digits that matter, without an exponent where that reads well.

    >>> number(0.0212345), number(123.456), number(0.0000012), number(None)
    ('0.0212', '123', '1.2e-06', '-')
    """
    if value is None:
        return NOTHING
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _kid(found: dict[str, Any]) -> str:
    """The KID, and its deviation where there is one."""
    deviation = found["kid_std"]
    return number(found["kid"]) if deviation is None else f"{number(found['kid'])} +- {number(deviation)}"
