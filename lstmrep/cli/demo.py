"""``lstmrep demo``: the whole way in about a minute, on real digits that come with scikit-learn."""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

from lstmrep.cli import evaluate, runs
from lstmrep.cli.train import train
from lstmrep.files import write_text
from lstmrep.nn import CompositeModel

EPILOG = """example: python -m lstmrep demo --out lstmrep-demo"""
CLIPS = 400
MARK = "demo.txt"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.epilog = EPILOG
    parser.add_argument("--out", type=Path, default=Path("lstmrep-demo"), help="folder (default lstmrep-demo)")
    parser.add_argument("changes", nargs="*", metavar="section.setting=value", help="change the configuration 'demo'")


def run(given: argparse.Namespace) -> int:
    """Train, evaluate, write the gallery; status 1 if the model did not end below the mean-pixel baseline."""
    began = time.perf_counter()
    config, _ = runs.read_config(["demo"], given.changes)
    c, d = config.model, config.data
    print(
        f"demo: a composite LSTM of {c['hidden_size']} units reads 10 frames of a real 8x8 digit (scikit-learn's)\n"
        f"that moves on a {d['canvas']}x{d['canvas']} canvas, tells them again and predicts the next 10"
    )
    _clear(given.out)
    write_text(given.out / MARK, "Written by python -m lstmrep demo; the next one takes its place.\n")
    result = train(config, given.out)
    if result.stopped == "interrupted":
        return 130
    model, config_read = runs.load_run(given.out)
    assert isinstance(model, CompositeModel) and config_read is not None
    report = evaluate.evaluate_run(model, config_read, "test", clips=CLIPS)
    print(report.table())
    out = given.out / "eval-test"
    report.save(out)
    page = evaluate.write_gallery(out, report, config_read, given.out, 8)
    own = report.row("future", "model, free-running").mean(report.loss)
    baseline = report.row("future", "mean pixel").mean(report.loss)
    print(f"\nfuture    {own:.1f} nats a frame free-running, the mean pixel {baseline:.1f}")
    print(f"gallery   {page}")
    print(f"time      {time.perf_counter() - began:.0f} s")
    if own < baseline:
        return 0
    print("the model did not end below the mean-pixel baseline: train longer, with train.max_iters=3000.")
    return 1


def _clear(folder: Path) -> None:
    """Remove an earlier demo; anything else in the way is left for the trainer to refuse."""
    if (folder / MARK).is_file():
        shutil.rmtree(folder)
