"""What people do with codes: the nearest images, unusual ones, those in between, and those that are alike."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import ramps
import torch
from click.testing import CliRunner, Result
from PIL import Image
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from zoo import experiments
from zoo.builder import build
from zoo.cli import main, searching
from zoo.cli.targets import complete_saved
from zoo.data import Images, image, images, single
from zoo.errors import DataError, EvaluationError, SpecError
from zoo.evaluation import anomalies, coded, nearest, normality, search
from zoo.experiments import bench, unusual
from zoo.pictures.grids import GAP, LINE, captioned, enlargement
from zoo.pictures.mixing import animation, strip
from zoo.stack import Stack

if TYPE_CHECKING:
    from zoo.posterior import Posterior

SHAPE = (1, 28, 28)  # that of the sample, whose images then need no resizing
SPEC = "28x28x1/fc4(hidden=[16])+kl"
some_images = partial(ramps.some_images, size=28)


def prepared(spec: str) -> Stack:
    """A stack whose linear path has seen images: not trained, but its codes say something."""
    stack = build(spec)
    for level in stack.lower():
        level.prepare(some_images(200, seed=9).batch(slice(0, 200)))
    return stack.eval()


@pytest.fixture(scope="module")
def stack() -> Stack:
    return prepared(SPEC)


@pytest.fixture(scope="module")
def codes_of_ramps(stack: Stack) -> torch.Tensor:
    with torch.inference_mode():
        return stack.encode(some_images(50).batch(slice(0, 50)))


def noise(count: int) -> torch.Tensor:
    return (torch.rand(count, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 255).byte()


# -- one image -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 40 smooth images of two classes, one of them there twice, and two of noise."""
    folder = tmp_path_factory.mktemp("photos")
    shown = some_images(40, seed=3)
    pixels = [*shown.pixels[:, 0], *noise(2)[:, 0]]
    for number, picture in enumerate(pixels):
        path = folder / ("left", "top")[number % 2] / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(picture.numpy()).save(path)
    (folder / "left" / "copy.png").write_bytes((folder / "left" / "04.png").read_bytes())
    return folder


def test_an_image_is_a_file_or_a_number(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = image(str(photos / "left" / "04.png"), SHAPE)
    assert torch.equal(one.pixels[0], some_images(40, seed=3).pixels[4])
    whole = images("sample", SHAPE, split="all")
    ninth = image("sample:9000", SHAPE)
    assert torch.equal(ninth.pixels[0], images("sample", SHAPE, split="test").pixels[0])
    assert ninth.classes[ninth.labels[0]] == whole.classes[whole.labels[9000]]
    monkeypatch.setenv("ZOO_DATA", str(photos.parent))
    assert torch.equal(image(f"{photos.name}/left/04.png", SHAPE).pixels, one.pixels)
    assert image(str(photos / "left" / "04.png"), (3, 6, 9)).shape == (3, 6, 9)


@pytest.mark.parametrize("split", ["all", "train", "test"])
def test_names_lead_back_to_their_images(photos: Path, split: str) -> None:
    for data in (str(photos), "sample"):
        shown = images(data, SHAPE, split=split)
        names = single.named(data, shown)
        assert len(names) == len(shown)
        for place in (0, len(shown) // 2, len(shown) - 1):
            assert torch.equal(image(names[place], shown.shape).pixels[0], shown.pixels[place])


def test_one_image_by_two_names(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    assert single.same("left/04.png", str(photos / "left" / ".." / "left" / "04.png"))
    assert single.same("sample:3", "sample:3")
    assert not single.same("left/04.png", "left/copy.png")
    assert not single.same("sample:3", "left/04.png")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nowhere.png", "no image at 'nowhere.png'"),
        ("", "no image at ''"),
        ("left", "left is a folder"),
        ("notes.txt", "notes.txt is no image by its name"),
        ("broken.png", "broken.png: not an image"),
        ("sample:10000", "sample has images 0 to 9999"),
        ("nothing:3", "no data at 'nothing'"),
    ],
)
def test_what_is_no_image(source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("left").mkdir()
    for name in ("notes.txt", "broken.png"):
        Path(name).write_text("no image")
    with pytest.raises(DataError, match=said):
        image(source, SHAPE)


# -- nearest ---------------------------------------------------------------------------------------------------------


def test_the_nearest_are_those_of_scikit_learn(stack: Stack, codes_of_ramps: torch.Tensor, monkeypatch) -> None:
    monkeypatch.setattr(search, "AT_ONCE", 7)
    codes = coded(stack, some_images(50))
    asked = torch.randn(4, generator=torch.Generator().manual_seed(0))
    distances, places = nearest(asked, codes, 6)
    wanted = NearestNeighbors(n_neighbors=6).fit(codes_of_ramps.numpy()).kneighbors(asked[None].numpy())
    np.testing.assert_allclose(distances, wanted[0][0], rtol=1e-4)
    assert places.tolist() == wanted[1][0].tolist()
    assert len(nearest(asked, codes, 100)[0]) == 50


# -- anomalies -------------------------------------------------------------------------------------------------------


def left_out(z: np.ndarray) -> np.ndarray:
    """The mean distance of each row to its ten nearest others."""
    distances = np.linalg.norm(z[:, None] - z[None], axis=2)
    return np.sort(distances, 1)[:, 1:11].mean(1)


def robust(value: np.ndarray, usual: np.ndarray) -> np.ndarray:
    value, usual = np.log(value), np.log(usual)
    middle = np.sort(usual)[(len(usual) - 1) // 2]  # torch's median is the lower of two
    spread = np.sort(np.abs(usual - middle))[(len(usual) - 1) // 2]
    return (value - middle) / (1.4826 * spread)


def test_scores_are_those_of_the_formula(stack: Stack, codes_of_ramps: torch.Tensor) -> None:
    found = anomalies(stack, some_images(50))
    x = some_images(50).batch(slice(0, 50))
    with torch.inference_mode():
        error = (stack(x) - x).square().flatten(1).mean(1).double().numpy()
    distance = left_out(codes_of_ramps.double().numpy())
    score = np.maximum(robust(error, error), robust(distance, distance))
    np.testing.assert_allclose(found.error, error, rtol=1e-4)
    np.testing.assert_allclose(found.distance, distance, rtol=1e-4)
    np.testing.assert_allclose(found.score, score, atol=1e-3)
    np.testing.assert_allclose(found.share, [(score < one).mean() for one in score], atol=0.021)


def test_other_images_are_compared_with_all_normal_ones(stack: Stack, codes_of_ramps: torch.Tensor) -> None:
    shown = some_images(8, seed=4)
    found = anomalies(stack, shown, some_images(50))
    with torch.inference_mode():
        z = stack.encode(shown.batch(slice(0, 8))).numpy()
    distances = np.sort(np.linalg.norm(z[:, None] - codes_of_ramps.numpy()[None], axis=2), 1)[:, :10]
    np.testing.assert_allclose(found.distance, distances.mean(1), rtol=1e-4)


def test_an_image_is_not_its_own_neighbour_among_normal_ones_either(stack: Stack) -> None:
    shown = some_images(60)
    alone = anomalies(stack, shown)
    beside = anomalies(stack, shown.subset(torch.arange(30)), shown.subset(torch.arange(60)))
    torch.testing.assert_close(beside.distance, alone.distance[:30])
    torch.testing.assert_close(beside.score, alone.score[:30])


def test_what_is_unlike_the_others_stands_out(stack: Stack) -> None:
    """Noise does not come back; an even picture does, from where no other code is."""
    even = torch.full((3, 1, 28, 28), 250, dtype=torch.uint8)
    strange = torch.cat([noise(5), even])
    for normal in (some_images(60, seed=1), None):
        shown = Images(torch.cat([strange, some_images(60).pixels]), name="mixed")
        found = anomalies(stack, shown, normal)
        truth = torch.arange(len(shown)) < len(strange)
        assert roc_auc_score(truth, found.score) > 0.98
        assert (found.share[truth] > 0.85).all()


def test_normal_images_are_drawn_where_there_are_many(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normality.protocol, "FITTED_ON", 20)
    shown = some_images(50)
    found, again, other = (anomalies(stack, shown, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(found.score, again.score)
    assert not torch.equal(found.score, other.score)
    assert (found.distance > 0).all()  # no image counts as its own neighbour


def test_images_that_are_all_the_same_are_as_usual_as_each_other(stack: Stack) -> None:
    found = anomalies(stack, Images(some_images(1).pixels.expand(30, -1, -1, -1).contiguous()))
    assert found.score.unique().tolist() == [0]


def test_too_few_images_are_no_norm(stack: Stack) -> None:
    with pytest.raises(EvaluationError, match="10 images do not say what is normal"):
        anomalies(stack, some_images(10))


def test_codes_take_a_level() -> None:
    empty = build("28x28x1/normal").eval()
    for use in (
        lambda: coded(empty, some_images(3)),
        lambda: strip(empty, *some_images(2).batch(slice(0, 2)).split(1), 3, ""),
    ):
        with pytest.raises(EvaluationError, match="has no level that encodes"):
            use()
    with pytest.raises(SpecError, match="has no level that encodes"):
        empty.similar(torch.rand(1, 1, 28, 28))


def test_the_recipe_finds_a_class_that_was_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def some(name: str, shape: tuple[int, ...], *, split: str) -> Images:
        return some_images({"train": 60, "test": 30}[split], seed=len(split))

    for module in (unusual, bench):
        monkeypatch.setattr(module, "images", some)
    recipe = experiments.read("anomalies", quick=True)
    settings = recipe.settings | {"classes": [0, 1]}
    recipe = replace(recipe, stacks={"stack": SPEC}, settings=settings, training={"steps": 2, "batch_size": 8})
    page = experiments.reproduce(recipe, out=tmp_path, progress=False)
    rows = page.tables["Areas under the ROC curve"]
    assert [row["class"] for row in rows] == ["left", "top", "mean"]
    for name in ("both", "error", "distance", "PCA error", "isolation forest"):
        assert rows[2][name] == pytest.approx((rows[0][name] + rows[1][name]) / 2)
    assert rows[2]["both"] > 0.9
    assert pixels(tmp_path / "worst.png").shape[0] > 2 * 28


# -- similar ---------------------------------------------------------------------------------------------------------


def test_similar_images_are_draws_of_the_posterior_decoded(stack: Stack) -> None:
    x = some_images(3).batch(slice(0, 3))
    before = torch.get_rng_state()
    drawn = stack.similar(x, seed=5)
    assert torch.equal(before, torch.get_rng_state())
    posterior = stack.posterior(x)
    with torch.inference_mode():
        wanted = stack.decode(posterior.sample(torch.Generator().manual_seed(5)))
        assert torch.equal(drawn, wanted)
        assert torch.equal(stack.similar(x, noise=False), stack(x))
    assert not torch.equal(stack.similar(x, seed=6), drawn)
    assert not drawn.requires_grad
    torch.manual_seed(1)
    one = stack.similar(x)
    torch.manual_seed(1)
    assert torch.equal(stack.similar(x), one)


def test_many_draws_of_one_image_encode_it_once(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    x = some_images(2).batch(slice(0, 2))
    apart = stack.similar(x.repeat_interleave(300, 0), seed=5)
    encoded, decoded = [], []
    posterior, decode = stack.posterior, stack.decode

    def count_encoded(images: torch.Tensor, levels: int | None = None) -> Posterior:
        encoded.append(len(images))
        return posterior(images, levels)

    def count_decoded(z: torch.Tensor, levels: int | None = None) -> torch.Tensor:
        decoded.append(len(z))
        return decode(z, levels)

    monkeypatch.setattr(stack, "posterior", count_encoded)
    monkeypatch.setattr(stack, "decode", count_decoded)
    drawn = stack.similar(x, seed=5, draws=300)
    torch.testing.assert_close(drawn, apart)
    assert (encoded, decoded) == ([2], [256, 256, 88])


def test_points_have_nothing_similar() -> None:
    stack = prepared("28x28x1/fc4")
    x = some_images(2).batch(slice(0, 2))
    assert torch.equal(stack.similar(x, noise=False), stack(x))
    with pytest.raises(EvaluationError, match=r"no posterior to draw from.*\+kl"):
        stack.similar(x)


# -- pictures --------------------------------------------------------------------------------------------------------


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture.convert("RGB"))


def test_captioned_images_stand_in_rows_with_their_layers_under_them(tmp_path: Path) -> None:
    layers = [torch.full((5, 1, 12, 12), grey) for grey in (0.2, 0.6)]
    page = pixels(captioned(layers, list("abcde"), tmp_path / "a.png", title="five", columns=3))
    side = 12 * enlargement(layers[0])
    for row in range(2):
        top = 2 * LINE + row * (2 * (side + GAP) + LINE + 4)
        for layer, grey in enumerate((51, 153)):
            line = page[top + layer * (side + GAP) + side // 2, 10:, 0]
            assert (line == grey).sum() == (3, 2)[row] * side
    assert page[0, 0].tolist() == [255, 255, 255]


def test_the_animation_goes_there_and_back(stack: Stack, tmp_path: Path) -> None:
    a, b = some_images(2).batch(slice(0, 2)).split(1)
    with Image.open(animation(stack, a, b, 4, tmp_path / "a.gif")) as film:
        assert film.n_frames == 6
        assert film.info["loop"] == 0
        frames = []
        for number in range(film.n_frames):
            film.seek(number)
            frames.append(np.array(film.convert("L"), dtype=int))
        side = frames[0].shape[0]
    assert np.abs(frames[1] - frames[5]).max() <= 2
    assert np.abs(frames[0] - frames[3]).max() > 20
    with torch.inference_mode():
        back = (stack(torch.cat([a, b])) * 255).round().int()
    ends = [frame[side // 2, 2 * (side + 2 * GAP) + side // 2] for frame in (frames[0], frames[3])]
    assert ends == pytest.approx([int(one[0, 14, 14]) for one in back], abs=3)


def test_images_on_a_device_are_mixed(stack: Stack, tmp_path: Path) -> None:
    x = some_images(2).batch(slice(0, 2))
    paths = []
    for place, pair in (("here", x), ("there", x.as_subclass(ramps.Elsewhere))):
        paths.append(strip(stack, *pair.split(1), 3, tmp_path / f"{place}.png"))
        paths.append(animation(stack, *pair.split(1), 3, tmp_path / f"{place}.gif"))
    here, film, there, other_film = (path.read_bytes() for path in paths)
    assert (here, film) == (there, other_film)


# -- commands --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stack.save(tmp_path_factory.mktemp("runs") / "run")


def zoo(*words: object, code: int = 0) -> Result:
    """Run the program in this process; its result, which must have this exit code."""
    result = CliRunner().invoke(main, [str(word) for word in words], prog_name="zoo")
    assert result.exit_code == code, f"{result.exit_code}\n{result.output}\n{result.exception!r}"
    return result


def test_zoo_nearest(run: Path, photos: Path, tmp_path: Path) -> None:
    asked = photos / "left" / "04.png"
    found = json.loads(zoo("nearest", run, asked, photos, "-n", 3, "--json", "--out", tmp_path / "a.png").stdout)
    assert len(found) == 3
    copy = (photos / "left" / "copy.png").as_posix()
    assert found[0] == {"image": copy, "distance": pytest.approx(0, abs=1e-5), "class": "left"}
    assert str(asked) not in {row["image"] for row in found}
    assert 0 < found[1]["distance"] <= found[2]["distance"]
    said = zoo("nearest", run, asked, photos, "--out", tmp_path / "near.png")
    assert said.stdout.split()[:3] == ["image", "distance", "class"]
    assert len(said.stdout.splitlines()) == 11
    assert f"They are drawn in {tmp_path / 'near.png'}." in said.stderr
    assert min(pixels(tmp_path / "near.png").shape[:2]) > 60


def test_zoo_nearest_of_a_number_leaves_it_out(run: Path, photos: Path, tmp_path: Path) -> None:
    shown = images(str(photos), SHAPE, split="all")
    assert shown.files is not None
    found = json.loads(zoo("nearest", run, f"{photos}:7", photos, "--json", "--out", tmp_path / "a.png").stdout)
    assert (photos / shown.files[7]).as_posix() not in {row["image"] for row in found}
    assert found[0]["distance"] > 1e-4


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
def test_zoo_anomalies_of_names_that_are_no_text(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, picture in enumerate(some_images(14, seed=3).pixels[:, 0]):
        name = os.fsdecode(b"caf\xe9.png") if number == 3 else f"{number}.png"
        Image.fromarray(picture.numpy()).save(folder / name)
    zoo("anomalies", run, folder, "--out", tmp_path)
    assert "caf\ufffd.png" in (tmp_path / "anomalies.csv").read_text("utf-8")


def test_zoo_nearest_looks_through_a_name(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sample:9000 is found again under the name that the lines have."""
    monkeypatch.chdir(tmp_path)
    found = json.loads(zoo("nearest", run, "sample:9000", "sample", "-n", 2, "--json").stdout)
    assert "sample:9000" not in {row["image"] for row in found}
    back = json.loads(zoo("nearest", run, found[0]["image"], "sample", "-n", 50, "--json").stdout)
    assert {row["image"]: row["distance"] for row in back}["sample:9000"] == pytest.approx(
        found[0]["distance"], rel=1e-3
    )


def test_zoo_anomalies(run: Path, photos: Path, tmp_path: Path) -> None:
    said = zoo("anomalies", run, photos, "-n", 5, "--out", tmp_path)
    with (tmp_path / "anomalies.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 43
    assert {Path(row["image"]).name for row in rows[:2]} == {"40.png", "41.png"}
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert rows[0].keys() == {"image", "score", "error", "distance", "share", "class"}
    assert len(said.stdout.splitlines()) == 6
    assert "the worst 5 in" in said.stderr
    assert min(pixels(tmp_path / "worst.png").shape[:2]) > 100
    told = json.loads(zoo("anomalies", run, photos, "--out", tmp_path, "--json").stdout)
    assert [row["score"] for row in told] == scores
    by_distance = json.loads(zoo("anomalies", run, photos, "--by", "distance", "--out", tmp_path, "--json").stdout)
    assert [row["distance"] for row in by_distance] == sorted((row["distance"] for row in told), reverse=True)


def test_the_worst_are_decoded_in_parts(run: Path, photos: Path, tmp_path: Path, monkeypatch) -> None:
    zoo("anomalies", run, photos, "-n", 10, "--out", tmp_path / "whole")
    seen, similar = [], Stack.similar

    def count(self: Stack, x: torch.Tensor, **words: bool) -> torch.Tensor:
        seen.append(len(x))
        return similar(self, x, **words)

    monkeypatch.setattr(Stack, "similar", count)
    monkeypatch.setattr(searching, "BATCH", 4)
    zoo("anomalies", run, photos, "-n", 10, "--out", tmp_path / "parts")
    assert seen == [4, 4, 2]
    whole, parts = (pixels(tmp_path / name / "worst.png") for name in ("whole", "parts"))
    assert np.abs(whole.astype(int) - parts).max() <= 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("anomalies {run} . --out pictures", "--out pictures is below the folder of the images, .:"),
        ("anomalies {run} sample --train . --out pictures", "--out pictures is below the folder of the images, .:"),
        ("compare {run} --data .", "--out runs/compared is below the folder of the images, .:"),
        ("nearest {run} sample:0 .", "is the folder of the images"),
        ("nearest {run} sample:0 . --out pictures/near.png", "--out pictures is below the folder of the images, .:"),
    ],
)
def test_pictures_do_not_become_data(
    words: str, said: str, run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    monkeypatch.chdir(tmp_path / "photos")
    before = images(".", SHAPE, split="all").files
    assert said in zoo(*words.format(run=run).split(), code=2).stderr
    assert images(".", SHAPE, split="all").files == before


def test_zoo_anomalies_against_normal_images(run: Path, photos: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "normal.npy", some_images(50, seed=8).pixels.numpy())
    shown = zoo("anomalies", run, photos, "--split", "test", "--train", tmp_path / "normal.npy", "--out", tmp_path)
    test = images(str(photos), SHAPE, split="test")
    assert len((tmp_path / "anomalies.csv").read_text().splitlines()) == 1 + len(test)
    assert f"the worst {len(test)} in" in shown.stderr


def test_zoo_interpolate(run: Path, photos: Path, tmp_path: Path) -> None:
    ends = (photos / "left" / "04.png", "sample:3")
    said = zoo("interpolate", run, *ends, "--out", tmp_path / "a.png", "--gif", tmp_path / "a.gif", "--frames", 3)
    assert said.stdout.splitlines() == [str(tmp_path / "a.png"), str(tmp_path / "a.gif")]
    with Image.open(tmp_path / "a.gif") as film:
        assert film.n_frames == 4
    assert pixels(tmp_path / "a.png").shape[1] >= 11 * 28 * enlargement(torch.empty(1, 1, 28, 28))


def test_zoo_similar(run: Path, photos: Path, tmp_path: Path) -> None:
    source = photos / "left" / "04.png"
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        picture = tmp_path / f"{name}.png"
        assert zoo("similar", run, source, "-n", 3, "--out", picture, "--seed", seed).stdout == f"{picture}\n"
    one, same, other = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert one == same != other


@pytest.mark.parametrize(
    ("words", "made"),
    [
        ("nearest {run} sample:0 {photos}", ["nearest.png"]),
        ("anomalies {run} {photos}", ["runs/anomalies/anomalies.csv", "runs/anomalies/worst.png"]),
        ("interpolate {run} sample:0 sample:1", ["interpolation.png"]),
        ("similar {run} sample:0", ["similar.png"]),
    ],
)
def test_where_it_goes_unless_told(
    words: str, made: list[str], run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    zoo(*words.format(run=run, photos=photos).split())
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")) == made


def test_zoo_compare(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    for part, count in (("train", 40), ("test", 20)):
        shown = some_images(count, seed=len(part))
        for number, (picture, label) in enumerate(zip(shown.pixels[:, 0], shown.labels, strict=True)):
            path = tmp_path / "photos" / part / ("left", "top")[label] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture.numpy()).save(path)
    words = ("compare", run, run, "--data", tmp_path / "photos", "--out", tmp_path)
    said = zoo(*words, "--json")
    rows = {row["embedding"]: row for row in json.loads(said.stdout)}
    assert rows[str(run)]["numbers"] == 4
    assert f"The page is {tmp_path / 'report.md'}." in said.stderr
    lines = zoo(*words).stdout.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["embedding", *rows]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("nearest {run} nowhere.png sample", "no image at 'nowhere.png'"),
        ("nearest {run} sample:0 no_such_folder", "no data at 'no_such_folder'"),
        ("nearest nowhere sample:0 sample", "no stack at nowhere"),
        ("anomalies {run} no_such_folder --out out", "no data at 'no_such_folder'"),
        ("anomalies {run} sample --train no_such_folder --out out", "no data at 'no_such_folder'"),
        ("interpolate {run} sample:0 nowhere.png --out a.png", "no image at 'nowhere.png'"),
        ("similar {run} {photos} --out a.png", "is a folder: one image is wanted"),
        ("similar {points} sample:0 --out a.png", "no posterior to draw from"),
        ("nearest {levelless} sample:0 sample", "has no level that encodes"),
        ("anomalies {levelless} sample --split test --out out", "has no level that encodes"),
        ("interpolate {levelless} sample:0 sample:1 --out a.png", "has no level that encodes"),
        ("similar {levelless} sample:0 --out a.png", "has no level that encodes"),
        ("similar {two} {photos}/left/04.png --out a.png", "2 were asked for"),
        ("compare {run} --data {photos} --out out", "too few to compare embeddings on"),
        ("compare nowhere --data sample --out out", "no stack at nowhere"),
    ],
)
def test_errors_are_messages(words: str, said: str, run: Path, photos: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"run": run, "photos": photos}
    for name, spec in (("points", "28x28x1/fc4"), ("levelless", "28x28x1/normal"), ("two", "28x28x2/fc4+kl")):
        if f"{{{name}}}" in words:
            places[name] = build(spec).save(tmp_path / name)
    result = zoo(*words.format(**places).split(), code=1)
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert said in result.stderr
    assert "bug" not in result.stderr
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("nearest run a.png", "Missing argument 'FOLDER'"),
        ("nearest run a.png photos --out near.jpg", "a picture is a .png file"),
        ("interpolate run a.png b.png --out a.png --gif a.png", "an animation is a .gif file"),
        ("interpolate run a.png b.png --out a.png -n 1", "1 is not in the range"),
        ("similar run a.png --out a.jpg", "a picture is a .png file"),
        ("anomalies run", "Missing argument 'FOLDER'"),
        ("compare --data sample --out out", "Missing argument"),
    ],
)
def test_wrong_usage_exits_with_2(words: str, said: str) -> None:
    assert said in zoo(*words.split(), code=2).stderr


def test_saved_stacks_are_completed() -> None:
    context, argument = None, None
    assert [item.value for item in complete_saved(context, argument, "conv7x7x10.f")] == ["conv7x7x10.fashion_mnist"]
    assert [item.type for item in complete_saved(context, argument, "runs/")] == ["dir"]
