"""What changes over training: weights that rise or adapt, phases before a level's own, and who is told of the time."""

from __future__ import annotations

import json
from itertools import pairwise
from math import exp

import pytest
import torch
from torch import nn
from zoo_conv.fc import FullyConnected
from zoo_latent.kl import KL
from zoo_latent.mmd import MMD
from zoo_latent.moments import distance_to_prior, moment_distance

from zoo import files
from zoo.builder import build, load
from zoo.errors import RegistryError, SpecError, TrainingError
from zoo.interfaces import Place, Regularizer
from zoo.phases import END, Moment, Phase
from zoo.testing import ConformanceError, check_term
from zoo.training import InterruptedTrainingError, fit
from zoo.training import loop as loops
from zoo.training import run as runs
from zoo.training.checkpoints import Shelf
from zoo.training.objectives import LevelInCodes, LevelInPixels, WholeStack
from zoo.training.schedules import Budget, Spent
from zoo.training.validation import Validation
from zoo.weighing import Numbers, Weighing

PLACE = Place((1, 8, 8), (4,))
STAGE = "8x8x1/fc4(hidden=[8], linear=false)"
ADAPTIVE = f"{STAGE}+mse(0.05)+wae_mmd(0.001, adaptive=1)"


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "trackers", lambda **_: [])
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


def squares(count=120):
    """A bright square somewhere."""
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(count, 1, 8, 8)
    for image, (row, column) in zip(x, torch.randint(5, (count, 2), generator=generator).tolist(), strict=True):
        image[0, row : row + 3, column : column + 3] = 1
    return x


def train(spec, *, out=None, **options):
    stack = build(spec) if isinstance(spec, str) else spec
    options = {"steps": 12, "batch_size": 16, "progress": False, "log_every": 1, "precision": "fp32", **options}
    return fit(stack, squares(), out=out, **options)


def lines(out, key, **wanted):
    """Those of the history that say this."""
    history = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    return [line for line in history if key in line and line.items() >= wanted.items()]


def numbers(own, reconstruction, step):
    return Numbers(torch.tensor(own), torch.tensor(reconstruction), torch.tensor(0.0), step)


# -- weights ----------------------------------------------------------------------------------------------------------


class TestWeights:
    def test_a_warm_up_rises_in_a_straight_line_over_its_part_of_the_budget(self):
        term = KL(PLACE, weight=2.0, warmup=0.2)
        assert [term.weight_at(Moment(progress)) for progress in (0, 0.05, 0.1)] == pytest.approx([0, 0.5, 1])
        assert [term.weight_at(Moment(progress)) for progress in (0.2, 0.7, 1)] == [2, 2, 2]

    def test_or_as_an_exponential_of_the_steps(self):
        term = KL(PLACE, weight=2.0, tau=2000)
        for step in (0, 100, 2000, 9000):
            assert term.weight_at(Moment(0.5, step)) == pytest.approx(2 * (1 - exp(-step / 2000)))
        assert term.weight_at(END) == 2

    def test_without_them_it_is_the_weight(self):
        assert {KL(PLACE, weight=2.0).weight_at(Moment(progress)) for progress in (0, 0.5, 1)} == {2.0}

    def test_an_adaptive_one_goes_half_way_to_the_reconstruction(self):
        weighing = Weighing(10.0, adaptive=2)
        seen = []
        for step, (own, rec) in enumerate([(0.1, 4.0), (-0.3, 8.0), (9.0, 9.0), (0.5, 3.0), (1.0, 1.0)], 1):
            weighing.adapt(numbers(own, rec, step))
            seen.append(weighing.at(10.0, END).item())
        second = (10 + 12 / 0.4) / 2
        third = (second + 12 / 9.5) / 2
        assert seen == pytest.approx([10, second, second, third, third])

    def test_what_is_left_of_a_course_does_not_count_in_the_next(self):
        weighing = Weighing(10.0, adaptive=2)
        for step in (1, 2, 3):
            weighing.adapt(numbers(0.1, 4.0, step))
        before = weighing.at(10.0, END).item()
        weighing.adapt(numbers(0.5, 100.0, 1))
        weighing.adapt(numbers(0.5, 100.0, 2))
        assert weighing.at(10.0, END).item() == pytest.approx((before + 200) / 2)

    def test_and_warms_up_beside_it(self):
        weighing = Weighing(10.0, adaptive=1, warmup=0.5)
        weighing.adapt(numbers(0.1, 3.0, 1))
        assert weighing.at(10.0, Moment(0.25)).item() == pytest.approx(10)
        assert weighing.at(10.0, END).item() == pytest.approx(20)

    def test_an_adaptive_one_stays_where_there_is_nothing_to_weigh(self):
        weighing = Weighing(10.0, adaptive=1)
        weighing.adapt(numbers(0.0, 3.0, 1))
        assert weighing.at(10.0, END).item() == 10

    def test_a_balanced_one_has_the_running_reconstruction_over_its_own(self):
        weighing, image, own = Weighing(2.0, balance=0.9), 0.0, 0.0
        assert weighing.at(2.0, END).item() == 2
        for step, (number, rec) in enumerate([(4.0, 200.0), (-16.0, 100.0), (8.0, 150.0)], 1):
            weighing.adapt(numbers(number, rec, step))
            image, own = 0.9 * image + 0.1 * rec, 0.9 * own + 0.1 * abs(number)
            # the source's two weights, whose ratio is all that an optimiser like Adam sees
            shares = 1 - image / (image + own), 1 - own / (image + own)
            assert weighing.at(2.0, END).item() == pytest.approx(2 * shares[1] / shares[0])
        with pytest.raises(TrainingError, match=r"balance=0.9.*not above 0"):
            weighing.adapt(numbers(1.0, -1.0, 4))

    def test_balanced_terms_count_as_much_as_each_other(self):
        lines = []
        stack = build("8x8x1/fc4(hidden=[8])+bernoulli+kl(balance=0.5)", seed=0)
        learner = LevelInCodes(stack, 1)
        x = torch.rand(16, 1, 8, 8)
        for step in range(1, 4):
            learner.advance(Moment(0.5, step))
            losses = learner(x)
            learner.adapt(losses, step)
            lines.append((losses.terms["bernoulli"].item(), losses.terms["kl"].item()))
        learner.advance(Moment(0.5, 4))
        weight = learner.weights_now()["kl"]
        share = [0.125, 0.25, 0.5]
        assert weight == pytest.approx(
            sum(s * rec for s, (rec, _) in zip(share, lines, strict=True))
            / sum(s * own for s, (_, own) in zip(share, lines, strict=True)),
            rel=1e-4,
        )

    @pytest.mark.parametrize("options", [{"balance": 1.0}, {"balance": -0.1}, {"balance": 0.9, "adaptive": 3}])
    def test_balances_that_mean_nothing_are_refused(self, options):
        with pytest.raises(SpecError, match="balance"):
            Weighing(1.0, **options)

    @pytest.mark.parametrize("options", [{"warmup": 1.5}, {"warmup": -0.1}, {"tau": -1.0}, {"warmup": 0.1, "tau": 9.0}])
    def test_warm_ups_that_mean_nothing_are_refused(self, options):
        with pytest.raises(SpecError, match=r"warmup|tau"):
            KL(PLACE, **options)
        with pytest.raises(SpecError, match=r"warmup|tau"):
            build(f"{STAGE}+kl({', '.join(f'{name}={value}' for name, value in options.items())})")

    @pytest.mark.parametrize("options", [{"adaptive": -1}, {"pretrain": -1}])
    def test_steps_that_mean_nothing_are_refused(self, options):
        with pytest.raises(SpecError, match="number of steps"):
            MMD(PLACE, **options)

    @pytest.mark.parametrize("first", [-1.0, 1.0])
    def test_a_log_density_is_no_error_to_weigh_against(self, first):
        weighing = Weighing(10.0, adaptive=2)
        with pytest.raises(TrainingError, match=r"not above 0.*mse\(0.05\)"):  # noqa: PT012
            weighing.adapt(numbers(0.1, first, 1))
            weighing.adapt(numbers(0.1, -2.0, 2))

    def test_only_an_adaptive_one_is_saved(self, tmp_path):
        plain, warm, adaptive = (build(f"{STAGE}+wae_mmd{options}") for options in ("", "(tau=9)", "(adaptive=9)"))
        assert plain.state_dict().keys() == warm.state_dict().keys()
        more = adaptive.state_dict().keys() - plain.state_dict().keys()
        assert {name.removeprefix("levels.0.terms.wae_mmd.weighing.") for name in more} == {"value", "sums"}
        adaptive.level(1).terms["wae_mmd"].adapt(numbers(0.1, 3.0, 9))
        adaptive.save(tmp_path)
        term = load(tmp_path).level(1).terms["wae_mmd"]
        assert term.weight_at(END).item() == pytest.approx((100 + 30) / 2)
        assert term.weight == 100


# -- training with them -----------------------------------------------------------------------------------------------


class TestHistory:
    def test_it_shows_the_weights_that_change(self, tmp_path):
        train(f"{STAGE}+kl(2, warmup=0.5)+mc", out=tmp_path, steps=10)
        assert [line["weights"] for line in lines(tmp_path, "terms")] == [
            {"kl": pytest.approx(2 * min(1, step / 5))} for step in range(10)
        ]

    def test_and_no_others(self, tmp_path):
        train(f"{STAGE}+kl", out=tmp_path)
        assert not lines(tmp_path, "weights")

    def test_the_loss_is_the_sum_under_them(self, tmp_path):
        train(f"{STAGE}+mse+kl(3, tau=5)", out=tmp_path)
        for line in lines(tmp_path, "terms"):
            total = line["terms"]["mse"] + line["weights"]["kl"] * line["terms"]["kl"]
            assert line["loss"] * 64 == pytest.approx(total, rel=1e-5)

    def test_a_warm_up_is_over_the_budget_of_the_level_and_not_of_a_phase(self, tmp_path, monkeypatch):
        phases = (Phase("one", share=1), Phase("two", share=2), Phase("three", share=1))
        monkeypatch.setattr(FullyConnected, "phases", lambda self: phases)
        train(f"{STAGE}+kl(warmup=0.5)", out=tmp_path, steps=8)
        found = [(line["phase"], line["weights"]["kl"]) for line in lines(tmp_path, "terms")]
        assert found == [
            ("one", 0), ("one", 0.25), ("two", 0.5), ("two", 0.75), ("two", 1), ("two", 1), ("three", 1), ("three", 1)
        ]  # fmt: skip

    def test_it_is_over_when_the_stack_is_refined_and_when_a_level_trains_on(self, tmp_path):
        spec = f"{STAGE}+kl(tau=5)/fc2(hidden=[4])+kl(warmup=1)"
        stack = train(spec, out=tmp_path / "one", refine=True)
        refined = [line["weights"] for line in lines(tmp_path / "one", "terms", phase="refine")]
        assert len(refined) == 12
        assert all(weights == {"kl": 1, "1.kl": 1} for weights in refined)
        train(stack, out=tmp_path / "two", steps=3)
        assert [line["weights"] for line in lines(tmp_path / "two", "terms")] == [{"kl": 1}] * 6

    def test_an_adaptive_weight_follows_in_codes_in_pixels_and_refined(self, tmp_path):
        spec = f"{ADAPTIVE}/fc2(hidden=[4])+mse(0.05)+wae_mmd(0.001, adaptive=1)"
        for loss_in in ("codes", "pixels"):
            train(spec, out=tmp_path / loss_in, loss_in=loss_in, refine=True, steps=6)
            for phase, level in (("pixels", 1), (loss_in, 2), ("refine", 2)):
                found = lines(tmp_path / loss_in, "terms", phase=phase, level=level)
                assert len(found) == 6
                for line, following in pairwise(found):
                    now, then = line["weights"]["wae_mmd"], following["weights"]["wae_mmd"]
                    wanted = 0.05 * line["terms"]["mse"] / abs(line["terms"]["wae_mmd"])
                    assert then == pytest.approx((now + wanted) / 2, rel=1e-4)
                    assert phase != "refine" or following["weights"]["1.wae_mmd"] == line["weights"]["1.wae_mmd"]

    def test_what_was_summed_in_codes_does_not_count_in_pixels(self, tmp_path):
        train(f"{STAGE}/fc2(hidden=[4])+mse(0.05)+wae_mmd(0.001, adaptive=4)", out=tmp_path, refine=True, steps=6)
        found = lines(tmp_path, "terms", phase="refine", level=2)
        rec = sum(0.05 * line["terms"]["mse"] for line in found[:4])
        match = sum(abs(line["terms"]["wae_mmd"]) for line in found[:4])
        now, then = (found[place]["weights"]["wae_mmd"] for place in (3, 4))
        assert then == pytest.approx((now + rec / match) / 2, rel=1e-4)

    def test_beside_the_default_reconstruction_it_stops_at_once(self):
        stack = build("8x8x1/fc4+wae_mmd(adaptive=9)")
        with pytest.raises(TrainingError, match="name one that is an error"):
            fit(stack, squares() / 10, steps=1, batch_size=16, progress=False, precision="fp32")


class TestTheBest:
    def test_held_out_images_are_judged_under_the_whole_weights(self, tmp_path):
        """With a rate of nothing the loss in training rises with the warm-up; the held-out one stays."""
        options = {"lr": 1e-12, "ema": 0.0, "steps": 20}
        train(f"{STAGE}+mse+kl(50, warmup=1)", out=tmp_path / "warm", **options)
        train(f"{STAGE}+mse+kl(50)", out=tmp_path / "plain", **options)
        warm, plain = ([line["val"]["loss"] for line in lines(tmp_path / name, "val")] for name in ("warm", "plain"))
        assert warm == pytest.approx(plain)
        assert lines(tmp_path / "warm", "terms")[0]["loss"] < lines(tmp_path / "plain", "terms")[0]["loss"]

    def test_so_a_warm_up_does_not_make_the_first_weights_the_best(self, tmp_path):
        """While the regularizer does not count, the codes leave the prior; when it does, they come back."""
        train(f"{STAGE}+mse(0.01)+kl(50, warmup=1)", out=tmp_path, steps=60, lr=0.01, ema=0.0)
        best = min(lines(tmp_path, "val"), key=lambda line: line["val"]["loss"])
        assert best["step"] > 30
        assert _best(tmp_path).step == best["step"]

    def test_a_loss_under_another_weight_is_no_better(self, tmp_path):
        """The adaptive weight grows, and the held-out loss with it."""
        train(ADAPTIVE, out=tmp_path, lr=1e-12, steps=20)
        losses = [line["val"]["loss"] for line in lines(tmp_path, "val")]
        assert losses[0] < losses[-1]
        assert _best(tmp_path).step == 20

    def test_and_under_the_same_it_is(self, tmp_path):
        train(ADAPTIVE.replace("adaptive=1", "adaptive=100"), out=tmp_path, lr=1e-30)
        assert len({line["val"]["loss"] for line in lines(tmp_path, "val")}) == 1
        assert _best(tmp_path) is None  # what it began with is no worse


def _best(out):
    return Shelf(out / "checkpoints").load("best")


# -- phases before the level's own ------------------------------------------------------------------------------------


class TestMomentMatching:
    def test_the_distance_is_that_of_means_and_covariances(self):
        q, p = 2 * torch.randn(50, 3) + 1, torch.randn(50, 3)
        wanted = (q.mean(0) - p.mean(0)).square().mean() + (q.T.cov() - p.T.cov()).square().mean()
        torch.testing.assert_close(moment_distance(q, p), wanted)
        assert moment_distance(q, q) == 0

    def test_draws_from_the_prior_are_near_and_maps_are_vectors(self):
        torch.manual_seed(0)
        assert distance_to_prior(torch.randn(1000, 4)) < 0.02
        assert distance_to_prior(3 * torch.randn(1000, 2, 2, 1)) > 8
        assert distance_to_prior(torch.zeros(1000, 4)).item() == pytest.approx(1 / 4, rel=0.2)

    def test_the_encoder_learns_first_and_alone(self, tmp_path, monkeypatch):
        seen = {}

        def watched(loop, course, resumed=None):
            before = {name: tensor.clone() for name, tensor in loop.stack.state_dict().items()}
            steps = run(loop, course, resumed)
            after = loop.stack.state_dict()
            moved = {
                name.split(".")[3] for name in after if "stage" in name and not torch.equal(after[name], before[name])
            }
            seen[course.title] = (steps, moved)
            return steps

        run = loops.Loop.run
        monkeypatch.setattr(loops.Loop, "run", watched)
        monkeypatch.setattr("zoo_latent.moments.ENOUGH", 0.0)
        monkeypatch.setattr(Validation, "start", lambda _: None)  # which four steps do not better
        train(f"{STAGE}+wae_mmd(pretrain=4, warmup=0.1)", out=tmp_path, steps=30)
        assert seen == {"moments": (4, {"encoder"}), "pixels": (26, {"encoder", "decoder"})}
        first = lines(tmp_path, "terms", phase="moments")
        assert [line["terms"].keys() for line in first] == [{"moments"}] * 4
        assert not any("weights" in line for line in first)
        assert all(line["loss"] == line["terms"]["moments"] for line in first)

    def test_codes_come_nearer_to_the_prior(self, tmp_path):
        stack = build(f"{STAGE}+wae_mmd(pretrain=200)")
        with torch.no_grad():
            stack.level(1).stage.encoder.mean.weight *= 30
        train(stack, out=tmp_path, steps=250, lr=0.01)
        first = [line["loss"] for line in lines(tmp_path, "terms", phase="moments")]
        assert first[0] > 1
        assert first[-1] < 0.1 <= min(first[:-1])
        assert len(first) < 50
        assert lines(tmp_path, "terms")[-1]["step"] == 250 - len(first)  # the rest of its share is not lost

    def test_nothing_is_decoded_and_no_critic_steps(self, monkeypatch):
        def decode(self, z):
            raise AssertionError

        stack = build(f"{STAGE}/fc2(hidden=[4])+wae_mmd(pretrain=4)").train()
        stack.level(2).terms["judge"] = Judge(Place((4,), (2,), pixels=False))
        (phase,) = stack.level(2).terms["wae_mmd"].phases()
        monkeypatch.setattr(FullyConnected, "decode", decode)
        for learner, x in ((LevelInCodes, torch.randn(9, 4)), (LevelInPixels, torch.rand(9, 1, 8, 8))):
            learner = learner(stack, 2, phase)
            assert learner.critics() == {}
            assert learner(x).terms.keys() == {"moments"}

    def test_it_takes_a_fifth_of_a_short_level_and_has_its_own_batches(self, tmp_path, monkeypatch):
        sizes = []
        forward = LevelInCodes.forward

        def sized(learner, batch, labels=None):
            if learner.training:
                sizes.append(len(batch))
            return forward(learner, batch, labels)

        monkeypatch.setattr(LevelInCodes, "forward", sized)
        monkeypatch.setattr("zoo_latent.moments.ENOUGH", 0.0)
        train(f"{STAGE}+wae_mmd(pretrain=200)", out=tmp_path, steps=10)
        assert sizes == [114] * 2 + [16] * 8  # of 120 images 6 are held out

    def test_a_level_that_trains_on_does_without(self, tmp_path):
        stack = train(f"{STAGE}+wae_mmd(pretrain=2)/fc2(hidden=[4])+wae_mmd(pretrain=2)", out=tmp_path / "one")
        phases = {(line["level"], line["phase"]) for line in lines(tmp_path / "one", "terms")}
        assert phases == {(1, "moments"), (1, "pixels"), (2, "moments"), (2, "codes")}
        train(stack, out=tmp_path / "two")
        found = [(line["level"], line["phase"]) for line in lines(tmp_path / "two", "terms")]
        assert found == [(1, "pixels")] * 12 + [(2, "codes")] * 12

    def test_in_pixels(self, tmp_path):
        train(f"{STAGE}/fc2(hidden=[4])+wae_mmd(pretrain=2)", out=tmp_path, loss_in="pixels", refine=True)
        assert {line["phase"] for line in lines(tmp_path, "terms")} == {"pixels", "moments", "refine"}

    def test_a_phase_whose_terms_are_not_there_is_refused(self, monkeypatch):
        monkeypatch.setattr(FullyConnected, "phases", lambda self: (Phase("odd", terms=("bernoulli",)),))
        with pytest.raises(RegistryError, match=r"'odd' counts \('bernoulli',\)"):
            train(STAGE)

    def test_a_phase_one_of_whose_terms_is_not_there_is_refused(self, monkeypatch):
        monkeypatch.setattr(FullyConnected, "phases", lambda self: (Phase("odd", terms=("gaussian", "kll")),))
        with pytest.raises(RegistryError, match=r"level 1, fc.*\+kl, has no term 'kll'; did you mean 'kl'"):
            train(f"{STAGE}+kl")

    def test_a_phase_may_do_without_a_likelihood(self, monkeypatch, tmp_path):
        monkeypatch.setattr(FullyConnected, "phases", lambda self: (Phase("codes alone", terms=("kl",)), Phase()))
        train(f"{STAGE}+kl", out=tmp_path)
        assert [[*line["terms"]] for line in lines(tmp_path, "terms")] == [["kl"]] * 6 + [["gaussian", "kl"]] * 6


def test_what_a_phase_leaves_is_for_those_behind_it():
    whole = Budget(100, None)
    assert whole.part(0.2, spent=Spent()) == Budget(20, None)
    assert whole.part(0.2, spent=Spent(), most=7) == Budget(7, None)
    assert whole.part(1.0, spent=Spent(steps=7)) == Budget(93, None)
    seconds = Budget(None, 60.0)
    assert seconds.part(0.5, spent=Spent(seconds=20.0), most=9) == Budget(9, 20.0)
    assert seconds.part(0.5, spent=Spent(), most=9).progress(3, 6.0) == pytest.approx(1 / 3)
    assert seconds.part(0.5, spent=Spent(), most=9).progress(3, 15.0) == 0.5
    assert seconds.part(1.0, spent=Spent(seconds=61.0)).progress(1, 0.01) > 1  # over before it began


# -- who is told ------------------------------------------------------------------------------------------------------


class Judge(Regularizer):
    """A term with a critic."""

    def __init__(self, place):
        super().__init__(place, 1.0)
        self.critic = nn.Linear(place.code_shape[0], 1)

    def forward(self, trip):
        return -self.critic(trip.z).mean()

    def critic_loss(self, trip):
        return self.critic(trip.z).mean() - self.critic(torch.randn_like(trip.z)).mean()


def test_parts_that_learn_are_told_where_the_training_stands(monkeypatch):
    told = {}

    def hear(part, moment):
        told.setdefault((type(part).__name__, part.place.input_shape), []).append(moment)

    monkeypatch.setattr(FullyConnected, "advance", hear)
    monkeypatch.setattr(KL, "advance", hear)
    monkeypatch.setattr("zoo_heads.normal.Normal.advance", hear)
    phases = (Phase("one"), Phase("two", share=3))
    monkeypatch.setattr(FullyConnected, "phases", lambda self: phases)
    train(f"{STAGE}/fc2(hidden=[4])+kl/normal", steps=8, refine=True)
    first = [Moment(0, 0, "one", 0), Moment(1 / 8, 1, "one", 0.5), Moment(2 / 8, 2, "one", 1)]
    rest = [Moment((step + 2) / 8, step + 2, "two", step / 6) for step in range(7)]
    refined = [Moment(1, step, "", step / 8) for step in range(9)]
    assert told.pop(("FullyConnected", (1, 8, 8))) == first + rest + refined
    assert told.pop(("FullyConnected", (4,))) == told.pop(("KL", (4,))) == first + rest + refined
    assert not told  # the head is fitted in closed form, without a step


@pytest.mark.parametrize("name", ["kl", "mc", "stl"])
def test_refining_leaves_the_spread_that_nobody_decodes_to_itself(name):
    """Levels above learn from means, so nothing holds a lower level's deviations against its regularizer."""
    stack = train(f"8x8x1/fc6(hidden=[8])+{name}/fc3(hidden=[8])+kl", steps=60, lr=0.01)
    spread = stack.posterior(squares(32), 1).std.mean().item()
    learner = WholeStack(stack).train()
    learner.advance(Moment(1.0, 0))
    told = learner(squares(32)).terms[f"1.{name}"]
    assert told.item() == pytest.approx(stack.posterior(squares(32), 1).kl().mean().item(), abs=2)  # an estimate of it
    grads = torch.autograd.grad(
        told, [p for n, p in stack.level(1).named_parameters() if "logvar" in n], allow_unused=True
    )
    assert all(grad is None or not grad.any() for grad in grads)
    fit(stack, squares(96), steps=60, lr=0.01, refine=True, progress=False, batch_size=16)
    assert stack.posterior(squares(32), 1).std.mean().item() < 2 * spread


def test_compiled_it_is_one_graph_whatever_the_weights():
    stack = build(f"{STAGE}+kl(warmup=0.5)/fc2(hidden=[4])+mse(0.05)+wae_mmd(adaptive=2, tau=9)").train()
    for learner in (LevelInCodes(stack, 1), WholeStack(stack)):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        compiled, losses = torch.compile(learner, backend="eager", fullgraph=True), set()
        for step in range(6):
            learner.advance(Moment(step / 6, step))
            torch.manual_seed(0)
            found = compiled(squares(16))
            torch.manual_seed(0)
            assert torch.equal(found.total, learner(squares(16)).total)
            learner.adapt(found, step + 1)
            losses.add(found.total.item())
        assert len(losses) > 2
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


# -- resuming ---------------------------------------------------------------------------------------------------------

CHANGING = (
    "8x8x1/fc4(hidden=[8], linear=false)+mse(0.05)+wae_mmd(2, adaptive=3, warmup=0.3, pretrain=50)"
    "/fc2(hidden=[4], linear=false)+mse(0.05)+wae_mmd(2, adaptive=4, tau=5, pretrain=50)+kl(warmup=0.5)"
)


OPTIONS = {"steps": 20, "refine": True, "lr": 0.01}
SOON = 0.25
"""The distance of moments that is enough: level 1 has it after three steps, level 2 not after four."""


@pytest.fixture
def interrupted(monkeypatch):
    """Have a run asked to stop after some steps."""
    step = loops._Run._step

    def stop(after, **options):
        taken = []

        def stopping(run, progress):
            taken.append(1)
            run.loop.interrupt.asked = len(taken) >= after
            return step(run, progress)

        with monkeypatch.context() as patch:
            patch.setattr(loops._Run, "_step", stopping)
            with pytest.raises(InterruptedTrainingError):
                train(CHANGING, **options)

    return stop


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of the run that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "trackers", lambda **_: [])
        patch.setattr("zoo_latent.moments.ENOUGH", SOON)
        train(CHANGING, out=folder, **OPTIONS)
    return folder


class TestResuming:
    @pytest.fixture(autouse=True)
    def soon(self, monkeypatch):
        monkeypatch.setattr("zoo_latent.moments.ENOUGH", SOON)

    def test_the_run_is_as_it_is_meant(self, whole):
        steps = {(line["level"], line["phase"]): line["step"] for line in lines(whole, "terms")}
        assert steps.pop((1, "moments")) == 3  # it was enough
        assert steps == {(1, "pixels"): 17, (2, "moments"): 4, (2, "codes"): 16, (2, "refine"): 20}

    @pytest.mark.parametrize("after", [1, 3, 8, 21, 24, 38, 52])
    def test_it_ends_in_the_same_bytes(self, tmp_path, whole, interrupted, after):
        interrupted(after, out=tmp_path, **OPTIONS)
        train(CHANGING, out=tmp_path, resume=True, **OPTIONS)
        self.same(tmp_path, whole)

    @pytest.mark.parametrize("after", [8, 24, 34])
    def test_from_its_best_point_too(self, tmp_path, whole, interrupted, after):
        interrupted(after, out=tmp_path, **OPTIONS)
        train(CHANGING, out=tmp_path, resume="best", **OPTIONS)
        self.same(tmp_path, whole)

    def test_and_in_pixels(self, tmp_path, interrupted):
        train(CHANGING, out=tmp_path / "whole", loss_in="pixels", **OPTIONS)
        interrupted(24, out=tmp_path / "parts", loss_in="pixels", **OPTIONS)
        train(CHANGING, out=tmp_path / "parts", loss_in="pixels", resume=True, **OPTIONS)
        self.same(tmp_path / "parts", tmp_path / "whole")

    def same(self, parts, whole):
        """Weights byte for byte, and what the history says of every step but when it was."""
        one, other = (
            [
                {key: line.get(key) for key in ("phase", "step", "terms", "weights", "val")}
                for line in lines(out, "step")
            ]
            for out in (parts, whole)
        )
        assert one == other
        assert weights(parts) == weights(whole)


def weights(out):
    found = {path.name: path.read_bytes() for path in out.glob("level-*")}
    assert found
    return found


# -- the check of a term ----------------------------------------------------------------------------------------------


class Sum(Regularizer):
    """A good term, with a weight that it changes."""

    source = "Nobody (2020). A test."

    def __init__(self, place, *, weight: float = 1.0):
        super().__init__(place, weight)
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("told", torch.zeros(()))

    def forward(self, trip):
        return trip.z.float().flatten(1).sum(1).mean()

    def weight_at(self, moment):
        return self.weight / (1 + self.seen) * (0.5 + moment.progress / 2)

    def advance(self, moment):
        self.told.fill_(moment.progress)

    def adapt(self, numbers):
        self.seen += numbers.own

    def phases(self):
        return (Phase("small", code_loss=lambda z: z.square().mean()),)


class NeverWhole(Sum):
    def weight_at(self, moment):
        return super().weight_at(moment) / 2


class NaN(Sum):
    def weight_at(self, moment):
        return super().weight_at(moment) if moment.progress else float("nan")


class Fickle(Sum):
    def weight_at(self, moment):
        return super().weight_at(moment) if moment.progress == 1 else torch.rand(())


class Counting(Sum):
    def weight_at(self, moment):
        self.told += 1
        return self.weight


class Forgetful(Sum):
    def __init__(self, place, *, weight: float = 1.0):
        super().__init__(place, weight=weight)
        self.last = 0.0

    def adapt(self, numbers):
        self.last += float(numbers.own)

    def weight_at(self, moment):
        return self.weight / (1 + self.last)


class Attached(Sum):
    def __init__(self, place, *, weight: float = 1.0):
        super().__init__(place, weight=weight)
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, trip):
        return super().forward(trip) * self.gain

    def weight_at(self, moment):
        return super().weight_at(moment) * self.gain


class Pushy(Attached):
    weight_at = Sum.weight_at

    def advance(self, moment):
        with torch.no_grad():
            self.gain += 1


class Pushed(Attached):
    weight_at = Sum.weight_at

    def adapt(self, numbers):
        with torch.no_grad():
            self.gain += 1


class Growing(Sum):
    def advance(self, moment):
        self.register_buffer(f"step_{moment.step}", torch.zeros(()))


class Nameless(Sum):
    def phases(self):
        return (Phase(),)


class NoShare(Sum):
    def phases(self):
        return (Phase("none", share=0),)


class PerImage(Sum):
    def phases(self):
        return (Phase("small", code_loss=lambda z: z.square()),)


class Spread(Sum):
    def phases(self):
        return (Phase("spread", code_loss=lambda z: z.flatten(1).std(0).mean()),)


BROKEN = {
    NeverWhole: "in the end weight_at is not the weight",
    NaN: "is nan",
    Fickle: "two answers at one moment",
    Counting: "weight_at changes the state",
    Forgetful: "computes something else: state is missing",
    Attached: "a tensor with a gradient",
    Pushy: "advance changes more than buffers",
    Pushed: "adapt moves a parameter",
    Growing: "advance changes more than buffers",
    Nameless: "has a name",
    NoShare: "share of 0",
    PerImage: r"code_loss\(z\) has shape",
    Spread: r"code_loss of phase 'spread' on 1|NaN or infinity",
}


def test_a_good_term_that_changes_passes():
    check_term(Sum, PLACE)


@pytest.mark.parametrize("cls", BROKEN)
def test_a_broken_one_is_told_what_it_breaks(cls):
    with pytest.raises(ConformanceError, match=BROKEN[cls]):
        check_term(cls, PLACE)


def test_files_hold_no_schedule(tmp_path):
    train(CHANGING, out=tmp_path, steps=5)
    tensors, _ = files.read_tensors(next(tmp_path.glob("level-1-*")))
    assert {name for name in tensors if name.startswith("terms.")} == {
        "terms.wae_mmd.weighing.value", "terms.wae_mmd.weighing.sums"
    }  # fmt: skip
