"""Every command of README.md and docs runs in small, or is shown to run elsewhere: see tests/docs_commands.py.

The commands of a page run in their order in one new folder: a page may train, go on, evaluate and predict.
"""

import contextlib
import importlib.util
import io
import json
import math
import os
import re
import shlex
import subprocess
from pathlib import Path

import docs_commands
import emulated
import numpy as np
import original_files
import percept_files
import pytest
from docs_commands import (
    MAKE,
    RULES,
    Command,
    Mistake,
    Rule,
    after,
    commands,
    executed,
    rule_of,
    small_training,
    to_run,
)

import lstmrep
from lstmrep.cli import main

SECONDS = 120
PAGES = docs_commands.pages()
# What a page calls a file of the released code.
ORIGINAL = {
    "MODEL.pbtxt": original_files.MODELS["lstm_combo_1layer_mnist"],
    "DATA.pbtxt": original_files.DATASETS["bouncing_mnist"],
    "VALID.pbtxt": original_files.DATASETS["bouncing_mnist"],
}


def environment(**variables):
    """Of what runs: the library under test, one thread, no card."""
    path = [str(Path(lstmrep.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    small = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "120"}
    return {**os.environ, **small, "PYTHONPATH": os.pathsep.join(path), **variables}


def videos_of_two_classes(folder, of_each=20):
    """A folder for each class, named as UCF-101's, of noise."""
    for k, kind in enumerate(("run", "walk")):
        (folder / kind).mkdir(parents=True)
        for g in range(1, of_each + 1):
            frames = np.random.default_rng([k, g]).integers(0, 256, (45, 40, 40, 3), dtype=np.uint8)
            np.save(folder / kind / f"v_{kind}_g{g:02d}_c01.npy", frames)


def missing(rule):
    """What the commands of a rule need and do not find, in words; else empty."""
    for need in rule.needs:
        if need == "emulator":
            if emulated.reason():
                return emulated.reason()
        elif importlib.util.find_spec(need) is None:
            return f"{need} is not installed"
    return ""


class Story:
    """The commands of one page, run one after the other."""

    def __init__(self, page, text, folder, rules=RULES):
        self.page, self.text, self.folder, self.rules = page, text, folder, rules
        self.seen = set()  # commands of the library that ran apart
        self.trains = any("lstmrep train" in c.text for c in commands(page, text))

    def tell(self):
        """Run all; returns why some were skipped."""
        skipped = []
        for command in commands(self.page, self.text):
            rule = rule_of(command, self.rules)
            for claim in filter(None, (rule.elsewhere, rule.check)):
                claim(command)
            if rule.toy is not None and missing(rule):
                skipped.append(f"{command.text}: {missing(rule)}")
            elif rule.toy is not None:
                for words in to_run(command, rule):
                    self.prepare(command, words)
                    self.run(command, words)
                self.look(command, words)
        return skipped

    def run(self, command, words):
        line = executed(words)
        if self.known(words) and not command.variables:
            ended, said = self.here(words[3:])
        else:
            ended, said = self.apart(line, command.variables)
        if ended != "status 0":
            pytest.fail(
                f"{self.page}: {command.text}\nrun as: {shlex.join(line)}\nended with {ended}; it said last:\n"
                f"{said[-3000:]}",
                pytrace=False,
            )

    def known(self, words):
        """Whether such a command has run on this page in a process of its own, which takes seconds to start."""
        if words[:3] != ["python", "-m", "lstmrep"]:
            return False
        seen = words[3] in self.seen
        self.seen.add(words[3])
        return seen

    def here(self, words):
        told, before = io.StringIO(), Path.cwd()
        os.chdir(self.folder)
        try:
            with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
                status = main(words)
        except SystemExit as error:  # argparse's
            status = error.code
        finally:
            os.chdir(before)
        return f"status {status}", told.getvalue()

    def apart(self, line, variables):
        try:
            done = subprocess.run(
                line,
                cwd=self.folder,
                env={**environment(), **variables},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            return f"no end in {SECONDS} s", (error.stdout or b"").decode(errors="replace")
        return f"status {done.returncode}", done.stdout

    def prepare(self, command, words):
        """Inputs that a reader has: a run from another page, clips, configurations, MNIST's files."""
        if words[1] == "benchmarks/gpu_check.py":
            emulated.module()  # built beforehand, which the time limit is not meant for
        verb = words[words.index("lstmrep") + 1] if "lstmrep" in words[:-1] else ""
        if verb in ("eval", "predict"):
            run = words[words.index(verb) + 1]
            # On a page that trains, what is named must have been trained there.
            if not self.trains and not (self.folder / run).exists():
                start = ["python", "-m", "lstmrep", "train", "mnist_small", "--out", run]
                self.run(command, [*start, *small_training(start)])
        clips = after(words, "--input")
        if clips and not (self.folder / clips).exists():
            model = self.folder / run / "model" / "config.json"
            side = math.isqrt(json.loads(model.read_text())["input_size"]) if model.exists() else 64
            np.save(self.folder / clips, np.random.default_rng(0).random((2, 10, 1, side, side), np.float32))
        if "VIDEOS" in " ".join(words) and not (self.folder / "VIDEOS").exists():
            videos_of_two_classes(self.folder / "VIDEOS")
        if "data.annotations=LISTS" in words and not (self.folder / "LISTS").exists():
            names = sorted(str(p.relative_to(self.folder / "VIDEOS")) for p in (self.folder / "VIDEOS").rglob("*.npy"))
            test = [name for name in names if int(name.split("_g")[1][:2]) <= 3]
            for fold in (1, 2, 3):
                train = [name for name in names if name not in test]
                percept_files.ucf101(self.folder / "LISTS", train, test, ("run", "walk"), fold)
        results = after(words, "--results")
        if results and not (self.folder / results).exists():
            (self.folder / results).write_text(self.block("task,encoder,"))
        for word in words:
            if verb == "train" and word.endswith(".toml") and not (self.folder / word).exists():
                (self.folder / word).write_text(self.configuration(word))
            if word in ORIGINAL:
                (self.folder / word).write_text(original_files.body(ORIGINAL[word]))
            root = word.removeprefix("data.root=")
            if root == "CLIPS" and not (self.folder / root).exists():
                (self.folder / root).mkdir()
                frames = np.random.default_rng(0).integers(112, 144, (300, 40, 40, 3), dtype=np.uint8)
                np.save(self.folder / root / "noise.npy", frames)
            elif root != word and not Path(root).is_absolute() and not (self.folder / root).exists():
                (self.folder / root).mkdir(parents=True, exist_ok=True)
                images, labels = np.full((30, 28, 28), 200, np.uint8), np.arange(30, dtype=np.uint8) % 10
                arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
                np.savez(self.folder / root / "mnist.npz", **arrays)

        for word in words:
            path = word.removeprefix("data.path=")
            if path != word and not (self.folder / path).exists():
                # As the published file lies: frames first, fewer clips.
                np.save(self.folder / path, np.random.default_rng(0).integers(0, 256, (20, 30, 64, 64), np.uint8))

    def configuration(self, name):
        """The page's ``toml`` block that starts with a comment naming the file, or the only one."""
        blocks = re.findall(r"^```toml\n(.*?)^```", self.text, re.MULTILINE | re.DOTALL)
        named = [b for b in blocks if re.match(rf"# .*{re.escape(name)}\b", b)] or (blocks if len(blocks) == 1 else [])
        if len(named) != 1:
            raise Mistake(f"{self.page}: show {name} in one block marked ```toml that starts with '# {name}'.")
        return named[0]

    def block(self, start):
        """The page's only ``text`` block that begins so."""
        (found,) = re.findall(rf"^```text\n({start}.*?)^```", self.text, re.MULTILINE | re.DOTALL)
        return found

    def look(self, command, words):
        """What the command line says will be written is there."""
        if "--dry-run" in words or "--list" in words:
            return
        for option in ("--out", "--output", "--strips"):
            name = after(command.words, option)
            assert name is None or (self.folder / name).exists(), f"{command.text}: nothing was written to {name}"
        output, steps = after(command.words, "--output"), after(command.words, "--steps")
        if output and steps:
            assert np.load(self.folder / output).shape[1] == int(steps), command.text


@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if commands(page, text)])
def test_commands_of_the_page(page, tmp_path):
    skipped = Story(page, PAGES[page], tmp_path).tell()
    if skipped:
        pytest.skip("; ".join(skipped))


def test_every_page_can_be_read_and_nothing_registered_is_stale():
    found = [command for page, text in PAGES.items() for command in commands(page, text)]
    assert {"README.md", "docs/training.md", "docs/gpu_check.md"} <= {command.page for command in found}
    assert not docs_commands.unused(RULES, found), "no page has these any more"
    for rule in RULES:
        assert [rule.toy, rule.elsewhere, rule.check].count(None) == 2, rule.pattern


def test_the_library_under_test_is_the_one_that_runs(tmp_path):
    (tmp_path / "where.py").write_text("import lstmrep\nprint(lstmrep.__file__)\n")
    line = executed(["python", "where.py"])
    done = subprocess.run(line, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == lstmrep.__file__


# --- The mechanism itself, on planted pages.

PLANTED = """# A page

Call `python -m lstmrep
info`, or `make lint types` with `LSTMREP_POISON=1`; `make(name)` and `pytest` are none.

```python
make = 1  # not a command
```

1. First:

   ```sh
   # a comment of its own
   python -m lstmrep train toy \\
     train.seed=3 --out "a b"   # and one behind
   pip install . && python -m lstmrep info
   ```

Then `LSTMREP_TEST_DEVICE=cuda pytest tests/test_tree.py`.
"""


def test_all_commands_of_a_page_are_found():
    found = [command.text for command in commands("planted", PLANTED)]
    assert found == [
        "python -m lstmrep info",
        "make lint types",
        "LSTMREP_POISON=1",
        'python -m lstmrep train toy train.seed=3 --out "a b"',
        "pip install .",
        "python -m lstmrep info",
        "LSTMREP_TEST_DEVICE=cuda pytest tests/test_tree.py",
    ]
    last = commands("planted", PLANTED)[-1]
    assert last.variables == {"LSTMREP_TEST_DEVICE": "cuda"} and last.words == ["pytest", "tests/test_tree.py"]


@pytest.mark.parametrize("language", ["", "bash", "console"])
def test_commands_in_another_block_are_refused(language):
    with pytest.raises(Mistake, match=f"stands in a block marked {language!r}; mark it ```sh"):
        commands("planted", f"```{language}\npython -m lstmrep info\n```\n")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("python -m lstmrep trian toy", "no rule says how 'python -m lstmrep trian toy' is tested; add one to RULES"),
        ("python -m lstmrep train", "no rule says how"),
        ("git clone there", "no rule says how"),
        ("python -m lstmrep info | head", "needs a shell"),
        ("make everything", "the Makefile has no target 'everything'"),
        ("make format", "say in MAKE of tests/docs_commands.py which test runs 'format'"),
        ("pip install numpy", "no rule says how"),
        ('pip install ".[trian]"', "no extra 'trian'"),
        ("LSTMREP_NATIVE=1 pip install .", "no rule says how"),
        ("LSTMREP_POISN=1", "neither the library nor a test reads LSTMREP_POISN"),
        ("LSTMREP_VERIFY=ever", "LSTMREP_VERIFY takes one of first-use, always, never"),
        ("LSTMREP_DEVICE=cuda pytest tests/test_tree.py", "neither the library nor a test reads LSTMREP_DEVICE"),
        ("LSTMREP_TEST_DEVICE=cuda pytest tests/test_tre.py", "collects no tests"),
        ("python -m lstmrep train mine.toml --out x", "show mine.toml in one block marked ```toml"),
    ],
)
def test_a_wrong_command_is_a_mistake(text, sentence, tmp_path):
    with pytest.raises(Mistake, match=re.escape(sentence)):
        Story("planted", f"```sh\n{text}\n```\n", tmp_path).tell()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("python -m lstmrep train toy --hiden 3", "unrecognized arguments: --hiden"),
        ("python -m lstmrep train toy train.max_iter=3", "did you mean 'max_iters'"),
        ("python -m lstmrep train toy train.max_iters=many", "train.max_iters is 'many', expected a whole number"),
        ("python -m lstmrep train toy --dry-run\npython -m lstmrep eval runs/a", "no trained model in runs/a"),
        ("python benchmarks/bench_lstm.py --toys", "--toy"),
    ],
)
def test_a_command_that_fails_is_shown(text, said, tmp_path):
    with pytest.raises(pytest.fail.Exception) as failed:
        Story("planted", f"```sh\n{text}\n```\n", tmp_path).tell()
    lines = str(failed.value).splitlines()
    assert lines[0] == f"planted: {text.splitlines()[-1]}"
    assert lines[1].startswith("run as: ") and said in str(failed.value)


def test_a_command_is_skipped_with_the_reason(tmp_path):
    rules = [Rule(r"python nothing\.py", needs=("json", "no_such_package"), toy=docs_commands.as_it_is)]
    story = Story("planted", "`python nothing.py`", tmp_path, rules)
    assert story.tell() == ["python nothing.py: no_such_package is not installed"]


def test_a_configuration_shown_on_the_page_is_used(tmp_path):
    shown = (
        "# mine.toml: small\n[data]\nname = 'moving_mnist'\nsource = 'mnist'\nroot = 'there'\n[model]\nhidden_size = 4"
    )
    text = "python -m lstmrep train mine.toml data.root=digits --out runs/mine"
    story = Story("planted", f"```toml\n{shown}\n```\n\n```toml\n[x]\n```\n\n```sh\n{text}\n```\n", tmp_path)
    assert not story.tell()
    assert 'root = "digits"' in (tmp_path / "runs" / "mine" / "config.toml").read_text()


def test_sizes_are_all_that_changes():
    command = Command("planted", "python -m lstmrep train ... model.hidden_size=256 --out runs/x")
    dry, small = to_run(command, rule_of(command, RULES))
    documented = ["python", "-m", "lstmrep", "train", "toy", "model.hidden_size=256", "--out", "runs/x"]
    assert dry == [*documented, "--dry-run"]
    assert small[: len(documented)] == documented and "model.hidden_size=8" in small[len(documented) :]
    command = Command("planted", "python -m lstmrep demo train.max_iters=3000 --out x")
    dry, small = to_run(command, rule_of(command, RULES))
    assert dry == ["python", "-m", "lstmrep", "train", "demo", "train.max_iters=3000", "--out", "x", "--dry-run"]
    assert small[: len(command.words)] == command.words and "train.max_iters=40" in small
    command = Command("planted", "python benchmarks/bench_lstm.py --only lstm --out there")
    (small,) = to_run(command, rule_of(command, RULES))
    assert small == [*command.words, "--toy"]


def test_claims_are_verified(monkeypatch):
    emulated_check = Command("planted", "python benchmarks/gpu_check.py --emulated")
    docs_commands.run_by_test(emulated_check)
    for test, words in (
        ("tests/test_gpu_check.py::test_nothing", "which does not exist"),
        ("tests/nothing.py::test_nothing", "which does not exist"),
        ("tests/test_docs.py::test_docstring_examples_run", "'benchmarks/gpu_check.py' is not in it"),
    ):
        with pytest.raises(Mistake, match=words):
            docs_commands.run_by_test(emulated_check, test)
    with pytest.raises(Mistake, match="none of the commands that"):
        docs_commands.run_by_ci_from_readme(Command("planted", 'pip install ".[test]"'))
    with pytest.raises(Mistake, match="no stage of"):
        docs_commands.run_by_ci_without_native(Command("planted", "LSTMREP_NATIVE=2 pip install ."))
    monkeypatch.setitem(MAKE, "kernels", "tests/test_docs.py::test_docstring_examples_run")
    with pytest.raises(Mistake, match=r"'csrc/make_kernels\.py' is not in it"):
        docs_commands.run_by_make(Command("planted", "make kernels"))


def test_stale_registrations_are_named(monkeypatch):
    found = commands("planted", "".join(f"`make {target}` " for target in MAKE))
    made = Rule(r"make .+", elsewhere=docs_commands.run_by_make, stands_for={"THIS": "that"})
    rules = [made, Rule(r"pytest", check=print)]
    assert docs_commands.unused(rules, found) == ["pytest", "THIS of make .+"]
    monkeypatch.setitem(MAKE, "lint", docs_commands.SUITE)
    assert docs_commands.unused([made], found) == ["THIS of make .+", "make lint"]
