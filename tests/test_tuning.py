"""A classifier of one's own that begins as a pretrained network."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file

from zoo import files
from zoo.data import Images
from zoo.errors import EvaluationError
from zoo.evaluation import classifier, recognition, tuning
from zoo.evaluation.pretrained import Body, Origin
from zoo.networks import architectures

CPU = torch.device("cpu")


def shades(count: int = 640, channels: int = 3, size: int = 16) -> Images:
    """Images of three classes: how bright they are."""
    labels = torch.arange(count) % 3
    generator = torch.Generator().manual_seed(0)
    x = 60 * labels[:, None, None, None] + torch.randint(0, 40, (count, channels, size, size), generator=generator)
    return Images(x.byte(), labels=labels, classes=("dark", "grey", "light"), name="shades")


@pytest.fixture
def weights(tmp_path):
    """Those of a network of seven other classes, in a path that has to be quoted."""
    torch.manual_seed(1)
    file = tmp_path / "a network, pretrained.safetensors"
    save_file(timm.create_model("test_resnet", num_classes=7).state_dict(), file)
    return file


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No probe of the machine, and one epoch, at rates at which so few images are enough."""
    monkeypatch.setattr(tuning, "gains", lambda _: False)
    monkeypatch.setattr(tuning, "TOP_LR", 0.05)
    monkeypatch.setattr(tuning, "EPOCHS", 1)


def own(weights, *, options="", kept="", shown=None, seed=0):
    shown = shown or shades()
    name = f'own(test_resnet, weights="{weights}"{options})' + (f"={kept}" if kept else "")
    return recognition.judge_of(name, shown, train=shown, device=CPU, seed=seed)


def test_it_learns_the_classes_and_is_kept(weights, tmp_path):
    shown, file = shades(), tmp_path / "kept.safetensors"
    judge = own(weights, options=", stem_stride=1, mean=0.4, std=[0.1, 0.2, 0.3]", kept=file)
    assert (judge.labels(shown.batch(slice(0, 200))) == shown.labels[:200]).float().mean() > 0.9
    assert judge.network.name == "own(test_resnet)=kept.safetensors"
    assert judge.network.size == (16, 16)  # and not the size that the network was made for
    written = file.read_bytes()
    weights.rename(tmp_path / "elsewhere.safetensors")
    again = own(weights, kept=file)  # which asks for nothing but the file
    assert again.network.sha256 == judge.network.sha256
    assert file.read_bytes() == written
    body = classifier.load(file).body
    assert body.network.conv1[0].stride == (1, 1)
    assert (
        judge.network.describe()["began_as"]
        == body.about
        == {
            "network": "test_resnet",
            "weights": files.sha256(tmp_path / "elsewhere.safetensors"),
            "mean": [0.4] * 3,
            "std": [0.1, 0.2, 0.3],
            "stem_stride": 1,
        }
    )


def test_grey_images_are_seen_as_three_channels_alike(weights):
    grey = shades(channels=1)
    judge = own(weights, shown=grey)
    x, module = grey.batch(slice(0, 50)), judge.network.module
    assert torch.equal(module(x), module(x.repeat(1, 3, 1, 1)))


def test_the_same_seed_gives_the_same_weights(weights):
    before = torch.get_rng_state()
    one, same, other = (own(weights, seed=seed).network.sha256 for seed in (0, 0, 1))
    assert one == same != other
    assert torch.equal(torch.get_rng_state(), before)


def test_casts_are_let_go_of_in_every_step(weights, monkeypatch):
    """An evaluation has an autocast around it, which is off, and would keep the casts of the first step's weights."""
    asked, cast = [], tuning.cast
    monkeypatch.setattr(tuning, "gains", lambda _: True)
    monkeypatch.setattr(tuning, "cast", lambda device, *, bf16: asked.append(bf16) or cast(device, bf16=bf16))
    own(weights)
    assert asked == [True] * (2 + 5)  # 640 images, 512 at once; and a step for each 128


def test_the_network_waits_for_its_last_layer(weights, monkeypatch):
    learn, learning = classifier.learn, []
    body = Origin(network="test_resnet", weights=str(weights)).body()
    began = {name: tensor.clone() for name, tensor in body.state_dict().items()}

    def watched(train, logits, parameters, rate, **options):
        learn(train, logits, parameters, rate, **options)
        learning.append((len(parameters), rate, options["epochs"]))
        same = [torch.equal(tensor, began[name]) for name, tensor in body.state_dict().items()]
        assert all(same) if len(learning) == 1 else not any(same[2:])  # but for mean and std, and statistics included

    monkeypatch.setattr(classifier, "learn", watched)
    made = tuning.tune(body, shades(), shades(), device=CPU)
    layers = len(list(body.parameters()))
    assert learning == [(2, tuning.TOP_LR, tuning.TOP_EPOCHS), (layers + 2, tuning.LR, tuning.EPOCHS)]
    assert not body.training
    assert made.accuracy == made.measured(shades())


def test_a_network_of_one_size_has_images_brought_to_it():
    known = timm.get_pretrained_cfg("test_vit")
    assert known.fixed_input_size
    body = Body(Origin(network="test_vit").about(), timm.create_model("test_vit", num_classes=0)).eval()
    assert body(torch.rand(2, 3, 16, 16)).shape == (2, 64)
    with pytest.raises(EvaluationError, match="test_vit has no first convolution"):
        Body(Origin(network="test_vit", stem_stride=1).about(), timm.create_model("test_vit", num_classes=0))
    assert architectures.find("vit_b_16").fixed


def test_a_network_that_says_more_while_it_learns():
    class Wordy(torch.nn.Module):
        def forward(self, x):
            return x.mean((2, 3)), x  # as GoogLeNet and Inception do

    assert Body(Origin(network="test_resnet").about(), Wordy())(torch.rand(2, 3, 32, 32)).shape == (2, 3)


def test_what_is_kept_is_what_was_asked_for(weights, tmp_path):
    kept, small, other = (tmp_path / f"{name}.safetensors" for name in ("kept", "small", "other"))
    own(weights, options=", stem_stride=1", kept=kept)
    own(weights, kept=kept)  # what is not asked for is as it is there
    recognition.judge_of(f"own={small}", shades(), train=shades(), device=CPU)
    with pytest.raises(EvaluationError, match=r"kept\.safetensors is one that began as test_resnet, and own was asked"):
        recognition.judge_of(f"own={kept}", shades(), train=shades(), device=CPU)
    with pytest.raises(EvaluationError, match=r"small\.safetensors is a small one, and own\(test_resnet, weights"):
        own(weights, kept=small)
    save_file(timm.create_model("test_resnet", num_classes=7).state_dict(), other)
    for file, options, words in (
        (weights, ", stem_stride=2", "stem_stride=1 and not 2: name another file, or remove this one"),
        (weights, ", mean=0.1", r"mean=\[.*\] and not \[0.1, 0.1, 0.1\]"),
        (other, "", "weights=[0-9a-f]{64} and not [0-9a-f]{64}"),
    ):
        with pytest.raises(EvaluationError, match=rf"kept\.safetensors began with {words}"):
            own(file, options=options, kept=kept)
    with pytest.raises(EvaluationError, match="network=test_resnet and not test_vit"):
        recognition.judge_of(f"own(test_vit)={kept}", shades(), train=shades(), device=CPU)
    tensors, told = files.read_tensors(kept)
    for damage in ('{"network": "resnet1888"}', "{}", "null"):
        files.write_tensors(kept, tensors, told | {"about": damage})
        with pytest.raises(EvaluationError, match="holds no classifier of the zoo"):
            own(weights, kept=kept)


def test_refusals(weights):
    for options, words in (
        (", stride=1", "own has no option 'stride'; did you mean 'stem_stride'"),
        (", stem_stride=0", "stem_stride=0: test_resnet has no first convolution of stride 1 or 2"),
        (", mean=[0.5, 0.5]", r"mean=\(0.5, 0.5\): a number, or one for each of three channels"),
        (", std=0", "std=0: a number"),
        (", mean=grey", "own: mean wants float or a list of float, got 'grey'"),
    ):
        with pytest.raises(EvaluationError, match=words):
            own(weights, options=options)
    for name, words in (
        ("own()", "a value is missing"),
        ("own(mean=0.5)", "own begins as a network, which is not named"),
        ("own(resnet1888)", "neither timm nor torchvision has a network 'resnet1888'"),
        ("own(alexnet)", "no pretrained weights as safetensors"),
        (f'own(test_convnext, weights="{weights}")', "the weights do not fit test_convnext"),
        ("own(test_resnet)=a.pth", "come as safetensors"),
        ("own(test_resnet)+kl", r"classifier='own\(test_resnet\)\+kl'"),
        ("own(test_resnet)+kl(3)", "all that there is"),
        ("own(test_resnet)/own(test_vit)", "all that there is"),
    ):
        with pytest.raises(EvaluationError, match=words):
            recognition.judge_of(name, shades(), train=shades(), device=CPU)
    with pytest.raises(EvaluationError, match=r"test_resnet cannot see images of 16x0: .*"):
        tuning._width(Origin(network="test_resnet", weights=str(weights)).body(), torch.rand(2, 3, 16, 0), CPU)
    with pytest.raises(EvaluationError, match="at least 128 images, not 12"):
        own(weights, shown=shades(12))
