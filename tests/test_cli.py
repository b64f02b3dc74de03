"""The command line: each command does what its help says, and every mistake ends with one sentence and status 2."""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import lstmrep
from lstmrep.cli import COMMANDS, main, runs

pytest.importorskip("sklearn", reason="scikit-learn is not installed")
SMALL = ["model.hidden_size=8", "train.max_iters=4", "train.batch_size=4", "train.print_every=2"]
SMALL += ["train.validate_every=2", "train.validation_batches=1", "train.save_every=2"]


def words(*arguments):
    return [str(a) for a in arguments]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "toy"
    assert main(words("train", "toy", *SMALL, "model.conditional_future=true", "--out", folder)) == 0
    return folder


def test_training_writes_a_run(run_folder):
    assert sorted(p.name for p in run_folder.iterdir()) == ["checkpoints", "config.toml", "history.jsonl", "model"]
    model = lstmrep.CompositeModel.from_pretrained(run_folder / "model")
    assert model.config.hidden_size == 8 and model.config.conditional_future


def test_the_log_has_the_losses_and_sizes(tmp_path, capsys):
    assert main(words("train", "toy", *SMALL, "--out", tmp_path / "run")) == 0
    text = capsys.readouterr().out
    assert re.search(r"^Step 4 Dec \d+\.\d+ Fut \d+\.\d+ VDec \d+\.\d+ VFut \d+\.\d+$", text, re.MULTILINE)
    for word in ("parameters", "glyphs", "split train", "memory ", "MB at its highest"):
        assert word in text


def test_measured_memory_is_what_was_said(capsys):
    arguments = ["model.hidden_size=192", "data.canvas=20", "train.max_iters=1", "train.validate_every=0"]
    assert main(words("train", "toy", *arguments, "--measure-memory")) == 0
    text = capsys.readouterr().out
    said, found = (
        int(re.search(pattern, text, re.MULTILINE).group(1).replace(",", ""))
        for pattern in (r"^memory +([\d,]+) MB at a training", r"^measured +([\d,]+) MB")
    )
    assert 0.9 * found <= said <= 1.1 * found


def test_resume_goes_on_and_equals_one_run(run_folder, tmp_path, capsys):
    half, arguments = tmp_path / "half", [*SMALL, "model.conditional_future=true"]
    assert main(words("train", "toy", *arguments, "train.max_iters=2", "--out", half)) == 0
    (half / "config.toml").write_text((half / "config.toml").read_text().replace("max_iters = 2", "max_iters = 4"))
    assert main(words("train", "--resume", "--out", half)) == 0
    assert "Resumed from" in capsys.readouterr().out
    one, other = (lstmrep.CompositeModel.from_pretrained(f / "model").state_dict() for f in (run_folder, half))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert (half / "history.jsonl").read_text() == (run_folder / "history.jsonl").read_text()


def test_eval_prints_the_table_and_writes_the_gallery(run_folder, tmp_path, capsys):
    pytest.importorskip("PIL", reason="pillow is not installed")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert main(words("eval", run_folder, "--clips", 6, "--steps", 12, "--gallery", 2, "--out", tmp_path)) == 0
    text = capsys.readouterr().out
    for row in ("model, free-running", "model, teacher-forced", "mean pixel", "copy last", "entropy of the targets"):
        assert row in text
    assert "frames 9 to 12, beyond" in text and "split test" in text
    assert np.load(tmp_path / "preds.npy").shape == (6, 12, 1, 12, 12)
    page = (tmp_path / "index.html").read_text()
    assert "clip-001" in page and "training" in page
    assert len(list((tmp_path / "films").glob("*.gif"))) == 2


def test_eval_on_a_file_keeps_the_mean_of_the_training_data(run_folder, tmp_path, capsys):
    """Settings of the generator mean nothing to a file, which is a test set without a training part."""
    _, config = runs.load_run(run_folder)
    clips = runs.make_data(config, "test").batch(range(20))
    np.save(tmp_path / "clips.npy", (clips[:, :, 0] * 255).byte().numpy().swapaxes(0, 1))
    tables = []
    for changes in (["data.name=sequence_file", f"data.path={tmp_path / 'clips.npy'}"], []):
        line = words("eval", run_folder, *changes, "--clips", 20, "--gallery", 0, "--out", tmp_path / "eval")
        assert main(line) == 0
        tables.append(capsys.readouterr().out)
    assert "SequenceFile: clips.npy" in tables[0] and "MovingMNIST" in tables[1]
    # Glyphs are black and white: bytes lose nothing, and the numbers are those of the generated clips.
    kept = [[line for line in t.splitlines() if line[:4] in ("mode", "mean", "copy", "line")] for t in tables]
    assert [k[1:] for k in kept if k[0].startswith("model ")] == [kept[1][1:]] * 2 and len(kept[0]) > 8
    assert main(words("eval", run_folder, "data.name=sequence_file", "--gallery", 0)) == 2
    assert "setting 'path' of sequence_file is missing" in capsys.readouterr().err


def test_predict_continues_a_file(run_folder, tmp_path):
    model, _ = runs.load_run(run_folder)
    frames = torch.rand(3, 8, 1, 12, 12)
    np.save(tmp_path / "float.npy", frames.numpy())
    np.save(tmp_path / "bytes.npy", (frames[0] * 255).byte().numpy())
    out = tmp_path / "out.npy"
    assert main(words("predict", run_folder, "--input", tmp_path / "float.npy", "--output", out, "--steps", 5)) == 0
    assert np.array_equal(np.load(out), model.predict(frames, 5).numpy())
    assert main(words("predict", run_folder, "--input", tmp_path / "bytes.npy", "--output", out)) == 0
    assert np.load(out).shape == (1, 8, 1, 12, 12)


@pytest.mark.parametrize("name", runs.shipped())
def test_every_shipped_configuration_resolves(name, capsys):
    assert main(["train", name, "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "parameters" in text and "[optimizer]" in text
    if name == "mnist_1layer":
        assert "167,823,360 parameters" in text


def test_a_configuration_of_the_original_prints_its_count(tmp_path, capsys):
    stack = 'num_hid: 2048 has_input: true input_dims: 4096 {}name: "{}"'
    parts = [f"lstm {{ {stack.format('', 'lstm_1_enc')} }}"]
    for block, name in (("lstm_dec", "lstm_1_dec"), ("lstm_future", "lstm_1_fut")):
        parts.append(f"{block} {{ {stack.format('has_output: true output_dims: 4096 ', name)} }}")
    head = "dec_seq_length: 10 future_seq_length: 10 dec_conditional: true future_conditional: true binary_data: true"
    (tmp_path / "model.pbtxt").write_text("\n".join([head, *parts]))
    assert main(words("train", tmp_path / "model.pbtxt", "--dry-run")) == 0
    text = capsys.readouterr().out
    assert "167,823,360 parameters" in text and "note " in text


def test_demo_in_small(tmp_path, capsys):
    pytest.importorskip("PIL", reason="pillow is not installed")
    small = ["train.max_iters=30", "train.validate_every=0", "optimizer.lr=0.01"]
    status = main(words("demo", "--out", tmp_path / "demo", *small))
    text = capsys.readouterr().out
    own, baseline = map(float, re.search(r"future +([\d.]+) nats .* mean pixel ([\d.]+)", text).groups())
    assert status == (0 if own < baseline else 1)
    assert (tmp_path / "demo" / "eval-test" / "index.html").is_file() and "8x8" in text
    # A second demo takes the place of the first one.
    assert main(words("demo", "--out", tmp_path / "demo", *small)) == status


def no_model(folder):
    (folder / "config.toml").write_text("[model]\n")
    return words("eval", folder)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "nothing", "--dry-run"], "no configuration 'nothing'; choose one of actions_frame, "),
        (["train", "--dry-run"], "0 configurations, expected one: actions_frame, "),
        (["train", "toy", "model.hiden_size=3"], "setting 'model.hiden_size' is not known; did you mean 'hidden_size'"),
        (["train", "toy", "trian.max_iters=3"], "section 'trian' is not known"),
        (["train", "toy", "train.max_iter=3"], "setting 'train.max_iter' is not known; did you mean 'max_iters'"),
        (["train", "toy", "optimizer.lr=nan"], "optimizer.lr is nan, expected a finite number"),
        (["train", "toy", "model.squash=inf"], "argument 'squash' is inf, expected a finite number"),
        (["train", "toy", "data.canvs=3"], "setting 'canvs' of moving_mnist is not known"),
        (["train", "toy", "data.step=nan"], "'step'"),
        (["train", "mnist_small", "data.source=mnist", "data.root=/nowhere"], "/nowhere"),
        (["train", "--resume"], "--resume needs the run's folder"),
        (["eval", "/nowhere"], "no trained model in /nowhere; pass a folder"),
        (no_model, "training has not ended; go on with"),
    ],
    ids=range(13),
)
def test_mistakes(arguments, sentence, tmp_path, capsys):
    before = sorted(tmp_path.iterdir())
    if callable(arguments):
        arguments = arguments(tmp_path)
        before = sorted(tmp_path.iterdir())
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.startswith("error: ") and error.count("\n") == 1, error
    assert sorted(tmp_path.iterdir()) == before, "nothing half-written"


def test_a_wrong_input_file(run_folder, tmp_path, capsys):
    np.save(tmp_path / "clips.npy", np.zeros((2, 3, 144), np.int64))
    out = tmp_path / "out.npy"
    for name, sentence in (("clips.npy", "holds int64"), ("none.npy", "no file"), ("text.npy", "is no .npy array")):
        (tmp_path / "text.npy").write_text("text")
        assert main(words("predict", run_folder, "--input", tmp_path / name, "--output", out)) == 2
        assert sentence in capsys.readouterr().err
    assert not out.exists()


def test_help_of_every_command_has_an_example(capsys):
    for name in COMMANDS:
        with pytest.raises(SystemExit) as ended:
            main([name, "--help"])
        assert ended.value.code == 0
        assert f"python -m lstmrep {name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["", *(name for name in COMMANDS if name != "info")])
def test_examples_of_the_help_are_understood(name, monkeypatch):
    """Each one parses, with settings after options too, and every training from a shipped configuration resolves."""
    module = importlib.import_module(COMMANDS[name][0] if name else "lstmrep.cli")
    examples = [shlex.split(line) for line in re.findall(r"-m lstmrep (.*)$", module.EPILOG, re.MULTILINE)]
    assert examples
    for words in examples:
        with monkeypatch.context() as patch:
            patch.setattr(importlib.import_module(COMMANDS[words[0]][0]), "run", lambda given: 0)
            assert main(words) == 0
        if words[0] == "train" and words[1] in runs.shipped():
            assert main([*words, "--dry-run"]) == 0


def test_settings_may_stand_anywhere(tmp_path, capsys):
    orders = [
        ["toy", "model.hidden_size=8", "train.seed=5", "--out", "x"],
        ["toy", "model.hidden_size=8", "--out", "x", "train.seed=5"],
        ["--out", "x", "toy", "model.hidden_size=8", "train.seed=5"],
        ["model.hidden_size=8", "--out", "x", "toy", "train.seed=5"],
    ]
    made = set()
    for order in orders:
        assert main(["train", *order, "--dry-run"]) == 0
        made.add(capsys.readouterr().out)
    assert len(made) == 1 and "seed = 5" in made.pop()


@pytest.mark.parametrize(
    ("arguments", "unknown"),
    [
        (["train", "toy", "--out", "x", "--hiden", "3"], "--hiden 3"),
        (["info", "train.seed=5"], "train.seed=5"),
        (["predict", "x", "--input", "a", "--output", "b", "data.seed=5"], "data.seed=5"),
    ],
)
def test_words_that_no_command_knows(arguments, unknown, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert f"unrecognized arguments: {unknown}" in capsys.readouterr().err


def test_as_a_process():
    done = subprocess.run([sys.executable, "-m", "lstmrep", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"lstmrep {lstmrep.__version__}\n"


def test_commands_of_the_docs_are_commands():
    """Every ``python -m lstmrep`` line in the docs parses: a known command, known flags, a known configuration."""
    pages = [Path(__file__).parents[1] / "README.md", *(Path(__file__).parents[1] / "docs").glob("*.md")]
    found = [
        line.split("#")[0].split()
        for page in pages
        for line in page.read_text().splitlines()
        if re.match(r"(python|torchrun .*) -m lstmrep ", line)
    ]
    assert len(found) >= 5
    for line in found:
        command = line[line.index("lstmrep") + 1 :]
        assert command[0] in COMMANDS, line
        if command[0] == "train" and "--resume" not in command:
            # The encoder to start from is another command's run.
            settings = [w for w in command[2:] if "=" in w and not w.startswith(("model.encoder", "model.freeze"))]
            assert main(["train", command[1], *settings, "--dry-run"]) == 0
