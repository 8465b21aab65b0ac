"""Progressive resizing: what is left out and what stands for it, the phases, and an ordinary stage at the end."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner
from zoo_conv.conv import Conv

from zoo import files
from zoo.builder import build, load
from zoo.cli import main
from zoo.data import Images
from zoo.errors import TrainingError
from zoo.growth import View, enlarge, shrink
from zoo.phases import Phase
from zoo.training import InterruptedTrainingError, fit, fit_together
from zoo.training import loop as loops
from zoo.training import run as runs
from zoo.training.growing import Growing, growing

MAP = "16x16x1/conv2x2x4(blocks=1, width=4)"
VECTOR = "16x16x1/conv6(width=4, blocks=0, linear=false, hidden=8)"
POOLED = "16x16x1/conv6(network=pooled, width=4)"
SPECS = {MAP: (4, 8), VECTOR: (8,), POOLED: (8,)}
STEPS = 40


def pixels(count=120):
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(count, 1, 16, 16, dtype=torch.uint8)
    for image, (row, column) in zip(x, torch.randint(11, (count, 2), generator=generator).tolist(), strict=True):
        image[0, row : row + 5, column : column + 5] = 255
    return x


def train(out, spec=MAP, **options):
    data = Images(pixels(), name="squares")
    options = {"steps": STEPS, "batch_size": 8, "progress": False, "log_every": 1, "precision": "fp32"} | options
    return fit(build(spec), data, out=out, **options)


def history(out):
    return [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "trackers", lambda **_: [])
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def grown(request):
    """A stage that grows, with numbers everywhere, and the training's view of it."""
    spec, heights = request.param
    torch.manual_seed(0)
    stack = build(spec)
    with growing(stack, heights) as found:
        for parameter in stack.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        yield found


every = pytest.mark.parametrize("grown", SPECS.items(), ids=["map", "vector", "pooled"], indirect=True)


class TestAView:
    def test_shows_smaller_images_as_means(self):
        x = torch.rand(2, 1, 8, 8)
        small = View((4, 4))(x)
        assert small.shape == (2, 1, 4, 4)
        assert torch.allclose(small[0, 0, 0, 0], x[0, 0, :2, :2].mean())
        assert torch.equal(View((8, 8))(x), x)

    def test_fades_in_what_is_new(self):
        x, view = torch.rand(2, 1, 8, 8), View((8, 8), before=(4, 4))
        assert torch.allclose(view(x), x)
        view.share.fill_(0.0)
        blurred = enlarge(shrink(x, (4, 4)), (8, 8))
        assert torch.equal(view(x), blurred)
        view.share.fill_(0.25)
        assert torch.allclose(view(x), 0.75 * blurred + 0.25 * x)


class TestLayers:
    @every
    def test_before_anything_has_faded_in_the_stage_is_what_it_was(self, grown):
        stage, x = grown.stage.eval().double(), torch.rand(3, 1, 16, 16).double()
        for before, size in zip(grown.sizes, grown.sizes[1:], strict=False):
            stage.see(View(before))
            small = stage.encode(shrink(x, before)).mean
            smaller = stage.decode(small)
            view = View(size, before=before, share=torch.zeros(()))
            stage.see(view)
            posterior = stage.encode(view(x))
            assert torch.allclose(posterior.mean, small, atol=1e-6)
            x_hat = stage.decode(posterior.mean)
            assert torch.allclose(x_hat, enlarge(smaller, size), atol=1e-6)
            view.share.fill_(1.0)
            faded_in = stage.decode(stage.encode(view(x)).mean)
            stage.see(View(size))
            assert torch.allclose(faded_in, stage.decode(stage.encode(shrink(x, size)).mean), atol=1e-6)
            assert not torch.allclose(faded_in, x_hat, atol=1e-3)

    @every
    def test_new_are_exactly_those_that_smaller_images_did_not_pass(self, grown):
        stage = grown.stage.train()
        passed: list[set[str]] = []
        for size in grown.sizes:
            stage.zero_grad(set_to_none=True)
            stage.see(View(size))
            stage.decode(stage.encode(torch.rand(3, 1, *size)).mean).square().sum().backward()
            passed.append({name for name, parameter in stage.named_parameters() if parameter.grad is not None})
        assert grown.new[0] == ()
        for before, now, names in zip(passed, passed[1:], grown.new[1:], strict=False):
            alone = Phase(rates=dict.fromkeys(names, 1.0))
            assert {name for name, _ in stage.named_parameters() if alone.rate(name)} == now - before

    @every
    def test_whole_images_pass_as_they_do_when_nothing_grows(self, grown):
        stage, x = grown.stage.eval(), torch.rand(2, 1, 16, 16)
        assert any("ways" in name for name in stage.state_dict())
        stage.see(View((16, 16)))
        posterior = stage.encode(x)
        x_hat = stage.decode(posterior.mean)
        stage.stop_growing()
        assert not any("ways" in name for name in stage.state_dict())
        assert torch.equal(stage.encode(x).mean, posterior.mean)
        assert torch.equal(stage.decode(posterior.mean), x_hat)


class TestPhases:
    def test_one_of_layers_that_are_not_there_is_refused(self, monkeypatch, tmp_path):
        monkeypatch.setattr(Conv, "start_growing", lambda stage, sizes: [(), ("encodr.0",)])
        with pytest.raises(TrainingError, match="phase '16x16, new layers' trains nothing"):
            train(tmp_path, progressive=(8,))

    def test_an_eighth_for_smaller_images_and_new_layers_alone_first(self):
        stack = build(MAP)
        with growing(stack, (4, 8)) as found:
            phases = found.phases([], stack.level(1).stage.phases())
        names = ["4x4", "8x8, new layers", "8x8", "16x16, new layers", ""]
        assert [phase.name for phase in phases] == names
        assert [phase.size for phase in phases] == [(4, 4), (8, 8), (8, 8), (16, 16), (16, 16)]
        assert [phase.before for phase in phases] == [None, (4, 4), None, (8, 8), None]
        assert [phase.share for phase in phases] == pytest.approx([1 / 16, 1 / 160, 9 / 160, 7 / 80, 63 / 80])
        assert [phase.rates is not None for phase in phases] == [False, True, False, True, False]

    def test_those_of_terms_come_first_and_the_stages_own_last(self):
        stack = build("16x16x3/conv6(network=pooled, width=4)")
        own = (Phase("decoder", share=1.0, rates={"decoder": 1.0}, patience=2), Phase("all", share=3.0))
        with growing(stack, (8,)) as found:
            phases = found.phases([Phase("codes", share=5.0)], own)
        assert [phase.name for phase in phases] == ["codes", "8x8", "16x16, new layers", "decoder", "all"]
        assert phases[0].size == (8, 8)
        assert phases[1].rates == {"decoder": 1.0}
        assert phases[1].patience is None
        assert sum(phase.share for phase in phases) == pytest.approx(5 + 4)
        assert phases[4].share == pytest.approx(3 * phases[3].share)

    def test_a_stage_for_any_size_has_no_layers_of_its_own_for_it(self):
        stack = build("16x16x3/resnet4x4x4(backbone=test_resnet, width=4, blocks=0)")
        with growing(stack, (8,)) as found:
            assert [phase.name for phase in found.phases([], stack.level(1).stage.phases())] == ["8x8", ""]
            x = torch.rand(2, 3, 8, 8)
            assert stack.decode(stack.encode(x)).shape == x.shape


class TestTraining:
    def test_ends_in_an_ordinary_stage(self, tmp_path):
        stack = train(tmp_path / "run", progressive=(4, 8))
        lines = history(tmp_path / "run")
        phases = list(dict.fromkeys(line["phase"] for line in lines))
        assert phases == ["4x4", "8x8, new layers", "8x8", "16x16, new layers", "pixels"]
        steps = [max(line["step"] for line in lines if line["phase"] == phase) for phase in phases]
        assert sum(steps) == STEPS
        assert all(line["val"]["mse"] < 1 for line in lines if "val" in line)
        assert str(stack.spec) == MAP
        assert list(stack.state_dict()) == list(build(MAP).state_dict())
        x = Images(pixels(), name="squares").batch(slice(0, 4))
        again = load(tmp_path / "run")
        assert str(again.spec) == MAP
        assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in stack.state_dict().items())
        assert torch.allclose(again(x), stack(x), atol=1e-6)
        errors = {line["phase"]: line["val"]["mse"] for line in lines if "val" in line}
        assert errors["4x4"] > errors["8x8"] > errors["pixels"]  # of whole images, whose detail they lack

    def test_new_layers_learn_alone(self, tmp_path, monkeypatch):
        before: dict[str, torch.Tensor] = {}
        moved: dict[str, set[str]] = {}
        step = loops._Run._step

        def watched(run, progress):
            stage = run.loop.stack.level(1).stage
            before.update({name: parameter.detach().clone() for name, parameter in stage.named_parameters()})
            found = step(run, progress)
            changed = {name for name, parameter in stage.named_parameters() if not torch.equal(parameter, before[name])}
            moved.setdefault(run.course.title, set()).update(changed)
            return found

        monkeypatch.setattr(loops._Run, "_step", watched)
        train(None, VECTOR, progressive=(8,))
        new = {f"{layer}.{kind}" for layer in ("encoder.trunk.0.0", "decoder.rise.3.0") for kind in ("weight", "bias")}
        assert moved["16x16, new layers"] == new
        assert not new & moved["8x8"]
        assert {"encoder.mean.weight", "decoder.first.0.weight"} <= moved["8x8"] & moved["pixels"]

    def test_what_is_new_is_faded_in_from_nothing_step_by_step(self, monkeypatch):
        shares, step = {}, loops._Run._step

        def watched(run, progress):
            found, view = step(run, progress), run.course.learner.view
            if view.before is not None:
                shares.setdefault(view.size, []).append((progress, view.share.item()))
            return found

        monkeypatch.setattr(loops._Run, "_step", watched)
        train(None, MAP, progressive=(4, 8), steps=120)
        assert shares.keys() == {(8, 8), (16, 16)}
        for steps in shares.values():
            assert [share for _, share in steps] == pytest.approx([place / len(steps) for place in range(len(steps))])
        assert len(shares[16, 16]) == 10

    @pytest.mark.parametrize("spec", [MAP, POOLED], ids=["map", "pooled"])
    def test_goes_on_exactly_from_the_middle_of_every_phase(self, tmp_path, monkeypatch, spec):
        heights = SPECS[spec]
        train(tmp_path / "whole", spec, progressive=heights)
        last = {line["phase"]: line["step"] for line in history(tmp_path / "whole")}
        step, stops = loops._Run._step, {phase: (steps + 1) // 2 for phase, steps in last.items()}

        def stopping(run, progress):
            if run.step + 1 == stops.get(run.course.title):
                del stops[run.course.title]
                run.loop.interrupt.asked = True
            return step(run, progress)

        monkeypatch.setattr(loops._Run, "_step", stopping)
        begun = False
        while stops:
            left = len(stops)
            with pytest.raises(InterruptedTrainingError):
                train(tmp_path / "parts", spec, progressive=heights, resume=begun)
            assert len(stops) == left - 1
            begun = True
        train(tmp_path / "parts", spec, progressive=heights, resume=True)
        for path in (tmp_path / "whole").glob("level-*"):
            assert (tmp_path / "parts" / path.name).read_bytes() == path.read_bytes()

    def test_what_was_stopped_is_whole_again(self, monkeypatch):
        def stopping(run, progress):
            raise InterruptedTrainingError("now")

        monkeypatch.setattr(loops._Run, "_step", stopping)
        stack = build(MAP)
        with pytest.raises(InterruptedTrainingError):
            fit(stack, pixels(), steps=3, progressive=(8,), progress=False)
        assert list(stack.state_dict()) == list(build(MAP).state_dict())
        assert stack(torch.rand(2, 1, 16, 16)).shape == (2, 1, 16, 16)

    def test_other_sizes_are_another_run(self, tmp_path, monkeypatch):
        train(tmp_path / "run", steps=10, progressive=(8,))
        assert files.read_json(tmp_path / "run" / "run.json")["options"]["progressive"] == [8]
        with pytest.raises(TrainingError, match=r"progressive: \[8\] then, \[4, 8\] now"):
            train(tmp_path / "run", steps=10, progressive=(4, 8), resume=True)

    def test_from_the_command_line(self, tmp_path):
        result = CliRunner().invoke(
            main, ["train", MAP, "--data", "sample", "--out", str(tmp_path / "run"), "--steps", "10",
                   "--progressive", "4,8,16"],
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        assert files.read_json(tmp_path / "run" / "run.json")["options"]["progressive"] == [4, 8, 16]
        assert {line["phase"] for line in history(tmp_path / "run")} >= {"4x4", "8x8", "pixels"}


@pytest.mark.parametrize(
    ("spec", "options", "problem"),
    [
        ("16x16x1/fc4", {"progressive": (8,)}, "cannot be grown: its layers are made for images of 16x16 alone"),
        (MAP, {"progressive": (2,)}, "can grow from 8x8 and 4x4, not from 2x2"),
        (MAP, {"progressive": (12,)}, "can grow from 8x8 and 4x4, not from 12x12"),
        (MAP, {"progressive": (8, 4)}, "each larger than the one before"),
        (MAP, {"progressive": (16,)}, "heights below the stack's own, 16"),
        (MAP, {"progressive": (8, 32)}, "heights below the stack's own, 16"),
        (MAP + "/fc2", {"progressive": (8,), "level": 2}, "only level 1 learns from images that grow"),
        ("16x24x1/conv2x3x4(width=4)", {"progressive": (5,)}, "cannot be 5 high"),
        ("16x16x3/resnet4x4x4(backbone=test_resnet, width=4, blocks=0)", {"progressive": (6,)}, "would not be whole"),
        ("16x16x3/resnet4x4x4(backbone=test_resnet, width=4, blocks=0)+kl", {"progressive": (8,)}, "smaller codes"),
    ],
)
def test_what_cannot_grow_says_why(spec, options, problem):
    stack = build(spec)
    with pytest.raises(TrainingError, match=problem):
        fit(stack, torch.rand(8, stack.input_shape[0], *stack.input_shape[1:]), steps=2, progress=False, **options)
    assert list(stack.state_dict()) == list(build(spec).state_dict())


def test_neither_what_is_trained_nor_several_at_once():
    stack = fit(build(MAP), pixels(), steps=2, progress=False)
    with pytest.raises(TrainingError, match="trained already"):
        Growing(stack, (8,))
    with pytest.raises(TrainingError, match="leave out level, refine, progressive"):
        fit_together([build(MAP), build(MAP)], pixels(), steps=2, progressive=(8,), progress=False)
