"""Whether a classifier still recognises what came back."""

from __future__ import annotations

from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import save_file

import zoo
from zoo import files
from zoo.data import Images
from zoo.errors import EvaluationError
from zoo.evaluation import classifier, evaluate, recognition, table
from zoo.evaluation.features import Network
from zoo.networks import architectures

CPU = torch.device("cpu")


def shades(count: int = 60, classes: tuple[str, ...] = ("dark", "grey", "light")) -> Images:
    """Images whose class is how bright they are."""
    labels = torch.arange(count) % len(classes)
    generator = torch.Generator().manual_seed(0)
    x = 60 * labels[:, None, None, None] + torch.randint(0, 40, (count, 1, 8, 8), generator=generator)
    return Images(x.byte(), labels=labels, classes=classes, name="shades")


def by_brightness(classes: int = 3) -> Network:
    """A network that knows how bright an image is."""

    def logits(x: torch.Tensor) -> torch.Tensor:
        middle = (60 * torch.arange(classes) + 20) / 255
        return -(x.mean((1, 2, 3))[:, None] - middle).abs()

    return Network("brightness", torch.nn.Identity(), logits, (8, 8), channels=1)


@pytest.fixture
def eye(monkeypatch):
    monkeypatch.setattr(recognition, "opened", lambda name, **_: by_brightness(int(name)))


def test_originals_and_every_level(eye):
    shown = shades()
    stack = zoo.build("8x8x1/conv4x4x1(width=2)/fc2(hidden=[4])").eval()
    stack.level(1).stage.decode = lambda z: torch.zeros(len(z), 1, 8, 8)  # everything comes back dark
    with torch.inference_mode():
        found = recognition.recognise(stack, shown, classifier="3", train=shown, batch_size=7)
    assert found["originals"] == 1
    assert found["levels"] == pytest.approx([1 / 3, 1 / 3])
    assert found["reconstructions"] == found["agreement"] == pytest.approx(1 / 3)
    assert (found["images"], found["classes"], found["unknown"]) == (60, 3, 0)
    assert found["classifier"]["network"] == "brightness"


def test_the_report_tells_of_it(eye):
    shown = shades()
    report = evaluate(zoo.build("8x8x1/fc2(hidden=[4])"), shown, train=shown, classifier="3")
    assert report["recognition"]["originals"] == 1
    assert "accuracy of brightness: 1.000 on 60 images of 3 classes, " in table(report)
    assert evaluate(zoo.build("8x8x1/fc2(hidden=[4])"), shown, train=shown)["recognition"] is None


def test_classes_of_imagenet_are_found_by_their_numbers():
    wnids = ("n01443537", "n99999999", "n01440764")  # goldfish, nobody, tench
    columns = recognition._columns("judge", shades(classes=wnids), 1000)
    assert columns.tolist() == [1, -1, 0]
    judge = recognition.Judge(by_brightness(), columns)
    assert judge.known.tolist() == [0, 2]


def test_images_of_classes_that_it_does_not_know_do_not_count(monkeypatch):
    wnids = ("n01440764", "n99999999", "n01443537")
    network = Network("all", torch.nn.Identity(), lambda x: torch.eye(1000)[torch.zeros(len(x)).long()], (8, 8), 1)
    monkeypatch.setattr(recognition, "opened", lambda *_, **__: network)
    shown = shades(classes=wnids)
    with torch.inference_mode():
        found = recognition.recognise(
            zoo.build("8x8x1/fc2(hidden=[4])"), shown, classifier="all", train=shown, batch_size=16
        )
    assert (found["images"], found["classes"], found["unknown"]) == (40, 2, 1)
    assert found["originals"] == 0.5  # it takes everything for a tench


def test_what_is_unknown_is_among_what_is_there(eye):
    """A classifier may know classes that no image here is of."""
    shown = shades(classes=tuple("abcdefghij"))
    few = shown.subset(shown.labels < 2)
    stack = zoo.build("8x8x1/fc2(hidden=[4])")
    with torch.inference_mode():
        found = recognition.recognise(stack, few, classifier="10", train=few, batch_size=7)
    assert (found["images"], found["classes"], found["unknown"]) == (len(few), 2, 0)


def test_no_image_of_a_class_that_it_knows(monkeypatch):
    network = Network("all", torch.nn.Identity(), lambda x: torch.eye(1000)[torch.zeros(len(x)).long()], (8, 8), 1)
    monkeypatch.setattr(recognition, "opened", lambda *_, **__: network)
    shown = shades(classes=("n01440764", "n99999999"))
    nobody = shown.subset(shown.labels == 1)
    stack = zoo.build("8x8x1/fc2(hidden=[4])")
    with pytest.raises(EvaluationError, match="no image of shades is of a class that all knows"):
        recognition.recognise(stack, nobody, classifier="all", train=shown, batch_size=16)


def test_a_judge_says_its_accuracy_on_whatever_came_back():
    wnids = ("n01440764", "n99999999", "n01443537")
    network = Network("all", torch.nn.Identity(), lambda x: torch.eye(1000)[torch.zeros(len(x)).long()], (8, 8), 1)
    judge = recognition.Judge(network, recognition._columns("all", shades(classes=wnids), 1000))
    seen = []

    def back(x):
        seen.append(len(x))
        return x

    assert judge.accuracy(shades(classes=wnids), back, batch_size=15) == 0.5
    assert seen == [15, 15, 10]


def test_a_head_alone_gives_nothing_back(eye):
    with pytest.raises(EvaluationError, match="nothing comes back"):
        recognition.recognise(zoo.build("8x8x1/normal"), shades(), classifier="3", train=shades(), batch_size=16)
    found = {"classifier": {"network": "old"}, "originals": 1.0, "images": 5, "classes": 2, "unknown": 0, "levels": []}
    report = evaluate(zoo.build("8x8x1/fc2(hidden=[4])"), shades(), train=shades())
    said = table({**report, "recognition": found})  # as one of an older zoo may be
    assert "accuracy of old: 1.000 on 5 images of 2 classes\n" in said + "\n"


@pytest.fixture
def quick(monkeypatch):
    """One of our own learns from few images."""
    monkeypatch.setattr(classifier, "BATCH", 8)
    monkeypatch.setattr(classifier, "EPOCHS", 1)


def own(test, train, file="", seed=0):
    return recognition.judge_of(f"own={file}" if file else "own", test, train=train, device=CPU, seed=seed)


def test_one_of_our_own_learns_from_the_classes_that_it_judges(quick, tmp_path):
    shown, others = shades(), shades(classes=("cat", "dog", "emu"))
    with pytest.raises(EvaluationError, match="shades has other classes than shades"):
        own(shown, others)
    file = tmp_path / "own.safetensors"
    own(shown, shown, file)
    with pytest.raises(EvaluationError, match=r"the classifier in .*own\.safetensors is of other classes"):
        own(others, others, file)
    tensors, told = files.read_tensors(file)
    files.write_tensors(file, tensors, {key: value for key, value in told.items() if key != "classes"})
    assert classifier.load(file).classes is None
    assert own(others, others, file).known.tolist() == [0, 1, 2]  # a file of before classes were written down


def test_one_of_our_own_knows_a_class_that_only_one_part_has_images_of(quick, tmp_path):
    shown = shades()
    few = shown.subset(shown.labels < 2)
    assert own(shown, few).known.tolist() == own(few, shown).known.tolist() == [0, 1, 2]
    shown, few = replace(shown, classes=None), replace(few, classes=None)
    file = tmp_path / "own.safetensors"
    for _ in range(2):  # learned, and read again
        assert own(few, shown, file).known.tolist() == [0, 1, 2]
    assert own(shown, few).known.tolist() == [0, 1, 2]
    fewer = few.subset(few.labels < 1)
    own(fewer, fewer, tmp_path / "one.safetensors")
    with pytest.raises(EvaluationError, match="tells 1 classes apart and shades has 3: remove its file"):
        own(shown, shown, tmp_path / "one.safetensors")


def test_one_of_our_own_is_of_the_seed(quick, eye):
    shown = shades()
    one, same, other = (own(shown, shown, seed=seed).network.sha256 for seed in (0, 0, 1))
    assert one == same != other
    stack = zoo.build("8x8x1/fc2(hidden=[4])")
    reports = [evaluate(stack, shown, train=shown, classifier="own", seed=seed) for seed in (0, 1)]
    assert [report["recognition"]["classifier"]["weights_sha256"] for report in reports] == [one, other]


def test_one_that_is_not_kept_is_not_tested(quick, monkeypatch, tmp_path):
    monkeypatch.setattr(classifier.Classifier, "measured", lambda *_: 0.75)
    shown = shades()
    assert classifier.train(shown, shown, measure=False).accuracy is None
    own(shown, shown, tmp_path / "own.safetensors")
    assert classifier.load(tmp_path / "own.safetensors").accuracy == 0.75
    monkeypatch.setattr(classifier.Classifier, "measured", lambda *_: 1 / 0)
    own(shown, shown)


def test_one_of_our_own_is_kept_where_one_says(tmp_path):
    shown = shades(1500)
    file = tmp_path / "own.safetensors"
    judge = recognition.judge_of(f"own={file}", shown, train=shown, device=CPU)
    assert (judge.labels(shown.batch(slice(0, 300))) == shown.labels[:300]).float().mean() > 0.9
    kept = file.read_bytes()
    again = recognition.judge_of(f"own={file}", shown, train=shown, device=CPU)
    assert again.network.sha256 == judge.network.sha256
    assert file.read_bytes() == kept
    assert recognition.judge_of("own", shown, train=shown, device=CPU).network.name == "own"
    larger = Images(torch.zeros(4, 1, 9, 9).byte(), labels=torch.zeros(4).long(), name="larger")
    with pytest.raises(EvaluationError, match=r"for images of \(1, 8, 8\)"):
        recognition.judge_of(f"own={file}", larger, train=shown, device=CPU)


def test_weights_in_a_file_bring_their_own_classes(tmp_path):
    file = tmp_path / "three.safetensors"
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", num_classes=3).state_dict(), file)
    assert recognition.judge_of(f"test_resnet={file}", shades(), train=shades(), device=CPU).known.tolist() == [0, 1, 2]
    save_file(timm.create_model("test_resnet", num_classes=7).state_dict(), file)
    with pytest.raises(EvaluationError, match="tells 7 classes apart and shades has 3"):
        recognition.judge_of(f"test_resnet={file}", shades(), train=shades(), device=CPU)


def test_a_resnet_of_cifar_from_a_file(tmp_path):
    file, ten = tmp_path / "r.safetensors", tuple("abcdefghij")
    state = architectures.find("resnet8_cifar10").make().state_dict()
    save_file({key: value for key, value in state.items() if "batches" not in key}, file)
    judge = recognition.judge_of(f"resnet8_cifar10={file}", shades(classes=ten), train=shades(), device=CPU)
    assert judge.network.size == (32, 32)
    assert judge.network.mean == architectures.IMAGENET[0]
    assert judge.labels(torch.rand(3, 3, 32, 32)).shape == (3,)


def test_refusals(tmp_path):
    unlabelled = Images(torch.zeros(4, 1, 8, 8).byte(), name="plain")
    stack = zoo.build("8x8x1/fc2(hidden=[4])")
    with pytest.raises(EvaluationError, match="plain has no labels"):
        recognition.recognise(stack, unlabelled, classifier="own", train=unlabelled, batch_size=4)
    for name, words in (
        ("resnet1888", "classifier='resnet1888': neither timm nor torchvision"),
        ("alexnet", "no pretrained weights as safetensors"),
        ("own=a.pth", "come as safetensors"),
    ):
        with pytest.raises(EvaluationError, match=words):
            recognition.judge_of(name, shades(), train=shades(), device=CPU)
