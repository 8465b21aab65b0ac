"""Samples, priors and the networks that judge: distances that are known, features that are kept."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import timm
import torch
from ramps import Grey, Pull, Spec, linear_stack, some_images
from safetensors.torch import save_file

import zoo
from zoo.errors import EvaluationError, FileError
from zoo.evaluation import evaluate, features, generation, prior, protocol
from zoo.evaluation import table as plain
from zoo.interfaces import Place
from zoo.networks import architectures
from zoo.stack import Stack

if TYPE_CHECKING:
    from zoo.data import Images


@pytest.fixture(scope="module")
def train() -> Images:
    return some_images(160, seed=1)


@pytest.fixture(scope="module")
def held_out() -> Images:
    return some_images(40, seed=2)


def test_the_distance_of_codes_from_a_prior() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(4000, 5, generator=generator)
    assert prior.sliced_wasserstein(codes, codes.flip(0), seed=0) == pytest.approx(0, abs=1e-6)
    shift = torch.tensor([3.0, 0, 0, 0, 0])
    expected = 3 / math.sqrt(5)  # the root of the mean of (direction . shift)^2
    assert prior.sliced_wasserstein(codes, codes + shift, seed=0) == pytest.approx(expected, rel=0.1)
    assert prior.sliced_wasserstein(codes, 3 * codes, seed=0) == pytest.approx(2, rel=0.05)
    found = prior.distance(codes, None, None, seed=0)
    assert found["sliced_wasserstein_means"] == pytest.approx(found["sliced_wasserstein_floor"], abs=0.02)
    assert found["sliced_wasserstein_floor"] < 0.08
    assert found["sliced_wasserstein_draws"] is None
    assert "active" not in found


def test_draws_and_the_prior_do_not_share_their_random_numbers() -> None:
    means = torch.zeros(3000, 4)
    draws = torch.randn(3000, 4, generator=protocol.stream(0, "draws"))  # of a collapsed posterior
    found = prior.distance(means, draws, None, seed=0)
    assert found["sliced_wasserstein_draws"] > 0.5 * found["sliced_wasserstein_floor"]


def test_codes_are_looked_at_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    means, draws = torch.randn(2, 300, 7, generator=torch.Generator().manual_seed(0))
    whole = prior.distance(means, draws, None, seed=0)
    monkeypatch.setattr(prior, "AT_ONCE", 600)
    widths = []

    def measure(z: torch.Tensor) -> torch.Tensor:
        widths.append(z.shape[1])
        return prior.variance(z)

    torch.testing.assert_close(prior.by_number(means, measure), means.double().var(0, correction=0))
    assert widths == [2, 2, 2, 1]
    parts = prior.distance(means, draws, None, seed=0)
    assert parts.keys() == whole.keys()
    for name in ("mean", "std"):
        assert parts[name] == pytest.approx(whole[name], rel=1e-9)
    assert (parts["active"], parts["of"]) == (whole["active"], whole["of"]) == (7, 7)


def test_of_very_many_codes_some_are_compared_with_the_prior(monkeypatch: pytest.MonkeyPatch) -> None:
    means = torch.arange(300.0)[:, None].expand(-1, 7) / 100
    whole = prior.distance(means, None, None, seed=0)
    monkeypatch.setattr(protocol, "NUMBERS", 7 * 100)
    few = prior.distance(means, None, None, seed=0)
    evenly = prior.distance(means[torch.linspace(0, 299, 100).long()], None, None, seed=0)
    assert (few["mean"], few["std"]) == (whole["mean"], whole["std"])
    for name in ("sliced_wasserstein_means", "sliced_wasserstein_floor"):
        assert few[name] == evenly[name] != whole[name]


def test_a_number_that_hardly_varies_is_not_active() -> None:
    means = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.11, 0.05])
    found = prior.distance(means, means, Pull(Place((9,), (3,))), seed=0)
    assert (found["active"], found["of"], found["prior"]) == (2, 3, "Pull")
    assert found["std"]["max"] == pytest.approx(1, abs=0.1)


def test_equal_sets_of_features_have_no_distance() -> None:
    real = torch.randn(400, 6, generator=torch.Generator().manual_seed(0))
    assert generation.frechet(real, real.flip(0)) == pytest.approx(0, abs=1e-6)
    shift = torch.tensor([2.0, 0, 0, 0, 0, 1])
    assert generation.frechet(real, real + shift) == pytest.approx(5)  # between the means, squared
    centred = real - real.mean(0)
    variance = torch.cov(real.T).trace().item()  # twice as wide: (1 + 4 - 2 * 2) times the variance
    assert generation.frechet(centred, 2 * centred) == pytest.approx(variance, rel=1e-3)


def test_the_kernel_distance_is_unbiased_and_that_of_a_double_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 30, 4, generator=generator).double()
    b = b + 0.5
    found = generation.kernel(a, b, seed=0)
    assert found["kid_subset_size"] == 30
    assert found["kid"] == pytest.approx(_literal_kid(a, b), rel=1e-6)
    assert (found["kid_std"], found["kid_subsets"]) == (None, 1)  # a hundred times all of them say nothing of a spread
    assert generation.kernel(a, b[:20], seed=0)["kid_std"] > 0
    equal_laws = [generation.kernel(*torch.randn(2, 30, 4, generator=generator), seed=0)["kid"] for _ in range(20)]
    assert min(equal_laws) < 0 < max(equal_laws)  # a biased estimate is never negative
    assert abs(np.mean(equal_laws)) < 0.2 < found["kid"]


def _literal_kid(a: torch.Tensor, b: torch.Tensor) -> float:
    def kernel(x: torch.Tensor, y: torch.Tensor) -> float:
        return ((x @ y).item() / len(x) + 1) ** 3

    count = range(len(a))
    within = sum(kernel(s[i], s[j]) for s in (a, b) for i in count for j in count if i != j) / (len(a) * (len(a) - 1))
    return within - 2 * sum(kernel(a[i], b[j]) for i in count for j in count) / len(a) ** 2


@pytest.fixture
def weights(tmp_path, monkeypatch) -> str:
    """A tiny timm network with weights in a file, and a cache of its own."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    file = tmp_path / "tiny.safetensors"
    trained = timm.create_model("test_resnet", num_classes=7).state_dict()
    save_file({key: tensor.half() for key, tensor in trained.items()}, file)
    return f"test_resnet={file}"


def test_samples_are_judged_by_a_network_that_is_recorded(
    train: Images, held_out: Images, weights: str, monkeypatch
) -> None:
    stack = linear_stack(train)
    eye = features.network(weights, device=torch.device("cpu"))
    again = features.network(weights, device=torch.device("cpu"))
    assert len(eye.sha256) == 64
    assert eye.sha256 == again.sha256
    assert not eye.module.training
    found = generation.judge(stack, held_out, samples=12, features=weights, seed=0)["generation"]
    assert found["features"]["network"] == "test_resnet=tiny.safetensors"
    assert found["features"]["weights_sha256"] == eye.sha256
    assert (found["real"], found["samples"], found["kid_subset_size"]) == (40, 12, 12)
    assert found["fid"] > 0
    assert found["fid_is_rank_deficient"]
    seen = []
    look = features.Network.features

    def count(self: features.Network, images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        return look(self, images)

    monkeypatch.setattr(features.Network, "features", count)
    assert generation.judge(stack, held_out, samples=12, features=weights, seed=0)["generation"] == found
    assert seen == [4, 12, 40]  # the real images' features came from the cache, but for a few that it is tried by


def test_samples_are_those_of_the_stack_a_batch_at_a_time(
    train: Images, held_out: Images, weights: str, monkeypatch
) -> None:
    stack, eye = linear_stack(train), features.network(weights, device=torch.device("cpu"))
    with torch.inference_mode():
        real, drawn = (eye.features(x) for x in (held_out.batch(slice(0, 40)), stack.sample(300, seed=3)))
    seen = []
    decode = Stack.decode

    def count(self: Stack, z: torch.Tensor, levels: int | None = None) -> torch.Tensor:
        seen.append(len(z))
        return decode(self, z, levels)

    monkeypatch.setattr(Stack, "decode", count)
    found = generation.judge(stack, held_out, samples=300, features=weights, seed=3)["generation"]
    assert found["fid"] == pytest.approx(generation.frechet(real, drawn), rel=1e-4)
    assert found["kid"] == pytest.approx(generation.kernel(real, drawn, seed=3)["kid"], rel=1e-4)
    assert seen == [256, 44, 40]
    seen.clear()
    evaluate(stack, held_out, train=train, samples=12, features=weights, batch_size=5)
    assert max(seen) == 5
    seen.clear()
    with pytest.raises(EvaluationError, match="neither timm nor torchvision"):
        generation.judge(stack, held_out, samples=300, features="resnet1888", seed=3)
    assert not seen  # that there is no such network is known before anything is drawn


@pytest.mark.parametrize(("name", "width"), [("resnet8_cifar10", 64), ("shufflenet_v2_x0_5", 1024)])
def test_features_are_no_logits(name: str, width: int, tmp_path) -> None:
    """Of networks too that have no way of their own to leave their classifier out."""
    network = architectures.find(name).make().eval()
    file = tmp_path / "weights.safetensors"
    save_file(network.state_dict(), file)
    eye = features.network(f"{name}={file}", device=torch.device("cpu"))
    x = some_images(2, channels=3, size=32).batch(slice(0, 2))
    asked = []
    network.get_submodule(architectures.find(name).classifier).register_forward_pre_hook(
        lambda _, given: asked.append(given[0])
    )
    with torch.inference_mode():
        whole = features.opened(f"{name}={file}", asked="classifier", device=torch.device("cpu"), logits=True)
        found = eye.features(x)
        assert found.shape == (2, width)
        replace(eye, module=network, forward=network).features(x)
        assert torch.allclose(found, asked[0], atol=1e-5)
        assert whole.features(x).shape[1] in (10, 1000)


def test_features_are_those_of_the_network(weights: str) -> None:
    eye = features.network(weights, device=torch.device("cpu"))
    x = some_images(2, channels=3, size=160).batch(slice(0, 2))
    mean, std = (torch.tensor(value)[:, None, None] for value in (eye.mean, eye.std))
    with torch.no_grad():
        expected = eye.module((x - mean) / std)
        assert torch.allclose(eye.features(x), expected, atol=1e-5)
        grey = some_images(2).batch(slice(0, 2))
        assert eye.features(grey).shape == expected.shape


def test_a_damaged_cache_is_computed_again(held_out: Images, weights: str, tmp_path) -> None:
    eye = features.network(weights, device=torch.device("cpu"))
    with torch.inference_mode():
        first = features.features_of(held_out, eye)
        (file,) = (tmp_path / "cache" / "features").glob("*/*.safetensors")
        file.write_bytes(b"half a fi")
        assert torch.equal(features.features_of(held_out, eye), first)
        assert torch.equal(features.features_of(held_out, eye), first)


def test_a_saved_stack_judges_by_its_codes(held_out: Images, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    stack = zoo.build("12x12x1/fc4+kl")
    stack.save(tmp_path / "eye")
    eye = features.network(str(tmp_path / "eye"), device=torch.device("cpu"))
    x = held_out.batch(slice(0, 5))
    with torch.inference_mode():
        assert torch.allclose(eye.features(x), stack.encode(x), atol=1e-6)
        colours = x.expand(-1, 3, -1, -1)
        assert torch.allclose(eye.features(colours), stack.encode(x), atol=1e-5)
    assert eye.name == "eye"


def test_networks_that_cannot_be_had(tmp_path, weights: str, monkeypatch) -> None:
    cpu = torch.device("cpu")
    with pytest.raises(EvaluationError, match=r"neither timm nor torchvision has a network .resnet1888.; did you mean"):
        features.network("resnet1888", device=cpu)
    with pytest.raises(FileError, match=r"gone\.safetensors"):
        features.network(f"test_resnet={tmp_path / 'gone.safetensors'}", device=cpu)
    with pytest.raises(EvaluationError, match="do not fit test_vit"):
        features.network(weights.replace("test_resnet", "test_vit"), device=cpu)
    with pytest.raises(EvaluationError, match="as safetensors"):
        features.network("test_resnet=weights.pth", device=cpu)


def test_pretrained_weights_come_as_safetensors_or_not_at_all(weights: str, tmp_path, monkeypatch) -> None:
    asked = []

    def download(repo_id: str, filename: str, **_: Any) -> str:
        asked.append((repo_id, filename))
        if len(asked) > 1:
            raise OSError("no route to host")
        full = timm.create_model("test_resnet").state_dict()
        save_file(full, tmp_path / "full.safetensors")
        return str(tmp_path / "full.safetensors")

    monkeypatch.setattr("timm.models._hub.hf_hub_download", download)
    eye = features.network("test_resnet.r160_in1k", device=torch.device("cpu"))
    assert eye.name == "test_resnet.r160_in1k"
    assert asked == [("timm/test_resnet.r160_in1k", "model.safetensors")]
    with pytest.raises(EvaluationError, match=r"no route to host.*=FILE\.safetensors"):
        features.network("test_resnet.r160_in1k", device=torch.device("cpu"))


def test_weights_that_are_only_a_pickle_are_not_fetched(monkeypatch) -> None:
    asked = []
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_url", lambda *_, **__: asked.append("a pickle"))
    with pytest.raises(EvaluationError, match="cannot be had"):
        features.network("legacy_seresnet18.in1k", device=torch.device("cpu"))
    assert not asked


def test_a_stack_without_a_prior_is_not_judged(train: Images, held_out: Images, weights: str) -> None:
    with pytest.raises(EvaluationError, match="no prior"):
        evaluate(linear_stack(train, with_prior=False), held_out, train=train, samples=4, features=weights)


def test_samples_take_a_network_that_judges_them(held_out: Images) -> None:
    with pytest.raises(EvaluationError, match="add features"):
        evaluate(linear_stack(held_out), held_out, samples=5)


def test_reconstructions_are_judged_with_and_without_samples(train: Images, held_out: Images, weights: str) -> None:
    stack = linear_stack(train, with_prior=False)
    found = evaluate(stack, held_out, train=train, features=weights)
    assert found["generation"] is None
    distance = found["reconstruction_distance"]
    eye = features.network(weights, device=torch.device("cpu"))
    with torch.inference_mode():
        x = held_out.batch(slice(0, len(held_out)))
        assert distance["fid"] == pytest.approx(generation.frechet(eye.features(x), eye.features(stack(x))), rel=1e-4)
    assert distance["features"]["network"] == "test_resnet=tiny.safetensors"
    assert "FID of reconstructions" in plain(found)
    sampled = evaluate(linear_stack(train), held_out, train=train, features=weights, samples=4)
    assert sampled["generation"]["samples"] == 4
    assert sampled["reconstruction_distance"]["real"] == 40


def test_a_head_on_the_images_has_no_levels_to_measure(held_out: Images, weights: str) -> None:
    shape = tuple(held_out.pixels.shape[1:])
    stack = Stack(Spec("grey"), shape, [], Grey(Place(shape))).eval()
    found = evaluate(stack, held_out, samples=4, features=weights)
    assert (found["levels"], found["end_to_end"], found["throughput"]) == ([], None, None)
    assert found["generation"]["fid"] > 0
    assert "FID" in plain(found)


def test_what_measures_reconstructions_is_left_out_where_nothing_comes_back(held_out: Images, train: Images) -> None:
    shape = tuple(held_out.pixels.shape[1:])
    stack = Stack(Spec("grey"), shape, [], Grey(Place(shape))).eval()
    found = evaluate(stack, held_out, train=train, corrupt="noise=0.3", classifier="own")
    assert found["recognition"] is None
    assert "restoration" not in found
    assert [note.split()[0] for note in found["notes"]] == ["--corrupt", "--classifier"]
    assert "grey has no level that encodes images" in plain(found)
