"""Random numbers by address: known answers, numpy's Philox, uniformity, independence of purposes, walks."""

import math

import numpy as np
import pytest

from lstmrep.data.random import Key, Purpose, permutation, philox, uniform, walk, words

ALL = 2**64 - 1

# Known-answer vectors of philox4x64-10 that the authors of the generator publish: counter, key, result.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B)),
    ((ALL,) * 4, (ALL,) * 2, (0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0)),
    (
        (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89),
        (0x452821E638D01377, 0xBE5466CF34E90C6C),
        (0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6),
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_known_answers(counter, key, expected):
    found = philox(tuple(np.uint64(c) for c in counter), Key(*key))
    assert found.shape == (4,)
    assert found.tolist() == list(expected)


def numpys(counter, key) -> list[int]:
    """The block of numpy's generator at a counter; it counts up before each block."""
    whole = sum(word << (64 * k) for k, word in enumerate(counter))
    before = (whole - 1) % 2**256
    state = [(before >> (64 * k)) & ALL for k in range(4)]
    generator = np.random.Philox(counter=np.array(state, np.uint64), key=np.array(key, np.uint64))
    return generator.random_raw(4).tolist()


def test_equals_numpys_philox():
    draws = np.random.default_rng(3).integers(0, ALL, (50, 6), dtype=np.uint64, endpoint=True)
    for *counter, k0, k1 in draws.tolist():
        assert philox(tuple(np.uint64(c) for c in counter), Key(k0, k1)).tolist() == numpys(counter, (k0, k1))


def test_a_word_is_where_its_address_says():
    key, index, lane = Key(7, 2), np.array([[3], [4]]), np.arange(5)
    found = words(key, Purpose.BOUNCE, index, 6, lane)
    assert found.shape == (2, 5, 6)
    blocks = [numpys((4, block, 2, Purpose.BOUNCE), (7, 2)) for block in range(2)]
    assert found[1, 2].tolist() == (blocks[0] + blocks[1])[:6]


def test_asking_for_more_or_for_others_changes_nothing():
    key = Key(1)
    many = words(key, Purpose.MOTION, np.arange(100), 9)
    assert np.array_equal(many[:, :4], words(key, Purpose.MOTION, np.arange(100), 4))
    assert np.array_equal(many[[7, 3]], words(key, Purpose.MOTION, np.array([7, 3]), 9))
    assert np.array_equal(many[7], words(key, Purpose.MOTION, 7, 9))


def test_every_part_of_the_address_counts():
    addresses = [
        (Key(seed, stream), purpose, index, lane)
        for seed in (0, 1)
        for stream in (0, 1)
        for purpose in (Purpose.MOTION, Purpose.WALK)
        for index in (0, 1)
        for lane in (0, 1)
    ]
    found = {tuple(words(key, purpose, index, 4, lane).tolist()) for key, purpose, index, lane in addresses}
    assert len(found) == len(addresses)


def test_uniform():
    draws = uniform(Key(5), Purpose.MOTION, np.arange(1 << 14), 4)
    assert draws.min() >= 0 and draws.max() < 1
    assert np.array_equal(draws * 2**53, np.floor(draws * 2**53))
    bins = 64
    for word in range(4):
        counts = np.histogram(draws[:, word], bins, (0, 1))[0]
        # Pearson's sum has mean bins - 1 and variance 2 (bins - 1).
        pearson = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
        assert abs(pearson - (bins - 1)) < 5 * math.sqrt(2 * (bins - 1))
    # Of n independent pairs the correlation has the standard error 1 / sqrt(n): words of a block, and neighbours.
    n = len(draws)
    correlations = np.corrcoef(np.concatenate([draws[:-1].T, draws[1:].T]))
    assert np.abs(correlations - np.eye(8)).max() < 5 / math.sqrt(n)


def test_permutation():
    orders = np.stack([permutation(Key(2), Purpose.WALK, w, 10) for w in range(1000)])
    assert (np.sort(orders, axis=1) == np.arange(10)).all()
    # Each element is in each place a tenth of the time, binomially.
    counts = np.stack([(orders == element).sum(axis=0) for element in range(10)])
    assert np.abs(counts - 100).max() < 5 * math.sqrt(1000 * 0.1 * 0.9)
    # Of 10! = 3.6 million orders, a thousand draws repeat one about 0.14 times.
    assert len(np.unique(orders, axis=0)) >= 995
    # It is remembered, so nobody may change it.
    with pytest.raises(ValueError, match="read-only"):
        permutation(Key(2), Purpose.WALK, 0, 10)[0] = 0


def test_walk_visits_everything_once_before_anything_again():
    size, walks = 7, 40
    found = walk(Key(9), Purpose.WALK, np.arange(size * walks), size).reshape(walks, size)
    assert (np.sort(found, axis=1) == np.arange(size)).all()
    assert len(np.unique(found, axis=0)) > 1
    # By place: the same in any order, from any process that remembers other walks.
    places = np.array([[100, 3], [279, 0]])
    permutation.cache_clear()
    assert np.array_equal(walk(Key(9), Purpose.WALK, places, size), found.reshape(-1)[places])


def test_walk_is_by_sorted_words():
    key = (11, 0)
    raw = [numpys((2, block, 0, Purpose.WALK), key) for block in range(3)]
    flat = [w for block in raw for w in block][:10]
    expected = sorted(range(10), key=flat.__getitem__)
    assert walk(Key(*key), Purpose.WALK, np.arange(20, 30), 10).tolist() == expected
