"""The stage `resnet`: networks of timm as encoders, their weights, and how they are trained on."""

from __future__ import annotations

import json
import socket

import pytest
import timm
import torch
from devices import WithoutFloat64
from safetensors.torch import save_file
from test_resume import stopped, weights  # noqa: F401
from torch import nn
from zoo_resnet.regression import reduced_rank

import zoo
from zoo.data import Images
from zoo.errors import FileError, HubError, SpecError
from zoo.interfaces import Place
from zoo.phases import Phase
from zoo.registry import find
from zoo.training import fit, loop, schedules, validation
from zoo.training import run as runs

TINY = "32x32x3/resnet8x8x4(backbone=test_efficientnet, width=4, {})"


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """No test here opens a connection, to wherever."""

    def refuse(*_, **__):
        raise OSError("the network is off")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(runs, "trackers", lambda **_: [])
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def images(count=64, size=32):
    return Images(torch.randint(256, (count, 3, size, size), generator=torch.Generator().manual_seed(0)).byte())


def file_of(network, path, *, dtype=torch.float32, **options):
    """Fresh weights of a whole network, its classifier too, as a safetensors file."""
    torch.manual_seed(7)
    state = timm.create_model(network, **options).state_dict()
    save_file({key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}, path)
    return state


def stage(spec):
    return zoo.build(spec).level(1).stage


class TestTheLevelThatIsTaken:
    @pytest.mark.parametrize(
        ("backbone", "code", "level", "channels"),
        [
            ("test_resnet", "16x16x4", 0, 32),
            ("test_resnet", "4x4x4", 2, 48),
            ("test_convnext", "8x8x4", 0, 24),
            ("test_efficientnet", "1x1x9", 4, 64),
            ("test_vit", "2x2x4", 5, 64),
        ],
    )
    def test_is_the_last_whose_maps_have_the_codes_size(self, backbone, code, level, channels):
        found = stage(f"32x32x3/resnet{code}(backbone={backbone}, width=4)")
        assert found.level == level
        assert found.encoder.project.in_channels == channels
        assert found.encoder.features(torch.rand(2, 3, 32, 32)).shape[1:] == (channels, *found.code_shape[1:])

    def test_or_the_one_that_is_asked_for_and_nothing_behind_it_is_kept(self):
        early, late = (stage(f"32x32x3/resnet2x2x4(backbone=test_vit, level={level})") for level in (0, 5))
        assert len(early.groups) == 2
        assert len(late.groups) == 7

    def test_a_stem_of_stride_one_makes_every_map_twice_as_large(self):
        assert stage("32x32x3/resnet8x8x4(backbone=test_resnet, stem_stride=1)").level == 2
        with pytest.raises(SpecError, match="test_vit has no first convolution of stride 1 or 2"):
            zoo.build("32x32x3/resnet2x2x4(backbone=test_vit, stem_stride=1)")

    def test_zoom_shows_the_backbone_larger_images(self):
        found = stage("32x32x3/resnet4x4x4(backbone=test_vit, zoom=2)")
        assert found.encode(torch.rand(1, 3, 32, 32)).mean.shape == (1, 4, 4, 4)

    def test_a_code_that_no_level_fits_says_which_would(self):
        with pytest.raises(SpecError, match=r"test_convnext sees, whose maps are 4, 8, 16, 32 times smaller"):
            zoo.build("32x32x3/resnet16x16x4(backbone=test_convnext, overcomplete=true)")
        with pytest.raises(SpecError, match=r"level=1: test_convnext has maps 4 times smaller at \[0\]"):
            zoo.build("32x32x3/resnet8x8x4(backbone=test_convnext, level=1)")

    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            ("resnet8x8x4(backbone=resnet81)", "did you mean 'resnet18'"),
            ("resnet8x8x4(backbone=zzzz)", r"no network 'zzzz'; timm.list_models\(\) names them"),
            ("resnet8x8x4(backbone=resnet18.a9_in1k)", "no weights 'a9_in1k' of resnet18; did you mean"),
            ('resnet8x8x4(backbone="hf-hub:you/x")', "is a place; write weights="),
            ("resnet512(backbone=test_resnet)", "for a vector, resnet1x1x512 or a level /fc512"),
            ("resnet8x4x4(backbone=test_resnet)", "on both sides the same"),
            ("resnet8x8x400(backbone=test_resnet)", "overcomplete=true"),
            ("resnet8x8x4(backbone=test_resnet, std=0)", "a std is above 0"),
            ("resnet8x8x4(backbone=test_resnet, pretrained=true, weights=x.safetensors)", "give one of them"),
        ],
    )
    def test_what_cannot_be_is_told(self, spec, words):
        with pytest.raises(SpecError, match=words):
            zoo.build(f"32x32x3/{spec}")


class TestWhatTheBackboneSees:
    def test_is_normalised_as_timm_says(self):
        found = stage("32x32x3/resnet8x8x4(backbone=test_efficientnet)")
        assert found.mean == pytest.approx((0.485, 0.456, 0.406))
        x = torch.rand(2, 3, 32, 32)
        scaled = (x - found.encoder.mean) / found.encoder.std
        assert torch.equal(found.encoder.features(x), found.encoder.network(scaled)[0])

    def test_of_grey_images_is_three_times_the_same(self):
        grey = stage("32x32x1/resnet8x8x4(backbone=test_efficientnet)")
        x = torch.rand(2, 1, 32, 32)
        assert torch.equal(grey.encoder.features(x), grey.encoder.features(x.expand(-1, 3, -1, -1)))
        assert grey.decode(grey.encode(x).mean).shape == x.shape

    def test_of_codes_is_what_they_are(self):
        stack = zoo.build("32x32x3/conv16x16x6(width=4)/resnet4x4x8(backbone=test_resnet, width=4)")
        upper = stack.level(2).stage
        assert (upper.mean, upper.std) == ((0.0,) * 6, (1.0,) * 6)
        assert stack(torch.rand(1, 3, 32, 32)).shape == (1, 3, 32, 32)


def test_a_start_is_found_where_there_is_no_float64():
    with WithoutFloat64():
        found = reduced_rank(torch.rand(40, 6, device="meta"), torch.rand(40, 5, device="meta"), 3)
    assert [(part.device.type, part.dtype) for part in found] == [("meta", torch.float32)] * 4
    assert [part.shape for part in found] == [(6,), (3, 6), (5,), (5, 3)]


class TestWeights:
    def test_of_a_file_are_those_whatever_their_precision(self, tmp_path):
        state = file_of("test_efficientnet", tmp_path / "w.safetensors", dtype=torch.float16)
        found = stage(TINY.format(f'weights="{tmp_path}/w.safetensors"'))
        network = found.encoder.network.model
        assert network.conv_stem.weight.dtype == torch.float32
        assert torch.equal(network.conv_stem.weight, state["conv_stem.weight"].half().float())
        assert found.tune == "all"

    def test_of_a_folder_say_which_network_it_is_and_what_it_saw(self, tmp_path):
        file_of("test_efficientnet", tmp_path / "model.safetensors")
        config = {"architecture": "test_efficientnet", "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        found = stage(f'32x32x3/resnet8x8x4(weights="local-dir:{tmp_path}")')
        assert (found.backbone, found.mean) == ("test_efficientnet", (0.1, 0.2, 0.3))
        with pytest.raises(SpecError, match="are of test_efficientnet, not of test_resnet"):
            zoo.build(f'32x32x3/resnet8x8x4(backbone=test_resnet, weights="local-dir:{tmp_path}")')

    def test_of_another_network_are_refused_with_the_first_keys(self, tmp_path):
        file_of("test_resnet", tmp_path / "w.safetensors")
        with pytest.raises(FileError, match=r"do not fit test_efficientnet: missing conv_stem.weight, .* and \d+ more"):
            zoo.build(TINY.format(f'weights="{tmp_path}/w.safetensors"'))

    def test_of_another_width_too(self, tmp_path):
        state = file_of("test_efficientnet", tmp_path / "x.safetensors")
        save_file({**state, "conv_stem.weight": torch.zeros(3, 3, 3, 3)}, tmp_path / "w.safetensors")
        with pytest.raises(FileError, match=r"of another shape conv_stem\.weight"):
            zoo.build(TINY.format(f'weights="{tmp_path}/w.safetensors"'))

    @pytest.mark.parametrize(
        ("option", "error", "words"),
        [
            ("weights=w.pth", SpecError, "the zoo reads no pickle"),
            ("weights=not-there.safetensors", FileError, "cannot be read as safetensors"),
            ('weights="local-dir:not-there"', FileError, "not the config of a network of timm"),
            (
                "pretrained=true",
                HubError,
                r"own weights of test_efficientnet cannot be had .* take a file that is here",
            ),
            ('weights="hf-hub:you/x"', HubError, r"config.json of hf-hub:you/x cannot be had .* take a file"),
        ],
    )
    def test_that_cannot_be_had(self, option, error, words):
        with pytest.raises(error, match=words):
            zoo.build(TINY.format(option))

    def test_a_saved_stage_carries_them_and_asks_nobody_again(self, tmp_path, monkeypatch):
        file_of("test_efficientnet", tmp_path / "w.safetensors", dtype=torch.float16)
        stack = zoo.build(TINY.format(f'tune=unfreeze, weights="{tmp_path}/w.safetensors"'))
        fit(stack, images(), steps=2, progress=False, batch_size=16)
        stack.save(tmp_path / "saved")
        (tmp_path / "w.safetensors").unlink()
        assert "w.safetensors" not in (tmp_path / "saved" / "config.json").read_text()
        monkeypatch.setattr(timm.models._builder, "load_pretrained", None)
        x = torch.rand(2, 3, 32, 32)
        again = zoo.load(tmp_path / "saved")
        stack.to(memory_format=torch.contiguous_format)  # as it lies in the file: training has laid it otherwise
        assert torch.equal(again(x), stack(x))
        assert again.level(1).stage.tune == "unfreeze"
        half = zoo.load(tmp_path / "saved", part="encoder")
        assert torch.equal(half.encode(x), stack.encode(x))

    def test_pretrained_is_a_memory_once_it_is_saved(self, tmp_path, monkeypatch):
        own = find("resnet").load().__module__
        file_of("test_efficientnet", tmp_path / "w.safetensors")
        source = __import__(own, fromlist=["weights_of"]).weights_of
        with monkeypatch.context() as patch:  # what would have been downloaded
            patch.setattr(source, "source", lambda *_: {"file": str(tmp_path / "w.safetensors"), "num_classes": 1000})
            stack = zoo.build(TINY.format("pretrained=true"))
        stack.save(tmp_path / "saved")
        assert str(zoo.load(tmp_path / "saved").spec) == str(stack.spec)
        assert "pretrained=true" in str(stack.spec)

    def test_a_config_that_names_a_file_is_refused(self, tmp_path):
        zoo.build(TINY.format("blocks=1")).save(tmp_path)
        config = (tmp_path / "config.json").read_text()
        (tmp_path / "config.json").write_text(config.replace("blocks=1", "blocks=1, weights=evil.safetensors"))
        with pytest.raises(FileError, match="names a file of this machine"):
            zoo.load(tmp_path)

    def test_much_may_be_thrown_away_of_a_large_network(self, tmp_path):
        """ConvNeXt-B has 88 million numbers, of which this stage keeps less than half a million."""
        with torch.device("meta"):
            outline = zoo.build("16x16x3/resnet4x4x4(backbone=convnext_base, width=4)")
        stack = outline.to_empty(device="cpu")
        with torch.no_grad():
            for tensor in stack.state_dict().values():
                tensor.zero_()
        stack.save(tmp_path)
        assert len(zoo.load(tmp_path).state_dict()) == len(stack.state_dict())


class TestTuning:
    def test_the_groups_are_the_networks_own_and_learn_faster_upwards(self):
        found = stage(TINY.format("tune=unfreeze"))
        first, last = found.phases()
        assert found.groups == (("model.conv_stem", "model.bn1"), ("model.blocks.0",), ("model.blocks.1",))
        names = [name for name, _ in found.named_parameters()]
        assert {last.rate(name) for name in names if name.startswith("decoder.")} == {1.0}
        assert last.rate("encoder.project.weight") == 1
        expected = [2.6**-3, 2.6**-2, 2.6**-1]
        assert [last.rate(f"encoder.network.{group[0]}.x") for group in found.groups] == pytest.approx(expected)
        assert all(last.rate(name) > 0 for name in names)
        assert {first.rate(name) for name in names if name.startswith("encoder.network.")} == {0.0}
        assert first.patience

    @pytest.mark.parametrize("tune", ["frozen", "unfreeze", "gradual"])
    def test_what_the_backbone_did_not_bring_learns_in_every_phase(self, tune):
        found = stage(TINY.format(f"tune={tune}, linear=pixels"))
        new = [name for name, _ in found.named_parameters() if not name.startswith("encoder.network.")]
        assert any(name.startswith("encoder.linear.") for name in new)
        assert all(phase.rate(name) == 1 for phase in found.phases() for name in new)

    def test_a_slice_is_geometric(self):
        rates = stage(TINY.format("tune=unfreeze, slowest=0.001")).phases()[-1].rates
        assert sorted({*rates.values()} - {0.0}) == pytest.approx([0.001, 0.01, 0.1, 1.0])

    def test_gradual_unfreezes_one_group_an_epoch_from_the_top(self):
        first, *others = stage(TINY.format("tune=gradual")).phases()
        assert [phase.epochs for phase in others] == [1, 1, None]
        thawed = [sum(name.startswith("encoder.network.") for name in phase.rates) for phase in (first, *others)]
        assert thawed == [0, 1, 2, 4]
        assert "encoder.network.model.blocks.1" in others[0].rates

    def test_how_long_the_phases_take_can_be_said_and_is_written_out(self):
        said = "decoder_share=0.2, group_epochs=2, last_share=0.5, patience=5, tune=gradual"
        stack = zoo.build(TINY.format(said))
        found = [(phase.share, phase.epochs, phase.patience) for phase in stack.level(1).stage.phases()]
        assert found == [
            (0.2, None, 5),
            (pytest.approx(0.15), 2, None),
            (pytest.approx(0.15), 2, None),
            (0.5, None, None),
        ]
        first, last = stage(TINY.format("tune=unfreeze, decoder_share=0.6, patience=1")).phases()
        assert (first.share, first.patience, last.share) == (0.6, 1, 0.4)
        assert all(option in str(stack.level(1).written_out) for option in said.split(", "))
        assert "decoder_share=0.3, " in str(zoo.build(TINY.format("tune=unfreeze")).level(1).written_out)
        assert "share" not in str(zoo.build(TINY.format("tune=all")).level(1).written_out)

    def test_a_stack_that_was_saved_before_they_were_options_trains_on_as_it_did(self, tmp_path):
        stack = zoo.build(TINY.format("tune=gradual"))
        stack.save(tmp_path)
        before = (tmp_path / "config.json").read_text()
        for option in ("decoder_share=0.3", "group_epochs=1", "last_share=0.3", "patience=3"):
            assert f"{option}, " in before
            before = before.replace(f"{option}, ", "")
        (tmp_path / "config.json").write_text(before)
        assert zoo.load(tmp_path).level(1).stage.phases() == stack.level(1).stage.phases()

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ("tune=all, patience=2", "patience is of a phase that tune=all has not got.*tune=unfreeze or tune=gradual"),
            ("tune=frozen, decoder_share=0.3", "decoder_share is of a phase that tune=frozen has not got"),
            ("tune=unfreeze, last_share=0.2", "last_share is of a phase.*take tune=gradual"),
            ("tune=unfreeze, group_epochs=2", "group_epochs is of a phase.*take tune=gradual"),
            ("tune=unfreeze, decoder_share=1", "decoder_share=1: parts of the budget"),
            ("tune=gradual, decoder_share=0.8", "decoder_share=0.8, last_share=0.3: parts of the budget"),
            ("tune=gradual, last_share=0", "last_share=0: parts of the budget"),
            ("tune=gradual, patience=0", "patience=0: at least 1"),
            ("tune=gradual, group_epochs=0", "group_epochs=0: at least 1"),
        ],
    )
    def test_what_the_phases_cannot_take_is_told(self, options, words):
        with pytest.raises(SpecError, match=words):
            zoo.build(TINY.format(options))

    def test_frozen_is_frozen_to_the_last_statistic(self):
        stack = zoo.build(TINY.format("tune=frozen"))
        before = {name: value.clone() for name, value in stack.state_dict().items()}
        fit(stack, images(), steps=4, batch_size=16, progress=False, refine=True)
        changed = {name for name, value in stack.state_dict().items() if not torch.equal(value, before[name])}
        assert not [name for name in changed if name.startswith("levels.0.stage.encoder.network")]
        assert "levels.0.stage.encoder.project.weight" in changed

    def test_a_group_keeps_its_statistics_while_it_is_frozen(self, monkeypatch):
        """Of every phase: which groups' running means moved, and which weights."""
        stack = zoo.build(TINY.format("tune=gradual"))
        network, seen = stack.level(1).stage.encoder.network.model, []
        run = loop.Loop.run

        def watched(self, course, resumed=None):
            norms = [network.bn1, network.blocks[0][0].bn1, network.blocks[1][0].bn1]
            before = [(norm.running_mean.clone(), norm.weight.clone()) for norm in norms]
            steps = run(self, course, resumed)
            moved = [
                (not torch.equal(norm.running_mean, mean), not torch.equal(norm.weight, weight))
                for norm, (mean, weight) in zip(norms, before, strict=True)
            ]
            seen.append((course.title, moved))
            return steps

        monkeypatch.setattr(loop.Loop, "run", watched)
        monkeypatch.setattr(validation.Validation, "start", lambda _: None)  # which is the best there is for noise
        fit(stack, images(), epochs=8, batch_size=16, progress=False, ema=0)
        off, on = (False, False), (True, True)
        assert [title for title, _ in seen] == ["decoder", "unfreeze-1", "unfreeze-2", "all"]
        assert [moved for _, moved in seen] == [[off, off, off], [off, off, on], [off, on, on], [on, on, on]]

    def test_the_plan_is_shown(self):
        from click.testing import CliRunner

        from zoo.cli import main

        shown = CliRunner().invoke(main, ["show", TINY.format("tune=unfreeze")])
        assert shown.exit_code == 0, shown.output
        lines = [" ".join(line.split()) for line in shown.output.splitlines()]
        assert "1 decoder 0.3 0 encoder.network" in lines
        assert "1 all 0.7 0.385 encoder.network.model.blocks.1" in lines
        assert "1 all 0.7 0.0569 encoder.network.model.conv_stem, encoder.network.model.bn1" in lines
        assert "1 all 0.7 1 decoder, encoder.project" in lines

    @pytest.mark.parametrize("after", [1, 3, 5, 7])
    def test_a_run_that_is_stopped_in_any_phase_goes_on_in_the_same_bytes(self, tmp_path, after, stopped):  # noqa: F811
        def train(out, **more):
            stack = zoo.build(TINY.format("tune=gradual"))
            return fit(stack, images(), out=out, steps=8, batch_size=16, progress=False, precision="fp32", **more)

        train(tmp_path / "whole")
        stopped(after, lambda: train(tmp_path / "run"))
        train(tmp_path / "run", resume=True)
        assert weights(tmp_path / "run") == weights(tmp_path / "whole")


class TestPhases:
    def test_one_that_stands_still_ends_and_leaves_its_budget(self, monkeypatch):
        cls = find("resnet").load()
        taken = []
        run = loop.Loop.run
        monkeypatch.setattr(loop.Loop, "run", lambda *args: taken.append(run(*args)) or taken[-1])
        monkeypatch.setattr(validation.Validation, "_measured", lambda *_: {"loss": 1.0})
        monkeypatch.setattr(
            cls, "phases", lambda _: (Phase("first", patience=2, rates={"decoder": 1e-3}), Phase("rest", share=1.0))
        )
        fit(zoo.build(TINY.format("blocks=0")), images(), steps=40, batch_size=8, progress=False)
        assert taken == [3, 37]

    def test_one_of_so_many_epochs_takes_no_more(self, monkeypatch):
        cls, taken, run = find("resnet").load(), [], loop.Loop.run
        monkeypatch.setattr(cls, "phases", lambda _: (Phase("first", epochs=2, share=9.0), Phase("rest")))
        monkeypatch.setattr(loop.Loop, "run", lambda *args: taken.append(run(*args)) or taken[-1])
        fit(zoo.build(TINY.format("blocks=0")), images(32), val=images(8), steps=7, batch_size=16, progress=False)
        assert taken == [4, 3]

    def test_is_flat(self):
        assert not schedules.is_flat([1.0], 1)
        assert schedules.is_flat([1.0, 1.0], 1)
        assert not schedules.is_flat([1.0, 0.9], 1)
        assert schedules.is_flat([0.0, -1.0, -1.001, -1.002], 2)
        assert not schedules.is_flat([0.0, -1.0, -1.001, -1.1], 2)


def test_statistics_that_came_with_weights_stay_where_the_code_is_fitted(tmp_path):
    """In a stage that was built with them, and in one that was saved with them and does not say so any more."""
    network = timm.create_model("test_resnet")
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.fill_(0.3)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    spec = f'32x32x3/resnet8x8x4(backbone=test_resnet, width=4, weights="{tmp_path}/w.safetensors")'
    stack = zoo.build(spec)
    stack.save(tmp_path / "stack")
    for one, value in (
        (stack, 0.3),
        (zoo.load(tmp_path / "stack"), 0.3),
        (zoo.build(spec.split(", weights")[0] + ")"), 0),
    ):
        one.level(1).prepare(torch.rand(16, 3, 32, 32))
        norm = next(part for part in one.modules() if isinstance(part, nn.BatchNorm2d))
        assert torch.all((norm.running_mean - value).abs() < 1e-6) == (value > 0)


def test_the_linear_start_is_the_best_of_its_rank():
    """Of a code as wide as the patch nothing is lost: features that hold the patch give it back."""
    cls = find("resnet").load()
    x = torch.rand(512, 3, 8, 8)
    found = cls(Place((3, 8, 8), (12, 4, 4)), backbone="test_resnet", linear="pixels", width=4).eval()
    found.prepare(x)
    z = found.encode(x).mean
    assert found.decode(z).sub(x).abs().max() < 0.01
    assert z.std((0, 2, 3)).sub(1).abs().max() < 0.01
    narrow = cls(Place((3, 8, 8), (4, 4, 4)), backbone="test_resnet", width=4).eval()
    before = (narrow.decode(narrow.encode(x).mean) - x).square().mean()
    narrow.prepare(x)
    assert (narrow.decode(narrow.encode(x).mean) - x).square().mean() < min(before, x.var())
