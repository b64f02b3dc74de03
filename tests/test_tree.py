"""Habits that a reader can rely on, checked on the tree: layers, file sizes, errors, documented variables."""

import ast
import re
from pathlib import Path

import pytest

from lstmrep import env

ROOT = Path(__file__).resolve().parents[1]
PYTHON = sorted(
    p for folder in ("lstmrep", "triton_kernels", "benchmarks", "tests") for p in (ROOT / folder).rglob("*.py")
)
NATIVE = sorted(p for p in (ROOT / "csrc").rglob("*") if p.suffix in (".h", ".cpp", ".cu", ".cuh"))
TEXT = [*PYTHON, *NATIVE, ROOT / "setup.py"]
MOST_LINES = 600

# Each layer may import those before it, never one after it.
LAYERS = [
    {"env", "plan", "planner", "files", "optional"},
    {"native", "machine"},
    {"backends", "trust"},
    {"ops"},
    {"nn", "launches", "check"},
    {"footprint", "duration"},
    {"explain", "info", "testing", "data", "zoo"},
    {"eval", "viz"},
    {"train"},
    {"figures"},
    {"cli", "__main__"},
]


def _layer(module: str) -> int:
    return next(k for k, names in enumerate(LAYERS) if module in names)


def _imports(path: Path) -> set[str]:
    """Parts of lstmrep that a file imports when it is imported (type-checking blocks do not count)."""
    tree = ast.parse(path.read_text())
    found = set()
    for node in tree.body:
        for name in [a.name for a in node.names] if isinstance(node, ast.Import) else []:
            if name.startswith("lstmrep."):
                found.add(name.split(".")[1])
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "lstmrep":
                found |= {a.name for a in node.names}
            elif node.module.startswith("lstmrep."):
                found.add(node.module.split(".")[1])
    return found - {"__version__", "_native"}


@pytest.mark.parametrize("path", sorted((ROOT / "lstmrep").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_never_point_up(path):
    module = path.relative_to(ROOT / "lstmrep").parts[0].removesuffix(".py")
    if module == "__init__":
        return
    for other in _imports(path):
        assert _layer(other) <= _layer(module), f"{module} imports {other}, which lies above it"


def test_only_the_loader_reaches_the_compiled_module():
    pattern = re.compile(r"import _native|lstmrep\._native import")
    users = {p.name for p in (ROOT / "lstmrep").rglob("*.py") if pattern.search(p.read_text())}
    assert users == {"native.py"}


def test_no_torch_below_the_bindings():
    assert not [p for p in NATIVE if re.search(r"#include\s*[<\"](torch|ATen|c10)", p.read_text())]


def test_the_equations_stand_once_in_c():
    with_sigmoid_of_gates = [p for p in NATIVE if "sigmoid(z_i)" in p.read_text()]
    assert [p.name for p in with_sigmoid_of_gates] == ["lstm_cell.h"]


@pytest.mark.parametrize("path", TEXT, ids=lambda p: str(p.relative_to(ROOT)))
def test_file(path):
    text = path.read_text()
    assert text.count("\n") <= MOST_LINES
    assert not re.search(r"except[^:\n]*:\s*(pass|\.\.\.)\s*$", text, re.MULTILINE), "an error is swallowed"
    marks = "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"])
    assert not re.search(rf"\b({marks})\b", text), "unfinished work is marked"
    if path.suffix == ".py" and text.strip():
        assert ast.get_docstring(ast.parse(text)), "a file starts by saying what it is"
    if path in NATIVE:
        assert text.startswith("//"), "a file starts by saying what it is"


@pytest.mark.parametrize("path", [p for p in PYTHON if "tests" in p.parts], ids=lambda p: str(p.relative_to(ROOT)))
def test_no_tolerance_is_written_by_hand(path):
    assert not re.search(r"\b(atol|rtol|abs|rel)\s*=\s*\d", path.read_text())


def test_every_variable_is_in_the_table_and_every_entry_is_read():
    pattern = re.compile(r"LSTMREP_[A-Z_]+")
    read = set()
    for path in [*(ROOT / "lstmrep").rglob("*.py"), ROOT / "setup.py"]:
        for line in path.read_text().splitlines():
            if "environ" in line:
                read |= set(pattern.findall(line))
    assert read == set(env.VARIABLES)
    table = (ROOT / "docs" / "environment.md").read_text()
    for name, (when, values, default, _) in env.VARIABLES.items():
        assert f"| `{name}` | {when} | {values.replace('|', chr(92) + '|')} | {default} |" in table, name


def test_version_is_one():
    from lstmrep import __version__

    assert f'version = "{__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert f"version: {__version__}" in (ROOT / "CITATION.cff").read_text()
