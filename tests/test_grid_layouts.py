"""grid_resident under layouts that the planner would not choose at sizes the emulator can run.

Chunks of 8 and 16 rows at every batch from 17 to 33, several panels, weights in shared memory and streamed, teams that
share a batch, recurrences one after the other in a launch, rings of every length; and the real sizes at few rows.
"""

from __future__ import annotations

import functools
import sys
from dataclasses import replace

import emulated
import pytest
import torch
from emulated_device import NEEDS_EMULATOR, ON_CARD, Card, emulated_device, reason, run, under_schedules

import lstmrep
from lstmrep.plan import BYTES, CudaPass, GridLayout
from lstmrep.planner import grid
from lstmrep.testing import assert_same_bits, assert_within, budget
from lstmrep.testing.cases import Case

pytestmark = pytest.mark.skipif(bool(reason()), reason=reason())
needs_emulator = pytest.mark.skipif(ON_CARD, reason=NEEDS_EMULATOR)

CARD = Card("132 SMs", 9, 0, 132, 227 << 10)
CANDIDATES = sys.modules["lstmrep.plan"]._CANDIDATE_PASSES  # lstmrep.plan itself is the function of that name


@functools.cache
def _limits(case):
    return budget(lambda d, order: run(case, "reference", d, order=order), case.dtype)


def _members(h: int, tiles: int, panels: int, backward: bool) -> int:
    members = -(-h // (4 * tiles * panels))
    return -(-members // 4) * 4 if backward else members


@pytest.fixture
def forced(monkeypatch):
    """Makes the planner take one layout, given as fields of GridLayout; rows follow from the replicas."""

    def force(tf32=False, **choice):
        given = {"tiles": 4, "panels": 1, "replicas": 1, "row_tiles": 1, "slots": 4, "most_shared": 8, **choice}

        def made(p, m, backward):
            tensor = p.dtype != "float32" or tf32
            fields = {"concurrent": p.recurrences, "rows": -(-p.batch // given["replicas"]), **given}
            members = _members(p.hidden_size, given["tiles"], given["panels"], backward)
            g = GridLayout(members=members, **fields)
            g = grid.laid_out(g, p.recurrences, p.hidden_size, BYTES[p.dtype], tensor, backward)
            made.layouts.append(g)
            return CudaPass("grid_resident", shared_bytes=g.shared_bytes, tf32=tf32, grid=g)

        made.layouts = []
        monkeypatch.setitem(CANDIDATES, "grid_resident", made)
        return made

    return force


@pytest.mark.parametrize("row_tiles", [1, 2])
@pytest.mark.parametrize("b", range(17, 34))
def test_every_edge_of_a_chunk(b, row_tiles, forced):
    case = Case(T=3, B=b, H=20, dtype=torch.bfloat16, lengths=True)
    forced(row_tiles=row_tiles)
    with emulated_device(CARD, kernel="grid_resident"):
        assert_within(run(case, "cuda"), _limits(case))


LAYOUTS = {
    "two panels, all streamed": (Case(T=3, B=9, H=70), {"panels": 2, "most_shared": 0}),
    "two panels, all in shared memory": (Case(T=3, B=9, H=70), {"panels": 2}),
    "three panels, some streamed": (Case(T=4, B=20, H=90), {"panels": 3, "most_shared": 1, "row_tiles": 2}),
    "five tiles": (Case(T=3, B=20, H=90), {"tiles": 5, "row_tiles": 2}),
    "five tiles, two panels, streamed": (Case(T=3, B=9, H=90), {"tiles": 5, "panels": 2, "most_shared": 0}),
    "ring of two": (Case(T=3, B=20, H=300), {"slots": 2, "row_tiles": 2}),
    "ring of eight": (Case(T=3, B=20, H=300), {"slots": 8}),
    "teams": (Case(T=3, B=21, H=40, lengths=True, N=2, reverse=(True, False)), {"replicas": 3, "row_tiles": 2}),
    "a team without rows": (Case(T=3, B=4, H=40), {"replicas": 4, "rows": 2}),
    "one recurrence at a time": (Case(T=3, B=17, H=40, N=3, reverse=(True, False, True)), {"concurrent": 1}),
    "two of three at a time": (Case(T=3, B=17, H=40, N=3, lengths=True), {"concurrent": 2, "panels": 2}),
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=lambda d: str(d)[6:])
@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_under_four_schedules(name, dtype, forced):
    case, choice = LAYOUTS[name]
    case = replace(case, dtype=dtype)
    if dtype == torch.float32:
        choice = {**choice, "tiles": 4, "row_tiles": 1}
    forced(**choice)
    with emulated_device(CARD, kernel="grid_resident") as device:
        results = under_schedules(device, range(4), case)
    assert_within(results[0], _limits(case))
    for other in results[1:]:
        assert_same_bits(other, results[0])


@pytest.mark.parametrize("most_shared", [0, 1, 8])
def test_levels_beyond_the_registers(most_shared, forced):
    """float32 holds 256 units of K in registers: 300 need the other levels too, in shared memory or streamed."""
    case = Case(T=3, B=3, H=300)
    made = forced(most_shared=most_shared)
    with emulated_device(CARD, kernel="grid_resident"):
        assert_within(run(case, "cuda"), _limits(case))
    levels = {(g.levels, g.held_levels, g.shared_levels, g.streamed_levels) for g in made.layouts}
    assert levels == {(3, 2, min(1, most_shared), 1 - min(1, most_shared))}


@needs_emulator
@pytest.mark.parametrize("h", [1000, 2048])
def test_real_sizes(h):
    """The planner's own layout on an H100's sizes, 8 rows, two steps: W_hh over 64 and 128 CTAs."""
    case = Case(T=2, B=8, H=h, I=3, dtype=torch.bfloat16)
    with emulated_device(CARD, kernel="grid_resident") as device:
        got = run(case, "cuda")
        ctas = [launch[0][0] for launch in device.take_launches()]
    assert ctas == [-(-h // 16), -(-h // 64) * 4]
    assert_within(got, _limits(case))


CHOICES = [(4, 1, 1, 6, 3), (5, 1, 2, 4, 2), (4, 3, 2, 2, 0), (4, 2, 1, 8, 9)]


@needs_emulator
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=lambda d: str(d)[6:])
def test_formulas_are_those_of_the_kernel(dtype):
    """Sizes that the planner forms in Python against csrc/cuda/grid_resident/config.h."""
    device = emulated.module()
    width, tensor = (2, True) if dtype == torch.bfloat16 else (4, False)
    for h in (1, 16, 63, 100, 1000, 2048, 4096):
        for rows in (1, 7, 8, 9, 100, 128):
            for tiles, panels, row_tiles, slots, most in (
                (4, 1, 1, 6, 3),
                (5, 1, 2, 4, 2),
                (4, 3, 2, 2, 0),
                (4, 2, 1, 8, 9),
            ):
                for backward in (False, True):
                    row = 1 if not tensor else row_tiles
                    g = GridLayout(_members(h, tiles, panels, backward), 2, 1, tiles, panels, row, slots, most, rows)
                    g = grid.laid_out(g, 3, h, width, tensor, backward)
                    said = device.cuda_grid_layout(3, h, rows, width, tensor, backward, g.choice)
                    names = {"held": "held_levels", "streamed": "streamed_levels"}
                    assert {k: getattr(g, names.get(k, k)) for k in said} == said


@needs_emulator
def test_a_card_with_too_few_multiprocessors_refuses_the_launch(forced):
    forced()
    case = Case(T=2, B=2, H=100, dtype=torch.bfloat16)
    with (
        emulated_device(Card("4 SMs", 9, 0, 4, 227 << 10), kernel="grid_resident"),
        pytest.raises(RuntimeError, match="grid_forward needs 7 CTAs at the same time, and the device has room for 4"),
    ):
        run(case, "cuda")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=lambda d: str(d)[6:])
def test_checked_against_stepwise_at_first_use(dtype, monkeypatch):
    """Both passes are found right and then run without another check."""
    case = Case(N=2, T=4, B=17, H=70, dtype=dtype, reverse=(True, False))
    monkeypatch.setenv("LSTMREP_VERIFY", "first-use")
    with emulated_device(CARD, kernel="grid_resident"):
        counts = []
        for _ in range(2):
            with lstmrep.count_launches() as launches:
                got = run(case, "cuda")
            counts.append({k: n for k, n in launches.own.items() if k != "memset"})
    assert_within(got, _limits(case))
    assert counts[1] == {"grid_forward": 1, "grid_backward": 1}
    assert (counts[0]["grid_forward"], counts[0]["grid_backward"]) == (2, 2)
    assert counts[0]["pointwise_forward"] > 0 and counts[0]["pointwise_backward"] > 0
