"""One VAE in three trainers: steps in turn, or the peak memory of one of them."""

from __future__ import annotations

import io
import json
import logging
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch

import zoo
from benchmarks.beside.networks import SHAPES, loss, stack, vae
from benchmarks.peak import watched
from benchmarks.stepping import step_of, stepping
from zoo.data import images
from zoo.training import looks

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

LR = 1e-3
BATCH = {28: 128, 64: 32}
STEPS = {28: 20, 64: 10}
TURNS, HELD = 3, 200


def in_pythae(model: Any, data: Tensor, batch_size: int, *, epochs: int = 1) -> None:
    """Train for so many epochs with pythae's trainer; the model is then that of the last."""
    from pythae.data.datasets import BaseDataset
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    with tempfile.TemporaryDirectory() as out:
        config = BaseTrainerConfig(
            output_dir=out,
            num_epochs=epochs,
            learning_rate=LR,
            per_device_train_batch_size=batch_size,
            no_cuda=not torch.cuda.is_available(),
        )
        trainer = BaseTrainer(model, BaseDataset(data, torch.zeros(len(data))), training_config=config)
        trainer.train()


def in_lightning(model: Any, data: Tensor, batch_size: int) -> None:
    """Train for one epoch as a module of Lightning."""
    import lightning
    from torch.utils.data import DataLoader, TensorDataset

    class Module(lightning.LightningModule):  # type: ignore[misc]  # Any where it is not installed
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: list[Tensor], _: int) -> Tensor:
            found: Tensor = self.model({"data": batch[0]}).loss
            self.log("loss", found)
            return found

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.model.parameters(), lr=LR)

    loader = DataLoader(TensorDataset(data), batch_size=batch_size, shuffle=True)
    with tempfile.TemporaryDirectory() as out:
        lightning.Trainer(max_epochs=1, default_root_dir=out).fit(Module(), loader)


def in_zoo(model: Any, data: Tensor, batch_size: int, *, precision: str = "auto") -> None:
    """Train for as many steps with ``zoo.fit``, one validation on few images included."""
    side = data.shape[-1]
    held = images(data[:16], SHAPES[side])
    with patch.object(looks, "VALIDATIONS", 1):
        zoo.fit(stack(side, model), images(data, SHAPES[side]), val=held, batch_size=batch_size, lr=LR,
                steps=len(data) // batch_size, precision=precision, progress=False)  # fmt: skip


TRAINERS: dict[str, Callable[[Any, Tensor, int], None]] = {
    "pythae": in_pythae,
    "lightning": in_lightning,
    "zoo": in_zoo,
    "zoo fp32": lambda model, data, batch_size: in_zoo(model, data, batch_size, precision="fp32"),
}


def turns(side: int) -> None:
    """Say for every turn, the first left out, what a step took in each trainer and what loss it came to."""
    data, held = _data(side)
    for turn in range(TURNS + 1):
        found = {name: _measured(name, side, data, held, seed=turn) for name in TRAINERS}
        if turn:
            print(json.dumps(found), flush=True)


def _measured(name: str, side: int, data: Tensor, held: Tensor, *, seed: int) -> dict[str, float]:
    torch.manual_seed(seed)
    model = vae(side)
    with stepping() as moments, redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        TRAINERS[name](model, data, BATCH[side])
    if len(moments) != STEPS[side]:
        raise RuntimeError(f"{name} took {len(moments)} steps")
    step = step_of(moments)
    return {"images": BATCH[side], "wall": step.wall, "processor": step.processor, "loss": loss(model.cpu(), held)}


def peak(side: int, trainer: str) -> None:
    """Say how much memory one trainer holds at most."""
    data, _ = _data(side)
    torch.manual_seed(0)  # some starts of this network explode in its first step
    with watched() as most, redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        TRAINERS[trainer](vae(side), data[: 3 * BATCH[side]], BATCH[side])
    print(json.dumps({"trainer": trainer, "bytes": most[0]}))


def _data(side: int) -> tuple[Tensor, Tensor]:
    """The bundled images in this shape, to learn from and to measure by, in [0, 1]."""
    train, test = (images("sample", SHAPES[28], split=split) for split in ("train", "test"))
    count = STEPS[side] * BATCH[side]
    kept, held = train.subset(slice(0, count)), test.subset(slice(0, HELD))
    found = [images(part.pixels, SHAPES[side]).batch(slice(0, len(part))) for part in (kept, held)]
    return found[0], found[1]


if __name__ == "__main__":
    logging.disable(logging.INFO)
    work, of, *rest = sys.argv[1:]
    if work == "turns":
        turns(int(of))
    else:
        peak(int(of), *rest)
