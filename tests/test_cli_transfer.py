"""The transfer command: every cell of its table is a classifier of its own, formed once, whatever stopped it before."""

import csv
import re
import shutil

import pytest

from lstmrep.cli import main, runs, transfer

pytest.importorskip("safetensors", reason="safetensors is not installed")
SMALL = ["model.hidden_size=8", "train.max_iters=6", "train.batch_size=8", "train.validate_every=0"]


def words(*arguments):
    return [str(a) for a in arguments]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "toy"
    assert main(words("train", "toy", *SMALL, "--out", folder)) == 0
    return folder


def command(out, encoder, *more, labels=(2, 4), resamplings=2):
    return words(
        *("transfer", "toy_heading", *SMALL, "--encoder", "none", f"pre={encoder}", "--labels", *labels),
        *("--resamplings", resamplings, "--clips", 40, "--out", out, *more),
    )


def rows(out):
    with (out / "results.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_row_for_each_classifier(encoder, tmp_path, capsys):
    assert main(command(tmp_path, encoder)) == 0
    found = rows(tmp_path)
    assert [tuple(r.values())[:4] for r in found] == [
        ("task", e, k, r) for e in ("none", "pre") for k in ("2", "4") for r in ("0", "1")
    ]
    assert all(0 <= float(r["accuracy"]) <= 1 for r in found)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["results.csv", "settings.json"], "no model is left behind"
    printed = capsys.readouterr().out
    values = [100 * float(r["accuracy"]) for r in found if r["encoder"] == "pre" and r["labels"] == "4"]
    mean = sum(values) / 2
    spread = abs(values[0] - values[1]) / 2**0.5  # the standard deviation of two numbers
    assert re.search(rf"^pre .*{re.escape(f'{mean:.1f} ± {spread:.1f} (2)')}$", printed, re.MULTILINE)


def test_what_each_classifier_learns_from(encoder, tmp_path, monkeypatch):
    """Labelled examples and start differ by resampling alone, and are the same for every encoder."""
    seen = []

    class Spy:
        def __init__(self, model, data, config, **rest):
            seen.append((model, data, config))
            raise KeyboardInterrupt

    monkeypatch.setattr("lstmrep.train.Trainer", Spy)
    config, _ = runs.read_config(["toy_heading"], SMALL)
    given = type("given", (), {"out": tmp_path, "clips": 10})()
    for name, labels, r in (("none", "2", 0), ("pre", "2", 0), ("none", "2", 1), ("none", "4", 0)):
        with pytest.raises(KeyboardInterrupt):
            transfer._classifier(config, transfer.Cell("t", name, labels, r), encoder if name == "pre" else None, given)
    (one, few, told), (pre, same, _), (again, other, seeded), (_, more, _) = seen
    assert few.frames.equal(same.frames) and not few.frames.equal(other.frames)
    assert len(few) == 8 and len(more) == 16
    assert one.head.weight.equal(pre.head.weight) and not one.head.weight.equal(again.head.weight)
    source, _ = runs.load_run(encoder)
    assert pre.lstm.weight_hh_l0.equal(source.encoder.weight_hh_l0)
    assert not one.lstm.weight_hh_l0.equal(source.encoder.weight_hh_l0)
    assert seeded.train.seed == told.train.seed + 1


def test_what_is_there_is_not_formed_again(encoder, tmp_path, monkeypatch, capsys):
    assert main(command(tmp_path, encoder, labels=(2,))) == 0
    before = rows(tmp_path)
    own, formed = transfer._classifier, []

    def counted(config, cell, *rest):
        formed.append(cell)
        return own(config, cell, *rest)

    monkeypatch.setattr(transfer, "_classifier", counted)
    assert main(command(tmp_path, encoder, labels=(2,))) == 0 and not formed
    assert main(command(tmp_path, encoder, labels=(2, 3), resamplings=1)) == 0
    assert {cell.labels for cell in formed} == {"3"} and len(formed) == 2
    assert rows(tmp_path)[:4] == before


@pytest.mark.parametrize("where", ["between two updates", "between two classifiers"])
def test_stopped_and_started_again(encoder, tmp_path, monkeypatch, where):
    saving = ["train.save_every=1"]
    assert main([*command(tmp_path / "whole", encoder), *saving]) == 0
    from lstmrep.train import loop

    calls = []
    with monkeypatch.context() as patched:
        target, name = (loop.Loop, "_save") if where == "between two updates" else (transfer, "_write_results")
        own = getattr(target, name)

        def stop(*arguments):
            own(*arguments)
            calls.append(name)
            if len(calls) == (21 if name == "_save" else 3):
                raise KeyboardInterrupt

        patched.setattr(target, name, stop)
        assert main([*command(tmp_path / "out", encoder), *saving]) == 130
    assert len(rows(tmp_path / "out")) == 3
    assert main([*command(tmp_path / "out", encoder), *saving]) == 0
    assert (tmp_path / "out" / "results.csv").read_bytes() == (tmp_path / "whole" / "results.csv").read_bytes()
    assert not (tmp_path / "out" / "under-way").exists()


def test_tasks_side_by_side(encoder, tmp_path, capsys):
    """Of encoders pretrained on one domain and tasks of another: a block for each task."""
    for seed in (0, 1):
        more = ["--task", f"alphabet-{seed}", f"data.digit_seed={seed}"]
        assert main([*command(tmp_path, encoder, labels=(2,), resamplings=1), *more]) == 0
    printed = capsys.readouterr().out
    assert {r["task"] for r in rows(tmp_path)} == {"alphabet-0", "alphabet-1"}
    assert re.search(r"alphabet-0 +2 a class\nnone .*\npre .*\n\nalphabet-1 +2 a class\nnone .*\npre ", printed)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["train.max_iters=7"], "has results of the task 'task' with another train.max_iters; give another --task"),
        (["--clips", "41"], "with another clips; give another --task"),
        (["--encoder", "toy"], r"--encoder 'toy' is not of the form name=RUN, nor the word none"),
        (["--encoder", "none=toy"], r"--encoder 'none=toy' is not of the form"),
        (["--encoder", "a=nowhere"], "no trained model in nowhere"),
        (["model.hidden_size=9", "--encoder", "none"], r"with another model\.hidden_size"),
        (["--labels", "0"], "--labels '0' is no number of 1 or more, nor the word all"),
        (["--resamplings", "0"], "--resamplings is 0, expected 1 or more"),
    ],
)
def test_mistakes(encoder, tmp_path, capsys, change, said):
    assert main(command(tmp_path, encoder, labels=(2,), resamplings=1)) == 0
    capsys.readouterr()
    assert main([*command(tmp_path, encoder, labels=(2,), resamplings=1), *change]) == 2
    assert re.search(said, capsys.readouterr().err)


def test_a_random_start_has_the_encoders_sizes(encoder, tmp_path, monkeypatch, capsys):
    """And encoders of several sizes are not compared with one random start."""
    seen = []
    monkeypatch.setattr(transfer, "_classifier", lambda config, *rest: seen.append(config.model["hidden_size"]) or 0.5)
    assert main([*command(tmp_path, encoder, labels=(2,), resamplings=1), "model.hidden_size=11"]) == 0
    assert seen == [8, 8]
    other = tmp_path / "other"
    assert main(words("train", "toy", *SMALL, "model.hidden_size=9", "--out", other)) == 0
    assert main(words("transfer", "toy_heading", "--encoder", f"a={encoder}", f"b={other}", "--out", tmp_path)) == 2
    assert "has hidden_size = 9, the first one 8; compare encoders of one size" in capsys.readouterr().err


def test_encoders_may_come_later_but_not_under_a_name_that_is_taken(encoder, tmp_path, capsys):
    out = tmp_path / "out"
    start = words("transfer", "toy_heading", *SMALL, "--labels", 2, "--resamplings", 1, "--clips", 8, "--out", out)
    for encoders in ((), ("--encoder", "none", f"pre={encoder}")):
        assert main([*start, *encoders]) == 0
    assert [row["encoder"] for row in rows(out)] == ["none", "pre"]
    shutil.copytree(encoder, tmp_path / "copy")
    assert main([*start, "--encoder", f"pre={tmp_path / 'copy'}"]) == 2
    assert re.search(r"results of the encoder 'pre' from .*toy; give this one another name", capsys.readouterr().err)


def test_what_has_no_result_may_be_changed(encoder, tmp_path):
    """A mistake in a first call does not stand in the way of the next one."""
    good = command(tmp_path, encoder, labels=(2,), resamplings=1)
    assert main([*good, "data.source=nothing"]) == 2
    assert main(good) == 0


def test_no_classifier(tmp_path, capsys):
    assert main(words("transfer", "toy", "--out", tmp_path)) == 2
    assert "the configuration is of no classifier; give model.num_classes" in capsys.readouterr().err
