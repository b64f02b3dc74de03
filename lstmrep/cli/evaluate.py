"""``lstmrep eval``: a trained model's numbers beside the baselines, predictions, a gallery; a classifier's accuracy."""

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
    from lstmrep.eval import Report, VideoScores
    from lstmrep.nn import ActionClassifier, FrameClassifier
    from lstmrep.train import Config

    Classifier = ActionClassifier | FrameClassifier

EPILOG = """examples:
  python -m lstmrep eval runs/digits
  python -m lstmrep eval runs/digits --split valid --clips 500 --steps 60
  python -m lstmrep eval runs/digits data.num_digits=3
  python -m lstmrep eval runs/rgb --fuse runs/flow
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
    parser.add_argument(
        "--stride", type=int, default=8, help="features: frames from one window's start to the next's (default 8)"
    )
    parser.add_argument("--out", type=Path, help="folder for numbers and frames (default: RUN/eval-SPLIT)")
    parser.add_argument(
        "--fuse", type=Path, nargs="+", default=[], metavar="RUN", help="classifiers: average with these, by video"
    )
    parser.add_argument("--gallery", type=int, default=8, metavar="N", help="clips in the gallery; 0 writes none")


def run(given: argparse.Namespace) -> int:
    """Evaluate a run."""
    model, config = runs.load_run(given.run)
    trained = config
    config = runs.with_changes("lstmrep eval", config, given.changes)
    if trained is not None and runs.kind_of_data(trained) == runs.kind_of_data(config):
        trained = None
    for name in ("clips", "batch"):
        if getattr(given, name) < 1:
            raise ValueError(f"lstmrep eval: --{name} is {getattr(given, name)}, expected 1 or more.")
    if not isinstance(model, CompositeModel):
        return _classify(model, config, given)
    if given.fuse:
        raise ValueError(f"lstmrep eval: --fuse is for classifiers, and {given.run} holds a {type(model).__name__}.")
    report = evaluate_run(
        model, config, given.split, clips=given.clips, steps=given.steps, batch=given.batch, trained=trained
    )
    print(report.table())
    out = given.out or given.run / f"eval-{given.split}"
    report.save(out)
    print(f"\nsaved     {out}")
    if given.gallery and report.arrays["inputs"].ndim != 5:
        print("gallery   left out: features are no images")
    elif given.gallery:
        print(f"gallery   {write_gallery(out, report, config, given.run, given.gallery)}")
    return 0


def _classify(model: Classifier, config: Config, given: argparse.Namespace) -> int:
    """Accuracy over clips and videos, and of the mean of several classifiers."""
    from lstmrep.eval import fuse

    how = {"clips": given.clips, "stride": given.stride, "batch": given.batch}
    scores = {str(given.run): score_run(model, config, given.split, **how)}
    for other in given.fuse:
        model_there, config_there = runs.load_run(other)
        if isinstance(model_there, CompositeModel) or config_there is None:
            raise ValueError(f"lstmrep eval: --fuse {other} is no run of a classifier.")
        scores[str(other)] = score_run(model_there, config_there, given.split, **how)
    if given.fuse:
        scores["mean of these"] = fuse(list(scores.values()))
    out = given.out or given.run / f"eval-{given.split}"
    found = list(scores.values())[-1]
    for one in list(scores.values())[: len(given.fuse) + 1]:
        print(f"data      {one.description}")
    print(f"videos    {len(found.videos)}, {int((found.windows == 0).sum())} too short for a window")
    width = max(map(len, [*scores, "always the largest class"]))
    print(f"\n{'right, %':{width}}  windows  videos")
    for name, one in scores.items():
        clips = "" if one.clip_accuracy is None else f"{100 * one.clip_accuracy:.1f}"
        print(f"{name:{width}}  {clips:>7}  {100 * one.accuracy:6.1f}")
    print(f"{'always the largest class':{width}}  {'':7}  {100 * found.majority:6.1f}")
    found.save(out)
    print(f"\nsaved     {out}")
    return 0


def score_run(
    model: Classifier, config: Config, split: str, *, clips: int = 1000, stride: int = 8, batch: int = 100
) -> VideoScores:
    """Score a classifier on a split of its configuration's data.

    Args:
        model, split, batch: as of ``lstmrep.eval.score_videos``.
        config: its ``data`` section is used.
        clips: how many, of data without videos.
        stride: of features, frames from one window's start to the next one's, whatever it was in training.
    """
    from lstmrep.eval import score_videos

    changes = {"stride": stride} if config.data.get("name") == "percepts" else {}
    return score_videos(model, runs.make_data(config, split, **changes), clips=clips, batch=batch)


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
