"""What CTAs tell each other on the emulated device: release and acquire, and the counter barrier."""

from __future__ import annotations

import emulated
import numpy as np
import pytest
from primitives import SEEDS, aligned, launch

pytestmark = pytest.mark.skipif(bool(emulated.reason()), reason=emulated.reason() or "the emulator can be built")

NOBODY = 0xFFFFFFFF


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("stored", [0, 1], ids=["red_release_add", "st_release"])
def test_message(seed, stored):
    data, flag, got = aligned((64, 4), np.uint32), aligned(1, np.uint32), aligned(5 * 64, np.uint32, 0xFF)
    assert launch("message", data, flag, got, numbers=(stored, 0), blocks=2, threads=64, seed=seed) == ""
    np.testing.assert_array_equal(got[:256], 1000 + np.arange(256))
    np.testing.assert_array_equal(got[256:], 1000 + 4 * np.arange(64))
    assert flag[0] == 1


def test_a_message_that_is_not_waited_for_is_missed_under_some_seed():
    missed = []
    for seed in SEEDS:
        data, flag, got = aligned((64, 4), np.uint32), aligned(1, np.uint32), aligned(5 * 64, np.uint32)
        assert launch("message", data, flag, got, numbers=(0, 1), blocks=2, threads=64, seed=seed) == ""
        missed.append(not np.array_equal(got[:256], 1000 + np.arange(256)))
    assert any(missed)


def test_compare_and_swap():
    word, before = np.array([7], np.uint32), np.zeros(2, np.uint32)
    assert launch("swaps", word, before, threads=1) == ""
    assert before.tolist() == [7, 8] and word[0] == 8


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("blocks", [1, 2, 7])
def test_one_block_comes_last_and_reads_what_all_wrote(blocks, seed):
    cells, counter = np.full((blocks, 64), 0xEEEEEEEE, np.uint32), np.zeros(1, np.uint32)
    sums, last = np.zeros(64, np.uint32), np.zeros(1, np.uint32)
    assert launch("arrivals", cells, counter, sums, last, blocks=blocks, threads=64, seed=seed) == ""
    assert (counter[0], last[0]) == (blocks, 1)
    wanted = sum(1000 * block + np.arange(63, -1, -1) for block in range(blocks))
    np.testing.assert_array_equal(sums, wanted)


@pytest.mark.parametrize("seed", SEEDS)
def test_block_vote(seed):
    seen = np.zeros((2, 96), np.uint32)
    assert launch("votes", seen, numbers=(13,), blocks=2, threads=96, seed=seed) == ""
    assert (seen == sum(1 << r for r in range(13) if r % 3 == 1)).all()


class Rounds:
    """One launch of the kernel ``rounds`` and what it left."""

    def __init__(self, *, members=3, threads=(32, 2), rounds=10, start=0, budget_us=0, absent=NOBODY, since=0, **how):
        width = threads[0] * threads[1]
        self.words = np.array([start, 0], np.uint32)
        self.sums, self.ended = (np.zeros((members, width), np.uint32) for _ in range(2))
        cells = np.full(2 * members * width, 0xEEEEEEEE, np.uint32)
        without = how.pop("without", 0)
        numbers = (rounds, start, budget_us, absent, since, without)
        self.error = launch(
            "rounds", cells, self.words, self.sums, self.ended, numbers=numbers, blocks=members, threads=threads, **how
        )
        # thread i of every member, from the last to the first: round * 1000 + member * width + i
        others = np.arange(members)[:, None] * width + np.arange(width)[::-1]
        total = sum(int(r) * 1000 * members + others.sum(0) for r in range(rounds))
        self.right = bool((self.sums == np.asarray(total, np.uint32)).all())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("start", [0, 12345, 0xFFFFFFF0, 0x7FFFFFF0, 0xC0000000])
@pytest.mark.parametrize("budget_us", [0, 100_000])
def test_barrier_holds_round_after_round(seed, start, budget_us):
    run = Rounds(members=5, rounds=12, start=start, budget_us=budget_us, seed=seed)
    assert run.error == ""
    assert run.right
    assert (run.ended == 12).all()
    assert run.words.tolist() == [(start + 12 * 5) % 2**32, 0]


def test_the_barrier_test_fails_without_the_barrier():
    assert not all(Rounds(members=5, seed=seed, without=1).right for seed in SEEDS)


def test_one_member_waits_for_nobody():
    run = Rounds(members=1, rounds=3, budget_us=1)
    assert run.error == "" and run.right


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("since", [0, 3])
@pytest.mark.parametrize("start", [0, 0xFFFFFFF0])
def test_a_member_that_never_comes_fails_the_others_within_the_budget(seed, since, start):
    run = Rounds(members=4, rounds=8, start=start, budget_us=100, absent=2, since=since, seed=seed)
    assert run.error == ""  # the launch ends
    assert (run.ended == since).all()  # false in every thread, from the round in which one was missing
    assert run.words[1] == 1  # one gave up, the others saw it
    arrivals = since * 4 + 3 * (8 - since)
    assert run.words[0] == (start + arrivals + (1 << 30)) % 2**32


def test_without_a_budget_a_missing_member_is_a_livelock():
    error = Rounds(members=4, absent=2, since=3).error
    assert "livelock: threads only poll [block (0, 0, 0), thread (0, 0, 0)]" in error
