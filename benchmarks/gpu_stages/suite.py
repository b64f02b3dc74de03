"""Stage "tests": the test files that have a meaning on CUDA, with CUDA tensors and the compiled kernels."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from gpu_stages.apart import ROOT
from gpu_stages.record import Record, SkipError
from gpu_stages.setup import Setup

FILES = [f"tests/test_{name}.py" for name in ("cuda_kernels", "frame_loss", "op_contract", "triton_kernels")]
MOST_WORKERS = 12  # each has a CUDA context of its own on the card
# On the emulated device the suite itself runs these tests; here one of them shows that the stage works.
SMALL = ["tests/test_cuda_kernels.py", "-k", "test_same_inputs_twice_same_bits and float32 and cta_resident"]


def run(setup: Setup, record: Record) -> None:
    """Run pytest and list what failed and what was skipped, with reasons."""
    with record.part("pytest", listed=False, counted=False):
        if importlib.util.find_spec("pytest") is None:
            raise SkipError("pytest is not installed: pip install '.[test]'")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "results.xml")
            command = [sys.executable, "-m", "pytest", *(SMALL if setup.emulated else FILES), "-q"]
            if not setup.emulated and importlib.util.find_spec("xdist"):
                command += ["-n", str(min(MOST_WORKERS, os.cpu_count() or 1))]
            command += ["-p", "no:cacheprovider", f"--junit-xml={file}"]
            device = {} if setup.emulated else {"LSTMREP_TEST_DEVICE": "cuda"}
            code = subprocess.run(command, cwd=ROOT, env={**os.environ, **device}, check=False).returncode
            record.say("", f"`pytest {' '.join(command[3:-3])}` ended with exit code {code}.", "")
            cases = list(ElementTree.parse(file).getroot().iter("testcase")) if file.exists() else []
    with record.part("the tests"):
        judge(record, code, cases)


def judge(record: Record, code: int, cases: list[ElementTree.Element]) -> None:
    """Say what passed and what did not.

    Args:
        record: of the stage.
        code: pytest's exit code.
        cases: of its XML file.

    Raises:
        AssertionError: a test failed, none passed, or pytest did not end well.
    """
    failed, skipped = [], []
    for case in cases:
        which = f"{case.get('classname', '')}::{case.get('name', '')}"
        for trouble in [*case.findall("failure"), *case.findall("error")]:
            failed.append(f"{which}: {(trouble.get('message') or 'no message').splitlines()[0]}")
        for skip in case.findall("skipped"):
            skipped.append(re.sub(r"\s+", " ", skip.get("message") or "no reason"))
    passed = len(cases) - len(failed) - len(skipped)
    record.say(f"{passed} tests passed, {len(failed)} failed, {len(skipped)} were skipped.")
    record.say(*(f"  - skipped {skipped.count(why)}: {why}" for why in dict.fromkeys(skipped)))
    record.say(*(f"  - FAILED {line}" for line in failed[:50]))
    if failed:
        raise AssertionError(f"{len(failed)} of {len(cases)} tests failed, the first of them {failed[0]}")
    if code or not passed:
        raise AssertionError(f"pytest ended with exit code {code} and {passed} tests passed")
