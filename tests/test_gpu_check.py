"""``make gpu-check``: its whole run on the emulated device, and what its report says when a stage goes wrong."""

import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import emulated
import emulated_device
import gpu_check
import pytest
import torch
from gpu_stages import launch_counts, report, sanitizer, timing
from gpu_stages.apart import Stage, environment
from gpu_stages.record import FAILED, PASSED, Result
from gpu_stages.setup import KERNELS, Setup

from lstmrep import machine, native
from lstmrep.plan import Card, Machine

ROOT = Path(__file__).resolve().parents[1]
NAMES = ["machine", "tests", "compute-sanitizer", "streams", "launches", "trust", "timing"]

WHY_NOT = emulated.reason() or (emulated_device.NEEDS_EMULATOR if emulated_device.ON_CARD else "")
needs_emulator = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


def _stage(function, limit=120):
    return Stage(function, f"gpu_check_stages:{function}", "something", limit)


def _run(tmp_path, *functions, arguments=(), limit=120):
    """Exit code and report of planted stages."""
    file = tmp_path / "new" / "report.md"
    stages = [_stage(function, limit) for function in functions]
    code = gpu_check.main(["--emulated", "--out", str(file), *arguments], stages)
    return code, file.read_text()


def _statuses(text):
    """Stage -> status, from the summary."""
    summary = text.split("\n## ")[0].splitlines()
    rows = [line.split(" | ") for line in summary if line.startswith("| ")]
    return {row[0].removeprefix("| "): row[1] for row in rows[1:]}


@needs_emulator
def test_the_whole_check_on_the_emulated_device(tmp_path):
    emulated.module()  # built beforehand, which no stage's limit is meant for
    file = tmp_path / "results" / "report.md"
    command = [sys.executable, "benchmarks/gpu_check.py", "--emulated", "--out", str(file)]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    assert made.stdout.splitlines()[-1] == f"report: {file}"
    assert [p.name for p in file.parent.iterdir()] == ["report.md"]
    text = file.read_text()
    assert text.startswith("# GPU check: emulated card\n\n**EMULATED: no GPU was used.")
    assert "\nPASSED: 6 stages passed, 0 failed, 1 skipped. Started 2" in text
    assert _statuses(text) == {name: "skipped" if name == "compute-sanitizer" else "passed" for name in NAMES}
    for name in NAMES:
        assert f"\n## {name}: " in text
    for kernel in KERNELS:
        assert f"{kernel}, float32: two host threads at once" in text
        assert f"skipped: {kernel}, float32: captured in a CUDA graph" in text
    assert "1 tests passed, 0 failed" in text
    assert str(ROOT) not in text
    # A verdict of each pass of each kernel that stepwise is compared with, and none wrong.
    for which in ("forward", "backward"):
        assert re.search(rf"\| {which} \| CudaPass\(kernel='cta_resident'.* \| right \| .*allowed", text)
    assert "WRONG" not in text
    # Own launches are the same by both counts, the resident kernel's one a pass.
    assert "| LSTM | cta_resident | forward + backward | 2 | 2 |" in text
    # The table of times is full of rows and empty of times.
    rows = [line for line in text.splitlines() if re.match(r"\| (bfloat16|float32) \| \d+ \| \d+ \|", line)]
    assert len([row for row in rows if "torch.nn.LSTM" in row]) == 8
    assert len([row for row in rows if "| yes |" in row and "lstmrep stepwise" in row]) == 8
    assert all(row.endswith("| not timed |") or "| cannot run: " in row for row in rows)


@needs_emulator
def test_together_all_stages_but_those_alone_run_at_the_same_time(tmp_path, monkeypatch):
    """Two that wait for each other, and one that comes after both; the report keeps the order of the stages."""
    folder = tmp_path / "meeting"
    folder.mkdir()
    monkeypatch.setenv("GPU_CHECK_MEETING", str(folder))
    stages = [replace(_stage("alone"), alone=True), _stage("first"), _stage("second")]
    file = tmp_path / "report.md"
    assert gpu_check.main(["--emulated", "--together", "--out", str(file)], stages) == 0
    assert list(_statuses(file.read_text()).items()) == [(name, "passed") for name in ("alone", "first", "second")]
    assert [stage.name for stage in gpu_check.STAGES if stage.alone] == ["timing"]


def test_without_a_gpu_one_sentence_and_exit_code_2(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main(["--out", str(tmp_path / "report.md")]) == 2
    out, err = capsys.readouterr()
    assert err == "gpu-check: there is no CUDA device that torch can use; --emulated runs the check without one.\n"
    assert not out and not list(tmp_path.iterdir())


def test_a_gpu_that_lstmrep_cannot_use_is_told_apart(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(machine, "current", lambda device: Machine(cuda="not built"))
    assert gpu_check.main([]) == 2
    assert "there is a CUDA device, but lstmrep cannot use it: not built." in capsys.readouterr().err


def test_an_unknown_stage_is_named(capsys):
    assert gpu_check.main(["--emulated", "--only", "tests", "--only", "bogus"]) == 2
    assert "there is no stage 'bogus'; choose from machine, tests," in capsys.readouterr().err


@needs_emulator
@pytest.mark.parametrize(
    ("function", "reason"),
    [
        ("raising", "the stage: ValueError: planted in the stage"),
        ("raising_in_a_part", "the planted part: ValueError: planted in the part"),
        ("crashing", "its process was ended by SIGABRT"),
        ("leaving", "its process ended before the stage did"),
        ("empty", "nothing was checked"),
        ("missing", "the stage: AttributeError: module 'gpu_check_stages' has no attribute 'missing'"),
    ],
)
def test_a_stage_that_fails_is_reported_and_the_others_run(function, reason, tmp_path, capsys):
    code, text = _run(tmp_path, function, "passing")
    assert code == 1
    assert _statuses(text) == {function: "FAILED", "passing": "passed"}
    assert "\nFAILED: 1 stages passed, 1 failed, 0 skipped." in text
    assert f"| {reason} |" in text
    assert "# GPU check: A Card" in text
    assert "- passed: one and one\n- skipped: another planet: there is one planet" in text
    if function == "crashing":
        assert "- passed: before the crash" in text and "last words" in text
    if function == "raising_in_a_part":
        assert "- passed: the part after it" in text and "and more lines of it" in text
    assert capsys.readouterr().out.splitlines()[-2].startswith("FAILED: 1 stages passed")


@needs_emulator
def test_a_stage_that_hangs_is_cut_off_with_all_it_started(tmp_path, monkeypatch):
    alive = tmp_path / "alive"
    monkeypatch.setenv("GPU_CHECK_TEST_FILE", str(alive))
    began = time.monotonic()
    code, text = _run(tmp_path, "hanging", "passing", limit=8)
    assert time.monotonic() - began < 60
    assert code == 1
    assert _statuses(text) == {"hanging": "FAILED", "passing": "passed"}
    assert "| cut off after its limit of 8 s |" in text
    assert "| a row | before the hang |" in text, "what it had found is kept"
    written = alive.stat().st_size
    time.sleep(0.5)
    assert written and alive.stat().st_size == written, "a process of the stage's still runs"


@needs_emulator
def test_a_corrupted_kernel_fails_the_stage_of_trust(tmp_path):
    code, text = _run(tmp_path, "with_a_corrupted_kernel")
    assert code == 1
    assert _statuses(text) == {"with_a_corrupted_kernel": "FAILED"}
    assert re.search(r"- FAILED: cta_resident, float32: .*disagrees with stepwise \(h: largest error 5\.0e-01", text)
    assert re.search(r"- passed: stepwise, float32: .* agrees with stepwise and with float64", text)
    assert re.search(r"\| forward \| CudaPass\(kernel='cta_resident'.*\| WRONG \|", text)


@needs_emulator
def test_nothing_but_skips_is_no_success(tmp_path):
    code, text = _run(tmp_path, "skipped")
    assert code == 1
    assert "NOTHING CHECKED: 0 stages passed, 0 failed, 1 skipped" in text


@needs_emulator
def test_only_the_stages_asked_for_run(tmp_path):
    code, text = _run(tmp_path, "raising", "passing", arguments=["--only", "passing"])
    assert code == 0
    assert _statuses(text) == {"raising": "skipped", "passing": "passed"}
    assert "left out by --only" in text


def test_a_report_of_an_unfinished_run_says_so(tmp_path):
    stages = [_stage("passing"), _stage("raising")]
    file = tmp_path / "report.md"
    report.write(file, stages, [Result("passing", PASSED, "1 parts passed")], False, report.started())
    text = file.read_text()
    assert "UNFINISHED: 1 stages passed, 0 failed, 0 skipped, 1 not yet run." in text
    assert "EMULATED" not in text and _statuses(text)["raising"] == "not run"
    report.write(file, stages, [Result("passing", PASSED), Result("raising", FAILED)], False, report.started())
    assert "\nFAILED: 1 stages passed, 1 failed" in file.read_text()


def test_the_report_s_name_and_that_it_names_no_folder_of_the_machine(tmp_path):
    now = report.started()
    name = report.default_file("NVIDIA H100 80GB HBM3", now)
    assert name.parent == ROOT / "benchmarks" / "results"
    assert re.fullmatch(r"gpu-check-nvidia-h100-80gb-hbm3-\d{8}-\d{6}\.md", name.name)
    text = f"in {ROOT}/csrc and {Path.home()}/x"
    report.write(tmp_path / "report.md", [_stage("a")], [Result("a", FAILED, text=text)], False, now)
    assert "in ./csrc and ~/x" in (tmp_path / "report.md").read_text()


def test_settings_of_the_caller_do_not_reach_the_stages(monkeypatch, tmp_path):
    monkeypatch.setenv("LSTMREP_CUDA_KERNEL", "stepwise")
    made = environment(tmp_path)
    assert "LSTMREP_CUDA_KERNEL" not in made
    assert (made["LSTMREP_VERIFY"], made["LSTMREP_CACHE_DIR"]) == ("never", str(tmp_path))


@needs_emulator
def test_the_program_for_compute_sanitizer_runs_every_kernel(capsys):
    ran = sanitizer.program(Setup(emulated=True))
    *lines, last = capsys.readouterr().out.splitlines()
    assert (ran, last) == (len(lines), sanitizer.DONE)
    for kernel in KERNELS:
        assert any(line.startswith(f"ran {kernel}, ") for line in lines), kernel


@pytest.mark.parametrize(("code", "expected"), [(0, "passed"), (99, "found errors"), (3, "exit code 3")])
def test_compute_sanitizer_is_found_and_believed(code, expected, tmp_path, monkeypatch):
    """A stand-in for the program, which checks how it is called."""
    tool = tmp_path / "toolkit" / "bin" / "compute-sanitizer"
    tool.parent.mkdir(parents=True)
    tool.write_text(
        '#!/bin/sh\necho "$@"\n'
        '[ "$LSTMREP_SPIN_SECONDS" = 0 ] && [ "$PYTORCH_NO_CUDA_MEMORY_CACHING" = 1 ] || exit 7\n'
        f'echo "========= ERROR SUMMARY: {code} errors in lstmrep"\nexit {code}\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "toolkit"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert sanitizer.find() == str(tool)
    record = _Said()
    if code:
        with pytest.raises(AssertionError, match=f"compute-sanitizer racecheck .*{expected}"):
            sanitizer.check(str(tool), "racecheck", record)
        assert any("--tool racecheck --error-exitcode 99" in line for line in record.lines)
    else:
        sanitizer.check(str(tool), "racecheck", record)
    assert any("ERROR SUMMARY" in line for line in record.lines)


class _Said:
    def __init__(self):
        self.lines = []

    def say(self, *lines):
        self.lines += lines


def test_kernels_copies_and_fills_are_told_apart_in_a_trace():
    events = [
        {"cat": "kernel", "name": "void lstmrep::cuda::forward<float>(Args)"},
        {"cat": "kernel", "name": "cutlass_gemm"},
        {"cat": "kernel", "name": "cutlass_gemm"},
        {"cat": "gpu_memcpy", "name": "Memcpy DtoD"},
        {"cat": "gpu_memset", "name": "Memset"},
        {"cat": "cpu_op", "name": "aten::mm"},
        {"ph": "M"},
    ]
    seen = launch_counts.counted_in(json.loads(json.dumps({"traceEvents": events})))
    assert (seen.own, sum(seen.kernels.values()), seen.copies, seen.fills) == (1, 3, 1, 1)


@needs_emulator
@pytest.mark.parametrize("spoil_training", [False, True])
def test_a_row_that_is_wrong_gets_no_time(spoil_training, monkeypatch, tmp_path):
    """Every output and gradient is behind the gate: one element of the last of them is moved."""
    from gpu_stages.record import Record
    from lstm_bench.problems import Problem
    from lstm_bench.workload import Workload

    true_results = Workload.results

    def spoilt(self, module, training):
        results = true_results(self, module, training)
        if type(module) is torch.nn.LSTM and training == spoil_training:
            results[list(results)[-1]].detach().view(-1)[0] += 1
        return results

    monkeypatch.setattr(Workload, "results", spoilt)
    record = Record(tmp_path / "record.json")
    work = Workload(Problem("lstm", 8, 8, 3, 2), torch.float32, torch.device("cpu"))
    timing.one_problem(Setup(emulated=True), record, work)
    found = json.loads((tmp_path / "record.json").read_text())
    assert len(found["failures"]) == 1 and "torch.nn.LSTM" in found["failures"][0]
    rows = [line for line in found["lines"] if "torch.nn.LSTM" in line]
    assert len(rows) == 1 and "| no time: wrong result, " in rows[0]
    assert sum(line.endswith("| not timed |") for line in found["lines"]) >= 2


def test_a_cell_is_the_median_and_what_most_rounds_lie_between():
    assert timing.cell([float(n) for n in range(1, 12)]) == "6 (3 to 9)"


def test_the_real_card_is_planned_for_as_if_it_were_no_larger(monkeypatch):
    """What LSTMREP_TEST_DEVICE=cuda does to plans, with a card that is made up."""
    card = Card("real", 132, 100_000)
    there = Machine(gpu="real (sm_90)", card=card, tf32=True)
    monkeypatch.setattr(emulated_device, "ON_CARD", True)
    monkeypatch.setattr(machine, "planned", lambda where: (where.type, replace(there)))
    where = torch.device("cuda")
    small, huge = (emulated_device.Card("emulated", 9, 0, sms, 227 << 10) for sms in (2, 1000))
    for asked, sms in ((small, 2), (huge, 132), (None, 132)):
        with emulated_device.emulated_device(asked, kernel="stepwise") as module:
            assert module is native.module()
            seen, here = machine.planned(where)
            assert (seen, here.card) == ("cuda", Card("real", sms, 100_000))
            assert (here.tf32, here.cuda_kernel) == (False, "stepwise")
            assert machine.planned(torch.device("cpu")) == ("cpu", there)
    assert machine.planned(where) == ("cuda", there)


def test_a_device_to_test_on_that_is_not_there_is_an_error():
    for asked, expected in (("tpu", "is not known; choose one of emulated, cuda"), ("cuda", "no CUDA device")):
        if asked == "cuda" and torch.cuda.is_available():
            continue
        made = subprocess.run(
            [sys.executable, "-m", "pytest", "--co", "-q", "tests/test_tolerance.py"],
            cwd=ROOT,
            env={**environment(ROOT / "build"), "LSTMREP_TEST_DEVICE": asked},
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 4 and expected in made.stderr
