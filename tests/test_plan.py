"""Planner: choices, refusals with reasons, forced backends, fallback with one warning, explain()."""

import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import lstmrep
from lstmrep import env, machine, native
from lstmrep.backends.tensors import Shape
from lstmrep.ops import lstm, plans, products
from lstmrep.plan import (
    CPU_STREAM_ROWS,
    CPU_STREAM_STEPS,
    Card,
    Machine,
    Plan,
    PlanError,
    Problem,
    plan,
    resident_shared_bytes,
)
from lstmrep.planner.cards import CARDS, card_for
from lstmrep.testing import assert_within, budget
from lstmrep.testing.cases import Case, run

CARD = Card("a card", 132, 227 << 10)
GPU = Machine(gpu="a card (sm_90)", card=CARD)
A100, ADA = Card("A100", 108, 163 << 10), Card("RTX 4090", 128, 99 << 10)
BARE = Machine(native="the compiled module is missing", cuda="the compiled module is missing")


@pytest.mark.parametrize(
    ("problem", "here", "backend", "refused"),
    [
        (Problem(8), Machine(), "cpu", ["cuda", "triton"]),
        (Problem(8, device="cuda"), GPU, "cuda", []),
        (Problem(8, device="cuda", dtype="float64"), GPU, "reference", ["cuda", "triton", "cpu"]),
        (Problem(8, device="cuda", recurrences=65), GPU, "reference", ["cuda", "triton", "cpu"]),
        (Problem(1 << 16, batch=1 << 15, device="cuda"), GPU, "reference", ["cuda", "triton", "cpu"]),
        (Problem(8, device="cuda"), Machine(cuda="no driver"), "triton", ["cuda"]),
        (Problem(8, device="cuda"), Machine(cuda="no driver", triton="absent"), "reference", ["cuda", "triton", "cpu"]),
        (Problem(8), BARE, "reference", ["cuda", "triton", "cpu"]),
        (Problem(8, device="mps"), Machine(), "reference", ["cuda", "triton", "cpu"]),
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
        (Problem(8, backend="cudnn"), Machine(), "choose one of auto, cuda, triton, cpu, reference"),
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
    problem = Problem(8, steps=10, input_size=4, device="cuda", training=True)
    stepwise = plan(problem, replace(GPU, cuda_kernel="stepwise"))
    assert stepwise.kernels == (10, 10)
    assert stepwise.gemms == (11, 13)
    resident = plan(problem, GPU)
    assert resident.kernels == (1, 1)
    assert resident.gemms == (1, 3)
    assert plan(Problem(8, steps=10), Machine()).kernels[0] == 1


@pytest.mark.parametrize("tensor", [True, False])
@pytest.mark.parametrize("backward", [True, False])
@pytest.mark.skipif(bool(native.reason()), reason=native.reason())
def test_resident_memory_is_what_the_kernel_takes(tensor, backward):
    for width in (2, 4) if tensor else (4,):
        for h in range(1, (192 if width == 2 else 128) + 1):
            for rows in range(1, 5):
                expected = native.module().cuda_resident_shared_bytes(h, rows, width, tensor, backward)
                assert resident_shared_bytes(h, rows, width, tensor, backward) == expected


@pytest.mark.parametrize(
    ("card", "dtype", "tf32", "reach"),
    [
        (CARD, "bfloat16", False, (192, 176)),
        (A100, "bfloat16", False, (160, 144)),
        (ADA, "bfloat16", False, (128, 128)),
        (CARD, "float32", False, (128, 128)),
        (A100, "float32", False, (112, 112)),
        (ADA, "float32", False, (96, 96)),
        (CARD, "float32", True, (128, 128)),
        (A100, "float32", True, (128, 128)),
        (ADA, "float32", True, (112, 112)),
    ],
)
def test_reach_of_the_resident_kernel_follows_from_shared_memory(card, dtype, tf32, reach):
    """Largest H of the forward and of the backward pass that stays resident."""
    here = Machine(gpu=card.name, card=card, tf32=tf32)
    found = [0, 0]
    for h in range(1, 200):
        made = plan(Problem(h, batch=100, dtype=dtype, device="cuda", training=True), here)
        for k, how in enumerate(made.cuda):
            if how.kernel == "cta_resident":
                assert how.shared_bytes <= card.shared_bytes
                found[k] = h
            else:
                assert any(name == "cta_resident" for name, _ in made.refusals)
    assert tuple(found) == reach


def test_rows_of_a_resident_cta_fill_the_card_once():
    for batch, n, rows, ctas in ((1, 1, 1, 1), (100, 1, 1, 100), (100, 2, 2, 100), (128, 3, 3, 129), (2000, 1, 4, 500)):
        how = plan(Problem(64, batch=batch, recurrences=n, device="cuda"), GPU).cuda[0]
        assert (how.kernel, how.rows, how.ctas) == ("cta_resident", rows, ctas)


def test_forced_cuda_kernel():
    forced = replace(GPU, cuda_kernel="cta_resident")
    assert plan(Problem(64, device="cuda"), forced).cuda[0].kernel == "cta_resident"
    with pytest.raises(PlanError, match="LSTMREP_CUDA_KERNEL=cta_resident, but H = 2048 exceeds 128"):
        plan(Problem(2048, device="cuda", backend="cuda"), forced)
    with pytest.raises(PlanError, match="LSTMREP_CUDA_KERNEL='fast' is not known; choose one of auto"):
        plan(Problem(64, device="cuda", backend="cuda"), replace(GPU, cuda_kernel="fast"))
    unknown = plan(Problem(64, device="cuda"), replace(GPU, card=None))
    assert unknown.cuda[0].kernel == "stepwise"
    assert ("cta_resident", "the card's shared memory is not known") in unknown.refusals


def test_plan_says_how_float32_is_multiplied():
    problem = Problem(64, device="cuda")
    assert "products in true float32, no TF32" in plan(problem, GPU).notes
    assert "products in TF32, which torch allows here" in plan(problem, replace(GPU, tf32=True)).notes


def test_few_rows_use_few_threads():
    """A thread must have enough work between two barriers to be worth one."""
    here = Machine(threads=8)
    assert plan(Problem(16), here).threads == 1
    assert plan(Problem(2048, batch=100), here).threads == 8
    assert plan(Problem(128, batch=16), here).threads in range(2, 9)


@pytest.mark.parametrize(
    ("isa", "dtype", "most"),
    [("avx512_bf16", "float32", 2), ("avx512_bf16", "bfloat16", 1), ("amx", "float32", CPU_STREAM_ROWS)],
)
def test_a_large_matrix_is_read_where_it_lies_by_few_rows(isa, dtype, most):
    made = {
        (b, t, h): plan(Problem(h, batch=b, steps=t, dtype=dtype), Machine(isa=isa))
        for b in (1, most, most + 1)
        for t in (CPU_STREAM_STEPS, CPU_STREAM_STEPS + 1)
        for h in (128, 2048)
    }
    steps = (CPU_STREAM_STEPS, CPU_STREAM_STEPS + 1) if isa == "amx" else (CPU_STREAM_STEPS,)
    expected = {(b, t, 2048) for b in (1, most) for t in steps}
    assert {key for key, one in made.items() if not one.packed} == expected
    for one in made.values():
        assert one.design.endswith("W_hh packed" if one.packed else "W_hh read where it lies")


def test_threads_own_rows_where_a_pack_fits_a_cache_and_rows_are_shared_out_evenly():
    here = Machine(threads=2, isa="avx2")
    by_rows = {
        "small, many rows": plan(Problem(128, batch=64, steps=10), here),
        "two blocks of rows": plan(Problem(256, batch=16, steps=10), here),
        "two recurrences of one block": plan(Problem(128, batch=8, recurrences=2, steps=10), here),
        "bfloat16 pack": plan(Problem(320, batch=64, steps=10, dtype="bfloat16"), replace(here, isa="amx")),
    }
    by_units = {
        "one block": plan(Problem(128, batch=8, steps=10), here),
        "pack too large": plan(Problem(320, batch=64, steps=10), here),
        "bfloat16 packed in float32": plan(Problem(320, batch=64, steps=10, dtype="bfloat16"), here),
        "three blocks for eight threads": plan(Problem(256, batch=24, steps=10), replace(here, threads=8)),
        "five blocks for four threads": plan(Problem(256, batch=40, steps=10), replace(here, threads=4)),
        "read where it lies": plan(Problem(2048, batch=1, steps=10), here),
    }
    assert [name for name, one in by_rows.items() if not one.by_rows or "threads by rows" not in one.design] == []
    assert [name for name, one in by_units.items() if one.by_rows or "threads by units" not in one.design] == []
    assert not plan(Problem(128, batch=64, steps=10), Machine(threads=1)).by_rows


def test_the_kernel_forms_the_input_share_where_w_ih_is_small():
    def shares(hidden: int, inputs: int, batch: int = 1, steps: int = 100, isa: str = "amx", **more: object) -> bool:
        problem = Problem(hidden, batch=batch, steps=steps, input_size=inputs, **more)  # type: ignore[arg-type]
        made = plan(problem, Machine(threads=2, isa=isa))
        assert made.shares == made.design.endswith(", input share in the same call")
        products = 0 if made.shares or not inputs else problem.recurrences
        assert made.gemms[0] == products or problem.backend == "reference"
        return made.shares

    assert shares(128, 128, batch=16) and shares(256, 256) and shares(128, 512, steps=16)
    assert shares(256, 512, dtype="bfloat16") and not shares(256, 512)  # its pack is half as large
    assert shares(2048, 4096, isa="avx512_bf16") and not shares(2048, 4096, isa="avx512_bf16", dtype="bfloat16")
    assert shares(2048, 4096, batch=5, steps=3, isa="avx512_bf16")
    bf16 = {"isa": "avx512_bf16", "dtype": "bfloat16"}
    assert shares(512, 4096, batch=10, **bf16) and not shares(512, 4096, batch=10, dtype="bfloat16")
    assert not shares(512, 4096, batch=9, **bf16) and not shares(512, 4096, batch=10, recurrences=2, **bf16)
    # Of the next size W_hh needs the third-level cache, or memory.
    assert not shares(768, 4096, batch=20, **bf16) and shares(768, 4096, batch=21, **bf16)
    # Where W_hh is read where it lies W_ih is too.
    assert shares(2048, 4096, steps=10, isa="avx2") and not shares(2048, 4096, steps=10, isa="avx2", dtype="bfloat16")
    assert not shares(256, 1024) and shares(128, 128, steps=1) and not shares(128, 0)
    # One of two threads for mostly the share.
    assert shares(32, 32) and not shares(32, 512) and shares(32, 512, steps=16) and not shares(32, 512, steps=17)
    assert not shares(128, 128, backend="reference")


def test_gradients_are_formed_by_the_kernels_where_that_was_measured_to_be_faster():
    def gradients(hidden: int, isa: str = "avx512_bf16", **more: object) -> int:
        more = {"steps": 100, "training": True, **more}
        problem = Problem(hidden, input_size=hidden, **more)  # type: ignore[arg-type]
        made = plan(problem, Machine(threads=2, isa=isa))
        note = f"gradients of x, W_ih and W_hh by the kernels' own products, {made.gradients} threads"
        assert (note in made.notes) == (made.gradients > 1)
        assert made.kernels[1] + made.gemms[1] == (2 if made.gradients else 4)
        return made.gradients

    assert gradients(128) == gradients(2048) == gradients(128, dtype="bfloat16") == 2
    assert gradients(256, dtype="bfloat16") == gradients(128, dtype="float64") == 0
    # So little work that a library call takes longer, whatever the instruction set and the dtype.
    for few in ({"isa": "amx"}, {"isa": "baseline"}, {"dtype": "float64"}, {"dtype": "float16"}):
        assert gradients(128, steps=21, **few) == 2 and gradients(128, steps=22, **few) == 0
    assert gradients(256, dtype="bfloat16", steps=1023) == 0 and gradients(2048, dtype="bfloat16", steps=1024) == 2
    assert gradients(128, isa="amx") == gradients(128, isa="avx2") == 0
    assert gradients(16, steps=2) == 1
    assert gradients(1024, steps=63) == 0 and gradients(1024, steps=64) == 2


def test_the_input_share_of_few_frames_is_formed_the_other_way_round():
    def turned(batch: int, steps: int, inputs: int = 4096) -> bool:
        made = plan(Problem(2048, batch=batch, steps=steps, input_size=inputs), Machine(isa="amx"))
        assert made.turned == ("input share as W x^T, faster for few rows of large weights" in made.notes)
        return made.turned

    assert [turned(1, 10), turned(4, 8), turned(1, 2)] == [True] * 3
    assert [turned(1, 1), turned(1, 33), turned(100, 10), turned(1, 10, 64), turned(1, 10, 0)] == [False] * 5
    assert not plan(Problem(2048, steps=10, input_size=4096, device="cuda"), GPU).turned


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_ways_to_form_the_input_share_agree(dtype):
    """On the ways themselves, and through the op at the least size that turns."""
    torch.manual_seed(0)
    x, w = torch.randn(3, 2, 40).to(dtype), [torch.randn(4 * 24, 40).to(dtype) for _ in range(2)]
    shape = Shape(2, 3, 2, 40, 24, dtype, torch.float32, x.device)
    straight, turned = (products.input_share(x, w, shape, turned=t) for t in (False, True))
    assert straight.shape == turned.shape
    assert turned.is_contiguous()
    torch.testing.assert_close(turned, straight)
    case = Case(T=2, B=2, I=1024, H=256, dtype=dtype)
    assert plan(Problem(256, steps=2, batch=2, input_size=1024), Machine()).turned
    limits = budget(lambda dtype, order: run(case, "reference", dtype, order=order), case.dtype)
    assert_within(run(case, "cpu"), limits)


def test_planner_needs_the_standard_library_only():
    folder = Path(lstmrep.__file__).parent
    code = "import sys, types; top = types.ModuleType('lstmrep'); top.__path__ = [sys.argv[1]]; "
    code += "sys.modules['lstmrep'] = top; import lstmrep.plan as m; "
    code += "print(m.plan(m.Problem(8), m.Machine()).backend); assert 'torch' not in sys.modules"
    out = subprocess.run([sys.executable, "-S", "-c", code, str(folder)], capture_output=True, text=True, check=True)
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


# --- grid_resident ----------------------------------------------------------------------------------------------------

PAPER = Problem(2048, steps=10, batch=100, input_size=4096, dtype="bfloat16", device="cuda", training=True)


def _grid(problem, card, kernel="auto"):
    made = plan(problem, Machine(gpu=card.name, card=card, cuda_kernel=kernel))
    return made, [how.grid for how in made.cuda]


def _weights_of(g):
    """Bytes of W_hh that a CTA has in registers, in shared memory and streamed."""
    level = 8 * g.tiles * 1024
    return min(g.levels, g.held_levels) * level, g.shared_levels * level, g.streamed_levels * level


@pytest.mark.parametrize("batch", [80, 100, 128])
@pytest.mark.parametrize("name", ["H100 SXM", "H200", "B200"])
def test_the_papers_size_is_resident_in_one_pass(name, batch):
    """Forced: with so many rows a library's product of a step takes less time than the turns of eight warps."""
    auto, _ = _grid(replace(PAPER, batch=batch), CARDS[name])
    assert [how.kernel for how in auto.cuda] == ["stepwise", "stepwise"]
    made, grids = _grid(replace(PAPER, batch=batch), CARDS[name], "grid_resident")
    for g in grids:
        assert g is not None and g.ctas == 128 <= CARDS[name].sms
        assert g.rows == batch and g.replicas == 1, "all rows in one pass"
        registers, shared, streamed = _weights_of(g)
        assert streamed == 0 and 128 * (registers + shared) == 8 * 2048**2
        assert g.shared_bytes <= CARDS[name].shared_bytes
    text = made.describe()
    for word in ("131,072 bytes in registers, 131,072 in shared memory, none streamed", "one barrier a step"):
        assert text.count(word) == 2
    assert text.count("model, not measured") == 2
    for term in ("tensor cores", "shared memory", "L2", "ingress", "turns"):
        assert term in text


@pytest.mark.parametrize("batch", [16, 80, 100, 128])
@pytest.mark.parametrize("name", ["A100", "H100 PCIe"])
def test_the_papers_size_is_hybrid_on_smaller_cards(name, batch):
    """Forced, since for 80 rows and more the model prefers stepwise there; with 16 rows it is chosen."""
    made, grids = _grid(replace(PAPER, batch=batch), CARDS[name], "auto" if batch == 16 else "grid_resident")
    for g in grids:
        assert g.ctas <= CARDS[name].sms and g.shared_bytes <= CARDS[name].shared_bytes
        registers, shared, streamed = _weights_of(g)
        assert streamed and registers + shared > streamed
        assert g.streamed_bytes == g.ctas * streamed
    assert made.describe().count("streamed from L2 for each of") == 2
    if batch > 16:
        auto = plan(replace(PAPER, batch=batch), Machine(gpu=name, card=CARDS[name]))
        assert [how.kernel for how in auto.cuda] == ["stepwise", "stepwise"]
        assert "modelled at" in dict(auto.refusals)["grid_resident"]


@pytest.mark.parametrize("batch", [1, 7, 80, 100, 128])
@pytest.mark.parametrize("h", [100, 1000, 2048, 4096])
@pytest.mark.parametrize("card", CARDS.values(), ids=lambda c: c.name)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_every_size_has_a_layout_on_every_card(dtype, card, h, batch):
    _, grids = _grid(replace(PAPER, hidden_size=h, batch=batch, dtype=dtype, recurrences=2), card, "grid_resident")
    for backward, g in enumerate(grids):
        assert g.ctas <= card.sms and g.shared_bytes <= card.shared_bytes
        assert g.members * g.panels * 4 * g.tiles >= h and (not backward or g.members % 4 == 0)
        assert g.replicas * g.rows >= batch > (g.replicas - 1) * g.rows
        assert g.chunks * 8 * g.row_tiles >= g.rows
        width = 4 if dtype == "float32" else 2
        k = 8 * g.levels * 64 // width
        units = g.members * g.panels * 4 * g.tiles
        assert k >= h and g.members * sum(_weights_of(g)) >= 4 * units * h * width, "no part of W_hh is left out"
        # Indices of the kernels are 32 bits wide in blocks of 512 bytes, 64 beyond.
        assert g.exchange_bytes // 512 < 2**31


def test_teams_share_the_batch_where_the_card_has_room():
    _, (forward, backward) = _grid(replace(PAPER, hidden_size=1024), CARDS["H100 SXM"], "grid_resident")
    assert (forward.members, forward.replicas, forward.rows) == (64, 2, 50)
    assert (backward.members, backward.replicas, backward.rows) == (64, 2, 50)


@pytest.mark.parametrize(("h", "batch"), [(128, 100), (512, 64), (1024, 32), (2048, 1), (2048, 16)])
def test_as_few_turns_a_step_as_the_card_allows(h, batch):
    """A turn takes as long for 16 rows as for 8, and turns follow one another: more teams go before more chunks."""
    made, grids = _grid(replace(PAPER, hidden_size=h, batch=batch), CARDS["H200"], "grid_resident")
    assert [g.chunks for g in grids] == [1, 1]
    if h > 192:  # beyond what one CTA holds
        auto, _ = _grid(replace(PAPER, hidden_size=h, batch=batch), CARDS["H200"])
        assert auto.cuda == made.cuda


def test_both_decoders_run_side_by_side_or_in_phases():
    for h, concurrent, phases in ((1024, 2, 1), (2048, 1, 2)):
        made, grids = _grid(replace(PAPER, hidden_size=h, recurrences=2), CARDS["H100 SXM"], "grid_resident")
        assert [g.concurrent for g in grids] == [concurrent, concurrent]
        assert ("in 2 phases" in made.describe()) == (phases == 2)
        assert made.kernels == (1, 1)


def test_reserved_multiprocessors_are_left_free(monkeypatch):
    card = replace(CARDS["H100 SXM"], sms=132 - 8)
    _, grids = _grid(PAPER, card, "grid_resident")
    assert all(g.ctas <= 124 for g in grids)
    monkeypatch.setenv("LSTMREP_RESERVE_SMS", "many")
    with pytest.raises(ValueError, match="LSTMREP_RESERVE_SMS='many' is not a number"):
        env.reserved_sms()
    monkeypatch.setenv("LSTMREP_SPIN_SECONDS", "-1")
    with pytest.raises(ValueError, match="LSTMREP_SPIN_SECONDS='-1' is not a number of seconds"):
        env.spin_nanoseconds()


def test_cards_are_known_by_the_drivers_name():
    full = card_for("NVIDIA H100 80GB HBM3", 132, 227 << 10, 50 << 20)
    assert (full.tensor_rate, full.sms) == (CARDS["H100 SXM"].tensor_rate, 132)
    part = card_for("NVIDIA H100 80GB HBM3 MIG 3g.40gb", 60, 227 << 10)
    assert part.tensor_rate == pytest.approx(CARDS["H100 SXM"].tensor_rate * 60 / 132)
    assert card_for("NVIDIA H100 PCIe", 114, 227 << 10).memory_rate == CARDS["H100 PCIe"].memory_rate
    other = card_for("a card of tomorrow", 200, 300 << 10)
    assert other.sms == 200 and other.clock and other.l2_rate
