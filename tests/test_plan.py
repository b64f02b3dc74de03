"""Planner: choices, refusals with reasons, forced backends, fallback with one warning, explain()."""

import subprocess
import sys
import warnings
from dataclasses import replace

import pytest
import torch

import lstmrep
from lstmrep import machine, native
from lstmrep.ops import lstm, plans
from lstmrep.plan import Machine, Plan, PlanError, Problem, plan
from lstmrep.testing import assert_within, budget
from lstmrep.testing.cases import Case, run

GPU = Machine(gpu="a card (sm_90)")
BARE = Machine(native="the compiled module is missing", cuda="the compiled module is missing")


@pytest.mark.parametrize(
    ("problem", "here", "backend", "refused"),
    [
        (Problem(8), Machine(), "cpu", ["cuda"]),
        (Problem(8, device="cuda"), GPU, "cuda", []),
        (Problem(8, device="cuda", dtype="float64"), GPU, "reference", ["cuda", "cpu"]),
        (Problem(8, device="cuda", recurrences=65), GPU, "reference", ["cuda", "cpu"]),
        (Problem(1 << 16, batch=1 << 15, device="cuda"), GPU, "reference", ["cuda", "cpu"]),
        (Problem(8, device="cuda"), Machine(cuda="no driver"), "reference", ["cuda", "cpu"]),
        (Problem(8), BARE, "reference", ["cuda", "cpu"]),
        (Problem(8, device="mps"), Machine(), "reference", ["cuda", "cpu"]),
        (Problem(8, backend="reference"), GPU, "reference", []),
    ],
)
def test_choice(problem, here, backend, refused):
    made = plan(problem, here)
    assert made.backend == backend
    assert [name for name, _ in made.refusals] == refused
    assert all(why for _, why in made.refusals)
    for name, why in made.refusals:
        assert f"refused   {name}: {why}" in made.describe()


@pytest.mark.parametrize(
    ("problem", "here", "says"),
    [
        (Problem(8, backend="cuda"), GPU, "the tensors are on cpu"),
        (Problem(8, backend="cuda", device="cuda"), Machine(cuda="no driver"), "no driver"),
        (Problem(8, backend="cpu"), BARE, "the compiled module is missing"),
        (Problem(8, backend="cudnn"), Machine(), "choose one of auto, cuda, cpu, reference"),
    ],
)
def test_forced_backend_that_cannot_run_says_why(problem, here, says):
    with pytest.raises(PlanError, match=says):
        plan(problem, here)


def test_plans_are_frozen_and_equal():
    first, second = plan(Problem(8), Machine()), plan(Problem(8), Machine())
    assert first == second and hash(first) == hash(second)
    with pytest.raises(AttributeError):
        first.backend = "cuda"


def test_launches_follow_the_steps():
    made = plan(Problem(8, steps=10, input_size=4, device="cuda", training=True), GPU)
    assert made.kernels == (10, 10)
    assert made.gemms == (11, 13)
    assert plan(Problem(8, steps=10), Machine()).kernels[0] == 1


def test_few_rows_use_few_threads():
    """A thread must have enough work between two barriers to be worth one."""
    here = Machine(threads=8)
    assert plan(Problem(16), here).threads == 1
    assert plan(Problem(2048, batch=100), here).threads == 8
    assert plan(Problem(128, batch=16), here).threads in range(2, 9)


def test_planner_needs_the_standard_library_only():
    code = (
        "import sys, importlib.util as u; s = u.spec_from_file_location('p', sys.argv[1]); m = u.module_from_spec(s); "
    )
    code += "sys.modules['p'] = m; s.loader.exec_module(m); print(m.plan(m.Problem(8), m.Machine()).backend); "
    code += "assert 'torch' not in sys.modules"
    from lstmrep import plan as function

    path = sys.modules[function.__module__].__file__
    out = subprocess.run([sys.executable, "-S", "-c", code, path], capture_output=True, text=True, check=True)
    assert out.stdout == "cpu\n"


def test_op_runs_what_the_environment_names(monkeypatch):
    x, w_ih, w_hh = torch.randn(3, 2, 5), torch.randn(16, 5), torch.randn(16, 4)
    counts = {}
    for name in ("cpu", "reference", "auto"):
        monkeypatch.setenv("LSTMREP_BACKEND", name)
        with lstmrep.count_launches() as launches:
            lstm(x, [w_ih], [w_hh])
        counts[name] = launches.own["cpu_forward"]
    assert counts == {"cpu": 1, "reference": 0, "auto": 1}
    monkeypatch.setenv("LSTMREP_BACKEND", "cuda")
    with pytest.raises(PlanError, match="the tensors are on cpu"):
        lstm(x, [w_ih], [w_hh])


@pytest.fixture
def no_native(monkeypatch):
    """As if the package had been installed with LSTMREP_NATIVE=0."""
    monkeypatch.setattr(native, "_load", lambda: (None, "the compiled module is missing"))
    for reset in (machine.reset, plans.reset_plans):
        reset()
    yield
    monkeypatch.undo()
    for reset in (machine.reset, plans.reset_plans):
        reset()


def test_auto_falls_back_once_with_a_warning_and_right_numbers(no_native):
    case = Case()
    limits = budget(lambda dtype, order: run(case, "reference", dtype, order=order), case.dtype)
    with pytest.warns(RuntimeWarning, match="the compiled module is missing"):
        first = run(case, "auto")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = run(replace(case, T=case.T), "auto")
    assert_within(first, limits)
    assert_within(second, limits)
    with pytest.raises(PlanError, match="the compiled module is missing"):
        run(case, "cpu")
    assert "not loaded: the compiled module is missing" in lstmrep.show_config()


def test_explain_prints_a_plan_for_each_layer(capsys):
    module = lstmrep.LSTM(5, 8, num_layers=2, peephole=True, batch_first=True, backend="cpu")
    made = lstmrep.explain(module, torch.randn(3, 7, 5))
    text = capsys.readouterr().out
    assert [type(p) for p in made] == [Plan, Plan]
    assert "peephole LSTM (tanh cell), N=1 T=7 B=3 I=5 H=8, float32 on cpu, training" in text
    assert "I=8" in text and "bytes per step: gates, c, h" in text
    lstmrep.explain(Problem(2048, steps=10, batch=100))
    assert "refused   cuda: the tensors are on cpu" in capsys.readouterr().out
    with pytest.raises(ValueError, match="argument 'input' is missing"):
        lstmrep.explain(module)
