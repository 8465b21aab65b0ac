"""Specs to stacks, and stacks to folders and back."""

from __future__ import annotations

import copy
import json
from importlib.metadata import version

import pytest
import torch

import zoo
from zoo import files, registry
from zoo.builder import build, load
from zoo.errors import EvaluationError, FileError, RegistryError, SpecError, TrainingError, ZooError
from zoo.interfaces import Place, Regularizer
from zoo.posterior import Posterior
from zoo.spec import parse
from zoo.training import fit

TINY = "8x8x1/conv4x4x3(width=4, blocks=1)/fc4(hidden=[16])+kl"


def test_the_default_is_a_64_pixel_colour_stack():
    stack = build("conv8x8x64+wae_mmd")
    assert stack.input_shape == (3, 64, 64)
    with torch.no_grad():
        assert stack.encode(torch.rand(2, 3, 64, 64)).shape == (2, 64, 8, 8)
    assert build("conv2x2x3(width=4)", input=(8, 8, 1)).input_shape == (1, 8, 8)


def test_building_is_seeded_and_leaves_the_global_state_alone():
    before = torch.get_rng_state()
    one, two, other = build(TINY), build(parse(TINY)), build(TINY, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    x = torch.rand(2, 1, 8, 8)
    for stack in (one, two, other):
        for level in stack.lower():
            level.stage.requires_grad_(False)
    first = next(iter(one.parameters()))
    assert torch.equal(first, next(iter(two.parameters())))
    assert not torch.equal(first, next(iter(other.parameters())))
    assert torch.equal(one.encode(x), two.encode(x))


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("conv8x8x64(wdth=3)", SpecError, "no option 'wdth'; did you mean 'width'"),
        ("conv8x8x64(width=wide)", SpecError, "width wants int"),
        ("conv8x8x64(up=shufle)", SpecError, "up wants shuffle or shuffle_blur or .*, got .shufle."),
        ("conv8x8x64(3)", SpecError, "takes no value without a key"),
        ("conv8x8x64+kl(1, weight=2)", SpecError, "weight twice"),
        ("conv8x8x64+kl3", SpecError, "no shape"),
        ("normal/conv8x8x64", SpecError, "ends a stack"),
        ("conv8x8x64/normal+kl", SpecError, "takes no"),
        ("cnov8x8x64", RegistryError, "did you mean 'conv'"),
        ("conv8x8x64+fc", RegistryError, "stage"),
        ("conv8x8x64.nowhere", RegistryError, "registry.json"),
        ("100000x100000x3/conv8x8x64", SpecError, "numbers"),
        ("28x28x1/fc8(hidden=512)", SpecError, r"hidden wants a list of int, got 512: write hidden=\[512\]"),
        ("28x28x1/fc8(hidden=[1.5])", SpecError, "hidden wants a list of int"),
        ("28x28x1/fc8(hidden=[64, 0])", SpecError, "at least 1"),
        ("28x28x1/fc8+kl(-1)", SpecError, "a weight of -1: at least 0"),
        ("28x28x1/fc8/began32", SpecError, r"began\(32\) draws"),
        ("28x28x1/" + "/".join(["fc8+kl+mse+mae+stl+mc+wae_mmd"] * 64), SpecError, "with all options written out"),
    ],
)
def test_what_cannot_be_built_says_why(spec, error, message):
    with pytest.raises(error, match=message):
        build(spec)


def test_errors_of_a_stage_carry_the_spec_and_a_caret():
    with pytest.raises(SpecError) as caught:
        build("28x28x1/conv7x7x10/conv4x4x8")
    assert "conv4x4x8" in str(caught.value)
    assert str(caught.value).splitlines()[-1].strip() == "^"


def test_a_default_that_no_spec_can_write_out_names_the_class(monkeypatch):
    monkeypatch.setitem(registry.find("fc").load().__init__.__kwdefaults__, "hidden", ())
    with pytest.raises(SpecError, match=r"fc is FullyConnected, .* hidden: a list holds at least one value") as caught:
        build("8x8x1/fc4")
    assert str(caught.value).splitlines()[-1].strip() == "^"


def test_a_stack_without_a_prior_says_how_to_sample():
    with pytest.raises(EvaluationError, match=r"\+kl.*normal"):
        build("8x8x1/fc4").sample(2)
    assert build("8x8x1/fc4+kl").sample(0).shape == (0, 1, 8, 8)
    with pytest.raises(EvaluationError, match="label"):
        build("8x8x1/fc4+kl").sample(2, label=1)


def test_outputs_survive_a_save_bit_by_bit(tmp_path):
    stack = build(TINY)
    x = torch.rand(3, 1, 8, 8)
    stack.level(1).finish([Posterior(torch.randn(50, 3, 4, 4) * 5 + 2)])
    folder = stack.save(tmp_path / "stack", report={"summary": "none"})
    again = load(folder)
    assert torch.equal(stack.encode(x), again.encode(x))
    assert torch.equal(stack(x), again(x))
    assert again.report == {"summary": "none"}
    assert str(again.spec) == str(stack.spec)
    assert {path.name for path in folder.iterdir()} >= {"config.json", "report.json", "README.md"}


def test_half_a_stack_gives_the_same_half(tmp_path):
    stack = build(TINY)
    folder = stack.save(tmp_path)
    x = torch.rand(3, 1, 8, 8)
    z = stack.encode(x)
    encoder, decoder = load(folder, part="encoder"), load(folder, part="decoder")
    assert torch.equal(encoder.encode(x), z)
    assert torch.equal(decoder.decode(z), stack.decode(z))
    assert torch.equal(decoder.sample(2, seed=1), stack.sample(2, seed=1))
    with pytest.raises(FileError, match="decoder was not loaded"):
        encoder.decode(z)
    with pytest.raises(FileError, match="encoder was not loaded"):
        decoder.encode(x)
    assert not any("stage.decoder" in name for name, _ in encoder.named_parameters())
    with pytest.raises(FileError, match="the decoder was not loaded"):
        encoder.save(folder)
    assert load(folder).level(1)
    with pytest.raises(FileError, match="part="):
        load(folder, part="middle")


def test_a_part_of_a_half_that_is_not_there_says_so_too(tmp_path):
    stack = load(build(TINY).save(tmp_path), part="encoder")
    absent = stack.level(1).stage.decoder
    with pytest.raises(FileError, match="the decoder was not loaded"):
        absent["mean"]
    with pytest.raises(FileError, match="the decoder was not loaded"):
        list(absent)
    with pytest.raises(FileError, match="the decoder was not loaded") as caught:
        absent.linear  # noqa: B018 - there is nothing to be had of it
    assert isinstance(caught.value, AttributeError)
    assert getattr(absent, "linear", None) is None
    assert copy.deepcopy(absent).message == absent.message


@pytest.mark.parametrize("spec", [TINY, "8x8x1/normal"])
def test_a_stack_in_another_precision_is_not_saved(tmp_path, spec):
    stack = build(spec)
    for cast, kind in ((stack.half, "float16"), (stack.double, "float64")):
        with pytest.raises(FileError, match=rf"level 1: .* is {kind}, .*stack\.float\(\)"):
            cast().save(tmp_path)
    assert not [*tmp_path.iterdir()]
    assert load(stack.float().save(tmp_path))


def test_saving_again_replaces_the_old_stack_whole(tmp_path):
    build(TINY).save(tmp_path)
    before = {path.name for path in tmp_path.glob("level-*")}
    (tmp_path / "notes.txt").write_text("mine")
    build(TINY, seed=1).save(tmp_path)
    after = {path.name for path in tmp_path.glob("level-*")}
    assert len(before) == len(after) == 2
    assert before.isdisjoint(after)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", ["config.json", "report.json"])
def test_something_elses_files_are_not_replaced(tmp_path, name):
    (tmp_path / name).write_text('{"mine": true}')
    (tmp_path / "level-set.safetensors").write_bytes(b"mine too")
    with pytest.raises(FileError, match=f"{name} would be replaced"):
        build(TINY).save(tmp_path)
    with pytest.raises(FileError, match=f"{name} would be replaced"):  # and not when all is learned
        fit(build("8x8x1/fc2(hidden=[4])"), torch.rand(20, 1, 8, 8), steps=1, out=tmp_path, progress=False)
    assert {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()} == {
        name: '{"mine": true}', "level-set.safetensors": "mine too"
    }  # fmt: skip
    (tmp_path / name).unlink()
    build(TINY).save(tmp_path)
    assert (tmp_path / "level-set.safetensors").read_bytes() == b"mine too"


def test_a_report_that_could_not_be_read_again_is_not_written(tmp_path):
    with pytest.raises(FileError, match="more than 1048576 bytes"):
        build(TINY).save(tmp_path, report={"numbers": [0.5] * 300_000})
    assert not [*tmp_path.iterdir()]


def test_a_report_is_not_put_beside_other_weights(tmp_path):
    build(TINY).save(tmp_path)
    measured = files.named_weights(tmp_path)
    files.write_report(tmp_path, {"levels": []}, of=measured)
    build(TINY, seed=1).save(tmp_path)
    with pytest.raises(FileError, match="another stack was saved here meanwhile"):
        files.write_report(tmp_path, {"levels": []}, of=measured)
    assert files.read_report(tmp_path) is None


def test_what_is_no_image_and_no_code_is_told():
    stack = build("8x8x1/conv4x4x3(width=4)/fc2(hidden=[4])")
    for x in (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(2, 1, 8, 8).numpy()):
        with pytest.raises(SpecError, match="images are a float tensor"):
            stack.encode(x)
    for z, levels in ((torch.zeros(2, 3), None), (torch.zeros(2, 2), 1), (torch.zeros(2, 4, 4, 4), 1)):
        with pytest.raises(SpecError, match="codes of"):
            stack.decode(z, levels)
    with pytest.raises(SpecError, match="has levels 1 to 2"):
        stack.decode(torch.zeros(2, 2), -1)
    with pytest.raises(TrainingError, match="fit takes a stack"):
        fit("8x8x1/fc2", torch.rand(9, 1, 8, 8))
    with pytest.raises(TrainingError, match="steps='2': wants a whole number"):
        fit(stack, torch.rand(9, 1, 8, 8), steps="2")


def test_the_zoo_says_which_it_is():
    assert zoo.__version__ == files.zoo_version() == version("stackzoo")


def test_the_home_folder_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    build(TINY).save("~/stack")
    assert load("~/stack").spec == load(tmp_path / "stack").spec
    for nowhere in ("~nobody/stack", "x" * 300, "a\0b"):
        with pytest.raises(FileError):
            load(nowhere)


def damage(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config, folder)
    (folder / "config.json").write_text(json.dumps(config))


def flip(config, folder):
    path = folder / config["levels"][0]["file"]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_report_stays_with_its_weights(tmp_path):
    stack = build(TINY)
    stack.save(tmp_path, report={"levels": []})
    stack.report = None
    stack.save(tmp_path)  # the same weights: a resumed run saves once more
    assert files.read_report(tmp_path) == {"levels": []}
    build(TINY, seed=1).save(tmp_path)
    assert files.read_report(tmp_path) is None


def test_a_saved_stack_keeps_the_defaults_it_was_built_with(tmp_path, monkeypatch):
    build("8x8x1/conv4x4x3(width=4)/conv2x2x5(width=4)+kl").save(tmp_path)
    written = [level["spec"] for level in files.read_config(tmp_path)["levels"]]
    assert "conv4x4x3(blocks=1, " in written[0]
    assert "conv2x2x5(blocks=0, " in written[1]
    assert written[1].endswith("+gaussian(weight=1)+kl(balance=0, tau=0, warmup=0, weight=1)")
    changed = registry.find("kl").load()
    monkeypatch.setitem(changed.__init__.__kwdefaults__, "weight", 7.0)
    assert build("8x8x1/fc4+kl").level(1).terms["kl"].weight == 7
    loaded = load(tmp_path)
    assert loaded.level(2).terms["kl"].weight == 1
    assert str(loaded.spec) == "8x8x1/conv4x4x3(width=4)/conv2x2x5(width=4)+kl"
    loaded.save(tmp_path / "again")
    assert [level["spec"] for level in files.read_config(tmp_path / "again")["levels"]] == written


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (flip, "sha256"),
        (lambda config, folder: (folder / config["levels"][0]["file"]).unlink(), "missing"),
        (lambda config, folder: config["levels"][0].update(bytes=3), "bytes"),
        (lambda config, folder: config["levels"][0].update(file="../x.safetensors"), "plain name"),
        (lambda config, folder: config["levels"][0].update(file="level.bin"), "never a pickle"),
        (lambda config, folder: config["levels"].pop(), "'spec' has 2 levels, and 'levels' are 1"),
        (lambda config, folder: config.update(format_version=2), "upgrade"),
        (
            lambda config, folder: config.update(spec="8x8x1/conv4x4x2(width=4, blocks=1)/fc4(hidden=[16])+kl"),
            "and 'spec' has conv4x4x2",
        ),
        (
            lambda config, folder: config["levels"][0].update(spec=config["levels"][1]["spec"]),
            "and 'spec' has conv4x4x3",
        ),
        (
            lambda config, folder: config["levels"][0].update(
                spec=config["levels"][0]["spec"].replace("=shuffle", "=transpose")
            ),
            "does not fit its spec",
        ),
        (lambda config, folder: config.update(spec="8x8x1/cnov4x4x2/fc4+kl"), "did you mean"),
        (lambda config, folder: config.update(spec=7), "spec"),
    ],
)
def test_a_damaged_folder_is_refused(tmp_path, change, message):
    build(TINY).save(tmp_path)
    damage(tmp_path, change)
    with pytest.raises(ZooError, match=message):
        load(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1, "a": 2}', '{"a": NaN}', "[" * 100_000])
def test_a_config_that_is_not_ours_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(FileError, match=r"config\.json"):
        load(tmp_path)
    with pytest.raises(FileError, match="no stack"):
        load(tmp_path / "nowhere")


def test_weights_with_nan_are_refused(tmp_path):
    stack = build(TINY)
    with torch.no_grad():
        next(iter(stack.parameters())).fill_(float("nan"))
    stack.save(tmp_path)
    with pytest.raises(FileError, match="NaN"):
        load(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"a": float("nan")})
    with pytest.raises(RuntimeError), files.replacing(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise RuntimeError
    assert files.read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_standardising_gives_unit_scale_and_is_undone_by_decode():
    stack = build("8x8x1/conv4x4x3(width=4)")
    x = torch.rand(200, 1, 8, 8)
    with torch.no_grad():
        before = stack(x)
        level = stack.level(1)
        for _ in range(2):  # a second time composes with the first
            level.finish([Posterior(stack.encode(x) * 3 + 1 if level.shift.any() else stack.encode(x))])
            z = stack.encode(x)
        level.finish([Posterior(z)])
        z = stack.encode(x)
        assert z.mean((0, 2, 3)).numpy() == pytest.approx(0, abs=1e-3)
        assert z.std((0, 2, 3)).numpy() == pytest.approx(1, abs=1e-2)
        assert torch.allclose(stack(x), before, atol=1e-4)


@pytest.mark.parametrize("noise", ["local", "feature"])
def test_draws_of_a_level_with_a_prior_come_to_the_priors_scale(noise):
    level = build(f"8x8x1/conv2x2x3(width=4, noise={noise})+kl").level(1)
    mean = torch.randn(5000, 3, 2, 2) * torch.tensor([3.0, 1.0, 0.0])[:, None, None] + 2
    logvar = torch.tensor([4.0, 0.25, 1.0]).log().expand(5000, 3)
    logvar = logvar[..., None, None].expand(5000, 3, 2, 2) if noise == "local" else logvar
    posterior = Posterior(mean, logvar, noise)
    level.finish([posterior])
    draws = posterior.scaled(level.shift, level.scale).sample()
    assert draws.mean((0, 2, 3)).numpy() == pytest.approx(0, abs=0.03)
    assert draws.std((0, 2, 3)).numpy() == pytest.approx(1, abs=0.03)
    assert level.scale.flatten().numpy() == pytest.approx([13**0.5, 1.25**0.5, 1], rel=0.03)


def test_codes_that_a_term_draws_in_its_own_way_keep_their_scale():
    class Rounding(Regularizer):
        prior = False

        def forward(self, trip):
            return trip.z.sum() * 0

        def draw(self, posterior):
            return posterior.mean.round()

    level = build("8x8x1/fc4").level(1)
    level.terms["rounding"] = Rounding(Place((1, 8, 8), (4,)), 1.0)
    level.finish([Posterior(torch.randn(20, 4) * 7)])
    assert level.scale.eq(1).all()
    assert level.trained


def test_sensitivity_is_the_pixels_derivative_by_feature():
    stack = build("8x8x1/conv4x4x3(width=4)")
    decoder = stack.level(1).stage.decoder
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.zero_()
        decoder.linear.linear.weight[:, :, 0, 0] = torch.diag(torch.tensor([3.0, 1.0, 0.0, 0.0]))[:, :3]
    found = stack.sensitivity(torch.randn(4, 3, 4, 4), 1).flatten()
    expected = torch.tensor([3.0, 1.0, 0.0]) / (10 / 3) ** 0.5
    expected[2] = expected[0] / 100  # a feature that no pixel knows is not divided by nothing
    assert torch.allclose(found, expected, rtol=1e-4)


def test_emphasis_is_seen_by_the_stage_and_the_terms_and_by_nobody_else():
    stack = build("8x8x1/conv4x4x3(width=4)/fc4(hidden=[8])")
    level = stack.level(2)
    with torch.no_grad():
        level.prepare(torch.randn(60, 3, 4, 4), torch.tensor([4.0, 2.0, 1.0]).reshape(3, 1, 1))
        x = torch.randn(5, 3, 4, 4)
        trip = level.round_trip(x)
        assert torch.equal(trip.x, x * level.emphasis)
        assert torch.allclose(trip.x_hat, level.decode(trip.z) * level.emphasis, atol=1e-5)
        assert torch.equal(trip.posterior.mode, level.encode(x).mode)


def test_what_a_killed_process_left_half_written_is_swept_away(tmp_path):
    for name in (".unfinished-ab12-x.json", ".tmp0rwmST", ".tmpfile-of-mine", "kept.json"):
        (tmp_path / name).write_text("")
    files.sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".tmpfile-of-mine", "kept.json"}
