"""Exact resume: k + k steps are 2k steps bit for bit, after a planned stop, a signal, and kills at random moments."""

import os
import random
import signal
import time

import pytest
import torch
from train_runs import Endless, config, go_on, killed_run, processes, same_parameters, small

from lstmrep.testing.tolerance import one_thread
from lstmrep.train import CheckpointError, Trainer, read_history

pytest.importorskip("safetensors", reason="safetensors is not installed")
KILLS = 20


def _trainer(model, steps, out, optimizer="adam", data=None, **train):
    settings = config(
        steps, optimizer, save_every=4, validate_every=4, validation_batches=2, teacher_steps=20, print_every=3, **train
    )
    return Trainer(model, Endless() if data is None else data, settings, valid=Endless(), out=out, progress=False)


@pytest.mark.parametrize(
    ("optimizer", "kind", "workers"),
    [
        ("adam", "endless", 0),
        ("adam", "finite", 2),
        ("velocity_sgd", "finite", 0),
        ("velocity_sgd", "endless", 2),
        ("velocity_rmsprop", "finite", 0),
    ],
)
def test_k_and_k_steps_are_2k_steps(tmp_path, optimizer, workers, kind):
    data = Endless() if kind == "endless" else Endless().batch(range(10))
    whole, halves = small(), small()
    expected = _trainer(whole, 20, tmp_path / "whole", optimizer, data).fit()
    _trainer(halves, 10, tmp_path / "halves", optimizer, data, workers=workers).fit()
    other = small(seed=9)
    torch.manual_seed(77)  # what the generators were when the process started is no part of a run
    result = _trainer(other, 20, tmp_path / "halves", optimizer, data, workers=workers).fit(resume=True)
    assert same_parameters(other, whole)
    assert not same_parameters(halves, whole)
    assert result == expected
    for name in ("history.jsonl", "checkpoints/step-00000020.safetensors"):
        ours, theirs = (tmp_path / run / name for run in ("halves", "whole"))
        if not workers or name == "history.jsonl":
            assert ours.read_bytes() == theirs.read_bytes(), name


def test_the_parts_draw():
    """The test above would not see a wrong resume of what does not matter: masks, order and feeding do."""
    runs = [_trainer(small(), 4, None, seed=seed).fit().history for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_a_path_is_resumed_and_later_checkpoints_are_written_again(tmp_path):
    expected = _trainer(small(), 12, tmp_path).fit()
    files = sorted((tmp_path / "checkpoints").glob("step-*"))
    before = [p.read_bytes() for p in files]
    result = _trainer(small(seed=3), 12, tmp_path).fit(resume=files[0])
    assert result == expected
    assert [p.read_bytes() for p in files] == before


def test_a_damaged_newest_is_passed_over(tmp_path, capsys):
    expected = _trainer(small(), 12, tmp_path).fit()
    newest = tmp_path / "checkpoints" / "step-00000012.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    assert _trainer(small(seed=3), 12, tmp_path).fit(resume=True) == expected
    assert "step-00000012.safetensors cannot be read" in capsys.readouterr().out


def test_killed_at_random_moments(tmp_path):
    with one_thread():  # as in the processes
        _killed_at_random_moments(tmp_path)


def _killed_at_random_moments(tmp_path):
    whole, model = killed_run(tmp_path / "whole")
    expected = whole.fit()
    context = processes()
    rng = random.Random(5)
    moments = [rng.uniform(0, 0.05) for _ in range(KILLS)]
    reached = []
    for k, moment in enumerate(moments):
        ours, theirs = context.Pipe()
        process = context.Process(target=go_on, args=(tmp_path / "killed", theirs, k % 2 == 1))
        process.start()
        ours.recv()
        time.sleep(moment)
        process.kill()
        process.join()
        history = tmp_path / "killed" / "history.jsonl"
        reached.append(len(read_history(history)) if history.exists() else 0)
    print("killed after (s, records):", list(zip([f"{m:.4f}" for m in moments], reached, strict=True)))
    trainer, resumed = killed_run(tmp_path / "killed")
    result = trainer.fit(resume=True)
    assert result == expected
    assert same_parameters(resumed, model)
    for name in ("history.jsonl", "checkpoints/best.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    left = {p.name for p in (tmp_path / "killed" / "checkpoints").iterdir()}
    assert left == {p.name for p in (tmp_path / "whole" / "checkpoints").iterdir()}, "nothing half written is left"


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_run_goes_on_exactly(tmp_path, capsys, number, workers):
    parent = os.getpid()

    def stop(frames):
        os.kill(parent, number)
        return frames

    whole = small()
    expected = _trainer(whole, 12, tmp_path / "whole").fit()
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    data = Endless(at={4 * 5 + 1: stop})  # in the batch of step 5
    settings = _trainer(small(), 12, None, workers=workers, prefetch=1).config
    stopped = Trainer(small(), data, settings, valid=Endless(), out=tmp_path / "run").fit()
    assert stopped.stopped == "interrupted"
    assert stopped.step == 6 or (workers and stopped.step < 12), "workers are ahead of the step"
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    said = capsys.readouterr()
    assert f"Stopped after step {stopped.step}, saved in {tmp_path}" in said.out
    assert "go on with Trainer.fit(resume=True), or with --resume" in said.out
    assert f"{number.name}: finishing this step" in said.err or not said.err
    again = small(seed=3)
    assert _trainer(again, 12, tmp_path / "run").fit(resume=True) == expected
    assert same_parameters(again, whole)


def test_the_second_ctrl_c_stops_at_once(tmp_path):
    def twice(frames):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        return frames

    before = signal.getsignal(signal.SIGINT)  # ignored in a process that a shell put into the background
    with pytest.raises(KeyboardInterrupt):
        _trainer(small(), 12, tmp_path, data=Endless(at={9: twice})).fit()
    assert signal.getsignal(signal.SIGINT) is before
    assert not (tmp_path / "checkpoints").exists()


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match="nothing to resume without a folder; give 'out'"):
        _trainer(small(), 2, None).fit(resume=True)
    _trainer(small(), 2, tmp_path).fit(resume=True)
    with pytest.raises(FileExistsError, match=r"holds a run already; go on with it by resume=True"):
        _trainer(small(), 2, tmp_path).fit()
    with pytest.raises(ValueError, match=r"was written with train.batch_size = 4, and now it is 8"):
        _trainer(small(), 4, tmp_path, batch_size=8).fit(resume=True)
    with pytest.raises(ValueError, match=r"was written with optimizer.name = 'adam', and now it is 'sgd'"):
        _trainer(small(), 4, tmp_path, "sgd").fit(resume=True)
    with pytest.raises(CheckpointError, match=r"'model.inner.weight' has shape \(8, 3\), this model needs \(9, 3\)"):
        _trainer(small(hidden=9), 4, tmp_path).fit(resume=True)
    assert _trainer(small(), 2, tmp_path).fit(resume=True).step == 2, "a run that is done stays so"


def test_lost_lines_of_the_history_are_told(tmp_path, capsys):
    _trainer(small(), 8, tmp_path).fit()
    history = tmp_path / "history.jsonl"
    history.write_text(history.read_text()[:-5])
    result = _trainer(small(), 12, tmp_path).fit(resume=True)
    assert "records; the curve has a gap" in capsys.readouterr().out
    assert [r["step"] for r in result.history] == [3, 4, 6, 9, 12]
