"""``lstmrep figures``: the figures of the paper from trained models, each as pictures and the numbers behind them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lstmrep.cli import evaluate, runs
from lstmrep.nn import CompositeModel

if TYPE_CHECKING:
    from lstmrep.data import ClipDataset
    from lstmrep.figures import Figure
    from lstmrep.train import Config

WHO = "lstmrep figures"
EPILOG = """RUN is a folder that lstmrep train wrote; LABEL=RUN names a model where several are compared. A word
data.setting=value takes other data than the run's. The clips are those from number SEED * CLIPS on.

examples:
  python -m lstmrep figures filmstrip --checkpoint one=runs/one --checkpoint two=runs/two --out figures
  python -m lstmrep figures gates --checkpoint runs/one --steps 100 --units 200 --out figures
  python -m lstmrep figures rollout --checkpoint runs/one --steps 100 --out figures data.step=0.05
  python -m lstmrep figures digits --checkpoint runs/one --digits 1 2 3 --out figures
  python -m lstmrep figures input_features --checkpoint runs/one --top 200 --out figures
  python -m lstmrep figures output_features --checkpoint runs/one --out figures
  python -m lstmrep figures comparison --checkpoint one=runs/one --checkpoint two=runs/two --out figures
  python -m lstmrep figures labels --results scratch.csv composite.csv --out figures"""
BATCH = 100
MOVING = "moving_mnist"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments: a command of its own for each figure."""
    parser.epilog = EPILOG
    names = parser.add_subparsers(dest="figure", metavar="NAME", required=True)
    for name, (_, summary, arguments) in FIGURES.items():
        made = names.add_parser(name, help=summary, description=summary)
        made.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the files go")
        arguments(made)


def run(given: argparse.Namespace) -> int:
    """Draw one figure, print its files and what it shows."""
    for name in ("clips", "scale"):
        if getattr(given, name, 1) < 1:
            raise ValueError(f"{WHO}: --{name} is {getattr(given, name)}, expected 1 or more.")
    if getattr(given, "seed", 0) < 0:
        raise ValueError(f"{WHO}: --seed is {given.seed}, expected 0 or more.")
    figure = FIGURES[given.figure][0](given)
    for line in figure.found:
        print(line)
    for path in figure.paths:
        print(f"saved     {path}")
    return 0


# --- Arguments.


def _of_clips(parser: argparse.ArgumentParser, clips: int, several: bool = False) -> None:
    if several:
        parser.add_argument(
            "--checkpoint", action="append", required=True, metavar="[LABEL=]RUN", help="folder of a run; repeat it"
        )
    else:
        parser.add_argument("--checkpoint", required=True, metavar="RUN", help="folder of a run")
    parser.add_argument("changes", nargs="*", metavar="data.setting=value", help="take other data")
    parser.add_argument("--split", default="test", help="train, valid or test (default)")
    parser.add_argument("--clips", type=int, default=clips, help=f"clips (default {clips})")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn; clips from SEED * CLIPS on (0)")


def _scale(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scale", type=int, default=2, help="pixels of a value's square (default 2)")


def _filmstrip_arguments(parser: argparse.ArgumentParser) -> None:
    _of_clips(parser, 4, several=True)
    parser.add_argument("--steps", type=int, help="future frames (default: as trained)")
    _scale(parser)


def _gates_arguments(parser: argparse.ArgumentParser) -> None:
    _of_clips(parser, 20)
    parser.add_argument("--steps", type=int, default=100, help="steps of the roll-out (default 100)")
    parser.add_argument("--units", type=int, default=200, help="units drawn at random (default 200)")
    parser.add_argument("--layer", type=int, default=-1, help="layer of the predictor, from 0 (default: the top one)")


def _rollout_arguments(parser: argparse.ArgumentParser) -> None:
    _of_clips(parser, 200)
    parser.add_argument("--steps", type=int, default=60, help="future frames (default 60)")
    parser.add_argument("--every", type=int, default=5, metavar="K", help="show every K-th frame (default 5)")
    parser.add_argument("--shown", type=int, default=4, help="clips in the picture (default 4)")
    _scale(parser)


def _digits_arguments(parser: argparse.ArgumentParser) -> None:
    _of_clips(parser, 200)
    parser.add_argument("--digits", type=int, nargs="+", default=[1, 2, 3], help="numbers of digits (default 1 2 3)")
    parser.add_argument("--shown", type=int, default=2, help="clips of each number in the picture (default 2)")
    _scale(parser)


def _features_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", required=True, metavar="RUN", help="folder of a run")
    parser.add_argument("changes", nargs="*", metavar="data.setting=value", help="for a folder without config.toml")
    parser.add_argument("--top", type=int, default=200, help="units of each block, by their norm (default 200)")
    parser.add_argument("--columns", type=int, default=20, help="tiles in a row (default 20)")
    _scale(parser)


def _comparison_arguments(parser: argparse.ArgumentParser) -> None:
    _of_clips(parser, 1000, several=True)


def _labels_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--results",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="CSV with task,encoder,labels,resampling,accuracy",
    )


# --- Figures.


def _filmstrip(given: argparse.Namespace) -> Figure:
    from lstmrep.figures import filmstrip

    models, configs = _several(given)
    longest = max(model.config.predict for model in models.values())
    steps = longest if given.steps is None else given.steps
    frames = _frames_in_common(models, configs, given.split) + steps
    data = _same_data(configs, given.split, frames)
    return filmstrip(models, _clips(data, given), given.out, steps=given.steps, scale=given.scale)


def _gates(given: argparse.Namespace) -> Figure:
    from lstmrep.figures import gates

    model, config = _one(given)
    clips = _clips(runs.make_data(config, given.split), given)
    return gates(
        model,
        clips[:, : clips.shape[1] - model.config.predict],
        given.out,
        steps=given.steps,
        units=given.units,
        layer=given.layer,
        seed=given.seed,
        init=config.model.get("init"),
    )


def _rollout(given: argparse.Namespace) -> Figure:
    from lstmrep.figures import rollout

    model, config = _one(given)
    data = runs.make_data(config, given.split)
    if data.infinite:
        # As long as is asked for: the same clips, going on.
        frames = data.num_frames - model.config.predict + given.steps
        data = runs.make_data(config, given.split, num_frames=frames)
    return rollout(
        model,
        _clips(data, given),
        given.out,
        steps=given.steps,
        every=given.every,
        shown=given.shown,
        mean=_mean(config, model),
        scale=given.scale,
    )


def _digits(given: argparse.Namespace) -> Figure:
    from lstmrep.figures import digits

    model, config = _one(given)
    name = config.data.get("name", MOVING)
    if name != MOVING:
        raise ValueError(f"{WHO} digits: the data are {name}; only {MOVING} has a number of digits to change.")
    own = runs.run_config(given.checkpoint)
    seen = (own or config).data.get("num_digits", 2)
    trained = (seen, seen) if isinstance(seen, int) else tuple(seen)
    clips, means = {}, {}
    for n in given.digits:
        clips[n] = _clips(runs.make_data(config, given.split, num_digits=n), given)
        means[n] = _mean(config, model, num_digits=n)
    return digits(model, clips, given.out, means=means, trained=trained, shown=given.shown, scale=given.scale)


def _features(given: argparse.Namespace) -> Figure:
    from lstmrep import figures

    model, config = _one(given)
    draw = getattr(figures, given.figure)
    frame = runs.make_data(config, "train").frame_shape
    made: Figure = draw(model, given.out, frame, top=given.top, columns=given.columns, scale=given.scale)
    return made


def _comparison(given: argparse.Namespace) -> Figure:
    from lstmrep.figures import comparison

    models, configs = _several(given)
    predict = max(model.config.predict for model in models.values())
    data = _same_data(configs, given.split, _frames_in_common(models, configs, given.split) + predict)
    mean = _mean(next(iter(configs.values())), next(iter(models.values())))
    figure = comparison(models, _Batches(data, given), given.out, mean=mean)
    figure.found.append(data.description)
    return figure


def _labels(given: argparse.Namespace) -> Figure:
    from lstmrep.figures import labels

    return labels(given.results, given.out)


# --- Models and data.


def _load(run_folder: str, changes: list[str]) -> tuple[CompositeModel, Config]:
    model, config = runs.load_run(run_folder)
    if not isinstance(model, CompositeModel):
        raise ValueError(f"{WHO}: {run_folder} holds a {type(model).__name__}; figures are of composite models.")
    return model, runs.with_changes(WHO, config, changes)


def _one(given: argparse.Namespace) -> tuple[CompositeModel, Config]:
    return _load(given.checkpoint, given.changes)


def _several(given: argparse.Namespace) -> tuple[dict[str, CompositeModel], dict[str, Config]]:
    models, configs = {}, {}
    for word in given.checkpoint:
        label, equals, folder = word.partition("=")
        if not equals or Path(word).is_dir():
            label, folder = Path(word).name, word
        if label in models:
            raise ValueError(f"{WHO}: two models are called '{label}'; pass --checkpoint LABEL=RUN.")
        models[label], configs[label] = _load(folder, given.changes)
    return models, configs


def _frames_in_common(models: dict[str, CompositeModel], configs: dict[str, Config], split: str) -> int:
    """How many frames the models read: a run's clips without those that it predicts."""
    read = {label: runs.make_data(configs[label], split).num_frames - models[label].config.predict for label in models}
    (first, one), *others = read.items()
    for label, other in others:
        if other != one:
            raise ValueError(
                f"{WHO}: '{first}' reads {one} frames and '{label}' {other}; compare models that read alike."
            )
    return one


def _same_data(configs: dict[str, Config], split: str, frames: int) -> ClipDataset:
    """The data of all runs, clips of this length; refused where they differ."""
    made = {}
    for label, config in configs.items():
        data = runs.make_data(config, split)
        made[label] = runs.make_data(config, split, num_frames=frames) if data.infinite else data
    (first, one), *others = made.items()
    for label, other in others:
        if other.description != one.description:
            raise ValueError(
                f"{WHO}: '{first}' and '{label}' have different data ({one.description} against {other.description}); "
                "name common data with data.setting=value."
            )
    return one


def _indices(data: ClipDataset, given: argparse.Namespace) -> list[int]:
    """Clips from number SEED * CLIPS on; a finite set goes round, and gives no clip twice."""
    first, count = given.seed * given.clips, given.clips
    if data.infinite:
        return list(range(first, first + count))
    return [(first + k) % len(data) for k in range(min(count, len(data)))]


class _Batches:
    """The clips chosen, a batch at a time, as often as is asked."""

    def __init__(self, data: ClipDataset, given: argparse.Namespace) -> None:
        self.data, self.indices = data, _indices(data, given)

    def __iter__(self) -> Iterator[Tensor]:
        for start in range(0, len(self.indices), BATCH):
            made = self.data.batch(self.indices[start : start + BATCH])
            yield made if isinstance(made, Tensor) else made[0]


def _clips(data: ClipDataset, given: argparse.Namespace) -> Tensor:
    return torch.cat(list(_Batches(data, given)))


def _mean(config: Config, model: CompositeModel, **changes: Any) -> Tensor:
    """The mean frame of the training data."""
    from lstmrep.eval import mean_frame

    train = runs.make_data(config, "train", **changes)
    squash = model.config.squash if model.config.output == "squash" else None
    return mean_frame(evaluate.batches(train, evaluate.MEAN_CLIPS, BATCH), squash=squash)


# Name -> what draws it, what it shows, its arguments.
FIGURES: dict[str, tuple[Callable[[argparse.Namespace], Figure], str, Callable[[argparse.ArgumentParser], None]]] = {
    "filmstrip": (_filmstrip, "truth, reconstruction and future of clips, a row for each model", _filmstrip_arguments),
    "gates": (_gates, "activity of the future predictor's units, trained and untrained", _gates_arguments),
    "rollout": (_rollout, "long roll-outs: frames, the loss by step beside baselines, a film", _rollout_arguments),
    "digits": (_digits, "clips with more or fewer digits than in training", _digits_arguments),
    "input_features": (_features, "input weights of the encoder's gates as frames", _features_arguments),
    "output_features": (_features, "weights of the decoders' heads as frames", _features_arguments),
    "comparison": (_comparison, "losses of several models on the same clips, baselines below", _comparison_arguments),
    "labels": (_labels, "accuracy against labelled examples a class, from CSV files", _labels_arguments),
}
