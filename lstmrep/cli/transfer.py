"""``lstmrep transfer``: what a pretrained encoder is worth to a classifier that has few labels."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import shutil
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from lstmrep.cli import runs
from lstmrep.cli.evaluate import score_run
from lstmrep.files import write_csv, write_text
from lstmrep.nn import ClassifierConfig, CompositeModel

if TYPE_CHECKING:
    from lstmrep.train import Config

EPILOG = """CONFIG is a classifier's configuration, as for train. Each encoder is tried with each number of labels a
class, several times: each time with other labelled examples, another start and another order. 'none' is a random start.
Results that are in the folder already are not formed again, so a run that was stopped goes on when it is started
again; other encoders, numbers and tasks can be added later.

examples:
  python -m lstmrep transfer toy_heading --encoder none composite=runs/toy --labels 4 16 64 --out runs/transfer
  python -m lstmrep transfer actions_small data.root=FEATURES --encoder pre=runs/pre --labels 1 all --out runs/few"""
RESULTS, SETTINGS = "results.csv", "settings.json"
FIELDS = ("task", "encoder", "labels", "resampling", "accuracy")
UNDER_WAY = "under-way"
NONE, ALL = "none", "all"


class Cell(NamedTuple):
    """One classifier: of which task, started from what, with how many labels, in which resampling."""

    task: str
    encoder: str
    labels: str
    resampling: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.epilog = EPILOG
    parser.add_argument("config", nargs="*", metavar="CONFIG | section.setting=value", help="see below")
    parser.add_argument(
        "--encoder", nargs="+", default=[NONE], metavar="NAME=RUN", help="pretrained runs by name, and none (default)"
    )
    parser.add_argument("--labels", nargs="+", default=[ALL], metavar="K", help="labelled examples a class, or all")
    parser.add_argument("--resamplings", type=int, default=4, help="of each (default 4; the paper takes 10)")
    parser.add_argument("--task", default="task", help="what these data are called in the table")
    parser.add_argument("--clips", type=int, default=1000, help="test clips, of data without videos (default 1000)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")


def run(given: argparse.Namespace) -> int:
    """Fill the table and print it."""
    names = [word for word in given.config if "=" not in word]
    config, _ = runs.read_config(names, [word for word in given.config if "=" in word])
    if "num_classes" not in config.model:
        raise ValueError("lstmrep transfer: the configuration is of no classifier; give model.num_classes.")
    encoders = _encoders(given.encoder)
    labels = [_number(word) for word in given.labels]
    if given.resamplings < 1:
        raise ValueError(f"lstmrep transfer: --resamplings is {given.resamplings}, expected 1 or more.")
    config = dataclasses.replace(config, model=_with_sizes(config.model, encoders.values()))
    done = read_results(given.out)
    _check_same(given, config, encoders, done)
    wanted = [
        Cell(given.task, name, count, r) for name in encoders for count in labels for r in range(given.resamplings)
    ]
    missing = [cell for cell in wanted if cell not in done]
    for number, cell in enumerate(missing, len(wanted) - len(missing) + 1):
        accuracy = _classifier(config, cell, encoders[cell.encoder], given)
        if accuracy is None:
            return 130
        done[cell] = accuracy
        _write_results(given.out, done)
        # Of a classifier that is counted nothing is needed any more.
        shutil.rmtree(given.out / UNDER_WAY, ignore_errors=True)
        print(
            f"{number}/{len(wanted)}  {cell.encoder}, {cell.labels} labels a class, resampling {cell.resampling}: "
            f"{100 * accuracy:.1f} % right",
            flush=True,
        )
    print(f"\n{table(done)}\n\nsaved     {given.out / RESULTS}")
    return 0


def _classifier(config: Config, cell: Cell, encoder: str | None, given: argparse.Namespace) -> float | None:
    """Accuracy on the test split of one classifier, trained here; none where it was interrupted."""
    from lstmrep.train import Trainer

    data = {**config.data, "resampling": cell.resampling}
    if cell.labels != ALL:
        data["per_class"] = int(cell.labels)
    model = dict(config.model) if encoder is None else {**config.model, "encoder": encoder}
    train = dataclasses.replace(config.train, seed=config.train.seed + cell.resampling)
    config = dataclasses.replace(config, data=data, model=model, train=train)
    examples = runs.make_data(config, "train")
    valid = runs.make_data(config, "valid") if train.validate_every else None
    config = runs.resolve(config, examples)
    torch.manual_seed(train.seed)
    made = runs.make_model(config)
    if isinstance(made, CompositeModel):
        raise ValueError("lstmrep transfer: the configuration is of no classifier; give model.num_classes.")
    trainer = Trainer(made, examples, config, valid=valid, out=_folder(given.out, cell), progress=False)
    result = trainer.fit(resume=True)
    if result.stopped == "interrupted":
        print(f"Stopped in step {result.step} of one classifier; the same command goes on.")
        return None
    if result.best_step:
        from lstmrep.train import load_weights

        load_weights(made, _folder(given.out, cell))
    return score_run(made, config, "test", clips=given.clips).accuracy


def _folder(out: Path, cell: Cell) -> Path:
    return out / UNDER_WAY / "-".join(map(str, cell))


def _encoders(words: Iterable[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for word in words:
        name, equals, folder = word.partition("=")
        if (name == NONE) == bool(equals) or not name or "/" in name:
            raise ValueError(f"lstmrep transfer: --encoder {word!r} is not of the form name=RUN, nor the word none.")
        found[name] = folder or None
    return found


def _number(word: str) -> str:
    if word != ALL and not (word.isdigit() and int(word)):
        raise ValueError(f"lstmrep transfer: --labels {word!r} is no number of 1 or more, nor the word all.")
    return word if word == ALL else str(int(word))


def _check_same(
    given: argparse.Namespace, config: Config, encoders: dict[str, str | None], done: Iterable[Cell]
) -> None:
    """A table must not mix numbers of different settings, of two encoders under one name, or of different sizes."""
    path = given.out / SETTINGS
    told = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    # What has no result yet may be changed.
    tasks = {name: t for name, t in told.get("tasks", {}).items() if any(cell.task == name for cell in done)}
    known = {name: f for name, f in told.get("encoders", {}).items() if any(cell.encoder == name for cell in done)}
    # As JSON has it, for comparison with what was read.
    now = json.loads(json.dumps({**_flat(config), "clips": given.clips}))
    before = tasks.get(given.task, now)
    differs = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    if differs:
        raise ValueError(
            f"lstmrep transfer: {given.out} has results of the task '{given.task}' with another {differs[0]}; give "
            "another --task, or another --out."
        )
    for name, folder in encoders.items():
        if known.get(name, folder) != folder:
            raise ValueError(
                f"lstmrep transfer: {given.out} has results of the encoder '{name}' from {known[name]}; give this one "
                "another name."
            )
    everything = {"tasks": {**tasks, given.task: now}, "encoders": {**known, **encoders}}
    if everything != told:
        shutil.rmtree(given.out / UNDER_WAY, ignore_errors=True)  # of settings that may not be these
        write_text(path, json.dumps(everything, indent=2) + "\n")


def _with_sizes(model: dict[str, Any], encoders: Iterable[str | None]) -> dict[str, Any]:
    """The model with the sizes of the encoders: a random start of another size would be another network."""
    found = {folder: runs.encoder_sizes(folder) for folder in encoders if folder is not None}
    for folder, sizes in found.items():
        for name, value in next(iter(found.values())).items():
            if sizes.get(name) != value:
                raise ValueError(
                    f"lstmrep transfer: the encoder in {folder} has {name} = {sizes.get(name)}, the first one {value}; "
                    "compare encoders of one size, others in another --out."
                )
    if not found and "hidden_size" not in model:  # of single frames, or by a preset
        return model
    # Also those at their default: a table whose encoders come later has the same settings.
    defaults = {f.name: f.default for f in dataclasses.fields(ClassifierConfig) if f.name in runs.FROM_ENCODER}
    defaults = {name: value for name, value in defaults.items() if value is not dataclasses.MISSING}
    return {**defaults, **model, **next(iter(found.values()), {})}


def _flat(config: Config) -> dict[str, object]:
    return {f"{section}.{name}": value for section, table in config.to_dict().items() for name, value in table.items()}


def read_results(out: Path) -> dict[Cell, float]:
    """Accuracies (0 to 1) in a folder of results."""
    path = out / RESULTS
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {
            Cell(row["task"], row["encoder"], row["labels"], int(row["resampling"])): float(row["accuracy"])
            for row in csv.DictReader(file)
        }


def _write_results(out: Path, results: dict[Cell, float]) -> None:
    write_csv(out / RESULTS, FIELDS, ([*cell, accuracy] for cell, accuracy in results.items()))


def table(results: dict[Cell, float]) -> str:
    """Means and standard deviations over resamplings, in per cent: a block a task, a row an encoder."""
    by_cell: dict[tuple[str, str, str], list[float]] = {}
    for cell, accuracy in results.items():
        by_cell.setdefault(cell[:3], []).append(100 * accuracy)
    columns = sorted({cell.labels for cell in results}, key=lambda word: (word == ALL, 0 if word == ALL else int(word)))
    encoders = list(dict.fromkeys(cell.encoder for cell in results))
    width = max(len(word) for word in [*encoders, *(cell.task for cell in results)])
    lines = []
    for task in dict.fromkeys(cell.task for cell in results):
        lines.append(
            f"{task:{width}}" + "".join(f"{word + ' a class' if word != ALL else word:>16}" for word in columns)
        )
        for encoder in encoders:
            cells = [by_cell.get((task, encoder, word)) for word in columns]
            if any(cells):
                lines.append(f"{encoder:{width}}" + "".join(f"{_mean(cell):>16}" for cell in cells))
        lines.append("")
    return "\n".join(lines).rstrip()


def _mean(values: list[float] | None) -> str:
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread} ({len(values)})"
