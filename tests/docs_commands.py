"""Commands of README.md and docs: how they are found on a page, and RULES, which says how each is put to the test.

A command is a line of a fenced ``sh`` block, or inline code that starts as commands do.  Every command needs a rule:

    toy         it runs as it is documented, with words appended that only make it small
    elsewhere   the suite or .ci/run runs it already; the rule says where, and the claim is verified
    check       it cannot run here (it installs, or needs a card): what can be known without running it is checked

What is run is always formed from the documented words, so a mistake in them is seen.
"""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lstmrep import env
from lstmrep.train.config import toml_parser

ROOT = Path(__file__).resolve().parents[1]
CI = ROOT / ".ci" / "run"
SUITE = "tests/test_gpu_check.py::test_the_whole_check_on_the_emulated_device"

START = re.compile(r"(?:python3?|make|pytest|pip|torchrun) \S|LSTMREP_\w+=\S")
SETTING = re.compile(r"LSTMREP_\w+=\S*")
FENCE = re.compile(r"^( *)(`{3,}|~{3,})([^\n]*)\n(.*?)^ *\2`* *$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)


class Mistake(Exception):  # noqa: N818
    """A page or a rule is wrong; one sentence says what to do."""


# --- What a page says.


@dataclass(frozen=True)
class Command:
    """One documented command.

    Attributes:
        page: where it stands.
        text: as it stands there, on one line and without its comment.
        inline: it is inline code, where a command may be named without its arguments.
    """

    page: str
    text: str
    inline: bool = False

    @property
    def words(self) -> list[str]:
        """Its words without the variables before them."""
        return shlex.split(self.text)[len(self.variables) :]

    @property
    def variables(self) -> dict[str, str]:
        """Variables set for it."""
        found: dict[str, str] = {}
        for word in shlex.split(self.text):
            if not SETTING.fullmatch(word):
                break
            name, _, value = word.partition("=")
            found[name] = value
        return found


def pages() -> dict[str, str]:
    """Text of each page by its path; folders that begin with "_" are made by the site's builder."""
    docs = sorted((ROOT / "docs").rglob("*.md"))
    found = [p for p in docs if not any(part.startswith("_") for part in p.relative_to(ROOT).parts)]
    return {str(p.relative_to(ROOT)): p.read_text() for p in [ROOT / "README.md", *found]}


def commands(page: str, text: str) -> list[Command]:
    """The commands of a page, in the order in which they stand.

    Raises:
        Mistake: commands stand in a block that is not marked ``sh``.
    """
    found, end = list[Command](), 0
    for block in FENCE.finditer(text):
        found += [Command(page, one, inline=True) for one in _inline(text[end : block.start()])]
        end = block.end()
        language, lines = block[3].strip(), _lines(block[4])
        if language == "sh":
            found += [Command(page, one) for one in lines]
        elif language != "python":
            for line in lines:
                if START.match(line):
                    raise Mistake(f"{page}: {line!r} stands in a block marked {language!r}; mark it ```sh.")
    return found + [Command(page, one, inline=True) for one in _inline(text[end:])]


def _lines(block: str) -> list[str]:
    joined = re.sub(r"\s*\\\n\s*", " ", block)
    bare = (re.sub(r"(^|\s+)#(\s.*)?$", "", line).strip() for line in joined.splitlines())
    return [part.strip() for line in bare if line for part in line.split(" && ")]


def _inline(text: str) -> list[str]:
    """Inline code may go on in the next line, never in the next paragraph."""
    paragraphs = re.split(r"\n\s*\n", text)
    code = (" ".join(m[2].split()) for paragraph in paragraphs for m in INLINE.finditer(paragraph))
    return [part.strip() for one in code if START.match(one) for part in one.split(" && ")]


# --- What is done with a command.


@dataclass(frozen=True)
class Rule:
    """What is done with the commands that match a pattern; exactly one of the last three is given.

    Attributes:
        pattern: the whole command, the variables before it too.
        needs: packages without which it is skipped.
        stands_for: what a placeholder in the documented command is taken for.
        mention: it is for inline code only.
        toy: documented words -> words appended so that it is small.
        elsewhere: raises Mistake where it is not true that the command is run by another test.
        check: raises Mistake where what can be known without running it is wrong.
    """

    pattern: str
    needs: tuple[str, ...] = ()
    stands_for: dict[str, str] = field(default_factory=dict)
    mention: bool = False
    toy: Callable[[list[str]], list[str]] | None = None
    elsewhere: Callable[[Command], None] | None = None
    check: Callable[[Command], None] | None = None


def rule_of(command: Command, rules: list[Rule]) -> Rule:
    """The first rule whose pattern the command matches.

    Raises:
        Mistake: there is none, or the command needs a shell.
    """
    if re.search(r"[|;<>$&()]", re.sub(r"'[^']*'|\"[^\"]*\"", "", command.text)):
        raise Mistake(f"{command.page}: {command.text!r} needs a shell; write plain commands, one a line.")
    for rule in rules:
        if re.fullmatch(rule.pattern, command.text) and (command.inline or not rule.mention):
            return rule
    raise Mistake(
        f"{command.page}: no rule says how {command.text!r} is tested; add one to RULES in tests/docs_commands.py."
    )


def to_run(command: Command, rule: Rule) -> list[list[str]]:
    """What a toy rule runs: the documented words, made small.

    Where that replaces a documented setting, the command is first run as it stands with ``--dry-run``, so that the
    documented value is read too.
    """
    assert rule.toy is not None
    documented = [rule.stands_for.get(word, word) for word in command.words]
    extra = rule.toy(documented)
    changed = {word.split("=")[0] for word in documented if "=" in word} & {word.split("=")[0] for word in extra}
    if not changed or "transfer" in documented:  # which has no dry run: its configuration is train's
        return [[*documented, *extra]]
    _, _, verb, *rest = documented[documented.index("lstmrep") - 1 :]
    words = ["train", "demo", *rest] if verb == "demo" else [verb, *rest]
    return [["python", "-m", "lstmrep", *words, "--dry-run"], [*documented, *extra]]


def executed(words: list[str]) -> list[str]:
    """The same words for this interpreter, from any folder: scripts of the checkout by their whole path."""
    start = {
        "python": [sys.executable],
        "torchrun": [sys.executable, "-m", "torch.distributed.run"],
    }[words[0]]
    rest = [str(ROOT / w) if w.endswith(".py") and (ROOT / w).is_file() else w for w in words[1:]]
    return [*start, *rest]


def after(words: list[str], option: str) -> str | None:
    """What follows an option; None without it."""
    return words[words.index(option) + 1] if option in words[:-1] else None


# --- Toys: sizes only.

SMALL = {
    "train.max_iters": 2,
    "train.batch_size": 4,
    "train.print_every": 1,
    "train.validate_every": 1,
    "train.validation_batches": 1,
    "train.save_every": 1,
    "model.hidden_size": 8,
}
TOY_FEATURES = 16


def small_training(words: list[str]) -> list[str]:
    if "--dry-run" in words:
        return []
    # A resumed run has something left to do.
    changes = {**SMALL, "train.max_iters": 4 if "--resume" in words else SMALL["train.max_iters"]}
    if any("data.root=features/" in w for w in words):
        changes |= {"model.input_size": TOY_FEATURES, "train.workers": 0}
    if "actions_frame" in words:  # of single frames: it has no LSTM
        del changes["model.hidden_size"]
    # No card is shown to what runs here.
    device = ["train.device=cpu"] if any(w.startswith("train.device=") for w in words) else []
    return [f"{name}={value}" for name, value in changes.items()] + device


def small_extraction(words: list[str]) -> list[str]:
    short = ["--hours", "0.001", "--seconds", "1"] if "--hours" in words else []
    return ["--encoder", "projection", "--size", str(TOY_FEATURES), *short]


def small_transfer(words: list[str]) -> list[str]:
    changes = {name: SMALL[name] for name in ("train.max_iters", "model.hidden_size")}
    changes |= {"train.validate_every": 0, "train.workers": 0}
    if any("data.root=features/" in w for w in words):
        changes |= {"model.input_size": TOY_FEATURES}
    return [f"{name}={value}" for name, value in changes.items()] + ["--resamplings", "1", "--clips", "8"]


def small_evaluation(words: list[str]) -> list[str]:
    return ["--clips", "3", *([] if after(words, "--gallery") == "0" else ["--gallery", "1"])]


def small_figure(words: list[str]) -> list[str]:
    name = words[words.index("figures") + 1]
    if name in ("labels", "input_features", "output_features"):
        return []
    return ["--clips", "2", *(["--units", "5"] if name == "gates" else [])]


def small_demo(words: list[str]) -> list[str]:
    # Enough to end below the mean-pixel baseline: the command's exit status says whether it did.
    return ["train.max_iters=40", "train.validate_every=0"]


def small_gpu_check(words: list[str]) -> list[str]:
    only = [] if "--only" in words else ["--only", "machine"]
    out = [] if "--out" in words else ["--out", "gpu-check.md"]
    return [*(["--emulated"] if "--emulated" not in words else []), *only, *out]


def small_bench(words: list[str]) -> list[str]:
    return ["--toy", *([] if "--out" in words else ["--out", "bench"])]


def help_of(words: list[str]) -> list[str]:
    return ["--help"]


def as_it_is(words: list[str]) -> list[str]:
    return []


# --- Claims that a command is run elsewhere.


def run_by_test(command: Command, test: str = SUITE) -> None:
    """The test or fixture ``file::name`` names every word of the command after the first, files by their name."""
    _named_in(command, command.words[1:], test)


def _named_in(command: Command, words: list[str], test: str) -> None:
    path, _, name = test.partition("::")
    file = ROOT / path
    text = file.read_text() if file.is_file() else ""
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef) and n.name == name]
    source = ast.get_source_segment(text, functions[0]) if functions else None
    if source is None:
        raise Mistake(f"{command.page}: {command.text!r} is said to be run by {test}, which does not exist.")
    for word in words:
        if Path(word).name not in source:
            raise Mistake(f"{command.page}: {command.text!r} is said to be run by {test}, but {word!r} is not in it.")


def _stages() -> dict[str, str]:
    """Functions of .ci/run that are stages of it, with their text."""
    text = CI.read_text()
    bodies = dict(re.findall(r"^(\w+)\(\) \{((?:[^\n]*(?=\}$))|.*?(?=^\}$))", text, re.MULTILINE | re.DOTALL))
    return {n: body for n, body in bodies.items() if re.search(rf'^stage "[^"]*" \d+ {n}$', text, re.MULTILINE)}


def run_by_ci_from_readme(command: Command) -> None:
    """A stage of .ci/run takes the line with the command out of README.md."""
    taken = []
    for body in _stages().values():
        for pattern in re.findall(r"grep '([^']+)' README\.md", body):
            done = subprocess.run(["grep", pattern, "README.md"], cwd=ROOT, capture_output=True, text=True, check=False)
            taken += _lines(done.stdout)
    if command.text not in taken:
        raise Mistake(f"{command.page}: {command.text!r} is none of the commands that .ci/run takes out of README.md.")


def run_by_ci_without_native(command: Command) -> None:
    """A stage of .ci/run installs with the same variables, by a pip of its own."""
    wanted = "".join(f"{name}={value} " for name, value in command.variables.items()) + '"${pip[@]}" .'
    if not any(wanted in body for body in _stages().values()):
        raise Mistake(f"{command.page}: no stage of .ci/run has {wanted!r}, which stands for {command.text!r}.")


# Target of the Makefile -> the test or fixture that runs what it runs. Those that .ci/run makes need no entry.
MAKE = {
    "gpu-check": SUITE,
    "kernels": "tests/native/test_kernels_manifest.py::manifest",
    "triton-kernels": "tests/test_triton_compiled.py::_make",
    "docs": "tests/test_docs_site.py::site",
    "emu-full": "tests/emulator/test_planted_bugs.py::test_caught",
}


def run_by_make(command: Command) -> None:
    """Every target exists, and what it runs is run by a test or by .ci/run."""
    recipes = dict(re.findall(r"^([\w-]+):[^;\n=]*;? *(.*(?:\n\t.*)*)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for target in command.words[1:]:
        if "=" in target:
            continue
        if target not in recipes:
            raise Mistake(f"{command.page}: {command.text!r}: the Makefile has no target {target!r}.")
        if re.search(rf"^\s*make\b.* {target}\b", CI.read_text(), re.MULTILINE):
            continue
        if target not in MAKE:
            raise Mistake(
                f"{command.page}: {command.text!r}: say in MAKE of tests/docs_commands.py which test runs {target!r}."
            )
        _named_in(command, [w for w in recipes[target].split() if w.endswith(".py")], MAKE[target])


# --- Checks of what cannot run here.


def extras_exist(command: Command) -> None:
    """Extras that are installed are those of pyproject.toml."""
    known = toml_parser().loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra in ",".join(re.findall(r"\[([^\]]*)\]", command.text)).split(","):
        if extra and extra not in known:
            raise Mistake(f"{command.page}: {command.text!r}: pyproject.toml has no extra {extra!r}.")


def tests_collect(command: Command) -> None:
    """Variables are known and the tests named are found; the suite runs them, what needs a card aside."""
    for name in command.variables:
        known_variable(command, name)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *command.words[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode:
        raise Mistake(f"{command.page}: {command.text!r} collects no tests:\n{(done.stdout + done.stderr)[-2000:]}")


def setting_fits(command: Command) -> None:
    """A variable quoted with a value, without a command: there is such a variable, and it takes the value."""
    for name, value in command.variables.items():
        known_variable(command, name)
        choices = env.VARIABLES[name][1].split(" | ") if name in env.VARIABLES else [value]
        if len(choices) > 1 and value not in choices:
            raise Mistake(f"{command.page}: {command.text!r}: {name} takes one of {', '.join(choices)}.")


def known_variable(command: Command, name: str) -> None:
    """The library or the tests read it."""
    if name in env.VARIABLES:
        return
    for path in (ROOT / "tests").rglob("*.py"):
        if re.search(rf"environ\S*[\[(]\"{name}\"", path.read_text()):
            return
    raise Mistake(f"{command.page}: {command.text!r}: neither the library nor a test reads {name}.")


TRAINING = ("sklearn", "safetensors")
PICTURES = (*TRAINING, "PIL", "matplotlib")
FLOW = ("cv2", "av", "PIL", "skimage")

RULES = [
    Rule(r"python -m lstmrep( train| eval| predict| extract| transfer| figures)?", mention=True, toy=help_of),
    Rule(
        r"python -m lstmrep extract .+",
        needs=("av", "safetensors"),
        stands_for={"UCF-101": "VIDEOS", "HMDB-51": "VIDEOS", "SPORTS": "VIDEOS"},
        toy=small_extraction,
    ),
    Rule(r"python -m lstmrep transfer .+", needs=TRAINING, toy=small_transfer),
    Rule(r"python -m lstmrep info", toy=as_it_is),
    Rule(r"python -m lstmrep demo( .+)?", needs=PICTURES, toy=small_demo),
    Rule(r"python -m lstmrep train .+", needs=TRAINING, stands_for={"...": "toy"}, toy=small_training),
    Rule(r"torchrun .*-m lstmrep train .+", needs=(*TRAINING, "torch.distributed.run"), toy=small_training),
    Rule(r"python -m lstmrep eval .+", needs=PICTURES, toy=small_evaluation),
    Rule(r"python -m lstmrep predict .+", needs=TRAINING, toy=as_it_is),
    Rule(r"python -m lstmrep flow .+", needs=FLOW, stands_for={"UCF-101": "VIDEOS"}, toy=as_it_is),
    Rule(r"python -m lstmrep figures .+", needs=PICTURES, toy=small_figure),
    Rule(r"python benchmarks/gpu_check\.py --emulated", elsewhere=run_by_test),
    Rule(
        r"python benchmarks/gpu_check\.py( .+)?",
        needs=("emulator",),
        stands_for={"STAGE": "machine"},
        toy=small_gpu_check,
    ),
    Rule(r"python benchmarks/bench_lstm\.py", elsewhere=run_by_ci_from_readme),
    Rule(r"python benchmarks/bench_lstm\.py .+", toy=small_bench),
    Rule(r"python benchmarks/bench_flow\.py", needs=FLOW, toy=lambda words: ["--runs", "1"]),
    Rule(r"python benchmarks/bench_overhead\.py", toy=lambda words: ["--rounds", "1"]),
    Rule(r'pip install "\.\[(bench|test,files)\]"', elsewhere=run_by_ci_from_readme),
    Rule(r"LSTMREP_NATIVE=0 pip install \.", elsewhere=run_by_ci_without_native),
    Rule(r'pip install "\.\[[\w,]+\]"', check=extras_exist),
    Rule(r"pytest", elsewhere=run_by_ci_from_readme),
    Rule(r"make .+", elsewhere=run_by_make),
    Rule(r"(LSTMREP_\w+=\S+ )*pytest .+", check=tests_collect),
    Rule(r"LSTMREP_\w+=\S+( LSTMREP_\w+=\S+)*", check=setting_fits),
]


def unused(rules: list[Rule], found: list[Command]) -> list[str]:
    """What is registered and stands on no page: patterns, placeholders, targets of MAKE."""
    users: dict[str, list[Command]] = {rule.pattern: [] for rule in rules}
    for command in found:
        users[rule_of(command, rules).pattern].append(command)
    left = [rule.pattern for rule in rules if not users[rule.pattern]]
    for rule in rules:
        words = {word for command in users[rule.pattern] for word in command.words}
        left += [f"{name} of {rule.pattern}" for name in rule.stands_for if name not in words]
    targets = {word for command in found if command.words[:1] == ["make"] for word in command.words[1:]}
    return left + [f"make {target}" for target in MAKE if target not in targets]
