"""What the training tests train: a small module with parts that draw, data by index, processes to be killed."""

import os
import signal
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from lstmrep.train import Config, OptimizerConfig, TrainConfig, Trainer

T, D = 4, 3


class Small(nn.Module):
    """Predicts frames from the first one; draws dropout masks, and for each frame whether it is told the truth."""

    def __init__(self, dropout: float = 0.5, hidden: int = 8, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.config = SimpleNamespace(conditional_future=True, feeding="scheduled")
        self.teacher_probability = 0.5
        self.inner = nn.Linear(D, hidden, dtype=dtype)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, D, dtype=dtype)

    def forward(self, frames: Tensor, *, feeding: str | None = None) -> SimpleNamespace:
        x, losses = frames[:, 0], []
        for t in range(1, frames.shape[1]):
            y = self.head(self.drop(self.inner(x).tanh()))
            losses.append((y - frames[:, t]).square().sum() / len(y))
            told = (
                torch.rand(len(y), 1) < self.teacher_probability if self.training else torch.tensor(feeding is not None)
            )
            x = torch.where(told, frames[:, t], y)
        first, rest = losses[0], torch.stack(losses[1:]).mean()
        return SimpleNamespace(loss=first + rest, reconstruction_loss=first, future_loss=rest)


class Classifier(nn.Module):
    """A softmax over the mean frame."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.head = nn.Linear(D, classes)

    def forward(self, frames: Tensor, labels: Tensor) -> SimpleNamespace:
        logits = self.head(frames.mean(1))
        return SimpleNamespace(
            loss=nn.functional.cross_entropy(logits, labels), logits=logits, probabilities=logits.softmax(-1)
        )


class Endless:
    """Sequence i is a function of i; ``at`` runs something when a batch with that index is made."""

    infinite = True

    def __init__(self, dtype: torch.dtype = torch.float32, at: dict | None = None) -> None:
        self.dtype, self.at = dtype, at or {}

    def __len__(self) -> int:
        return 40

    def batch(self, indices: list[int]) -> Tensor:
        phase = torch.tensor(indices, dtype=torch.float32)[:, None, None]
        place = torch.arange(T * D, dtype=torch.float32).view(T, D)
        frames = torch.sin(phase * 0.7 + place).to(self.dtype)
        for index in indices:
            frames = self.at[index](frames) if index in self.at else frames
        return frames

    def __getitem__(self, index: int) -> Tensor:
        return self.batch([index])[0]


def small(seed: int = 1, **options) -> Small:
    torch.manual_seed(seed)
    return Small(**options)


def config(steps: int, optimizer: str = "adam", lr: float = 0.01, **train) -> Config:
    settings = {"batch_size": 4, "print_every": 1, "validate_every": 0, "save_every": 0, "device": "cpu"}
    return Config(
        optimizer=OptimizerConfig(name=optimizer, lr=lr), train=TrainConfig(max_iters=steps, **{**settings, **train})
    )


def same_parameters(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def killed_run(out: Path | None) -> tuple[Trainer, nn.Module]:
    """The run of the kill test: writes often, so that a random moment often falls into a write."""
    model = small()
    settings = config(300, save_every=3, validate_every=50, validation_batches=1, keep_checkpoints=2)
    return Trainer(model, Endless(), settings, valid=Endless(), out=out, progress=False), model


def processes() -> BaseContext:
    """Starts processes in milliseconds: they are forked from one that has imported everything."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["lstmrep.train", "safetensors.torch", "torch._dynamo"])
    return context


def go_on(out: Path, ready: Connection, at_first_batch: bool) -> None:
    """A process that goes on with the run of the kill test; says when it starts, or when it asks for a batch."""
    torch.set_num_threads(1)
    trainer, _ = killed_run(out)
    if at_first_batch:
        real, told = trainer.data.batch, []

        def batch(indices: list[int]) -> Tensor:
            if not told:
                told.append(ready.send(True))
            return real(indices)

        trainer.data.batch = batch
    else:
        ready.send(True)
    trainer.fit(resume=True)


def die_in_write(out: Path, point: str) -> None:
    """A process that is killed in the middle of its second checkpoint, at a call of the writer."""
    torch.set_num_threads(1)
    trainer, calls = killed_run(out)[0], {"n": 0}
    real = getattr(os, point)

    def last(*args: object) -> object:
        calls["n"] += 1
        # Each checkpoint syncs the history, syncs its own file, and is renamed; config.toml before does the latter two.
        if calls["n"] == {"replace": 3, "fsync": 5, "unlink": 4}[point]:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args)

    setattr(os, point, last)
    trainer.fit()
