"""``lstmrep train``: a configuration in, a run's folder out."""

from __future__ import annotations

import argparse
import dataclasses
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lstmrep.cli import runs
from lstmrep.duration import training_step
from lstmrep.footprint import footprint
from lstmrep.nn import CompositeModel, FrameClassifier

if TYPE_CHECKING:
    from lstmrep.train import Config, Result

EPILOG = """CONFIG is the name of a configuration that comes with the library, a .toml file, or a model file (.pbtxt) of
the paper's released code followed by its data files. A word with '=' changes one setting.

examples:
  python -m lstmrep train mnist_small --out runs/digits
  python -m lstmrep train mnist_1layer --dry-run --card 'H100 SXM'
  python -m lstmrep train mnist_small model.conditional_future=true train.max_iters=5000 --out runs/conditional
  python -m lstmrep train lstm_combo_1layer_mnist.pbtxt bouncing_mnist.pbtxt --dry-run
  python -m lstmrep train --resume --out runs/digits
  torchrun --standalone --nproc-per-node 2 -m lstmrep train mnist_small --out runs/digits"""

# Tensors that an optimizer keeps for each parameter.
STATE = {"adam": 2, "adamw": 2, "rmsprop": 2, "sgd": 1, "velocity_sgd": 1, "velocity_rmsprop": 2}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.epilog = EPILOG
    parser.add_argument("config", nargs="*", metavar="CONFIG | section.setting=value", help="see below")
    parser.add_argument("--out", type=Path, help="folder of the run; without it nothing is written")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, with its configuration")
    parser.add_argument("--measure-memory", action="store_true", help="run one step first and print what torch held")
    parser.add_argument("--dry-run", action="store_true", help="print the configuration, sizes and memory, and stop")
    parser.add_argument("--card", metavar="NAME", help="with --dry-run: modelled GPU hours on a card, as 'H100 SXM'")


def run(given: argparse.Namespace) -> int:
    """Train, or print what would be trained."""
    names = [word for word in given.config if "=" not in word]
    overrides = [word for word in given.config if "=" in word]
    if given.resume and not names:
        if given.out is None:
            raise ValueError("lstmrep train: --resume needs the run's folder; add --out.")
        names = [str(given.out / "config.toml")]
    config, notes = runs.read_config(names, overrides)
    if given.dry_run:
        return _dry_run(config, notes, given.card)
    if given.card is not None:
        raise ValueError("lstmrep train: --card asks for modelled hours and trains nothing; add --dry-run.")
    result = train(config, given.out, resume=given.resume, notes=notes, measure=given.measure_memory)
    return 130 if result.stopped == "interrupted" else 0


def train(
    config: Config, out: Path | None, *, resume: bool = False, notes: list[str] | None = None, measure: bool = False
) -> Result:
    """Train as the configuration says, and leave the model in ``out/model``.

    Args:
        config: the run.
        out: its folder, or none.
        resume: go on with it.
        notes: remarks to print first.
        measure: run a forward and backward pass first and print the bytes that torch held at its peak (CPU only).

    Returns:
        The trainer's result.
    """
    from lstmrep.train import Trainer, load_weights

    first = int(os.environ.get("RANK", "0")) == 0
    data, valid = runs.make_data(config, "train"), None
    if config.train.validate_every:
        valid = runs.make_data(config, "valid")
    config = runs.resolve(config, data)
    # What packages and a batch of data take is there before: the rest is the model's.
    warm = data.batch(range(config.train.batch_size))
    before = _resident()
    del warm
    torch.manual_seed(config.train.seed)
    model = runs.make_model(config)
    if first:
        _announce(model, config, data, notes or [])
        if measure:
            _measure(model, config, data)
    trainer = Trainer(model, data, config, valid=valid, out=out)
    result = trainer.fit(resume=resume)
    if first:
        print(f"memory    {(_peak() - before) / 1e6:,.0f} MB at its highest ({_where(model)})")
    if out is not None and first and result.stopped != "interrupted":
        if result.best_step:
            load_weights(model, out)
            print(f"model     weights of step {result.best_step}, the best validation's")
        model.save_pretrained(out / runs.MODEL)
        print(f"saved     {out / runs.MODEL}; next: python -m lstmrep eval {out}")
    return result


def _announce(model: runs.Model, config: Config, data: Any, notes: list[str]) -> None:
    for note in notes:
        print(f"note      {note}")
    print(f"model     {type(model).__name__}, {sum(p.numel() for p in model.parameters()):,} parameters")
    if "encoder" in config.model:
        how = "kept as it is" if config.model.get("freeze") else "trained on"
        print(f"encoder   that of {config.model['encoder']}, {how}; sizes are its")
    print(f"data      {data.description}")
    said = _memory(model, config, data.num_frames)
    if said:
        print(said)
    sys.stdout.flush()


def _measure(model: runs.Model, config: Config, data: Any) -> None:
    """What a training step holds by torch's record, for comparison with the line before it."""
    from lstmrep.testing.memory import peak_bytes

    if not isinstance(model, CompositeModel) or torch.cuda.is_available():
        raise ValueError(
            "lstmrep train: --measure-memory is for composite models on a machine without CUDA; leave it out."
        )
    made = data.batch(range(config.train.batch_size))
    frames = made[0] if isinstance(made, tuple) else made
    if not model.batch_first:
        frames = frames.transpose(0, 1)

    def step() -> object:
        out = model(frames)
        out.loss.backward()
        return out

    peak = peak_bytes(step)
    model.zero_grad(set_to_none=True)
    parameters = sum(p.numel() * p.element_size() for p in model.parameters())
    optimizer = _state_tensors(config) * parameters
    print(f"measured  {(parameters + peak + optimizer) / 1e6:,.0f} MB: gradients and kept values {peak / 1e6:,.0f} MB")


def _state_tensors(config: Config) -> int:
    plain = config.optimizer.name == "sgd" and not config.optimizer.momentum
    return 0 if plain else STATE[config.optimizer.name]


def _memory(model: runs.Model, config: Config, frames: int) -> str:
    if isinstance(model, FrameClassifier):
        return ""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    return footprint(model, -(-config.train.batch_size // world), frames, _state_tensors(config)).describe()


def _dry_run(config: Config, notes: list[str], card: str | None) -> int:
    settings = config.model
    data = None
    if "preset" not in settings and "input_size" not in settings:
        data = runs.make_data(config, "train")
    config = runs.resolve(config, data)
    model = runs.make_model(config, device="meta")
    for note in notes:
        print(f"note      {note}")
    print(f"model     {type(model).__name__}, {sum(p.numel() for p in model.parameters()):,} parameters")
    frames = config.data.get("num_frames", 20)
    said = _memory(model, config, frames)
    if said:
        print(said)
    if card is not None:
        if isinstance(model, FrameClassifier):
            raise ValueError("lstmrep train: --card is for models with an LSTM.")
        dtype = "float32" if config.train.amp == "none" else config.train.amp
        tensors = _state_tensors(config)
        made = training_step(model, config.train.batch_size, frames, card, dtype=dtype, optimizer_tensors=tensors)
        print(made.describe(config.train.max_iters))
    print()
    print(dataclasses.replace(config).to_toml(), end="")
    return 0


def _where(model: runs.Model) -> str:
    return "of the GPU" if next(model.parameters()).is_cuda else "of the process, beyond what it held at the start"


def _resident() -> int:
    """Bytes that the process holds now; nothing on a GPU, whose count starts at zero."""
    if torch.cuda.is_available():
        return 0
    with Path("/proc/self/statm").open() as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def _peak() -> int:
    """The most bytes it has held."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
