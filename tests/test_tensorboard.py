"""What TensorBoard is given: scalars by level and phase, and images with what came back of them."""

from __future__ import annotations

import errno

import pytest
import torch

from zoo import build, fit

accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


@pytest.mark.parametrize(("channels", "shown"), [(1, True), (3, True), (2, False)])
def test_scalars_and_held_out_images(tmp_path, channels, shown):
    x = torch.rand(64, channels, 4, 6)
    stack = build(f"4x6x{channels}/fc2(hidden=[4])+kl")
    fit(stack, x, steps=4, batch_size=8, out=tmp_path, val=x[:8], log_every=1, progress=False)
    (folder,) = {path.parent for path in tmp_path.glob("logs/**/events.*")}
    found = accumulators.EventAccumulator(str(folder)).Reload()
    tags = found.Tags()
    assert {"level-1/pixels/loss", "level-1/pixels/kl", "level-1/pixels/lr", "level-1/pixels/val_mse"} <= {
        *tags["scalars"]
    }
    assert tags["images"] == (["level-1/pixels/images"] if shown else [])
    if shown:
        events = found.Images("level-1/pixels/images")
        assert [event.step for event in events] == [1, 2, 3, 4]
        assert (events[0].width, events[0].height) == (8 * 6, 8)  # eight in a row, each above its own


def test_a_log_that_cannot_be_written_does_not_end_the_run(tmp_path, monkeypatch, caplog):
    """A full disk reaches TensorBoard's own thread, which raises when it is given the next line."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("accelerate.tracking.TensorBoardTracker.log", full)
    fit(build("8x8x1/fc2"), torch.rand(40, 1, 8, 8), out=tmp_path, steps=3, batch_size=8, log_every=1, progress=False)
    assert (tmp_path / "config.json").is_file()
    (warned,) = [record.message for record in caplog.records if "TensorBoard" in record.message]
    assert "No space left on device" in warned
