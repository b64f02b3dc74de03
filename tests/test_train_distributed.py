"""Two processes under torchrun against one: the same losses, exact resume, stops and errors that both agree on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from train_ddp import STEPS, run

from lstmrep.testing import assert_within, budget, moved
from lstmrep.train.checkpoint import Folder

pytest.importorskip("safetensors", reason="safetensors is not installed")
HERE = Path(__file__).parent
NAMES = ("loss", "reconstruction_loss", "future_loss", "valid_loss", "teacher_future_loss")


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What each of the two processes says, and the folder they wrote to."""
    out = tmp_path_factory.mktemp("ddp")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(HERE / "train_ddp.py"), str(out)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads((out / f"rank{rank}.json").read_text()) for rank in range(2)], out


def _curve(history) -> dict[str, torch.Tensor]:
    return {name: torch.tensor([r[name] for r in history if name in r], dtype=torch.float64) for name in NAMES}


def test_the_losses_are_those_of_one_process(told, monkeypatch):
    def alone(dtype, order):
        # Where a run starts is what moves by a rounding; the truth is the run in float64 from float32's numbers.
        def start(*args, **options):
            model = real(*args, **{**options, "dtype": None})
            with torch.no_grad():
                for p in model.parameters():
                    p.copy_(moved(p, torch.float32, order))
            return model.to(dtype)

        with monkeypatch.context() as patch:
            patch.setattr("train_ddp.small", start)
            return _curve(run(None, STEPS)[1].history)

    from train_ddp import small as real

    processes, _ = told
    # Sums over half batches, averaged, instead of over the whole: another order of the same sums.
    bounds = budget(alone, torch.float32)
    for process in processes:
        assert_within(_curve(process["history"]), bounds)
    assert len(processes[0]["history"]) == STEPS


def test_resume_is_exact(told):
    processes, out = told
    assert all(p["same"] for p in processes)
    halves, whole = processes[0]["halves"]
    assert halves == whole
    assert [r["step"] for r in whole] == list(range(1, STEPS + 1))
    names = ["history.jsonl", *(f"checkpoints/step-{s:08d}.safetensors" for s in (2, 4, 6))]
    for name in names[:1] + names[-2:]:
        assert (out / "halves" / name).read_bytes() == (out / "whole" / name).read_bytes(), name


def test_the_processes_have_the_same_weights(told):
    first, second = told[0]
    assert first["weights"] == second["weights"]


def test_a_wish_of_one_process_stops_both(told):
    processes, out = told
    assert [p["stopped"] for p in processes] == [["interrupted", 3]] * 2
    assert Folder(out / "stopped" / "checkpoints").steps() == [2, 3]


def test_a_number_that_is_not_finite_stops_both(told):
    processes, out = told
    assert "step 3: the batch itself is not finite" in processes[1]["refused"]
    assert "step 3: 'future_loss' is not finite" in processes[0]["refused"]
    assert Folder(out / "broken" / "checkpoints").steps() == [2]


def test_a_batch_that_cannot_be_shared(told):
    assert "train.batch_size is 7, expected a multiple of the 2 processes" in told[0][0]["share"]
