"""The rows of the table of the unit, the most telling first, and how long each trains."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTHS = (2, 8, 32, 128)
TERMS = ("kl", "wae_mmd", "mc")
TWO = TERMS[:2]
SEVERAL = (8, 128)  # where not every width is measured


@dataclass(frozen=True)
class Size:
    """What stands for an image size.

    Args:
        shape: as the spec begins.
        data: a name or a folder below ``$ZOO_DATA``.
        images: training images, at most: a fixed random part.
        lower: the first level of two.
        steps: for the only level, the lower of two and the upper.
        checked: training images set aside to choose the best weights by.
        tested: test images.
        samples: drawn, and compared with as many test images.
        options: of the fully connected stage on images, where its default is too slow for one core.
    """

    shape: str
    data: str
    images: int
    lower: str
    steps: tuple[int, int, int]
    checked: int
    tested: int
    samples: int
    options: str = ""

    @property
    def numbers(self) -> int:
        """Of one image."""
        height, width, channels = map(int, self.shape.split("x"))
        return height * width * channels


SIZES = {
    28: Size("28x28x1", "fashion_mnist", 20_000, "conv7x7x10", (1500, 1000, 1500), 256, 2000, 2000),
    64: Size("64x64x3", "tiny_imagenet", 10_000, "conv8x8x16", (600, 400, 800), 64, 1000, 500, "(hidden=[128, 128])"),
}


@dataclass(frozen=True)
class Cell:
    """One row: what is trained."""

    size: int
    levels: int
    term: str
    width: int
    weight: float | None = None
    precision: str = "fp32"
    seed: int = 0

    @property
    def spec(self) -> str:
        """What a user would write; the weight only where it is not the default."""
        term = self.term if self.weight is None else f"{self.term}({self.weight:g})"
        size = SIZES[self.size]
        lower, options = (f"{size.lower}/", "") if self.levels == 2 else ("", size.options)
        return f"{size.shape}/{lower}fc{self.width}{options}+{term}"

    @property
    def key(self) -> str:
        """The spec and whatever else tells rows apart."""
        return f"{self.spec} {self.precision} seed {self.seed}"

    def to_json(self) -> dict[str, Any]:
        """All fields, and the spec."""
        return {"key": self.key, "spec": self.spec, **asdict(self)}


def plan() -> list[Cell]:
    """Every row once, in the order of measuring."""
    return list(dict.fromkeys(_wanted()))


def _wanted() -> Iterator[Cell]:
    yield from _default(28, 1)
    yield from _default(28, 2, terms=TWO)
    yield from _default(64, 1, terms=TWO)
    yield from _weights("wae_mmd", 64, 1, SEVERAL, (5000,))
    yield from _weights("wae_mmd", 64, 1, (8,), (30, 100))
    yield from _weights("wae_mmd", 64, 1, WIDTHS, (12288,))
    yield from _weights("wae_mmd", 28, 1, WIDTHS, (784,))
    yield from _default(64, 2, terms=TWO)
    yield from _weights("wae_mmd", 64, 2, SEVERAL, (1024,))
    yield from _weights("wae_mmd", 28, 2, SEVERAL, (490,))
    for levels in (1, 2):
        yield from _default(28, levels, SEVERAL, TWO, precision="bf16")
    yield from _default(64, 1, SEVERAL, TWO, precision="bf16")
    yield from _default(28, 2, terms=("mc",))
    yield from _default(64, 1, terms=("mc",))
    yield from _weights("kl", 28, 1, (2, 8), (3, 10))
    yield from _default(64, 2, SEVERAL, TWO, precision="bf16")
    yield from (Cell(28, 1, term, width, seed=1) for width, term in product(SEVERAL, TWO))
    yield from _default(64, 2, terms=("mc",))
    yield from _weights("wae_mmd", 28, 1, SEVERAL, (30, 100, 3000))
    yield from _weights("wae_mmd", 28, 1, WIDTHS, (30, 100, 3000))
    yield from _weights("wae_mmd", 28, 2, WIDTHS, (100, 490))
    yield from _weights("wae_mmd", 64, 2, WIDTHS, (1024,))
    yield from _weights("kl", 28, 1, WIDTHS, (0.3, 3))
    yield from (Cell(28, 2, term, width, seed=1) for width, term in product(SEVERAL, TERMS))
    for size, levels in product(SIZES, (2, 1)):
        yield from _default(size, levels, precision="bf16")


def _default(
    size: int, levels: int, widths: tuple[int, ...] = WIDTHS, terms: tuple[str, ...] = TERMS, precision: str = "fp32"
) -> Iterator[Cell]:
    return (Cell(size, levels, term, width, precision=precision) for term, width in product(terms, widths))


def _weights(term: str, size: int, levels: int, widths: tuple[int, ...], weights: tuple[float, ...]) -> Iterator[Cell]:
    return (Cell(size, levels, term, width, weight) for width, weight in product(widths, weights))
