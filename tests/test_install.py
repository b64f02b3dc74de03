"""Building and importing: one clear sentence where something is missing, nothing heavy at import, complete packages."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Files of the package that are no Python.
DATA = {
    str(p.relative_to(ROOT))
    for folder in ("configs", "zoo")
    for p in (ROOT / "lstmrep" / folder).rglob("*")
    if p.suffix in (".toml", ".json", ".safetensors")
}


def _build(tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """setup.py build_ext with an environment of only these variables and no program on PATH."""
    command = [sys.executable, "setup.py", "-q", "build_ext", f"--build-lib={tmp_path}", f"--build-temp={tmp_path}"]
    environment = {"PATH": str(tmp_path / "nowhere"), "HOME": str(tmp_path), **variables}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (
            {},
            "lstmrep: no C++ compiler was found; install one (apt install g++) or set LSTMREP_NATIVE=0 for the "
            "pure-torch reference.",
        ),
        ({"CXX": "g+++"}, "lstmrep: CXX names the C++ compiler 'g+++', which is not on PATH."),
        (
            {"CXX": "/bin/true", "LSTMREP_CUDA": "1"},
            "lstmrep: LSTMREP_CUDA=1, but no nvcc was found in CUDA_HOME/bin or on PATH.",
        ),
        ({"CXX": "/bin/true", "LSTMREP_CUDA": "yes"}, "lstmrep: LSTMREP_CUDA must be auto, 1 or 0, got 'yes'."),
    ],
    ids=["no_compiler", "wrong_compiler", "no_nvcc", "bad_value"],
)
def test_build_without_what_it_needs_ends_with_one_sentence(tmp_path, variables, sentence):
    result = _build(tmp_path, **variables)
    assert result.returncode == 1
    assert result.stderr.strip().splitlines()[-1] == sentence
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.rglob("*.so"))


def test_build_without_native_needs_no_compiler(tmp_path):
    result = _build(tmp_path, LSTMREP_NATIVE="0")
    assert result.returncode == 0, result.stderr
    assert not list(tmp_path.rglob("*.so"))


def test_package_is_complete():
    """Of the installed distribution: types, licence, both packages, the command."""
    # A build leaves an egg-info folder in the checkout; only what was installed has a RECORD.
    found = importlib.metadata.distributions(name="lstmrep")
    distribution = next(d for d in found if d.read_text("RECORD"))
    names = {str(f) for f in distribution.files or []}
    if not any("__editable__" in name for name in names):  # an editable install lists only its link
        for needed in ("lstmrep/py.typed", "lstmrep/_native.pyi", "lstmrep/triton_kernels/__init__.py"):
            assert needed in names
        assert names >= DATA
        assert {Path(name).name for name in names} >= {"LICENSE", "NOTICE"}
    assert [e.value for e in distribution.entry_points] == ["lstmrep.cli:main"]
    import lstmrep.triton_kernels

    assert lstmrep.triton_kernels.__doc__


def _check_members(names: list[str], prefix: str) -> None:
    found = {name.removeprefix(prefix) for name in names}
    assert found >= DATA, sorted(DATA - found)


def test_wheel_and_source_distribution_have_the_data(tmp_path):
    """Built from a copy without native code: configurations and trained models are in both."""
    tree = tmp_path / "tree"
    shutil.copytree(ROOT / "lstmrep", tree / "lstmrep", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copytree(ROOT / "triton_kernels", tree / "triton_kernels")
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, tree / name)
    for kind in ("bdist_wheel", "sdist"):
        command = [sys.executable, "setup.py", "-q", kind, "--dist-dir", str(tmp_path / "dist")]
        environment = {**os.environ, "LSTMREP_NATIVE": "0"}
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    wheel, source = (next((tmp_path / "dist").glob(pattern)) for pattern in ("*.whl", "*.tar.gz"))
    with zipfile.ZipFile(wheel) as opened:
        _check_members(opened.namelist(), "")
    with tarfile.open(source) as opened:
        _check_members(opened.getnames(), source.name.removesuffix(".tar.gz") + "/")


def _python(code: str, **variables: str) -> str:
    environment = {**os.environ, **variables}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_import_is_light(capsys):
    """Import adds no package beyond torch and numpy; its time is printed, not judged."""
    out = _python(
        "import time, sys, torch, numpy; before = set(sys.modules); start = time.perf_counter(); import lstmrep\n"
        "print(round((time.perf_counter() - start) * 1e3))\n"
        "new = {m.split('.')[0] for m in set(sys.modules) - before}\n"
        "print(*sorted(m for m in new - {'lstmrep'} if m not in sys.stdlib_module_names))"
    )
    milliseconds, packages = out.split("\n")[:2]
    with capsys.disabled():
        print(f"\nimport lstmrep: {milliseconds} ms beyond torch")
    assert set(packages.split()) <= {"torch", "numpy"}


def test_checkout_imports_the_installed_compiled_module(tmp_path):
    """Started in a checkout, the Python comes from there and the compiled module from where it was installed."""
    (tmp_path / "lstmrep").mkdir()
    for path in (ROOT / "lstmrep").rglob("*.py"):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    code = "import lstmrep, lstmrep.native as n; print(lstmrep.__file__); print(n.reason())"
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    file, why = out.splitlines()[:2] if out.count("\n") > 1 else (out.strip(), "")
    assert file == str(tmp_path / "lstmrep" / "__init__.py")
    assert why == ""


def test_wrong_instruction_set_is_named():
    out = _python("import lstmrep.native as n; print(n.reason())", LSTMREP_CPU_ISA="mmx")
    assert out.startswith("LSTMREP_CPU_ISA='mmx' is not usable here; set it to one of baseline")


@pytest.mark.parametrize("arguments", [["info"], ["--version"], ["--help"]])
def test_command_line(arguments):
    command = [sys.executable, "-m", "lstmrep", *arguments]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "lstmrep" in out
    if arguments == ["info"]:
        assert "backend   cpu: usable" in out
        assert "backend   cuda: " in out


def test_command_line_without_a_command_says_which_there_are():
    result = subprocess.run([sys.executable, "-m", "lstmrep"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "COMMAND" in result.stderr
