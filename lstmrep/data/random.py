"""Random numbers that are a function of where they are used: Philox4x64-10, vectorised over counters.

A number is addressed by (seed, stream, purpose, index, lane, word). Whoever asks for it, in whatever order, in
whichever process, gets the same one, and a purpose never takes from another's numbers. Nothing here has a state.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). The words equal those of
``numpy.random.Philox`` and of the authors' known-answer vectors.
"""

from __future__ import annotations

import functools
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Words = NDArray[np.uint64]
Reals = NDArray[np.float64]
Indices = NDArray[np.int64]

WORD = 1 << 64
ROUNDS = 10
MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
KEY_STEPS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
# A permutation of 50,000 digits takes 0.4 MB; a batch drawn in order needs one or two of them.
WALKS_KEPT = 16


class Purpose(IntEnum):
    """What numbers are for. The values are part of every clip: never renumber them."""

    MOTION = 0
    COUNT = 1
    WALK = 2
    CHOICE = 3
    BOUNCE = 4
    COLOR = 5
    SPLIT = 6
    GLYPH = 7
    WINDOW = 8
    CROP = 9
    HOLD_OUT = 10
    SUBSET = 11
    EXCERPT = 12
    BACKGROUND = 13


class Key(NamedTuple):
    """What a family of numbers belongs to: a seed and a stream of it, both 0 <= k < 2**64."""

    seed: int
    stream: int = 0


def philox(counter: tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike], key: Key) -> Words:
    """Philox4x64-10 of every counter.

    Args:
        counter: four words, each an array of uint64 of 0 <= c < 2**64; they broadcast to a shape S.
        key: the two key words.

    Returns:
        uint64 ``[*S, 4]``.
    """
    a, b, c, d = np.broadcast_arrays(*(np.atleast_1d(np.asarray(word, dtype=np.uint64)) for word in counter))
    shape = np.broadcast_shapes(*(np.shape(word) for word in counter))
    for r in range(ROUNDS):
        k0, k1 = (np.uint64((word + r * step) % WORD) for word, step in zip(key, KEY_STEPS, strict=True))
        high0, low0 = _product(MULTIPLIERS[0], a)
        high1, low1 = _product(MULTIPLIERS[1], c)
        a, b, c, d = high1 ^ b ^ k0, low1, high0 ^ d ^ k1, low0
    return np.stack([a, b, c, d], axis=-1).reshape(*shape, 4)


def _product(constant: int, x: Words) -> tuple[Words, Words]:
    """High and low word of the 128-bit product, by halves."""
    m0, m1 = np.uint64(constant & 0xFFFFFFFF), np.uint64(constant >> 32)
    x0, x1 = x & LOW, x >> HALF
    middle = m1 * x0 + ((m0 * x0) >> HALF)
    other = m0 * x1 + (middle & LOW)
    return m1 * x1 + (middle >> HALF) + (other >> HALF), np.uint64(constant) * x


def words(key: Key, purpose: int, index: ArrayLike, count: int, lane: ArrayLike = 0) -> Words:
    """The first ``count`` words of each address.

    Args:
        key: seed and stream.
        purpose: what the numbers are for, 0 <= purpose < 2**64.
        index: integers >= 0, any shape; broadcast with ``lane`` to S.
        count: words at each address; a larger count repeats a smaller one's.
        lane: integers >= 0: a second address within the index, such as the digit of a clip.

    Returns:
        uint64 ``[*S, count]``.
    """
    index, lane = np.broadcast_arrays(np.asarray(index, np.uint64), np.asarray(lane, np.uint64))
    blocks = np.arange(-(-count // 4), dtype=np.uint64)
    found = philox((index[..., None], blocks, lane[..., None], purpose), key)
    return found.reshape(*index.shape, 4 * len(blocks))[..., :count]


def uniform(key: Key, purpose: int, index: ArrayLike, count: int, lane: ArrayLike = 0) -> Reals:
    """Numbers uniform in [0, 1), multiples of 2**-53; arguments as of :func:`words`.

    Returns:
        float64 ``[*S, count]``.
    """
    top: Reals = (words(key, purpose, index, count, lane) >> np.uint64(11)).astype(np.float64)
    return top * 2.0**-53


@functools.lru_cache(maxsize=WALKS_KEPT)
def permutation(key: Key, purpose: int, index: int, size: int) -> Indices:
    """The numbers 0 <= k < ``size`` in an order of their own for each address.

    The last few are remembered, since many clips share one; what is returned does not depend on that.

    Returns:
        int64 ``[size]``, read-only.
    """
    order = np.argsort(words(key, purpose, index, size), kind="stable").astype(np.int64)
    order.flags.writeable = False
    return order


def walk(key: Key, purpose: int, places: Indices, size: int) -> Indices:
    """Elements at ``places`` of an endless walk over ``size`` things that visits each once before any again.

    Walk number w, places w * size to (w + 1) * size - 1, is a permutation of its own.

    Args:
        key: seed and stream.
        purpose: what the walk is for.
        places: int64 >= 0, any shape.
        size: how many things there are.

    Returns:
        int64, the shape of ``places``.
    """
    numbers, offsets = np.divmod(places, size)
    found = np.empty_like(places)
    for number in np.unique(numbers):
        here = numbers == number
        found[here] = permutation(key, purpose, int(number), size)[offsets[here]]
    return found
