"""bench_lstm.py: every row is right before it is timed, a wrong kernel gets no time, all files are there."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import bench_lstm
import pytest
import torch
from lstm_bench import plot, report
from lstm_bench.contenders import contenders
from lstm_bench.floor import Measured
from lstm_bench.gate import Gate, WrongError
from lstm_bench.problems import ALL, BATCHES, HIDDEN, STEPS, Problem, chosen, toy
from lstm_bench.report import Row
from lstm_bench.rows import Clock, admit, rows
from lstm_bench.ways import Way, ways
from lstm_bench.workload import Workload

from lstmrep.backends import TABLE, Backend, cpu
from lstmrep.ops import direct
from lstmrep.planner.triton import TRITON_KERNELS

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")
LAYER = Problem("lstm", 5, 7, 4, 3)
PEEPHOLE = Problem("lstm", 5, 7, 4, 3, peephole=True)
COMPOSITE = Problem("composite", 6, 5, 4, 3, peephole=True, predict=2)
CLASSIFIER = Problem("classifier", 6, 5, 4, 3, peephole=True, classes=3)
EACH = (LAYER, PEEPHOLE, COMPOSITE, Problem("composite", 6, 5, 4, 3, predict=5), CLASSIFIER)
DTYPES = (torch.float32, torch.bfloat16)


def _contenders(work, compiled=False):
    return list(contenders(work, [Way("lstmrep")], compiled))


def test_the_command_as_a_user_types_it(tmp_path):
    command = [sys.executable, "benchmarks/bench_lstm.py", "--toy", "--out", str(tmp_path / "out")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "TOY SIZES: these times say nothing about speed" in run.stdout
    assert "rows timed, all of them passed the gate\n" in run.stdout
    found = list(csv.DictReader((tmp_path / "out" / "bench.csv").open()))
    assert {r["problem"].split("-")[0] for r in found} == {"lstm", "composite", "classifier"}
    assert all(float(r["median"]) > 0 and float(r["floor"]) > 0 and not r["note"] for r in found)
    ours = [r for r in found if r["backend"] == "lstmrep"]
    assert ours and all(r["plan"].startswith("cpu, 1 thread") and int(r["launches"]) > 0 for r in ours)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["bench.csv", "bench.md", "bench.png"]
    assert (tmp_path / "out" / "bench.png").read_bytes().startswith(b"\x89PNG")
    table = (tmp_path / "out" / "bench.md").read_text()
    assert table.count("\n| lstm-") == sum(r["problem"].startswith("lstm") for r in found)
    summary = [line for line in run.stdout.splitlines() if line.startswith("| `")]
    assert len(summary) == len({r["problem"] for r in found}) and all(line in table for line in summary)


def test_the_suite_for_pytest_benchmark():
    command = [sys.executable, "-m", "pytest", "benchmarks", "--benchmark-only", "-q", "-p", "no:cacheprovider"]
    fast = ["--benchmark-max-time=0.01", "--benchmark-min-rounds=1"]
    env = {**os.environ, "BENCH_TOY": "1"}
    run = subprocess.run([*command, *fast], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "48 passed" in run.stdout and "benchmark 'composite-" in run.stdout


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("problem", EACH, ids=lambda p: p.name)
def test_every_contender_is_right(problem, dtype):
    work = Workload(problem, dtype, CPU)
    gate = Gate(work)
    found = _contenders(work)
    assert [c.baseline for c in found] == [True] + [False] * (len(found) - 1)
    for one in found:
        refusal = admit(one, gate)
        assert refusal is None, refusal.note


def test_the_compiled_cell_is_right_and_compiles_for_each_size():
    for problem in (PEEPHOLE, Problem("lstm", 5, 9, 2, 1, peephole=True)):
        work = Workload(problem, torch.float32, CPU)
        (one,) = [c for c in _contenders(work, compiled=True) if c.label == "eager cell, torch.compile"]
        refusal = admit(one, Gate(work))
        assert refusal is None, refusal.note


def _forward_off_by_a_percent(plan, r, a):
    cpu.forward(plan, r, a)
    a.h[..., 0] *= 1.01


def _backward_off_by_a_percent(plan, r, a):
    cpu.backward(plan, r, a)
    a.d_gates[..., 0] *= 1.01


WRONG = {
    "forward": Backend(_forward_off_by_a_percent, cpu.backward),
    "backward": Backend(cpu.forward, _backward_off_by_a_percent),
}


@pytest.mark.parametrize("where", WRONG)
@pytest.mark.parametrize("problem", ["lstm-i128-h128-t10-b1", "composite-i4096-h256-t10+10-b16-peephole"])
def test_a_planted_wrong_kernel_is_refused_a_timing(problem, where, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(TABLE, "cpu", WRONG[where])
    monkeypatch.setattr(direct, "readable", lambda: False)  # it goes past the table
    given = ["--toy", "--only", problem, "--dtype", "float32", "--out", str(tmp_path)]
    assert bench_lstm.main(given) == 1
    printed = capsys.readouterr().out
    assert "REFUSED by the gate" in printed
    found = list(csv.DictReader((tmp_path / "bench.csv").open()))
    ours = [r for r in found if r["backend"] == "lstmrep"]
    assert len(ours) == 1 and float(ours[0]["median"]) == 0 and ours[0]["wrong"] == "True"
    assert ours[0]["note"].startswith("wrong result, ") and "allowed" in ours[0]["note"]
    others = [r for r in found if r["backend"] != "lstmrep"]
    assert others and all(float(r["median"]) > 0 for r in others)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("peephole", ["weight_pi_l0", "weight_pf_l0", "weight_po_l0"])
def test_a_cell_without_one_of_its_peepholes_is_refused(peephole, dtype):
    work = Workload(Problem("lstm", 16, 32, 20, 8, peephole=True), dtype, CPU)
    baseline = _contenders(work)[0]
    make = baseline.make

    def without():
        module = make()
        with torch.no_grad():
            module.get_parameter(peephole).zero_()
        return module

    baseline.make = without
    assert admit(baseline, Gate(work)).wrong


def test_results_that_are_missing_misshapen_or_not_finite_are_refused():
    work = Workload(LAYER, torch.float32, CPU)
    gate = Gate(work)
    good = work.results(work.module(), training=True)
    gate.check(good, training=True)
    for key in good:
        for bad in (None, good[key][..., :-1], torch.full_like(good[key], torch.nan)):
            with pytest.raises(WrongError, match=key):
                gate.check({k: (bad if k == key else v) for k, v in good.items() if bad is not None or k != key}, True)


def test_a_library_that_fails_has_its_reason_and_no_time():
    def fails():
        raise OSError("libmissing.so: cannot open\nmore")

    work = Workload(LAYER, torch.float32, CPU)
    found = _contenders(work)
    found[2].make = fails
    assert found[2].label == "onnxruntime"
    made = list(rows(work, iter(found), ["inference"], Measured([torch.float32], quick=True), Clock(rounds=1)))
    (row,) = [r for r in made if r.backend == "onnxruntime"]
    assert (row.note, row.wrong, row.median) == ("OSError: libmissing.so: cannot open", False, 0.0)
    assert report.verdict(made) == "2 rows timed, all of them passed the gate; 1 could not run"
    found[1].make = fails
    with pytest.raises(OSError, match="libmissing"):  # this library's own failure is no row
        list(rows(work, iter(found), ["inference"], Measured([torch.float32], quick=True), Clock(rounds=1)))


def test_registered_problems():
    names = [p.name for p in ALL]
    assert len(set(names)) == len(names)
    for h in HIDDEN:
        for b in BATCHES:
            for t in STEPS:
                for end in ("", "-peephole"):
                    assert f"lstm-i{h}-h{h}-t{t}-b{b}{end}" in names
    assert {p.model for p in chosen(full=False)} == {"lstm", "composite", "classifier"}
    assert chosen(full=True) == list(ALL)
    picked = chosen(False, ["*-i4096-h2048-t10-b1", "composite-*b80-*"])
    assert [p.name for p in picked] == ["lstm-i4096-h2048-t10-b1", "composite-i4096-h2048-t10+10-b80-peephole"]
    with pytest.raises(ValueError, match="'nothing' fits no registered problem"):
        chosen(False, ["nothing"])
    assert all(max(p.I, p.H, p.T, p.B) <= 8 for p in map(toy, ALL))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--only", "lstm-x"], "fits no registered problem"),
        (["--threads", "-1"], "must not be negative"),
        (["--dtype", "int8"], "invalid choice: 'int8'"),
        (["--graphs", "--device", "cpu"], "--graphs needs a CUDA device"),
        *([] if torch.cuda.is_available() else [(["--device", "cuda"], "torch.cuda.is_available() is False")]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_options_are_told(given, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        bench_lstm.main(given)
    assert said in capsys.readouterr().err


def test_each_cuda_kernel_is_a_way_of_its_own(monkeypatch):
    assert [way.label for way in ways(CPU)] == ["lstmrep"]
    found = ways(torch.device("cuda"))
    assert [way.label for way in found] == [
        "lstmrep",
        "lstmrep, cta_resident",
        "lstmrep, grid_resident",
        "lstmrep, stepwise",
    ]
    more = ways(torch.device("cuda"), triton=True)
    assert [way.label for way in more[:4]] == [way.label for way in found]
    assert [way.label for way in more[4:]] == [f"lstmrep, triton {name}" for name in TRITON_KERNELS if name != "auto"]
    with more[4].inside():
        assert os.environ["LSTMREP_TRITON_KERNEL"] == "batch_held" and "LSTMREP_CUDA_KERNEL" not in os.environ
    assert "LSTMREP_TRITON_KERNEL" not in os.environ
    for before in (None, "stepwise"):
        if before:
            monkeypatch.setenv("LSTMREP_CUDA_KERNEL", before)
        with found[1].inside():
            assert os.environ["LSTMREP_CUDA_KERNEL"] == "cta_resident"
        assert os.environ.get("LSTMREP_CUDA_KERNEL") == before


def test_the_list_of_problems(capsys):
    assert bench_lstm.main(["--list"]) == 0
    assert capsys.readouterr().out.split() == [p.name for p in ALL]


def test_files_and_verdict_say_what_happened(tmp_path):
    good = Row("p", "float32", "inference", "a|b", median=2.0, p20=1.0, p80=3.0, ratio=0.5, floor=1.0, launches=3)
    bad = Row("p", "float32", "all", "c", note="wrong result, h", wrong=True)
    assert report.verdict([good, bad]) == "1 rows timed, 1 REFUSED by the gate"
    assert good.cells()[5:] == ["3", "2 (1-3)", "0.50", "50 %"]
    assert bad.cells()[5:] == ["", "no time: wrong result, h", "", ""]
    files = report.save(tmp_path, ["machine: x"], [good, bad])
    assert [Path(f).name for f in files] == ["bench.csv", "bench.md"]
    text = (tmp_path / "bench.md").read_text()
    assert "- machine: x" in text and r"a\|b" in text
    assert report.read_csv(tmp_path / "bench.csv") == [good, bad]


def test_the_summary_has_this_librarys_rows_over_the_baselines():
    def row(backend, passes, ratio, problem="p"):
        return Row(problem, "float32", passes, backend, median=2.0, ratio=ratio)

    made = [row("eager cell", "inference", 1.0), row("lstmrep", "inference", 0.5), row("onnxruntime", "inference", 0.1)]
    made += [row("lstmrep", "forward+backward", 0.25), row("lstmrep", "inference", 0.0, "without a baseline")]
    assert report.summary(made) == [
        "| problem | baseline | float32, inference | float32, forward+backward |",
        "| --- | --- | --- | --- |",
        "| `p` | eager cell | 2 ms, 0.50 | 2 ms, 0.25 |",
    ]


def test_what_peepholes_cost_is_a_line_each():
    made = [Row("p", "float32", "inference", "lstmrep", median=2.1, ratio=0.5)]
    assert report.peephole_costs(made) == []
    made += [Row("p", "float32", "inference", report.PLAIN, median=2.0), Row("q", "float32", "inference", "lstmrep")]
    assert report.peephole_costs(made)[-1] == "- `p`, float32, inference: 1.05"


def test_a_plot_is_left_out_without_matplotlib(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError):
        plot.draw(tmp_path / "x.png", [], "t")
    given = ["--toy", "--only", "lstm-i128-h128-t10-b1", "--dtype", "float32", "--out", str(tmp_path)]
    assert bench_lstm.main(given) == 0
    assert "no plot: matplotlib is not installed" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bench.csv", "bench.md"]
