"""The ladder: its shapes, what passes through what, its options, and how the zoo copes with a code of rungs."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from torch import nn
from zoo_vlae.ladder import Concat, Gated
from zoo_vlae.steps import paper_steps, selu_steps, shared_out
from zoo_vlae.vlae import VariationalLadder

from zoo import codes
from zoo.builder import build, load
from zoo.data import Images
from zoo.errors import EvaluationError, SpecError
from zoo.evaluation import evaluate
from zoo.evaluation.compression import as_uint8
from zoo.interfaces import Place
from zoo.pictures import draw
from zoo.pictures.interpolation import between, curved
from zoo.rungs import count, swap, traverse
from zoo.training import InterruptedTrainingError, fit
from zoo.training import loop as loops
from zoo.training import run as runs

SMALL = {"width": 2, "hidden": 6}
STYLES = ("paper", "selu")
SPEC = "10x10x1/vlae3x2(hidden=8, width=4{options})"


def ladder(shape=(1, 28, 28), code=(4, 2), *, pixels=True, posterior="gaussian", **options):
    torch.manual_seed(0)
    return VariationalLadder(Place(shape, code, pixels=pixels, posterior=posterior), **{**SMALL, **options})


def squares(count=96, size=10):
    """A bright square somewhere; the label says in which half."""
    places = torch.randint(size - 3, (count, 2), generator=torch.Generator().manual_seed(0)).tolist()
    x = torch.zeros(count, 1, size, size)
    for image, (row, column) in zip(x, places, strict=True):
        image[0, row : row + 3, column : column + 3] = 1
    return x, torch.tensor([int(column > size // 2 - 2) for _, column in places])


def train(spec, **options):
    options = {"steps": 12, "batch_size": 16, "progress": False, "precision": "fp32", "log_every": 4, **options}
    return fit(build(spec), squares()[0], **options)


@contextmanager
def outputs_of(modules):
    """What these modules give, in their order, when they have been called."""
    seen = [torch.empty(0)] * len(modules)

    def keep(place):
        return lambda _module, _inputs, output: seen.__setitem__(place, output)

    handles = [module.register_forward_hook(keep(place)) for place, module in enumerate(modules)]
    yield seen
    for handle in handles:
        handle.remove()


@pytest.fixture(scope="module")
def data():
    """The squares as a data set with two classes."""
    x, labels = squares(160)
    return Images((x * 255).byte(), labels=labels, classes=("left", "right"), name="squares")


@pytest.fixture(scope="module")
def stack():
    """A level on a code of rungs."""
    return train(SPEC.format(options="") + "+kl/fc3(hidden=[8])+kl", steps=20)


def reached(modules):
    """Which of these a gradient has come to."""
    return [any(p.grad is not None and bool(p.grad.any()) for p in module.parameters()) for module in modules]


class TestShapes:
    @pytest.mark.parametrize("style", STYLES)
    @pytest.mark.parametrize("rungs", [1, 2, 4, 7])
    @pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (2, 17, 41), (3, 9, 2), (1, 5, 64), (40, 1, 1)])
    def test_any_size_comes_back_exactly(self, shape, rungs, style):
        stage = ladder(shape, (rungs, 2), style=style).eval()
        x = torch.rand(2, *shape)
        posterior = stage.encode(x)
        assert posterior.mean.shape == posterior.logvar.shape == (2, rungs, 2)
        assert stage.decode(posterior.mean).shape == x.shape
        sides = [max(sides) for _, *sides in stage.maps]
        assert sides == sorted(sides, reverse=True)
        assert len(stage.maps) == rungs

    @pytest.mark.parametrize("style", STYLES)
    @pytest.mark.parametrize("shape", [(10, 7, 7), (30,), (5, 4)])
    def test_codes_below(self, shape, style):
        stage = ladder(shape, (3, 4), pixels=False, style=style).eval()
        x = torch.randn(2, *shape)
        assert stage.decode(stage.encode(x).mode).shape == x.shape

    @pytest.mark.parametrize("steps", [paper_steps, selu_steps])
    def test_every_side_leads_back(self, steps):
        for side in range(1, 70):
            for run in shared_out(steps((1, side, 70 - side), 5, 2, 3), 5):
                for step in run:
                    down = nn.Conv2d(1, 1, step.kernel, step.stride, step.padding)
                    up = nn.ConvTranspose2d(1, 1, step.kernel, step.stride, step.padding, step.spare)
                    x = torch.zeros(1, *step.inputs)[:, :1]
                    y = down(x)
                    assert y.shape[2:] == step.outputs[1:]
                    assert up(y).shape == x.shape

    def test_the_paper_has_maps_for_every_rung_and_dense_layers_on_top(self):
        assert ladder(code=(4, 16), width=64, hidden=1024).maps == (
            (64, 14, 14),
            (128, 7, 7),
            (256, 3, 3),
            (1024, 1, 1),
        )
        assert ladder(code=(3, 2)).maps[1][1:] == (7, 7)
        assert ladder((3, 64, 64), (4, 8)).maps == ((4, 16, 16), (8, 8, 8), (16, 4, 4), (6, 1, 1))

    def test_the_selu_network_is_the_published_one(self):
        stage = ladder(code=(4, 16), style="selu", width=None, hidden=None, merge="add")
        assert stage.maps == ((16, 13, 13), (32, 6, 6), (64, 3, 3), (128, 1, 1))
        assert (stage.hidden, stage.dropout) == (16, 0.1)
        maps = [(1, 16, 4, 13), (16, 32, 3, 6), (32, 64, 4, 3), (64, 128, 3, 1)]  # channels, kernel, side of the map
        trunk = sum(2 * below * above * kernel**2 + below + above for below, above, kernel, _ in maps)
        dense = 16 * 16 + 16
        read = sum(above * side**2 * 16 + 16 + dense + 2 * dense for _, above, _, side in maps)
        enter = sum(2 * dense + 16 * above * side**2 + above for _, above, _, side in maps)
        assert sum(parameter.numel() for parameter in stage.parameters()) == trunk + read + enter


class TestDepth:
    @pytest.mark.parametrize("merge", ["add", "concat", "gated"])
    @pytest.mark.parametrize("style", STYLES)
    @pytest.mark.parametrize("order", ["matching", "inverted"])
    def test_a_rung_passes_the_runs_below_it_and_no_other(self, merge, style, order):
        stage = ladder(merge=merge, style=style, order=order).double().eval()
        z = torch.randn(1, 4, 2, dtype=torch.float64)
        with outputs_of(list(stage.decoder.rise)) as seen:
            stage.decode(z)
            before = list(seen)
            for rung in range(4):
                moved = z.clone()
                moved[:, rung] += 1
                stage.decode(moved)
                passed = [not torch.equal(old, new) for old, new in zip(before, seen, strict=True)]
                runs = rung + 1 if order == "matching" else 4 - rung  # of the shallowest rung: the last one alone
                assert passed == [place < runs for place in range(4)]

    @pytest.mark.parametrize(("style", "first"), [("paper", 1), ("selu", 0)])
    def test_a_rung_reads_the_trunk_at_its_depth_and_no_deeper(self, style, first):
        """In the paper's style the first rung reads the input itself, in the other one the first run of the trunk."""
        stage = ladder(style=style)
        for rung in range(4):
            stage.zero_grad()
            stage.encode(torch.rand(3, 1, 28, 28)).mean[:, rung].square().sum().backward()
            assert reached(stage.encoder.trunk) == [first <= place <= rung for place in range(4)]
            assert reached(stage.encoder.ladder) == [place == rung for place in range(4)]

    def test_inverted_is_the_same_network_that_is_given_the_rungs_the_other_way_round(self):
        one, other = ladder().eval(), ladder(order="inverted").eval()
        z = torch.randn(2, 4, 2)
        assert torch.equal(one.decode(z.flip(1)), other.decode(z))
        assert one.maps == other.maps[::-1]

    def test_merges(self):
        assert all(isinstance(join, Concat) for join in ladder(merge="concat").decoder.join)
        gates = ladder().decoder.join
        assert [tuple(join.gate.shape) for join in gates] == list(ladder().maps[:-1])
        assert all(isinstance(join, Gated) and bool((join.gate == 0.1).all()) for join in gates)
        s, v = torch.randn(2, 1, *gates[0].gate.shape)
        assert torch.allclose(gates[0](s, v), s + 0.1 * v)


class TestOptions:
    @pytest.mark.parametrize(
        ("place", "options", "message"),
        [
            (Place((1, 28, 28)), {}, "as in vlae4x16"),
            (Place((1, 28, 28), (16,)), {}, "as in vlae4x16"),
            (Place((1, 4, 4), (4, 16)), {}, "overcomplete=true"),
            (Place((1, 28, 28), (65, 1)), {}, "64 at the most"),
            (Place((1, 28, 28), (4, 16)), {"dropout": 0.2}, "dropout belongs to style=selu"),
            (Place((1, 28, 28), (4, 16)), {"style": "selu", "norm": "batch"}, "norm belongs to style=paper"),
            (Place((1, 28, 28), (4, 16)), {"width": 0}, "width is at least 1"),
            (Place((1, 28, 28), (4, 16)), {"style": "selu", "dropout": 1.0}, "below 1"),
        ],
    )
    def test_what_cannot_be_built_says_why(self, place, options, message):
        with pytest.raises(SpecError, match=message):
            VariationalLadder(place, **options)

    def test_another_size_is_refused(self):
        with pytest.raises(SpecError, match="and nothing else"):
            ladder().encode(torch.rand(2, 1, 32, 32))

    def test_dropout_is_for_training_only(self):
        stage = ladder(style="selu", hidden=32, dropout=0.5)
        x, z = torch.rand(4, 1, 28, 28), torch.randn(4, 4, 2)
        assert not torch.equal(stage.encode(x).mean, stage.encode(x).mean)
        assert not torch.equal(stage.decode(z), stage.decode(z))
        stage.eval()
        assert torch.equal(stage.encode(x).mean, stage.encode(x).mean)
        assert torch.equal(stage.decode(z), stage.decode(z))

    @pytest.mark.parametrize("norm", ["layer", "batch", "none"])
    def test_norms(self, norm):
        kinds = {"layer": nn.GroupNorm, "batch": nn.BatchNorm2d, "none": nn.Identity}
        stage = ladder(norm=norm)
        assert any(isinstance(module, kinds[norm]) for module in stage.decoder.modules())
        assert stage.decode(torch.randn(3, 4, 2)).shape == (3, 1, 28, 28)

    def test_what_was_settled_is_written_out(self):
        text = str(build("28x28x1/vlae4x2(style=selu)").level(1).written_out)
        assert "dropout=0.1" in text
        assert "hidden=16" in text
        assert "norm" not in text
        assert "norm=layer" in str(build("28x28x1/vlae4x2").level(1).written_out)


class TestRungs:
    def test_are_counted_from_the_shallowest(self):
        z, other = torch.randn(2, 3, 4, 2)
        swapped = swap(z, other, 2)
        assert torch.equal(swapped[:, 1], other[:, 1])
        assert torch.equal(swapped[:, [0, 2, 3]], z[:, [0, 2, 3]])
        grid = torch.randn(5, 2)
        ways = traverse(z, 4, grid)
        assert ways.shape == (3, 5, 4, 2)
        assert torch.equal(ways[1, :, 3], grid)
        assert torch.equal(ways[:, 2, :3], z[:, :3])
        assert ladder().rungs == count((4, 2)) == 4

    @pytest.mark.parametrize("rung", [0, 5, -1])
    def test_that_are_not_there(self, rung):
        with pytest.raises(EvaluationError, match="rungs 1, the shallowest, to 4"):
            swap(torch.zeros(1, 4, 2), torch.zeros(1, 4, 2), rung)
        with pytest.raises(EvaluationError, match="rungs 1, the shallowest, to 4"):
            traverse(torch.zeros(1, 4, 2), rung, torch.zeros(3, 2))

    @pytest.mark.parametrize("shape", [(7, 7, 10), (8,)])
    def test_other_codes_have_none(self, shape):
        with pytest.raises(EvaluationError, match=f"{'x'.join(map(str, shape))} have no rungs.* A ladder has"):
            count(shape)


class TestTraining:
    @pytest.fixture(autouse=True)
    def quick(self, tmp_path, monkeypatch):
        monkeypatch.setattr(runs, "trackers", lambda **_: [])
        monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))

    @pytest.mark.parametrize(
        ("options", "terms"),
        [
            ("", "+kl"),
            (", merge=add, style=selu", "+mc+mse(2)"),
            (", merge=concat", "+stl"),
            (", norm=batch", "+wae_mmd"),
            (", order=inverted, style=selu", "+kl+bernoulli"),
        ],
    )
    def test_it_learns_with_every_regularizer(self, options, terms):
        stack = build(SPEC.format(options=options) + terms)
        level, x = stack.level(1), squares(64)[0]
        optimizer = torch.optim.Adam(level.parameters(), 1e-2)
        losses = []
        for _ in range(30):
            trip = level.round_trip(x)
            loss = sum(term.weight * term(trip) for term in level.terms.values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert sum(losses[-5:]) / 5 < losses[0] - 5
        assert all(parameter.grad is not None for parameter in level.stage.parameters())

    @pytest.mark.parametrize("style", STYLES)
    def test_a_stopped_run_resumes_to_the_same_bytes(self, tmp_path, monkeypatch, style):
        spec = SPEC.format(options=f", style={style}") + "+mc/fc3(hidden=[4])"
        whole = train(spec, out=tmp_path / "whole").state_dict()
        step, taken = loops._Run._step, []

        def stopping(run, progress):
            taken.append(1)
            run.loop.interrupt.asked = run.loop.interrupt.asked or len(taken) == 5
            return step(run, progress)

        monkeypatch.setattr(loops._Run, "_step", stopping)
        with pytest.raises(InterruptedTrainingError):
            train(spec, out=tmp_path / "parts")
        resumed = train(spec, out=tmp_path / "parts", resume=True).state_dict()
        assert len(taken) == 24
        assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())

    @pytest.mark.parametrize("style", STYLES)
    def test_bfloat16_codes_are_still_float32(self, style):
        stage = ladder(style=style, hidden=32).eval()
        x = torch.rand(4, 1, 28, 28)
        plain = stage.encode(x)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = stage.encode(x)
            x_hat = stage.decode(posterior.mean)
        assert posterior.mean.dtype == posterior.logvar.dtype == torch.float32
        assert torch.allclose(posterior.mean, plain.mean, atol=0.05)
        assert torch.allclose(x_hat.float(), stage.decode(plain.mean), atol=0.05)

    def test_probabilities_are_float32_in_bfloat16(self):
        """A sigmoid in eight bits is 1 from a number of 6.3 on, and then has no gradient."""
        stage = build("8x8x1/vlae2x2+bernoulli").level(1).stage
        with torch.autocast("cpu", torch.bfloat16):
            assert stage.decode(torch.randn(2, 2, 2)).dtype == torch.float32

    def test_in_bfloat16_throughout(self):
        stack = train(SPEC.format(options="") + "+kl", precision="bf16", steps=4)
        assert all(bool(tensor.isfinite().all()) for tensor in stack.state_dict().values())

    def test_either_half_of_a_saved_stack(self, tmp_path):
        stack = build(SPEC.format(options="") + "+kl").eval()
        stack.save(tmp_path)
        x = squares(3)[0]
        with torch.inference_mode():
            z = stack.encode(x)
            assert torch.equal(load(tmp_path, part="encoder").encode(x), z)
            assert torch.equal(load(tmp_path, part="decoder").decode(z), stack.decode(z))
            assert torch.equal(load(tmp_path)(x), stack(x))


class TestCodeOfRungs:
    """What the zoo does with a code of rank 2: each of its numbers is a feature of its own."""

    def test_every_number_has_a_scale_of_its_own(self, stack):
        level = stack.level(1)
        assert level.shift.shape == level.scale.shape == (3, 2)
        assert stack.level(2).emphasis.shape == (3, 2)
        with torch.inference_mode():
            draws = torch.cat([stack.posterior(squares()[0], 1).sample() for _ in range(50)])
        assert draws.mean(0).numpy() == pytest.approx(0, abs=0.15)
        assert draws.std(0).numpy() == pytest.approx(1, abs=0.15)

    def test_sensitivity_is_by_number(self, stack):
        deaf = build(SPEC.format(options=""))
        with torch.no_grad():
            deaf.level(1).scale[1, 0] = 1e-6  # what it decodes of this number is nearly nothing
        found = deaf.sensitivity(torch.randn(8, 3, 2), 1)
        assert found.shape == (3, 2)
        assert found[1, 0] == found.min()
        assert found[1, 1] > 2 * found[1, 0]

    def test_bytes_are_by_number(self):
        z = torch.randn(50, 2, 2) * torch.tensor([[1.0, 100.0], [0.01, 1.0]])
        assert ((as_uint8(z) - z).abs().amax(0) <= (z.amax(0) - z.amin(0)) / 510 * 1.01).all()

    def test_half_precision_is_judged_by_number(self):
        z = torch.randn(200, 2, 2)
        z[:, 0, 0] = 1000 + z[:, 0, 0] / 10  # which float16 rounds away, beside a number as wide as it is off
        z[:, 0, 1] *= 1000
        assert codes.halved(z).dtype == torch.float32

    def test_ways_between_codes_are_arcs(self):
        stack = build(SPEC.format(options="") + "+kl").eval()
        assert curved(stack)
        first, last = squares(4)[0].chunk(2)
        with torch.inference_mode():
            ways = between(stack, first, last, 5)
            assert ways.shape == (2, 5, 1, 10, 10)
            assert torch.allclose(ways[:, 0], stack(first), atol=1e-5)
            straight = stack.decode((stack.encode(first) + stack.encode(last)) / 2)
        assert not torch.allclose(ways[:, 2], straight, atol=1e-6)

    def test_it_is_measured_and_drawn(self, stack, data, tmp_path):
        report = evaluate(stack, data, train=data)
        (note,) = report["notes"]
        assert "give training images" in note
        first, second = report["levels"]
        assert first["code_shape"] == [3, 2]
        assert first["pca"]["components"] == 6
        assert first["prior"]["of"] == 6
        assert 0.5 < first["representation"]["knn"] <= 1
        assert second["codes"]["mse"] > 0
        assert {path.name for path in draw(stack, data, tmp_path)} >= {
            "reconstructions.png",
            "codes.png",
            "samples.png",
        }

    @pytest.mark.parametrize("head", ["normal", "mixture(2)", "flow(width=8)", "began(width=8)"])
    def test_heads_stand_on_it(self, head):
        stack = train(SPEC.format(options="") + f"/{head}", steps=4)
        assert stack.sample(3, seed=0).shape == (3, 1, 10, 10)
        if "began" in head:
            assert stack.head.emphasis.shape == (3, 2)
            assert stack.head.emphasis.unique().numel() > 1

    def test_a_ladder_stands_on_a_ladder(self):
        stack = train(SPEC.format(options="") + "/vlae2x2(hidden=8)+wae_mmd", steps=4)
        assert stack.code_shape == (2, 2)
        assert stack.sample(3, seed=0).shape == (3, 1, 10, 10)
