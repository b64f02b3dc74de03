"""Started by torchrun in tests/test_train_distributed.py: one run in a piece, the same in two, one that goes wrong."""

import json
import math
import os
import signal
import sys
import warnings
from pathlib import Path

import torch
from train_runs import Endless, config, same_parameters, small

from lstmrep.train import NotFiniteError, Trainer

STEPS, BATCH = 6, 8
SETTINGS = {"optimizer": "velocity_sgd", "batch_size": BATCH, "validate_every": 3, "validation_batches": 3}


def run(out: Path | None, steps: int, data: Endless | None = None, resume: bool = False, **options):
    """The run of the comparison, without anything drawn: the processes draw different numbers than one would."""
    model = small(dropout=options.pop("dropout", 0.0), dtype=options.pop("dtype", None))
    model.teacher_probability = 1.0
    dtype = next(model.parameters()).dtype
    settings = config(steps, **{**SETTINGS, **options})
    valid = Endless(dtype)
    result = Trainer(model, data or Endless(dtype), settings, valid=valid, out=out, progress=False).fit(resume)
    return model, result


def main(out: Path) -> None:
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    _, plain = run(None, STEPS)
    drawing = {"dropout": 0.5, "save_every": 2, "optimizer": "adam"}
    whole, expected = run(out / "whole", STEPS, **drawing)
    run(out / "halves", STEPS // 2, **drawing)
    halves, result = run(out / "halves", STEPS, resume=True, **drawing)

    def stop(frames):
        os.kill(os.getpid(), signal.SIGTERM)
        return frames

    # Only the second process is given index 4 * 3 of each batch of 8 in its share: it alone wishes to stop.
    _, stopped = run(out / "stopped", STEPS, Endless(at={BATCH * 2 + 5: stop}), **drawing)
    refused = ""
    try:
        run(out / "broken", STEPS, Endless(at={BATCH * 2 + 5: lambda f: f * math.nan}), **drawing)
    except NotFiniteError as error:
        refused = str(error)
    try:
        run(None, 1, batch_size=7)
    except ValueError as error:
        share = str(error)
    told = {
        "history": plain.history,
        "same": same_parameters(whole, halves) and result.step == expected.step,
        "halves": [result.history, expected.history],
        "stopped": [stopped.stopped, stopped.step],
        "refused": refused,
        "share": share,
        "weights": {name: t.tolist() for name, t in whole.state_dict().items()},
    }
    (out / f"rank{rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
