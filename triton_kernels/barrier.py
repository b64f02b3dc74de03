"""A barrier of the programs of a team, over a counter in global memory, that waits no longer than it is told.

All programs of a team must be resident together: the launch is cooperative and the host compares its size with the
card's multiprocessors first.
"""

import triton
import triton.language as tl

JUMP: tl.constexpr = tl.constexpr(1 << 30)  # beyond every round: rounds times members stay below it


@triton.jit
def arrive_and_wait(counter, target, word, polls):
    """Whether ``target`` programs have arrived at ``counter``, this one included.

    ``debug_barrier`` first: the release orders the stores of all threads of this program, not of one alone. A program
    that has looked ``polls`` times (0: without end) makes the counter jump and writes the host's ``word``: from then on
    nobody gets true from it, and what the launch leaves is NaN.
    """
    tl.debug_barrier()
    arrived = tl.atomic_add(counter, 1, sem="release", scope="gpu") + 1
    looked = 0
    while (arrived < target) & ((polls == 0) | (looked < polls)):
        arrived = tl.atomic_add(counter, 0, sem="acquire", scope="gpu")
        looked += 1
    if arrived < target:
        tl.atomic_or(counter, JUMP, sem="relaxed", scope="gpu")  # however many do so
        tl.atomic_xchg(word, 1, sem="release", scope="sys")
    # Who came last has not looked: its own arrival must acquire what the others released.
    arrived = tl.atomic_add(counter, 0, sem="acquire", scope="gpu")
    tl.debug_barrier()
    return (arrived >= target) & (arrived < JUMP)
