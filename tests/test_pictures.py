"""What pictures show, pixel by pixel where that can be said."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import zoo
from zoo.data import Images
from zoo.errors import EvaluationError
from zoo.pictures import album, codes, curves, draw, grid, interpolation
from zoo.pictures.grids import GAP, enlargement, labelled, tiles
from zoo.pictures.interpolation import arc, between, curved

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["reconstructions.png", "pairs.png", "samples.png", "similar.png", "interpolation.png", "codes.png"]


def noise(count: int, *, channels: int = 1, size: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def shown() -> Images:
    return Images(
        (noise(30) * 255).byte(), labels=torch.arange(30) % 3, classes=("cat", "dog", "emu"), name="noise",
        split="test", files=None, skipped=(),
    )  # fmt: skip


@pytest.fixture
def history(tmp_path: Path) -> Path:
    lines = [
        {
            "level": level,
            "phase": "codes",
            "step": step,
            "loss": -1 + 9 / (step + 1),
            "terms": {"kl": 1000 / (step + 1)},
        }
        for level in (1, 2)
        for step in range(40)
    ]
    lines.insert(40, {"level": 1, "phase": "codes", "step": 39, "val": {"loss": -0.5, "mse": 0.01}})
    path = tmp_path / "run" / "history.jsonl"
    path.parent.mkdir()
    path.write_text("\n".join(map(json.dumps, lines)) + '\n{"level": 2, "ph')
    return path


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def place_of(part: np.ndarray, whole: np.ndarray) -> tuple[int, int] | None:
    """Where a block of pixels stands in a picture, exactly."""
    height, width, _ = part.shape
    starts = (whole[: len(whole) - height + 1, : whole.shape[1] - width + 1] == part[0, 0]).all(-1)
    for top, left in np.argwhere(starts):
        if (whole[top : top + height, left : left + width] == part).all():
            return int(top), int(left)
    return None


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_grid_shows_every_pixel_as_a_square(tmp_path: Path, channels: int) -> None:
    images = noise(5, channels=channels)
    page = pixels(grid(images, tmp_path / "grid.png", columns=3))
    factor = enlargement(images)
    side = 12 * factor
    assert factor > 1
    assert page.shape == (2 * side + GAP, 3 * side + 2 * GAP, 3)
    fourth = page[side + GAP : 2 * side + GAP, :side]
    visible = images[3, :3] if channels >= 3 else images[3, :1].expand(3, -1, -1)
    expected = (visible * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(fourth, np.kron(expected, np.ones((factor, factor, 1), np.uint8)))
    assert (page[side + GAP :, -side:] == 255).all()  # the sixth place is empty


def test_large_images_are_not_enlarged_and_columns_fit_the_page(tmp_path: Path) -> None:
    page = pixels(grid(noise(9, size=300), tmp_path / "grid.png"))
    assert page.shape == (3 * 300 + 2 * GAP, 3 * 300 + 2 * GAP, 3)


def test_no_images_are_no_grid(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"not \(0, 1, 12, 12\)"):
        grid(noise(0), tmp_path / "grid.png")


def test_words_stand_beside_images_that_stay_crisp(tmp_path: Path) -> None:
    rows = [noise(4, seed=1), noise(4, seed=2)]
    texts = ["images", f"level 1\n{'W' * 30}\n8 numbers"]
    page = pixels(labelled(rows, tmp_path / "page.png", title="M" * 90, beside=texts, above=list("abcd")))
    spots = [place_of(tiles(row, 4), page) for row in rows]
    assert all(spots)
    (top, left), (second, again) = spots
    height, width, _ = tiles(rows[0], 4).shape
    assert (second, again) == (top + height + GAP, left)
    edge = np.concatenate([page[:, :3].ravel(), page[:, -3:].ravel(), page[:3].ravel(), page[-3:].ravel()])
    assert (edge == 255).all()  # nothing is cut off
    assert (page[top:, left - 4 : left] == 255).all()  # words keep their distance
    assert (page[top - 3 : top, left : left + width] == 255).all()
    assert (page[second : second + height, :left] < 128).any()
    assert (page[:top] < 128).any()


def test_a_stack_is_drawn(shown: Images, history: Path, caplog) -> None:
    stack = zoo.build("12x12x1/conv3x3x4/fc3+kl").train()
    torch.manual_seed(3)
    state = torch.get_rng_state()
    folder = history.parent
    written = draw(stack, shown, folder)
    assert [path.name for path in written] == [*NAMES, "curves.png"]
    assert all(path.parent == folder and path.stat().st_size < 500_000 for path in written)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in stack.modules())
    assert sorted(path.name for path in folder.iterdir()) == sorted([*NAMES, "curves.png", "history.jsonl"])
    before = [path.read_bytes() for path in written]
    assert [path.read_bytes() for path in draw(stack, shown, folder)] == before
    assert not caplog.records


def test_reconstructions_are_those_of_every_level(shown: Images, tmp_path: Path) -> None:
    stack = zoo.build("12x12x1/conv3x3x4/fc3+kl")
    page = pixels(draw(stack, shown, tmp_path, seed=1)[0])
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))[:16]
    x = shown.batch(order)
    with torch.inference_mode():
        rows = [x, *(stack.decode(stack.encode(x, number), number) for number in (1, 2))]
    tops = [place_of(tiles(row, 16), page) for row in rows]
    assert all(tops)
    assert tops == sorted(tops)


def test_samples_are_those_of_the_seed(shown: Images, tmp_path: Path) -> None:
    stack = zoo.build("12x12x1/fc3+kl")
    page = pixels(draw(stack, shown, tmp_path, seed=1)[2])
    assert place_of(tiles(stack.sample(100, seed=1)[10:20], 10), page)


def test_draws_stand_beneath_the_images_and_their_means(shown: Images, tmp_path: Path) -> None:
    stack = zoo.build("12x12x1/fc3+kl")
    page = pixels(draw(stack, shown, tmp_path, seed=1)[3])
    x = shown.batch(torch.randperm(30, generator=torch.Generator().manual_seed(1))[:10])
    rows = [x, stack.similar(x, noise=False), *(stack.similar(x, seed=seed) for seed in (1, 2, 3))]
    tops = [place_of(tiles(row, 10), page) for row in rows]
    assert all(tops)
    assert tops == sorted(tops)
    assert len(set(tops)) == 5


def test_samples_of_a_head_that_has_learned_classes_come_class_by_class(shown: Images, tmp_path: Path) -> None:
    stack = zoo.build("12x12x1/fc3/mixture(6, classes=true)")
    stack.head.prepare(torch.randn(90, 3, generator=torch.Generator().manual_seed(0)), torch.arange(90) % 3)
    page = pixels(draw(stack, shown, tmp_path, seed=1)[2])
    rows = [stack.sample(10, seed=1, label=label) for label in range(3)]
    tops = [place_of(tiles(row, 10), page) for row in rows]
    assert all(tops)
    assert tops == sorted(tops)
    assert len(set(tops)) == 3


def test_what_cannot_be_drawn_is_left_out_and_said(shown: Images, tmp_path: Path, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        written = draw(zoo.build("12x12x1/conv3x3x4"), shown, tmp_path)
    assert [path.name for path in written] == ["reconstructions.png", "pairs.png", "interpolation.png", "codes.png"]
    assert "no prior" in caplog.text
    assert "no posterior to draw from" in caplog.text
    assert "history" in caplog.text


def test_one_image_without_a_label_is_enough(tmp_path: Path, monkeypatch) -> None:
    alone = Images(
        (noise(1, channels=3) * 255).byte(), labels=None, classes=None, name="one", split="test", files=None,
        skipped=(),
    )  # fmt: skip
    above = {}

    def watched(rows, path, **words):
        above[path.name] = len(words.get("above", ())), len(rows[0])
        return labelled(rows, path, **words)

    monkeypatch.setattr(album, "labelled", watched)
    written = draw(zoo.build("12x12x3/fc3+kl"), alone, tmp_path)
    assert above["pairs.png"] == (2, 2)  # words above what is there, and above nothing else
    assert [path.name for path in written] == [
        "reconstructions.png",
        "pairs.png",
        "samples.png",
        "similar.png",
        "codes.png",
    ]


def test_a_picture_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "page.png"
    labelled([noise(2)], path, title="old")
    before = path.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        labelled([noise(2)], path, title="new")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("spec", "bent"), [("12x12x1/fc3+kl", True), ("12x12x1/fc3", False), ("12x12x1/conv3x3x4+kl", False)]
)
def test_interpolation_goes_from_code_to_code(spec: str, bent: bool) -> None:
    stack = zoo.build(spec)
    assert curved(stack) is bent
    first, last = noise(2, seed=1), noise(2, seed=2)
    with torch.inference_mode():
        ways = between(stack, first, last, 5)
        assert ways.shape == (2, 5, 1, 12, 12)
        assert torch.allclose(ways[:, 0], stack(first), atol=1e-5)
        assert torch.allclose(ways[:, -1], stack(last), atol=1e-5)
        middle = (stack.encode(first) + stack.encode(last)) / 2
        assert torch.allclose(ways[:, 2], stack.decode(middle), atol=1e-6) is not bent


def test_much_is_encoded_and_decoded_in_parts(shown: Images, tmp_path: Path, monkeypatch) -> None:
    stack = zoo.build("12x12x1/fc3+kl").eval()
    first, last = noise(2, seed=1), noise(2, seed=2)
    with torch.inference_mode():
        whole = between(stack, first, last, 5)
    encoded, decoded = [], []
    encode, decode = stack.encode, stack.decode

    def count_encoded(x, levels=None):
        encoded.append(len(x))
        return encode(x, levels)

    def count_decoded(z, levels=None):
        decoded.append(len(z))
        return decode(z, levels)

    monkeypatch.setattr(stack, "encode", count_encoded)
    monkeypatch.setattr(stack, "decode", count_decoded)
    monkeypatch.setattr(interpolation, "AT_ONCE", 4)
    with torch.inference_mode():
        assert torch.allclose(between(stack, first, last, 5), whole, atol=1e-6)
    assert decoded == [4, 4, 2]
    encoded.clear()
    monkeypatch.setattr(album, "AT_ONCE", 12)
    album.Easel(stack, shown, tmp_path, seed=0).codes()
    assert encoded == [12, 12, 6]


def test_an_arc_turns_evenly_and_joins_what_has_no_arc() -> None:
    a, b = torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 0]]), torch.tensor([[0.0, 2], [2, 0], [-1, 0], [0, 1]])
    middle = arc(a, b, torch.tensor(0.5))
    root = 1.5 / 2**0.5
    assert torch.allclose(middle, torch.tensor([[root, root], [1.5, 0], [0, 0], [0, 0.5]]), atol=1e-6)
    third = arc(a[:1], b[:1], torch.tensor(1 / 3))
    assert torch.atan2(third[0, 1], third[0, 0]).item() == pytest.approx(np.pi / 6, abs=1e-6)


def test_a_code_of_two_numbers_is_shown_as_it_is_and_others_by_their_components() -> None:
    z = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    points, axes = codes.plane(z, 0)
    assert np.array_equal(points, z.numpy())
    assert axes[0] == "code, first number"
    stretched = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 0.1, 1, 0.1])
    points, axes = codes.plane(stretched, 0)
    assert abs(np.corrcoef(points[:, 0], stretched[:, 0])[0, 1]) > 0.99
    assert axes[0] == "principal component 1: 89% of the variance"


def test_words_are_taken_literally(tmp_path: Path) -> None:
    names = ("_hidden", "$dollars", "a$^$b")
    labels = torch.arange(3)
    plain, drawn = (
        pixels(codes.scatter(torch.eye(3), labels, classes, tmp_path / "codes.png", title="$_{", seed=0))
        for classes in (("hidden", "dollars", "a^b"), names)
    )
    assert (plain != drawn).any()
    assert codes._name(0, names) == " _hidden"
    labelled([noise(2)], tmp_path / "page.png", title="$_{", beside=["$_{"], above=["$_{", "$_{"])


@pytest.mark.parametrize("shape", [(5, 1), (5, 3), (1, 3), (4, 2, 3, 3)])
@pytest.mark.parametrize("classes", [0, 1, 15, 30])
def test_codes_of_every_kind_are_scattered(tmp_path: Path, shape: tuple[int, ...], classes: int) -> None:
    labels = torch.arange(shape[0]) % classes + max(0, classes - 5) if classes else None
    path = codes.scatter(torch.zeros(shape), labels, None, tmp_path / "codes.png", title="codes", seed=0)
    assert (pixels(path) < 255).any()


def test_curves_are_read_by_level_and_phase(history: Path) -> None:
    rows = curves._read(history)
    assert list(rows) == [(1, "codes"), (2, "codes")]
    assert list(rows[1, "codes"]) == ["loss", "kl", "MSE"]
    panel = rows[1, "codes"]["loss"]
    assert (len(panel.training[0]), panel.held_out) == (40, ([39], [-0.5]))
    assert rows[1, "codes"]["MSE"].training == ([], [])


def test_axes_suit_the_numbers(history: Path) -> None:
    rows = curves._read(history)
    plots = [Figure().add_subplot() for _ in range(2)]
    curves._draw(plots[0], rows[1, "codes"]["kl"])
    assert plots[0].get_yscale() == "log"
    curves._draw(plots[1], rows[1, "codes"]["loss"])
    assert plots[1].get_yscale() == "linear"
    assert plots[1].get_ylim()[1] < 4  # it starts at 8


def test_a_history_without_steps_has_no_curves(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_text('[1]\n{"level": 1, "phase": "codes", "step": 3, "loss": NaN}\n')
    with pytest.raises(EvaluationError, match="no steps"):
        curves.curves(tmp_path / "history.jsonl", tmp_path / "curves.png", title="none")
