"""Flow matching: its formula, a distribution that no Gaussian has, labels, and what is saved."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import make_moons
from zoo_heads.flow import Flow
from zoo_heads.velocity import Gaussian, bits

from zoo.builder import build, load
from zoo.data import Images
from zoo.errors import DataError, EvaluationError, SpecError, TrainingError
from zoo.evaluation.prior import sliced_wasserstein
from zoo.interfaces import HeadBatch, Place
from zoo.training import fit

PLACE = Place((2,), pixels=False)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def moons(n=4000):
    """Two interleaved half circles at unit scale, (n, 2), and which is which."""
    points, labels = make_moons(n, noise=0.05, random_state=0)
    points = (points - points.mean(0)) / points.std(0)
    return torch.from_numpy(points).float(), torch.from_numpy(labels)


def learn(head, points, labels=None, *, steps=500):
    head.prepare(points, labels)
    optimizer = torch.optim.Adam(head.train().parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        index = torch.randint(len(points), (256,))
        optimizer.zero_grad()
        head.loss(HeadBatch(points[index], None if labels is None else labels[index])).backward()
        optimizer.step()
        schedule.step()
    return head.eval()


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def gaussian(size=4):
    """Codes (N, size) with any mean and covariance, exactly."""
    mix = torch.randn(size, size) + torch.eye(size)
    return torch.randn(5000, size) @ mix.T + torch.randn(size)


class TestFormula:
    def test_the_loss_is_the_squared_error_of_the_velocity(self):
        head = Flow(PLACE, linear=False, width=8)
        with torch.no_grad():
            head.network.leave[-1].bias.fill_(0.5)  # all else is zero: the velocity is 0.5 everywhere
        x = torch.randn(6, 2)
        torch.manual_seed(3)
        torch.rand(6)
        noise = torch.randn(6, 2)
        torch.manual_seed(3)
        expected = (0.5 - (x - noise)).square().sum(1).mean()
        torch.testing.assert_close(head.loss(HeadBatch(x)), expected)

    def test_the_gaussians_velocity_is_the_conditional_expectation(self):
        points = gaussian(3).double()
        law = Gaussian(3).double()
        law.fit(points)
        x, t = torch.randn(5, 3).double(), torch.tensor([0.0, 0.2, 0.5, 0.8, 1.0]).double()
        mean, spread = law.center, law.axes @ law.variances.diag() @ law.axes.T
        eye = torch.eye(3).double()
        for place, (at, point) in enumerate(zip(t, x, strict=True)):
            joint = at**2 * spread + (1 - at) ** 2 * eye  # of x_t; beside it the covariance with x_1 - x_0
            expected = mean + (at * spread - (1 - at) * eye) @ joint.inverse() @ (point - at * mean)
            torch.testing.assert_close(law(x, t)[place].double(), expected, rtol=1e-4, atol=1e-4)

    def test_no_constant_factor_lowers_the_gaussians_loss(self):
        """It is the best velocity for Gaussian codes: whatever is added to it is paid for by its square."""
        points = gaussian()
        head = Flow(Place((4,), pixels=False), width=8)
        head.prepare(points)
        losses = []
        for value in (0.0, 0.3, -0.3):
            with torch.no_grad():
                head.network.leave[-1].bias.fill_(value)
            torch.manual_seed(0)
            losses.append(head.loss(HeadBatch(points)).item())
        assert losses[1] == pytest.approx(losses[0] + 4 * 0.09, abs=0.05)
        assert losses[2] == pytest.approx(losses[0] + 4 * 0.09, abs=0.05)

    def test_before_it_learns_it_samples_the_gaussian_of_the_codes(self):
        points = gaussian()
        head = Flow(Place((4, 1, 1), pixels=False), width=8)
        head.prepare(points.reshape(-1, 4, 1, 1))
        drawn = head.sample(20000, generator=seeded()).flatten(1)
        scale = points.std(0).max().item()
        torch.testing.assert_close(drawn.mean(0), points.mean(0), rtol=0, atol=0.05 * scale)
        torch.testing.assert_close(drawn.T.cov(), points.T.cov(), rtol=0, atol=0.05 * scale**2)

    def test_what_has_learned_beside_a_gaussian_keeps_it(self):
        head = Flow(Place((2,), pixels=False), width=8)
        head.prepare(moons()[0])
        kept = head.gaussian.center.clone()
        head.prepare(moons()[0] + 3)
        assert torch.equal(head.gaussian.center, kept)

    def test_heuns_error_falls_with_the_square_of_the_step(self):
        head = Flow(PLACE, width=8)
        head.prepare(moons()[0] @ torch.tensor([[1.0, 0.5], [0.0, 0.4]]))

        def drawn(steps):
            head.steps = steps
            return head.sample(500, generator=seeded())

        exact = drawn(200)
        errors = [(drawn(steps) - exact).square().mean().sqrt().item() for steps in (6, 12, 24)]
        assert errors[0] > 3 * errors[1] > 9 * errors[2]


class TestLearning:
    def test_it_learns_what_no_gaussian_can(self):
        points, _ = moons()
        head = Flow(PLACE, width=64, blocks=2)
        head.prepare(points)

        def distance():
            return sliced_wasserstein(head.sample(2000, generator=seeded()), points[:2000], seed=0)

        before, floor = distance(), sliced_wasserstein(points[2000:], points[:2000], seed=0)
        learn(head, points)
        assert distance() < before / 3  # 0.26 to 0.055
        assert distance() < 1.5 * floor

    def test_convolutions_learn_maps(self):
        """Every map is one of two patterns, with a little noise."""
        patterns = torch.tensor([[[[1.0, -1.0], [-1.0, 1.0]]], [[[-1.0, 1.0], [1.0, -1.0]]]])
        points = patterns[torch.randint(2, (2000,))] + 0.1 * torch.randn(2000, 1, 2, 2)
        head = learn(Flow(Place((1, 2, 2), pixels=False), width=16, blocks=2), points, steps=200)
        drawn = head.sample(500, generator=seeded())
        away = (drawn[:, None] - patterns).square().mean((2, 3, 4)).sqrt().min(1).values
        assert (away < 0.4).float().mean() > 0.9
        assert 0.4 < (drawn[:, 0, 0, 0] > 0).float().mean() < 0.6


def places(labels):
    """Where three classes are, (N, 2)."""
    return torch.stack([1.5 * (labels == 7) - 1.5 * (labels == 900), 1.0 * (labels == 0)], 1)


def nearest(points):
    labels = torch.tensor([0, 7, 900])
    return labels[torch.cdist(points, places(labels)).argmin(1)]


@pytest.fixture(scope="module")
def taught():
    """A head that has learned three classes at three places, the first as frequent as the others together."""
    torch.manual_seed(0)
    labels = torch.tensor([0, 7, 0, 900]).repeat(500)
    points = places(labels) + 0.2 * torch.randn(2000, 2)
    return learn(Flow(PLACE, width=32, blocks=2, classes=True), points, labels, steps=300)


class TestByClass:
    @pytest.fixture
    def head(self, taught):
        taught.guidance, taught.steps = 1.5, 24
        return taught

    @pytest.mark.parametrize("guidance", [1.0, 2.0])
    def test_samples_are_of_their_label(self, head, guidance):
        head.guidance = guidance
        assert head.labels() == [0, 7, 900]
        for label in head.labels():
            assert (nearest(head.sample(400, label=label, generator=seeded())) == label).float().mean() > 0.97

    def test_without_a_label_they_come_as_often_as_they_did(self, head):
        drawn = nearest(head.sample(4000, generator=seeded()))
        found = torch.stack([(drawn == label).float().mean() for label in (0, 7, 900)])
        torch.testing.assert_close(found, torch.tensor([0.5, 0.25, 0.25]), rtol=0, atol=0.04)

    def test_guidance_goes_beyond_the_labels_own_velocity(self, head):
        head.steps, x = 1, torch.randn(400, 2, generator=seeded())
        moved = []
        for guidance in (0.0, 1.0, 3.0):
            head.guidance = guidance
            first = head._velocity_of(torch.full((400,), 7), guidance)(x, 0.0)
            moved.append(first.mean(0)[0].item())  # class 7 lies to the right
        assert moved[2] - moved[0] == pytest.approx(3 * (moved[1] - moved[0]), rel=1e-4)
        assert moved[1] > moved[0] + 0.5
        spreads = []
        for head.guidance, head.steps in ((1.0, 24), (3.0, 24)):
            spreads.append(head.sample(400, label=7, generator=seeded()).std(0).mean().item())
        assert spreads[1] < spreads[0]

    def test_labels_are_left_out_as_often_as_asked(self):
        head = Flow(PLACE, width=8, classes=True, drop=0.3)
        told = []
        head.network.register_forward_pre_hook(lambda _, given: told.append(given[2]))
        head.loss(HeadBatch(torch.randn(4000, 2), torch.ones(4000, dtype=torch.long)))
        assert (told[0] == -1).float().mean().item() == pytest.approx(0.3, abs=0.03)
        assert set(told[0].tolist()) == {-1, 1}

    def test_every_label_is_told_differently(self):
        assert len(bits(torch.arange(1024)).unique(dim=0)) == 1024

    def test_a_label_that_is_left_out_is_no_label(self, head):
        """What guidance compares to is what was learned without labels."""
        x, t = torch.randn(5, 2), torch.rand(5)
        free, without, given = (
            head._velocity(x, t, told) for told in (None, torch.full((5,), -1), torch.full((5,), 7))
        )
        assert torch.equal(free, without)
        assert not torch.equal(free, given)

    def test_what_it_refuses(self, head):
        with pytest.raises(EvaluationError, match=r"has not learned label 3; it has learned 0, 7, 900$"):
            head.sample(1, label=3)
        fresh = Flow(PLACE, width=8, classes=True)
        with pytest.raises(EvaluationError, match=r"has learned no classes.*flow\(classes=true\)"):
            fresh.sample(1, label=0)
        with pytest.raises(TrainingError, match="got no labels"):
            fresh.prepare(torch.randn(9, 2))
        with pytest.raises(TrainingError, match="got no labels"):
            fresh.loss(HeadBatch(torch.randn(9, 2)))
        with pytest.raises(TrainingError, match="1,024 classes apart, and there is a label 1024"):
            fresh.prepare(torch.randn(2, 2), torch.tensor([0, 1024]))


class TestInAStack:
    SPEC = "8x8x1/conv2x2x3(width=4)/flow(width=16, blocks=1, steps=2, classes=true)"

    @staticmethod
    def images(**given):
        return Images(torch.randint(0, 255, (80, 1, 8, 8), dtype=torch.uint8), name="noise", **given)

    def test_what_is_saved_samples_the_same(self, tmp_path):
        stack = build(self.SPEC)
        data = self.images(labels=torch.arange(80) % 3)
        fit(stack, data, steps=4, batch_size=16, progress=False)
        stack.to(memory_format=torch.contiguous_format)  # as what is loaded lies; in another order sums round otherwise
        with torch.no_grad():
            for parameter in stack.head.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        again = load(stack.save(tmp_path))
        assert again.head.labels() == [0, 1, 2]
        for label in (None, 0, 2):
            assert torch.equal(again.sample(5, seed=1, label=label), stack.sample(5, seed=1, label=label))
        assert not torch.equal(again.sample(5, seed=1, label=0), again.sample(5, seed=1, label=2))
        with pytest.raises(EvaluationError, match="label 3"):
            again.sample(1, label=3)

    @pytest.mark.parametrize("head", ["flow(classes=true)", "mixture(classes=true)"])
    def test_images_without_labels_are_refused_before_anything_is_trained(self, tmp_path, head):
        stack = build(f"8x8x1/conv2x2x3(width=4)/{head}")
        before = {name: tensor.clone() for name, tensor in stack.state_dict().items()}
        with pytest.raises(DataError, match=r"classes=true\) learns by class, and noise has no labels"):
            fit(stack, self.images(), steps=1, out=tmp_path / "run")
        labelled = self.images(labels=torch.zeros(80, dtype=torch.long))
        with pytest.raises(DataError, match="noise has no labels"):
            fit(stack, labelled, val=self.images(), steps=1, out=tmp_path / "run")
        assert all(torch.equal(before[name], tensor) for name, tensor in stack.state_dict().items())
        assert not (tmp_path / "run").exists()
        fit(stack, self.images(), steps=1, level=1, progress=False)  # the levels below can do without

    @pytest.mark.parametrize(
        ("head", "labels", "message"),
        [
            ("flow(classes=true)", torch.arange(80) + 1000, "1,024 classes apart, and there is a label 1079"),
            ("flow(classes=true)", torch.arange(80) - 1, "there is a label -1: number them from 0"),
            (
                "mixture(7, classes=true)",
                torch.arange(80) % 8,
                r"7 components for 8 labels.*mixture\(80, classes=true\)",
            ),
        ],
    )
    def test_so_are_labels_that_it_cannot_learn(self, tmp_path, head, labels, message):
        with pytest.raises(TrainingError, match=message):
            fit(build(f"8x8x1/conv2x2x3(width=4)/{head}"), self.images(labels=labels), steps=1, out=tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_what_it_refuses():
    with pytest.raises(SpecError, match="none of its own"):
        Flow(Place((8,), (4,), pixels=False))
    with pytest.raises(SpecError, match="12,288 times 12,288"):
        Flow(Place((3, 64, 64)), linear=True)
    for option in ({"width": 0}, {"blocks": 0}, {"steps": 0}, {"drop": 1.0}):
        with pytest.raises(SpecError, match=next(iter(option))):
            Flow(PLACE, **option)
    with pytest.raises(SpecError, match="add guidance=1"):
        Flow(PLACE, classes=True, drop=0.0)
    assert Flow(PLACE, classes=True, drop=0.0, guidance=1.0).drop == 0
    head = Flow(PLACE, width=8)
    with pytest.raises(EvaluationError, match="has learned no classes"):
        head.sample(1, label=3)
    with pytest.raises(TrainingError, match="at least 2"):
        head.prepare(torch.zeros(1, 2))
    with pytest.raises(TrainingError, match="not finite"):
        head.prepare(torch.full((4, 2), float("nan")))


def test_its_width_follows_the_code():
    widths = [Flow(Place(shape, pixels=False)).width for shape in ((16,), (300,), (3, 4), (10, 7, 7), (64, 8, 8))]
    assert widths == [256, 600, 256, 64, 128]
    assert Flow(Place((3, 64, 64))).linear is False
    assert Flow(Place((10, 7, 7), pixels=False)).linear is True
