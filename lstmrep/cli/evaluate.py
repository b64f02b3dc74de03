"""``lstmrep eval``: the numbers of a trained model beside the baselines, its predictions, a gallery."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from lstmrep.cli import runs
from lstmrep.nn import CompositeModel

if TYPE_CHECKING:
    from lstmrep.data import ClipDataset
    from lstmrep.eval import Report
    from lstmrep.train import Config

EPILOG = """examples:
  python -m lstmrep eval runs/digits
  python -m lstmrep eval runs/digits --split valid --clips 500 --steps 60
  python -m lstmrep eval runs/digits data.num_digits=3
  python -m lstmrep eval runs/digits data.name=sequence_file data.path=mnist_test_seq.npy --clips 10000

Another data.name puts the run's data settings aside; the mean frame is still that of the data trained on."""
MEAN_CLIPS = 1000
KEEP = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.epilog = EPILOG
    parser.add_argument("run", type=Path, help="folder of a run, or of save_pretrained")
    parser.add_argument("changes", nargs="*", metavar="data.setting=value", help="evaluate on other data")
    parser.add_argument("--split", default="test", help="train, valid or test (default)")
    parser.add_argument("--clips", type=int, default=1000, help="clips to score (default 1000)")
    parser.add_argument("--steps", type=int, help="future frames to predict (default: as trained)")
    parser.add_argument("--batch", type=int, default=100, help="clips at a time (default 100)")
    parser.add_argument("--out", type=Path, help="folder for numbers and frames (default: RUN/eval-SPLIT)")
    parser.add_argument("--gallery", type=int, default=8, metavar="N", help="clips in the gallery; 0 writes none")


def run(given: argparse.Namespace) -> int:
    """Evaluate a run."""
    model, config = runs.load_run(given.run)
    if not isinstance(model, CompositeModel):
        raise ValueError(f"lstmrep eval: {given.run} holds a {type(model).__name__}; eval scores predicted frames.")
    trained = config
    config = _with_changes(config, given.changes)
    if trained is not None and _kind(trained) == _kind(config):
        trained = None
    for name in ("clips", "batch"):
        if getattr(given, name) < 1:
            raise ValueError(f"lstmrep eval: --{name} is {getattr(given, name)}, expected 1 or more.")
    report = evaluate_run(
        model, config, given.split, clips=given.clips, steps=given.steps, batch=given.batch, trained=trained
    )
    print(report.table())
    out = given.out or given.run / f"eval-{given.split}"
    report.save(out)
    print(f"\nsaved     {out}")
    if given.gallery:
        print(f"gallery   {write_gallery(out, report, config, given.run, given.gallery)}")
    return 0


def evaluate_run(
    model: CompositeModel,
    config: Config,
    split: str,
    *,
    clips: int = 1000,
    steps: int | None = None,
    batch: int = 100,
    trained: Config | None = None,
) -> Report:
    """Score a model on a split of its configuration's data, with the mean frame of the training data beside.

    Args:
        model: the model.
        config: its ``data`` section is used.
        split: ``"train"``, ``"valid"`` or ``"test"``.
        clips: how many, the first ones.
        steps: future frames, more than trained if wished; clips are made longer for it.
        batch: clips at a time.
        trained: whose training data gives the mean frame, where ``config`` is of other data. Default: ``config``.
    """
    from lstmrep.eval import evaluate, mean_frame

    train = runs.make_data(trained or config, "train")
    data = runs.make_data(config, split)
    if steps is not None and steps > model.config.predict and data.infinite:
        data = runs.make_data(config, split, num_frames=data.num_frames - model.config.predict + steps)
    squash = model.config.squash if model.config.output == "squash" else None
    mean = mean_frame(batches(train, MEAN_CLIPS, batch), squash=squash)
    return evaluate(model, batches(data, clips, batch), steps=steps, mean=mean, keep=KEEP, description=data.description)


def batches(data: ClipDataset, clips: int, batch: int) -> Iterator[Tensor]:
    """The first ``clips`` clips of a dataset, or all where it has fewer."""
    end = clips if data.infinite else min(clips, len(data))
    for start in range(0, end, batch):
        made = data.batch(range(start, min(start + batch, end)))
        yield made if isinstance(made, Tensor) else made[0]


def write_gallery(out: Path, report: Report, config: Config, folder: Path, clips: int) -> Path:
    """The page of an evaluation, with the run's training curve where there is one."""
    from lstmrep.train import read_history
    from lstmrep.viz import gallery

    training = {}
    if (folder / "history.jsonl").is_file():
        records = read_history(folder / "history.jsonl")
        names = {"future_loss": "training", "valid_future_loss": "validation, free-running"}
        for name, title in names.items():
            points = [(r["step"], r[name]) for r in records if name in r]
            if points:
                training[title] = ([p[0] for p in points], [p[1] for p in points])
    settings = {f"{section}.{k}": v for section, table in config.to_dict().items() for k, v in table.items()}
    return gallery(out, report, clips=clips, training=training or None, settings=settings, scale=4)


def _with_changes(config: Config | None, changes: list[str]) -> Config:
    from lstmrep.train import config as configs

    for change in changes:
        if not change.startswith("data.") or "=" not in change:
            raise ValueError(f"lstmrep eval: '{change}' is not of the form data.setting=value.")
    if config is None and not changes:
        raise ValueError(
            "lstmrep eval: the folder has no config.toml and so no data; name some, as in data.source=sklearn."
        )
    tables = {} if config is None else config.to_dict()
    changed = configs.with_overrides(tables, changes)
    if config is not None and _kind(changed) != _kind(config):
        return configs.with_overrides({**tables, "data": {}}, changes)
    return changed


def _kind(config: Config) -> str:
    """Which data; settings of one kind mean nothing to another."""
    return str(config.data.get("name", "moving_mnist"))
