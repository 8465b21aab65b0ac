"""Errors, components, JPEG and classifiers, each against its formula or a case whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ramps import SIZE, Elsewhere, some_images

from zoo.errors import EvaluationError
from zoo.evaluation import compression, pca, representation
from zoo.evaluation.checkerboard import checkerboard
from zoo.evaluation.reconstruction import compare, score


def test_errors_are_those_of_the_formulas() -> None:
    shown = some_images(6, channels=3)
    x = shown.batch(slice(0, 6))
    x_hat = (x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    found = score(shown, lambda part: x_hat[part], batch_size=4)
    a, b = x.numpy().astype(float), x_hat.numpy().astype(float)
    each = ((a - b) ** 2).mean((1, 2, 3))
    assert found["mse"] == pytest.approx(each.mean())
    assert found["mae"] == pytest.approx(np.abs(a - b).mean())
    assert found["psnr"] == pytest.approx(-10 * np.log10(each.mean()))
    assert found["psnr_of_images"] == pytest.approx((-10 * np.log10(each)).mean())
    assert found["psnr"] != pytest.approx(found["psnr_of_images"], abs=1e-4)


def test_errors_of_what_is_on_a_device_without_float64() -> None:
    x, x_hat = torch.rand(2, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found, wanted = (compare(x, back, ssim=False) for back in (x_hat.as_subclass(Elsewhere), x_hat))
    for name in ("mse", "mae"):
        assert torch.equal(found[name], wanted[name])
    page = x_hat.expand(-1, -1, 8, 8)
    assert checkerboard(page.as_subclass(Elsewhere), (2, 2)) == checkerboard(page, (2, 2))


def test_ssim_is_that_of_a_loop_over_windows() -> None:
    x, x_hat = torch.rand(2, 2, 2, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    found = compare(x, x_hat, ssim=True)["ssim"]
    weights = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(weights, weights) / weights.sum() ** 2
    for image, other, value in zip(x.double().numpy(), x_hat.double().numpy(), found, strict=True):
        maps = []
        for channel, other_channel in zip(image, other, strict=True):
            a, b = np.pad(channel, 5, mode="reflect"), np.pad(other_channel, 5, mode="reflect")
            for i, j in np.ndindex(SIZE, SIZE):
                p, q = a[i : i + 11, j : j + 11], b[i : i + 11, j : j + 11]
                mean_p, mean_q = (window * p).sum(), (window * q).sum()
                var_p, var_q = (window * p * p).sum() - mean_p**2, (window * q * q).sum() - mean_q**2
                both = (window * p * q).sum() - mean_p * mean_q
                top = (2 * mean_p * mean_q + 0.01**2) * (2 * both + 0.03**2)
                maps.append(top / ((mean_p**2 + mean_q**2 + 0.01**2) * (var_p + var_q + 0.03**2)))
        assert value.item() == pytest.approx(np.mean(maps), abs=1e-5)


def test_what_comes_back_exactly_scores_a_hundred_decibels_and_small_images_have_no_ssim() -> None:
    shown = some_images(4)
    found = score(shown, shown.batch, batch_size=3)
    assert (found["mse"], found["psnr"], found["psnr_of_images"]) == (0, 100, 100)
    assert found["ssim"] == pytest.approx(1)
    small = some_images(4, size=10)
    assert score(small, small.batch, batch_size=3)["ssim"] is None


def test_components_are_those_of_a_singular_value_decomposition() -> None:
    x = some_images(50).batch(slice(0, 50))
    model = pca.fit(x, (6,), seed=0)
    rows = x.flatten(1).double().numpy()
    mean = rows.mean(0)
    _, _, v = np.linalg.svd(rows - mean, full_matrices=False)
    expected = (rows - mean) @ v[:6].T @ v[:6] + mean
    assert np.allclose(model.decode(model.encode(x)).flatten(1).numpy(), expected, atol=1e-4)


def test_projected_components_are_as_good_as_exact_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    x = some_images(200).batch(slice(0, 200))
    exact = pca.fit(x, (6,), seed=0)
    monkeypatch.setattr(pca, "EXACT", 0)
    projected = pca.fit(x, (6,), seed=0)
    assert projected.describe()["solver"] == "randomized"
    errors = [(model.decode(model.encode(x)) - x).square().mean().item() for model in (exact, projected)]
    assert errors[1] == pytest.approx(errors[0], rel=1e-3)


def test_patches_coded_in_as_many_numbers_as_they_have_are_perfect() -> None:
    x = torch.rand(40, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    model = pca.fit(x, (18, 2, 4), seed=0)
    assert model.patch == (3, 2)
    z = model.encode(x)
    assert z.shape == (40, 18, 2, 4)
    assert torch.allclose(model.decode(z), x, atol=1e-4)
    one_pixel = torch.zeros(1, 3, 6, 8)
    one_pixel[0, :, 4, 7] = 1  # lies in the patch of the second row and the fourth column
    moved = (model.encode(one_pixel) - model.encode(torch.zeros(1, 3, 6, 8))).abs().sum(1)[0]
    assert moved.nonzero().tolist() == [[1, 3]]


@pytest.mark.parametrize(
    ("code_shape", "reason"),
    [((17, 3, 3), "more than the components there are"), ((60,), "more than 50 rows")],
)
def test_no_components_where_there_are_too_few(code_shape: tuple[int, ...], reason: str) -> None:
    with pytest.raises(EvaluationError, match=reason):
        pca.fit(some_images(50).batch(slice(0, 50)), code_shape, seed=0)


def test_a_code_whose_pixels_stand_over_no_patch_is_met_by_components_of_whole_inputs() -> None:
    x = some_images(50).batch(slice(0, 50))
    model = pca.fit(x, (1, 5, 5), seed=0)
    assert model.patch is None
    assert model.encode(x).shape == (50, 1, 5, 5)
    assert model.decode(model.encode(x)).shape == x.shape


def test_neighbours_and_probe_tell_blobs_apart_and_noise_not() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    centres = torch.tensor([[0.0, 9], [9, 0], [0, 0]])
    blobs = centres[labels] + torch.randn(300, 2, generator=generator)
    found = representation.classify((blobs[:200], labels[:200]), (blobs[200:], labels[200:]), seed=0)
    assert (found["knn"], found["probe"], found["probe_converged"], found["numbers_used"]) == (1, 1, True, 2)
    noise = torch.randn(300, 2, generator=generator)
    found = representation.classify((noise[:200], labels[:200]), (noise[200:], labels[200:]), seed=0)
    assert 0.2 < found["knn"] < 0.5
    assert 0.2 < found["probe"] < 0.5


def test_neighbours_take_codes_as_they_are_and_components_at_their_best_scale() -> None:
    labels = torch.arange(100) % 2
    generator = torch.Generator().manual_seed(0)
    loud, quiet = 100 * torch.randn(100, generator=generator), labels.float()
    codes = torch.stack([loud, quiet], 1)  # the label is plain to see once the features are standardised
    sets = (codes[:60], labels[:60]), (codes[60:], labels[60:])
    found = representation.classify(*sets, seed=0)
    assert found["probe"] == 1
    assert found["knn"] < 0.8
    assert representation.classify(*sets, seed=0, own_scale=False)["knn"] > 0.95


def test_wide_codes_are_narrowed() -> None:
    z = torch.randn(3, 64, 8, 8, generator=torch.Generator().manual_seed(0))
    blocks = z.reshape(3, 64, 2, 4, 2, 4).mean((3, 5))
    assert torch.allclose(representation.narrow(z, seed=0), blocks.flatten(1), atol=1e-6)
    assert representation.narrow(z[:, :4, :4, :4], seed=0).shape == (3, 64)
    wide = torch.randn(3, 4000, generator=torch.Generator().manual_seed(0))
    narrowed = representation.narrow(wide, seed=0)
    assert narrowed.shape == (3, 512)
    assert torch.equal(narrowed, representation.narrow(wide, seed=0))
    assert torch.pdist(narrowed) == pytest.approx(torch.pdist(wide), rel=0.2)


def test_one_class_is_nothing_to_tell_apart() -> None:
    same = torch.zeros(10, dtype=torch.int64)
    with pytest.raises(EvaluationError, match="too few to tell apart"):
        representation.classify((torch.rand(10, 2), same), (torch.rand(10, 2), same), seed=0)


def test_quantised_codes_move_by_half_a_step_at_most() -> None:
    z = (
        torch.randn(50, 4, 3, 3, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1.0, 10, 0.1, 0])[:, None, None]
    )
    moved = (compression.as_uint8(z) - z).abs().amax((0, 2, 3))
    step = (z.amax((0, 2, 3)) - z.amin((0, 2, 3))) / 255
    assert (moved <= step / 2 * 1.001 + 1e-6).all()
    assert (moved[:3] > step[:3] / 4).all()
    assert all(len(channel.unique()) <= 256 for channel in compression.as_uint8(z).transpose(0, 1))
    assert (compression.as_float16(z) - z).abs().max() <= z.abs().max() / 2048
    assert compression.as_float16(torch.tensor([1e9])).isfinite().all()


def test_jpeg_is_the_best_that_fits() -> None:
    shown = some_images(8, channels=3, size=32)
    found = compression.jpeg_below(shown, 600, batch_size=4, seed=0)
    assert found["fits"]
    assert found["bytes"] <= 600
    assert 1 < found["quality"] < 100
    better = compression._encode(shown, found["quality"] + 1)
    assert compression._mean_size(better) > 600
    assert found["mse"] < compression.jpeg_below(shown, 450, batch_size=4, seed=0)["mse"] < 0.01


def test_a_code_smaller_than_any_jpeg_is_set_beside_the_smallest() -> None:
    found = compression.jpeg_below(some_images(4, size=16), 8, batch_size=4, seed=0)
    assert (found["fits"], found["quality"]) == (False, 1)
    assert found["bytes"] > 100
