"""Partners of a likelihood that see images through a network, or play against a critic of them."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import pytest
import timm
import torch
from safetensors.torch import save_file
from test_resume import stopped  # noqa: F401
from test_resume import weights as written
from torch import nn
from zoo_perceptual.adversary import Adversary
from zoo_perceptual.depths import located
from zoo_perceptual.feature import FeatureError
from zoo_perceptual.lpips import LPIPS
from zoo_perceptual.memory import Memory
from zoo_perceptual.observer import Observer
from zoo_perceptual.patches import patches

from zoo.builder import build, load
from zoo.errors import FileError, NetworkError, SpecError, TrainingError
from zoo.interfaces import Place, RoundTrip
from zoo.networks import architectures
from zoo.phases import END, Moment
from zoo.posterior import Posterior
from zoo.training import find_lr, fit
from zoo.training.objectives import LevelInCodes

if TYPE_CHECKING:
    from pathlib import Path

PLACE = Place((3, 16, 16), (4,))
D = 3 * 16 * 16
RANDOM = {"network": "test_resnet", "pretrained": False}
SPEC = "8x8x1/conv4x4x2(width=2)+feature(vgg11, layers=[relu1_1, relu2_1], pretrained=false)"


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def weights(tmp_path) -> Path:
    file = tmp_path / "tiny.safetensors"
    save_file({key: tensor.half() for key, tensor in timm.create_model("test_resnet").state_dict().items()}, file)
    return file


def trip(n: int = 4, channels: int = 3, size: int = 16) -> RoundTrip:
    x = torch.rand(n, channels, size, size)
    return RoundTrip(
        x, Posterior(torch.zeros(n, 4)), torch.zeros(n, 4), (x + 0.1 * torch.randn_like(x)).requires_grad_()
    )


def images(count: int = 64, channels: int = 1) -> torch.Tensor:
    return torch.rand(count, channels, 8, 8, generator=torch.Generator().manual_seed(0))


class TestDepths:
    def test_of_a_plain_chain(self):
        vgg = architectures.find("vgg16").outline()
        early, middle, late = (located(vgg, depth, name="vgg16") for depth in ("early", "middle", "late"))
        assert early == tuple(located(vgg, ["relu1_2", "relu2_2", "relu3_3"], name="vgg16"))
        assert middle == tuple(located(vgg, ["relu2_2", "relu3_3", "relu4_3"], name="vgg16"))
        assert late == tuple(located(vgg, [2, 3, 4], name="vgg16"))
        assert located(vgg, "relu5_1", name="vgg16") == ("features.25",)
        assert located(vgg, ["conv1_1"], name="vgg16") == ("features.0",)

    def test_timm_and_torchvision_count_alike(self):
        for name, wanted in (("vgg16_bn", ("features.5", "features.12", "features.22")), ("resnet18", None)):
            network = architectures.find(name).outline()
            assert wanted is None or located(network, "early", name=name) == wanted
        alex = architectures.find("alexnet").outline()
        assert located(alex, "early", name="alexnet") == ("features.1", "features.4")

    @pytest.mark.parametrize(
        ("layers", "words"),
        [
            (["relu9_9"], "has no layer 'relu9_9'"),
            ([7], "levels 0 to 4, not 7"),
            ([], "at least one"),
            (["relu1_1", "features.1"], "each of them once"),
        ],
    )
    def test_refusals(self, layers, words):
        with pytest.raises(SpecError, match=words):
            located(architectures.find("vgg16").outline(), layers, name="vgg16")

    def test_a_network_without_levels_wants_names(self):
        with pytest.raises(SpecError, match="name its layers"):
            located(nn.Linear(2, 2), "early", name="odd")


class TestObserver:
    def test_it_gives_what_the_whole_network_computes(self, weights):
        whole = timm.create_model("test_resnet")
        whole.load_state_dict(architectures.read(weights))
        seen = {}
        for name in ("layer1", "layer2"):
            whole.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
        observer = Observer(PLACE, "test_resnet", ["layer1", "layer2"], weights=str(weights))
        x = torch.rand(2, 3, 16, 16)
        with torch.no_grad():
            whole.eval()((x - 0.5) / 0.5)
            found = observer.train()(x)
        assert all(torch.allclose(one, seen[name], atol=1e-5) for one, name in zip(found, seen, strict=True))
        assert "layer3" not in " ".join(observer.state_dict())  # cut behind the last of them

    def test_it_stays_as_it_is(self):
        observer = Observer(PLACE, "test_resnet", "early", pretrained=False)
        before = {name: tensor.clone() for name, tensor in observer.state_dict().items()}
        observer.train()
        observer(torch.rand(4, 3, 16, 16))
        assert not any(module.training for module in observer.modules())
        assert not any(parameter.requires_grad for parameter in observer.parameters())
        assert all(torch.equal(tensor, before[name]) for name, tensor in observer.state_dict().items())

    def test_grey_is_repeated_and_normalised(self):
        observer = Observer(PLACE, "test_resnet", "act1", pretrained=False, mean=(0.1, 0.2, 0.3), std=(1, 2, 4))
        grey = torch.rand(2, 1, 16, 16)
        assert torch.equal(observer(grey)[0], observer(grey.expand(-1, 3, -1, -1))[0])
        assert observer.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
        assert observer.scale == ((0.1, 0.2, 0.3), (1, 2, 4))

    def test_with_random_weights_tables_are_the_networks_own(self):
        """Where its windows lie is kept in buffers of whole numbers, which nothing draws."""
        found = dict(Observer(PLACE, "test_maxvit", "early", pretrained=False).network.named_buffers())
        tables = {name: tensor for name, tensor in found.items() if name.endswith("relative_position_index")}
        own = dict(timm.create_model("test_maxvit").named_buffers())
        assert tables
        assert all(torch.equal(tensor, own[name]) for name, tensor in tables.items())

    def test_a_network_of_one_size_sees_images_of_that_size(self):
        observer = Observer(PLACE, "test_vit", [0], pretrained=False)
        assert observer.size == (160, 160)
        assert observer(torch.rand(1, 3, 16, 16))[0].shape[1] == observer(torch.rand(1, 3, 160, 160))[0].shape[1]

    def test_refusals(self, weights, tmp_path):
        cases = (
            (("vgg61", "early"), {}, "neither timm nor torchvision has a network 'vgg61'"),
            (("vgg16", "late"), {"pretrained": False}, "cannot look at images of 8x8"),
            (("alexnet", "relu1_1"), {}, "no pretrained weights as safetensors"),
            (("test_vit", "early"), {"weights": str(weights)}, "not fit test_vit"),
            (("test_resnet", "early"), {"weights": "a.pth"}, "come as safetensors"),
        )
        for arguments, options, words in cases:
            with pytest.raises(SpecError, match=words):
                Observer(Place((1, 8, 8), (2,)), *arguments, **options)
        with pytest.raises(FileError, match="gone"):
            Observer(PLACE, "test_resnet", "early", weights=str(tmp_path / "gone.safetensors"))
        with pytest.raises(SpecError, match="not at 4 channels"):
            Observer(Place((4, 16, 16), (2,)), "test_resnet", "early", pretrained=False)
        with pytest.raises(TrainingError, match="loss-in pixels"):
            Observer(PLACE, "test_resnet", "act1", pretrained=False)(torch.rand(1, 5, 16, 16))

    def test_the_pretrained_ones_are_asked_for_as_safetensors(self, monkeypatch, tmp_path):
        asked = []

        def download(repo_id: str, filename: str, **_) -> str:
            asked.append((repo_id, filename))
            if len(asked) > 1:
                raise OSError("no route to host")
            save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "full.safetensors")
            return str(tmp_path / "full.safetensors")

        monkeypatch.setattr("timm.models._hub.hf_hub_download", download)
        build("16x16x3/fc2(hidden=[4])+feature(test_resnet.r160_in1k, layers=[act1])")
        assert asked == [("timm/test_resnet.r160_in1k", "model.safetensors")]
        with pytest.raises(SpecError, match=r"(?s)no route to host.*weights=FILE\.safetensors.*\^"):
            build("16x16x3/fc2(hidden=[4])+feature(test_resnet.r160_in1k, layers=[act1])")


class TestFeature:
    def test_a_doubled_error_costs_as_much_as_in_gaussian(self):
        """Whatever the layers and their scale: D log 2, which is what pixels would cost."""
        term, one = FeatureError(PLACE, **RANDOM, layers=("conv1.0",)), trip()
        two = RoundTrip(one.x, one.posterior, one.z, one.x + 2 * (one.x_hat - one.x))
        assert (term(two) - term(one)).item() == pytest.approx(D * math.log(2), rel=1e-3)  # a linear layer

    def test_shares_add_up_and_fall_with_depth(self):
        term, one = FeatureError(PLACE, **RANDOM), trip()
        assert term.factors == (3, 2, 1)
        alone = [FeatureError(PLACE, **RANDOM, layers=(layer,)) for layer in term.observer.layers]
        state = term.observer.state_dict()
        for other in alone:
            other.observer.load_state_dict({key: state[key] for key in other.observer.state_dict()})
        wanted = sum(share * other(one).item() for share, other in zip((3, 2, 1), alone, strict=True)) / 6
        assert term(one).item() == pytest.approx(wanted, rel=1e-5)

    def test_uncalibrated_it_is_the_usual_sum(self):
        term, one = FeatureError(PLACE, **RANDOM, calibrated=False, gram=True), trip()
        wanted, found = term.observer(one.x), term.observer(one.x_hat)
        total = 0.0
        for factor, a, b in zip((30, 20, 10), wanted, found, strict=True):
            total += factor * (a - b).square().mean()
            grams = [torch.einsum("bchw,bdhw->bcd", one, one) / one[0].numel() for one in (a, b)]
            total += 5000 * factor**2 * (grams[0] - grams[1]).square().mean()
        assert term(one).item() == pytest.approx(D * total.item(), rel=1e-4)

    @pytest.mark.parametrize(
        ("network", "layers", "products"),
        [
            ("test_resnet", ("layer1", "layer2"), "bchw,bdhw->bcd"),
            ("test_mambaout", ("stages.0", "stages.1"), "bhwc,bhwd->bcd"),  # channels last, as Swin's
            ("test_vit", (0,), "bnc,bnd->bcd"),
        ],
    )
    def test_gram_matrices_are_of_features_wherever_a_network_has_them(self, network, layers, products):
        how = {
            "network": network,
            "layers": layers,
            "pretrained": False,
            "calibrated": False,
            "factors": (1,) * len(layers),
        }
        term, one = FeatureError(PLACE, gram=1e6, **how), trip(2)
        wanted, found = term.observer(one.x), term.observer(one.x_hat)
        total = 0.0
        for a, b in zip(wanted, found, strict=True):
            grams = [torch.einsum(products, one, one) / one[0].numel() for one in (a, b)]
            total += (a - b).square().mean() + 1e6 * (grams[0] - grams[1]).square().mean()
        assert term(one).item() == pytest.approx(D * total.item(), rel=1e-4)

    def test_gradients_reach_x_hat_alone(self):
        term, one = FeatureError(PLACE, **RANDOM), trip()
        one.x.requires_grad_()
        term(one).backward()
        assert one.x.grad is None
        assert one.x_hat.grad.abs().sum() > 0
        assert all(parameter.grad is None for parameter in term.parameters())

    def test_training_lowers_it_and_leaves_the_network_alone(self):
        stack = build(SPEC)
        term = stack.level(1).terms["feature"]
        before = {name: tensor.clone() for name, tensor in term.state_dict().items()}
        x = images()
        first = term(stack.level(1).round_trip(x)).item()
        fit(stack, x, steps=30, batch_size=16, lr=4e-3, precision="fp32", progress=False)
        assert term(stack.level(1).round_trip(x)).item() < first
        assert all(torch.equal(tensor, before[name]) for name, tensor in term.state_dict().items())

    def test_a_saved_stack_brings_its_network(self, weights, tmp_path, monkeypatch):
        stack = build(f'16x16x3/fc2(hidden=[4])+feature(test_resnet, layers=[act1], weights="{weights}")')
        assert "weights" not in str(stack.spec)
        stack.save(tmp_path / "saved")
        weights.unlink()
        monkeypatch.setattr("timm.models._hub.hf_hub_download", None)
        again, x = load(tmp_path / "saved"), torch.rand(3, 3, 16, 16)
        one, other = (each.level(1).terms["feature"](each.level(1).round_trip(x)) for each in (stack, again))
        assert torch.equal(one, other)
        fit(again, x.repeat(8, 1, 1, 1), level=1, steps=2, batch_size=8, precision="fp32", progress=False)

    def test_large_networks_that_are_cut_early_come_through_the_gate(self, tmp_path):
        """VGG11 has 133 million numbers, of which the stack keeps two thousand."""
        build("8x8x3/fc2(hidden=[4])+feature(vgg11, layers=[relu1_1], pretrained=false)").save(tmp_path / "saved")
        assert load(tmp_path / "saved")

    def test_factors_are_as_many_as_layers(self):
        with pytest.raises(SpecError, match="one above 0 for each"):
            FeatureError(PLACE, **RANDOM, factors=(1.0,))

    def test_upper_levels_take_it_in_pixels(self):
        stack = build(SPEC.replace("+feature", "/fc2(hidden=[4])+feature"))
        with pytest.raises(SpecError, match="loss-in pixels"):
            fit(stack, images(), steps=2, progress=False)
        fit(stack, images(), steps=2, batch_size=8, loss_in="pixels", precision="fp32", progress=False)


class TestMemory:
    def asked(self):
        """A network that counts the images that it was asked about."""
        return lambda x: self.calls.append(len(x)) or [x.mean((1, 2)), x.sum(3)]

    @pytest.fixture(autouse=True)
    def _counting(self):
        self.calls = []

    def test_what_came_before_is_remembered_in_any_order(self):
        memory, network, x = Memory(), self.asked(), torch.rand(6, 1, 4, 4)
        memory.ask(network, x[:4])
        memory.ask(network, x[2:])
        order = torch.tensor([5, 0, 3, 1])
        found = memory.ask(network, x[order])
        assert self.calls == [4, 4]
        assert all(torch.equal(a, b) for a, b in zip(found, [x.mean((1, 2))[order], x.sum(3)[order]], strict=True))
        memory.forget()
        memory.ask(network, x[:1])
        assert self.calls == [4, 4, 1]

    @pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
    def test_what_is_remembered_lies_in_memory_as_it_did(self, order):
        """Sums over channels round by the order that they are gone through in, and so gradients."""
        memory, x = Memory(), torch.rand(4, 3, 5, 6)

        def network(images):
            return [images.contiguous(memory_format=order)]

        first, again = (memory.ask(network, x)[0] for _ in range(2))
        assert len(memory.rows) == 4
        assert torch.equal(first, again)
        assert first.stride() == again.stride()

    def test_another_precision_is_another_answer(self):
        memory, network, x = Memory(), self.asked(), torch.rand(2, 1, 4, 4)
        memory.ask(network, x)
        with torch.autocast("cpu", torch.bfloat16):
            memory.ask(network, x)
        assert self.calls == [2, 2]

    def test_images_that_do_not_fit_are_let_go(self):
        memory, network, x = Memory(most=100), self.asked(), torch.rand(4, 1, 4, 4)  # 32 bytes each
        for part in (x[:2], x, x[:2], x[:2]):
            memory.ask(network, part)
        assert self.calls == [2, 4, 2, 2]
        assert not memory.rows

    def test_a_training_asks_about_each_image_once_and_forgets(self):
        stack, asked = build(SPEC), []
        observer = stack.level(1).terms["feature"].observer
        plain, ask = observer.forward, observer.memory.ask
        observer.memory.ask = lambda network, x: ask(lambda y: asked.append(len(y)) or plain(y), x)
        fit(stack, images(), val=images(16), epochs=3, batch_size=16, precision="fp32", progress=False)
        assert sum(asked) == 64
        assert not observer.memory.rows

    def test_a_sweep_that_runs_away_leaves_nothing(self):
        stack = build(SPEC)
        found = find_lr(
            stack, images(), steps=60, span=(1e-4, 1e6), batch_size=16, optimizer="sgd", clip=1e9, precision="fp32",
            progress=False,
        )  # fmt: skip
        assert len(found.rates) < 60
        assert not stack.level(1).terms["feature"].observer.memory.rows

    @pytest.mark.parametrize("how", ["interrupted", "exploded"])
    def test_a_training_that_breaks_off_leaves_nothing(self, how, monkeypatch, stopped):  # noqa: F811
        stack, kept = build(SPEC), []
        memory = stack.level(1).terms["feature"].observer.memory

        def train(**options):
            fit(stack, images(), epochs=9, batch_size=16, precision="fp32", progress=False, **options)

        def exploding(*_):
            kept.append(len(memory.rows))
            raise TrainingError("the loss has exploded")

        if how == "interrupted":
            stopped(6, train)
        else:
            monkeypatch.setattr("zoo.training.soundness.Soundness.check", exploding)
            with pytest.raises(TrainingError, match="exploded"):
                train()
            assert kept == [16]
        assert not memory.rows

    @pytest.mark.parametrize(
        "spec",
        [
            SPEC,
            SPEC.replace("=false", "=false, gram=true"),
            "32x32x3/conv8x8x4(width=4)+lpips(pretrained=false, calibrated=false, layers=2)",
        ],
        ids=["feature", "gram", "lpips"],
    )
    def test_a_stopped_run_which_remembers_nothing_resumes_to_the_same_bytes(self, tmp_path, spec, stopped):  # noqa: F811
        shape = build(spec).input_shape
        shown = torch.rand(64, *shape, generator=torch.Generator().manual_seed(0))

        def train(out, **how):
            options = {"epochs": 3, "batch_size": 16, "precision": "fp32", "progress": False}
            fit(build(spec), shown, val=shown[:16], out=tmp_path / out, **options, **how)

        train("whole")
        stopped(6, lambda: train("run"))
        train("run", resume=True)
        assert written(tmp_path / "run") == written(tmp_path / "whole")


class TestLPIPS:
    def test_it_is_the_number_of_the_package(self):
        package = pytest.importorskip("lpips")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it asks torchvision in words of yesterday
            theirs = package.LPIPS(net="alex", pnet_rand=True, verbose=False)
        ours = LPIPS(Place((3, 64, 64), (4,)), net="alex", pretrained=False)
        own = ours.observer.network.state_dict()
        theirs.net.load_state_dict({key: own[f"features.{key.split('.', 1)[1]}"] for key in theirs.net.state_dict()})
        one = trip(3, size=64)
        wanted = theirs(one.x, one.x_hat, normalize=True).mean() * 3 * 64 * 64
        assert ours(one).item() == pytest.approx(wanted.item(), rel=1e-4)

    def test_without_the_package_it_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "lpips", None)
        with pytest.raises(SpecError, match="pip install lpips"):
            LPIPS(Place((3, 64, 64), (4,)), net="alex", pretrained=False)


class TestAdversary:
    def test_its_weight_makes_its_pull_as_large_as_the_likelihoods(self):
        term, one = Adversary(PLACE, weight=1.0, width=8), trip()
        number = term(one)
        (own,) = torch.autograd.grad(term.weight_at(END) * number, one.x_hat)
        mse = (one.x_hat - one.x).square().mean()
        (wanted,) = torch.autograd.grad(D / 2 * mse.log(), one.x_hat)
        assert own.norm().item() == pytest.approx(wanted.norm().item(), rel=1e-4)

    @pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize(
        ("spec", "pull"),
        [
            ("+gaussian", lambda error: error[0].numel() / 2 * error.square().mean().log()),
            ("+mse", lambda error: error.square().sum() / len(error)),
            ("+mae", lambda error: error.abs().sum() / len(error)),
            ("+mse(3)+mae(0.5)+kl", lambda error: (3 * error.square() + 0.5 * error.abs()).sum() / len(error)),
        ],
    )
    def test_in_a_level_it_pulls_as_hard_as_the_reconstructions_that_there_are(self, spec, pull, precision):
        stack = build(f"8x8x1/conv4x4x2(width=2){spec}+adversary(1, width=4, start=0)")
        learner, term, went_back = LevelInCodes(stack, 1).train(), stack.level(1).terms["adversary"], []
        stack.level(1).stage.decoder.register_full_backward_hook(lambda *_: went_back.append(1))
        learner.weigh(END)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
            losses = learner(images(8))
        assert not went_back  # as far as x_hat, and no further
        one = losses.seen["adversary"]
        (wanted,) = torch.autograd.grad(pull(one.x_hat - one.x), one.x_hat, retain_graph=True)
        (own,) = torch.autograd.grad(losses.terms["adversary"], one.x_hat, retain_graph=True)
        assert (term.weight_at(END) * own).norm().item() == pytest.approx(wanted.norm().item(), rel=1e-3)
        losses.total.backward()
        assert went_back

    def test_the_pull_of_a_network_counts_and_nothing_is_measured_for_a_weight_that_is_fixed(self, monkeypatch):
        spec = SPEC + "+adversary(1, width=4, start=0{})"
        losses = (learner := LevelInCodes(build(spec.format("")), 1).train())(images(8))
        one, ratio = losses.seen["adversary"], learner.weighed["adversary"].ratio
        pulls = losses.terms["gaussian"] + losses.terms["feature"]
        wanted, own = (
            torch.autograd.grad(number, one.x_hat, retain_graph=True)[0].norm().item()
            for number in (pulls, losses.terms["adversary"])
        )
        assert ratio.item() == pytest.approx(wanted / own, rel=1e-4)
        assert [*losses.terms] == ["gaussian", "feature", "adversary"]
        fixed = LevelInCodes(build(spec.format(", adaptive=false")), 1).train()
        monkeypatch.setattr(torch.autograd, "grad", None)
        fixed(images(8))

    def test_it_waits_for_its_start(self):
        term = Adversary(PLACE, width=8, start=0.5)
        for progress, begun in ((0.0, False), (0.49, False), (0.5, True), (1.0, True)):
            term.advance(Moment(progress))
            assert bool(term.weight_at(Moment(progress))) is begun
            assert bool(term.critic_loss(trip().detach())) is begun

    def test_the_hinge_loss(self):
        term, one = Adversary(PLACE, width=8), trip().detach()
        true, false = term.critic(one.x), term.critic(one.x_hat)
        wanted = ((1 - true).clamp(min=0).mean() + (1 + false).clamp(min=0).mean()) / 2
        assert term.critic_loss(one).item() == pytest.approx(wanted.item(), rel=1e-5)
        assert term(one).item() == pytest.approx(-false.mean().item(), rel=1e-5)

    @pytest.mark.parametrize("size", [8, 9, 12, 16, 28, 32, 64])
    def test_patches_of_every_size(self, size):
        place = Place((1, size, size), (2,))
        assert min(Adversary(place, width=4).critic(torch.rand(1, 1, size, size)).shape[2:]) >= 2

    def test_a_patch_has_70_pixels(self):
        critic = patches(1, depth=3, width=2)
        x = torch.rand(1, 1, 128, 128, requires_grad=True)
        for layer in critic:  # a group's statistics see the whole image
            if isinstance(layer, nn.GroupNorm):
                layer.forward = lambda y: y
        y = critic(x)
        y[0, 0, y.shape[2] // 2, y.shape[3] // 2].backward()
        assert (x.grad.abs().sum((0, 1, 2)) > 0).sum() == 70

    def test_it_learns_in_its_own_turn(self):
        stack = build("8x8x1/conv4x4x2(width=2)+adversary(width=4, start=0.5)")
        before = {name: tensor.clone() for name, tensor in stack.state_dict().items()}
        fit(stack, images(), steps=10, batch_size=16, precision="fp32", progress=False)
        after = stack.state_dict()
        moved = [name for name, tensor in before.items() if not torch.equal(tensor, after[name])]
        assert any("critic" in name for name in moved)
        assert float(after["levels.0.terms.adversary.ratio"]) != 1

    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            ("6x6x1/fc2+adversary", "8x8 pixels or more"),
            ("8x8x1/fc2+adversary(start=1.5)", "begins before the end"),
            ("8x8x1/fc2+adversary(rate=0)", "learns"),
            ("8x8x1/fc2+adversary(depth=4)", "more often than they can be"),
        ],
    )
    def test_refusals(self, spec, words):
        with pytest.raises(SpecError, match=words):
            build(spec)

    def test_above_level_1_it_judges_images(self):
        stack = build("8x8x1/conv2x2x4(width=2)/fc2(hidden=[4])+adversary(width=4, start=0)")
        assert stack.level(2).terms["adversary"].critic[0].in_channels == 1
        fit(stack, images(), steps=2, batch_size=16, loss_in="pixels", progress=False)

    def test_images_that_grow_from_too_few_pixels(self):
        with pytest.raises(TrainingError, match="grow from larger ones"):
            fit(
                build("16x16x1/conv2x2x2(width=2)+adversary(width=4, start=0, depth=3)"), torch.rand(40, 1, 16, 16),
                steps=20, batch_size=8, progressive=(4,), progress=False,
            )  # fmt: skip


class TestArchitectures:
    def test_a_resnet_of_cifar(self):
        network = architectures.find("resnet20_cifar10").make().eval()
        assert network(torch.rand(2, 3, 32, 32)).shape == (2, 10)
        assert sum(parameter.numel() for parameter in network.parameters()) == 269_722  # 0.27 million, table 6
        assert architectures.find("resnet20_cifar100").make()(torch.rand(2, 3, 32, 32)).shape == (2, 100)
        with pytest.raises(NetworkError, match="6n \\+ 2"):
            architectures.find("resnet21_cifar10")

    def test_weights_say_how_many_classes_they_tell_apart(self):
        known = architectures.find("test_resnet")
        assert known.classes({"fc.bias": torch.zeros(7)}) == 7
        assert known.classes({}) is None
        assert architectures.find("alexnet").classifier == "classifier.6"
