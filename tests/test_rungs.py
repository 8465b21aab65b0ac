"""What rungs decide: numbers of one drawn anew, pictures of it, the command, and the recipe."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from zoo import experiments
from zoo.builder import build
from zoo.cli import main
from zoo.data import Images
from zoo.errors import EvaluationError
from zoo.evaluation import classifier, recognition, redraw
from zoo.evaluation.protocol import stream
from zoo.experiments import ladder
from zoo.experiments.bench import Bench
from zoo.pictures.grids import tiles
from zoo.pictures.rungs import redraws, swaps, traversal
from zoo.posterior import Posterior
from zoo.rungs import swap, traverse
from zoo.training import run as runs

SPEC = "10x10x1/vlae3x2(hidden=8, width=4)+kl"


def squares(count=60, *, seed=0):
    """A bright square somewhere; the label says in which half."""
    places = torch.randint(7, (count, 2), generator=torch.Generator().manual_seed(seed)).tolist()
    x = torch.zeros(count, 1, 10, 10, dtype=torch.uint8)
    for image, (row, column) in zip(x, places, strict=True):
        image[0, row : row + 3, column : column + 3] = 255
    labels = torch.tensor([int(column > 3) for _, column in places])
    return Images(x, labels=labels, classes=("left", "right"), name="squares", split="test")


def brighter_right(x):
    return (x[..., 5:].mean((1, 2, 3)) > x[..., :5].mean((1, 2, 3))).long()


@pytest.fixture
def stack():
    """Not trained, but with gates open, so that every rung shows."""
    stack = build(SPEC, seed=3).eval()
    with torch.no_grad():
        for name, parameter in stack.named_parameters():
            if name.endswith("gate"):
                parameter.fill_(3.0)
        stack.level(1).scale.copy_(torch.tensor([[1.0, 2.0], [0.5, 1.0], [3.0, 1.0]]))
    return stack


def pixels(path):
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def shows(page, row):
    """Whether these images stand beside each other in a picture, to the pixel."""
    part = tiles(row, len(row))
    height, width, _ = part.shape
    starts = (page[: len(page) - height + 1, : page.shape[1] - width + 1] == part[0, 0]).all(-1)
    return any((page[top : top + height, left : left + width] == part).all() for top, left in np.argwhere(starts))


class TestNumbers:
    def test_they_are_those_of_the_definition(self, stack):
        shown = squares()
        found = redraw(stack, shown, brighter_right, draws=3, seed=5)
        assert [one.rung for one in found] == [1, 2, 3, None]
        order = torch.randperm(60, generator=stream(5, "images of rungs"))
        draw = partial(stack.level(1).prior.sample, 60, stream(5, "draws of rungs"))
        with torch.inference_mode():
            posterior = stack.posterior(shown.batch(order))
            z, before = posterior.mean, brighter_right(stack.decode(posterior.mean))
            for one in found:
                fresh = [draw() for _ in range(3)]
                codes = fresh if one.rung is None else [swap(z, other, one.rung) for other in fresh]
                images = torch.stack([stack.decode(code) for code in codes])
                assert one.variance == pytest.approx(images.var(0).mean().item(), rel=1e-4)
                changed = torch.stack([brighter_right(x) != before for x in images]).float().mean().item()
                assert one.changed == pytest.approx(changed, abs=1e-6)
                which = slice(None) if one.rung is None else slice(one.rung - 1, one.rung)
                kl = Posterior(posterior.mean[:, which], posterior.logvar[:, which]).kl().mean().item()
                assert one.nats == pytest.approx(kl, rel=1e-5)
        assert all(one.variance > 0 for one in found)

    def test_a_rung_that_decides_the_class_is_found(self, stack, monkeypatch):
        monkeypatch.setattr(type(stack), "decode", lambda _, z: 0.5 + z[:, 1, 0].sign()[:, None, None, None] * half())
        found = redraw(stack, squares(), brighter_right)
        assert [one.changed > 0.2 for one in found] == [False, True, False, True]
        assert [one.variance > 0 for one in found] == [False, True, False, True]

    def test_same_seed_same_numbers_and_no_more_images_than_asked(self, stack):
        one, again, other = (redraw(stack, squares(), brighter_right, most=20, seed=seed) for seed in (1, 1, 2))
        assert one == again != other
        assert redraw(stack, squares(), most=20, seed=1) == [replace(row, changed=None) for row in one]

    def test_points_have_no_nats(self):
        stack = build("10x10x1/vlae2x2(hidden=8, width=4)+wae_mmd").eval()
        assert all(one.nats is None and one.changed is None for one in redraw(stack, squares(), most=8))

    @pytest.mark.parametrize(
        ("spec", "options", "said"),
        [
            ("10x10x1/fc4+kl", {}, "codes of 4 have no rungs"),
            ("10x10x1/conv2x2x4+kl", {}, "codes of 4x2x2 have no rungs"),
            ("10x10x1/vlae2x2(hidden=8, width=4)", {}, "no prior"),
            (SPEC, {"draws": 1}, "a variance takes 2 at least"),
        ],
    )
    def test_what_cannot_be_measured(self, spec, options, said):
        with pytest.raises(EvaluationError, match=said):
            redraw(build(spec), squares(), **options)

    def test_a_head_draws_where_there_is_one(self):
        stack = build("10x10x1/vlae2x2(hidden=8, width=4)/normal").eval()
        stack.head.prepare(torch.randn(40, 2, 2))
        assert all(one.variance > 0 for one in redraw(stack, squares(), most=8))


def half():
    """Dark on the left, bright on the right."""
    return torch.tensor([-0.4] * 5 + [0.4] * 5).expand(1, 1, 10, 10)


class TestPictures:
    def test_one_rung_drawn_anew(self, stack, tmp_path):
        x = squares().batch(slice(0, 2))
        page = pixels(redraws(stack, x, tmp_path / "page.png", draws=4, seed=2, beside=["one", "two", "three"]))
        with torch.inference_mode():
            z = stack.encode(x)
            fresh = stack.level(1).prior.sample(4, torch.Generator().manual_seed(2))
            for number in range(2):
                for rung in (1, 2, 3):
                    drawn = stack.decode(swap(z[number].expand_as(fresh), fresh, rung))
                    assert shows(page, torch.cat([x[number, None], stack.decode(z[number, None]), drawn]))

    def test_rungs_of_others(self, stack, tmp_path):
        x = squares().batch(slice(0, 5))
        page = pixels(swaps(stack, x[:1], x[1:], tmp_path / "page.png"))
        assert shows(page, x)
        with torch.inference_mode():
            z = stack.encode(x)
            for rung in (1, 2, 3):
                assert shows(page, stack.decode(swap(z[:1].expand_as(z), z, rung)))

    @pytest.mark.parametrize("rung", [1, 3])
    def test_a_rung_over_a_grid(self, stack, tmp_path, rung):
        x = squares().batch(slice(0, 1))
        page = pixels(traversal(stack, x, tmp_path / "page.png", rung=rung, steps=3, reach=1.5))
        values = torch.tensor([-1.5, 0, 1.5])
        down, across = (1, 0) if rung == 1 else (0, 1)  # what moves images most goes down
        found = []
        for first, second in ((0, 1), (1, 0)):
            grid = torch.empty(9, 2)
            grid[:, first], grid[:, second] = values.repeat_interleave(3), values.repeat(3)
            with torch.inference_mode():
                rows = stack.decode(traverse(stack.encode(x), rung, grid)[0]).split(3)
            found.append(all(shows(page, row) for row in rows))
        assert found == [down == 0, across == 0]

    def test_the_others_may_be_random_and_a_rung_may_be_one_number(self, tmp_path):
        stack = build("10x10x1/vlae2x1(hidden=8, width=4)+kl").eval()
        x = squares().batch(slice(0, 1))
        fixed, random, again, other = (
            traversal(stack, x, tmp_path / f"{number}.png", rung=2, steps=5, others=others, seed=seed).read_bytes()
            for number, (others, seed) in enumerate([("fixed", 0), ("random", 0), ("random", 0), ("random", 1)])
        )
        assert random == again
        assert len({fixed, random, other}) == 3

    def test_what_cannot_be_drawn(self, stack, tmp_path):
        x, path = squares().batch(slice(0, 1)), tmp_path / "page.png"
        for rung in (0, 4):
            with pytest.raises(EvaluationError, match=f"rung {rung}: .* to 3"):
                traversal(stack, x, path, rung=rung)
        plain = build("10x10x1/fc4+kl").eval()
        for draw in (redraws, partial(swaps, others=x), partial(traversal, rung=1)):
            with pytest.raises(EvaluationError, match="no rungs"):
                draw(plain, x, path=path)
        assert not path.exists()


class TestCommand:
    @pytest.fixture
    def photos(self, tmp_path):
        for number, (image, label) in enumerate(zip(squares(90).pixels, squares(90).labels.tolist(), strict=True)):
            path = tmp_path / "photos" / ("train", "test")[number % 3 == 0] / ("left", "right")[label] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0].numpy()).save(path)
        return tmp_path / "photos"

    def test_it_measures_and_draws(self, stack, photos, tmp_path, monkeypatch):
        monkeypatch.setattr(classifier, "BATCH", 8)
        stack.save(tmp_path / "stack")
        out = tmp_path / "out"
        command = ["rungs", str(tmp_path / "stack"), "--data", str(photos), "--out", str(out)]
        found = CliRunner().invoke(main, command)
        assert found.exit_code == 0, found.output
        lines = [line.split()[0] for line in found.stdout.splitlines()[:5]]
        assert lines == ["rung", "1", "2", "3", "all"]
        told = json.loads((out / "rungs.json").read_text())
        assert [row["rung"] for row in told["rungs"]] == [1, 2, 3, None]
        assert all(0 <= row["changed"] <= 1 for row in told["rungs"])
        names = {"rungs.json", "redrawn.png", "swapped.png", "rung-1.png", "rung-2.png", "rung-3.png"}
        assert {path.name for path in out.iterdir()} == names
        again = CliRunner().invoke(main, [*command, "--json", "--others", "random"])
        assert json.loads(again.stdout) == told["rungs"]

    def test_what_cannot_sample_is_known_before_a_classifier_learns(self, photos, tmp_path, monkeypatch):
        monkeypatch.setattr(recognition, "judge_of", lambda *_, **__: 1 / 0)
        build("10x10x1/vlae2x2(hidden=8, width=4)").save(tmp_path / "stack")
        command = ["rungs", str(tmp_path / "stack"), "--data", str(photos), "--out", str(tmp_path / "out")]
        refused = CliRunner().invoke(main, command)
        assert refused.exit_code == 1
        assert "no prior" in refused.stderr

    def test_pictures_do_not_become_data(self, stack, photos, tmp_path):
        stack.save(tmp_path / "stack")
        command = ["rungs", str(tmp_path / "stack"), "--data", str(photos), "--out", str(photos / "out")]
        refused = CliRunner().invoke(main, command)
        assert refused.exit_code == 2
        assert "below the folder of the images" in refused.stderr
        assert not (photos / "out").exists()

    def test_images_without_labels_and_codes_without_rungs(self, stack, tmp_path):
        np.save(tmp_path / "images.npy", squares(30).pixels[:, 0, :, :, None].numpy())
        stack.save(tmp_path / "stack")
        build("10x10x1/fc3+kl").save(tmp_path / "plain")
        rest = ["--data", str(tmp_path / "images.npy"), "--out", str(tmp_path / "out")]
        found = CliRunner().invoke(main, ["rungs", str(tmp_path / "stack"), *rest])
        assert found.exit_code == 0, found.output
        assert "nothing is said of classes" in found.stderr
        refused = CliRunner().invoke(main, ["rungs", str(tmp_path / "plain"), *rest])
        assert refused.exit_code == 1
        assert "codes of 3 have no rungs" in refused.stderr


class TestRecipe:
    def test_it_is_carried_out(self, tmp_path, monkeypatch):
        monkeypatch.setattr(runs, "trackers", lambda **_: [])
        monkeypatch.setattr(classifier, "EPOCHS", 1)
        monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
        whole = experiments.read("vlae", quick=True)
        stacks = {
            name: spec.replace("28x28x1", "10x10x1").replace("4x16", "2x2") for name, spec in whole.stacks.items()
        }
        training = whole.training | {"steps": 2, "precision": "fp32"}
        settings = whole.settings | {
            "images": 300,
            "held_out": 20,
            "redrawn": 10,
            "long": {"stack": "add", "epochs": 2},
        }
        recipe = replace(whole, stacks=stacks, training=training, settings=settings)
        page = experiments.reproduce(recipe, out=tmp_path / "out", progress=False)
        assert len(page.claims) == 7
        assert {claim.verdict for claim in page.claims} == {"open"}
        rows = {row["run"]: row for row in page.tables["Ways to build it"]}
        assert list(rows) == ["long", "add", "concat", "gated", "inverted", "annealed"]
        first = page.tables["Beside the source"][0]
        assert first["its total"] == pytest.approx(93.939)
        assert first["total"] == pytest.approx(first["reconstruction"] + first["latent"])
        for name in ("redrawn-long", "redrawn-inverted", "swapped", "rung-2", "random", "similar", "samples", "strip"):
            assert (tmp_path / "out" / f"{name}.png").is_file()
        self.check_terms(recipe, tmp_path / "out")

    def check_terms(self, recipe, folder):
        """In the source's convention: half the squared error in [-1, 1], and a term that is the KL on average."""
        bench = Bench(recipe, recipe.data, folder, progress=False)
        run = bench.train("add", recipe.stacks["add"])
        stage, x = run.stack.level(1).stage, bench.test(run.stack).batch(slice(0, 1000))
        found = ladder._measured(run, bench)
        with torch.inference_mode():
            posterior = stage.encode(x)
            draws = [stage.decode(posterior.sample()) for _ in range(4)]
            error = sum(((2 * x_hat - 1) - (2 * x - 1)).square().sum() / 2 for x_hat in draws) / 4 / len(x)
        assert found.reconstruction == pytest.approx(error.item(), rel=0.02)
        assert found.latent == pytest.approx(posterior.kl().mean().item(), rel=0.1)
        assert found.total == found.reconstruction + found.latent
