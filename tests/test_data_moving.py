"""Moving MNIST by the original's rules: a slow transcription of them, and each rule by itself."""

import math
import pickle

import numpy as np
import pytest
import torch
from test_data_random import numpys
from torch.utils.data import DataLoader

from lstmrep.data import Digits, MovingMNIST, load_digits
from lstmrep.data.motion import polar, trajectories
from lstmrep.data.random import Purpose

SPLITS = ("train", "valid", "test")
TRAVEL = 64 - 28
CLIPS = range(60)


@pytest.fixture(scope="module")
def digits() -> Digits:
    return load_digits(size=28)


@pytest.fixture(scope="module")
def data(digits) -> MovingMNIST:
    return MovingMNIST(digits)


@pytest.fixture(scope="module")
def clips(data):
    return data.clips(CLIPS)


def transcribed(digits: Digits, seed: int, index: int) -> np.ndarray:
    """One clip by the rules, a pixel at a time, from the random words at its addresses: [20, 64, 64]."""
    key = (seed, SPLITS.index(digits.split))
    total = len(digits)
    frames = np.zeros((20, 64, 64), np.float32)
    for number in range(2):
        place = 2 * index + number
        w, offset = divmod(place, total)
        blocks = [numpys((w, block, 0, Purpose.WALK), key) for block in range(math.ceil(total / 4))]
        order = sorted(range(total), key=[v for block in blocks for v in block][:total].__getitem__)
        image = digits.images[order[offset]].tolist()
        x, y, turn, _ = (float(v >> 11) / 2**53 for v in numpys((index, 0, number, Purpose.MOTION), key))
        theta = turn * 2 * math.pi
        v_x, v_y = float(np.cos(theta)), float(np.sin(theta))
        for t in range(20):
            y += v_y * 0.1
            x += v_x * 0.1
            if x <= 0:
                x, v_x = 0.0, -v_x
            if x >= 1:
                x, v_x = 1.0, -v_x
            if y <= 0:
                y, v_y = 0.0, -v_y
            if y >= 1:
                y, v_y = 1.0, -v_y
            left, top = int(TRAVEL * x), int(TRAVEL * y)
            for r in range(28):
                for c in range(28):
                    frames[t, top + r, left + c] = max(frames[t, top + r, left + c], np.float32(image[r][c]))
    return frames


class TestOriginalRules:
    @pytest.mark.parametrize(("seed", "index"), [(0, 0), (0, 7), (3, 2), (2**63, 123_456_789)])
    def test_a_slow_transcription_gives_the_same_bits(self, digits, seed, index):
        few = Digits(digits.images[:25], digits.labels[:25], "first 25", "train")
        clip = MovingMNIST(few, seed=seed)[index]
        assert torch.equal(clip[:, 0], torch.from_numpy(transcribed(few, seed, index)))

    def test_shape_and_range(self, data, clips):
        assert clips.frames.shape == (len(CLIPS), 20, 1, 64, 64)
        assert clips.frames.dtype == torch.float32
        assert clips.frames.min() == 0 and clips.frames.max() == 1
        assert (data.num_frames, data.frame_shape, data.infinite, len(data)) == (20, (1, 64, 64), True, 10_000)

    def test_positions_lie_in_0_to_36(self, clips):
        assert clips.positions.shape == (len(CLIPS), 20, 2, 2)
        assert clips.positions.min() == 0 and clips.positions.max() == TRAVEL

    def test_speed_is_3_6_pixels_a_frame_unless_bouncing(self, clips):
        moved = clips.positions[:, 1:] - clips.positions[:, :-1]
        free = ~clips.hits[:, 1:].any(dim=-1)
        # A position of up to 36 and its product with the travel are rounded, each by half an eps of 36 at most; so are
        # the difference and the root. Two axes, two positions: eight roundings cover it.
        bound = 8 * torch.finfo(torch.float64).eps * TRAVEL
        assert (moved.norm(dim=-1)[free] - 3.6).abs().max() <= bound
        assert (clips.velocities.norm(dim=-1) - 3.6).abs().max() <= bound
        # At a wall some way is lost, never gained.
        assert (moved.norm(dim=-1)[~free] - 3.6).max() <= bound
        assert (moved.norm(dim=-1)[~free] - 3.6).min() < -1

    def test_a_hit_stops_at_the_wall_and_flips_that_component_alone(self, clips):
        before, after, hits = clips.velocities[:, :-1], clips.velocities[:, 1:], clips.hits[:, 1:]
        assert hits.any() and (~hits).any()
        assert torch.equal(after, torch.where(hits, -before, before))
        assert torch.equal(clips.hits, (clips.positions == 0) | (clips.positions == TRAVEL))

    def test_a_step_is_taken_before_the_first_frame(self, digits, clips):
        still = MovingMNIST(digits, step=0.0).clips(CLIPS)
        assert not still.hits.any()
        start = still.positions[:, 0] / TRAVEL
        assert torch.equal(still.positions[:, 5] / TRAVEL, start)
        first = clips.velocities[:, 0] / TRAVEL
        first = torch.where(clips.hits[:, 0], -first, first)
        expected = (start + first).clamp(0, 1) * TRAVEL
        # Dividing by the travel and multiplying again rounds each of two numbers twice.
        assert (clips.positions[:, 0] - expected).abs().max() <= 4 * torch.finfo(torch.float64).eps * TRAVEL
        assert (clips.positions[:, 0] != still.positions[:, 0]).all()

    def test_digits_are_drawn_at_the_truncated_corner(self, digits):
        one = MovingMNIST(digits, num_digits=1).clips([5, 9])
        for b in range(2):
            image = digits.images[one.digit_indices[b, 0]]
            for t in range(20):
                x, y = one.positions[b, t, 0].long().tolist()
                expected = torch.zeros(64, 64)
                expected[y : y + 28, x : x + 28] = image
                assert torch.equal(one.frames[b, t, 0], expected)

    def test_overlap_is_the_maximum(self, digits, clips):
        layers = torch.zeros(2, len(CLIPS), 20, 64, 64)
        for b in CLIPS:
            for t in range(20):
                for k in range(2):
                    x, y = clips.positions[b, t, k].long().tolist()
                    layers[k, b, t, y : y + 28, x : x + 28] = digits.images[clips.digit_indices[b, k]]
        assert torch.equal(clips.frames[:, :, 0], layers.amax(dim=0))
        assert ((layers > 0).all(dim=0)).any()

    def test_start_and_direction_are_uniform(self, digits):
        many = 1500
        still = MovingMNIST(load_digits("glyphs"), 1, 12, step=0.0).clips(range(many)).positions[:, 0] / 7
        moving = MovingMNIST(load_digits("glyphs"), 1, 12).clips(range(many))
        # Uniform numbers have the standard deviation 1 / sqrt(12), quarters are binomial.
        assert (still.mean(dim=0) - 0.5).abs().max() < 5 / math.sqrt(12 * many)
        assert still.min() >= 0 and still.max() < 1
        quarters = moving.directions.flatten().bincount(minlength=4)
        assert (quarters - 2 * many / 4).abs().max() < 5 * math.sqrt(2 * many * 3 / 16)

    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_the_walk_shows_every_digit_once_before_any_again(self, digits, n):
        few = Digits(digits.images[:30], digits.labels[:30], "first 30", "train")
        data = MovingMNIST(few, 1, num_digits=n)
        drawn = data.clips(range(90 // n)).digit_indices.reshape(3, 30)
        assert torch.equal(drawn.sort(dim=1).values, torch.arange(30).expand(3, 30))
        assert not torch.equal(drawn[0], drawn[1])
        alone = data.clips([29, 17]).digit_indices
        assert torch.equal(alone, drawn.reshape(-1, n)[[29, 17]])


class TestReproducible:
    def test_same_seed_same_bits_in_any_batch(self, digits, data, clips):
        again = MovingMNIST(digits)
        assert torch.equal(again.batch(CLIPS), clips.frames)
        assert torch.equal(again.batch([41, 3, 41]), clips.frames[[41, 3, 41]])
        assert torch.equal(data[17], clips.frames[17])
        assert all(torch.equal(a, b) for a, b in zip(data.__getitems__([5, 2]), clips.frames[[5, 2]], strict=True))
        assert torch.equal(next(iter(data)), clips.frames[0])

    def test_other_seeds_and_splits_are_other_clips(self, digits, clips):
        other = MovingMNIST(digits, seed=1).clips(CLIPS)
        assert (other.positions != clips.positions).any(dim=(1, 2, 3)).all()
        named = Digits(digits.images, digits.labels, digits.source, "valid")
        moved = MovingMNIST(named).clips(CLIPS)
        assert (moved.positions != clips.positions).any(dim=(1, 2, 3)).all()
        assert not torch.equal(moved.digit_indices, clips.digit_indices)

    @pytest.mark.parametrize("bounce", ["clamp", "stochastic"])
    def test_across_worker_counts(self, digits, bounce):
        data = MovingMNIST(digits, labels="digits", num_digits=(1, 2), bounce=bounce, length=12)
        alone = [tuple(batch) for batch in DataLoader(data, batch_size=4)]
        shared = [tuple(batch) for batch in DataLoader(data, batch_size=4, num_workers=2)]
        assert len(alone) == len(shared) == 3
        for a, b in zip(alone, shared, strict=True):
            assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])

    def test_pickles(self, data):
        assert torch.equal(pickle.loads(pickle.dumps(data))[3], data[3])

    def test_the_stream_does_not_end_at_its_length(self, digits):
        data = MovingMNIST(digits, length=3)
        assert len(list(data)) == 3
        far = data.batch([10**12, 2**55])
        assert not torch.equal(far[0], far[1])

    def test_an_empty_batch(self, digits):
        assert MovingMNIST(digits, bounce="stochastic", color=True).batch([]).shape == (0, 20, 3, 64, 64)


class TestTrajectories:
    """Bounces by hand, on numbers that floats hold exactly."""

    START = np.array([[[0.875, 0.5]]])
    VELOCITY = np.array([[[0.25, -0.125]]])

    def test_clamp(self):
        motion = trajectories(self.START, self.VELOCITY, 3)
        assert motion.positions[0, :, 0].tolist() == [[1, 0.375], [0.75, 0.25], [0.5, 0.125]]
        assert motion.velocities[0, :, 0].tolist() == [[-0.25, -0.125]] * 3
        assert motion.hits[0, :, 0].tolist() == [[True, False], [False, False], [False, False]]

    def test_reflect(self):
        motion = trajectories(self.START, self.VELOCITY, 5, "reflect")
        assert motion.positions[0, :, 0, 0].tolist() == [0.875, 0.625, 0.375, 0.125, 0.125]
        assert motion.hits[0, :, 0, 0].tolist() == [True, False, False, False, True]

    def test_stochastic(self):
        redrawn = np.full((1, 3, 1, 2), 0.5)
        motion = trajectories(self.START, self.VELOCITY, 3, "stochastic", redrawn)
        # Turned inward at the walls that were hit, as drawn along others; the last step hits two.
        assert motion.velocities[0, :, 0].tolist() == [[-0.5, 0.5], [-0.5, 0.5], [0.5, -0.5]]
        assert motion.positions[0, :, 0].tolist() == [[1, 0.375], [0.5, 0.875], [0, 1]]

    def test_polar(self):
        assert np.array_equal(polar(np.array([2.0]), np.array([0.0])), [[2, 0]])
        right, down, left, up = polar(np.ones(4), np.arange(4) / 4)
        assert right[0] > 0 and down[1] > 0 and left[0] < 0 and up[1] < 0
