"""Options of Moving MNIST: each changes the statistic it names, and bit for bit nothing else."""

import math

import pytest
import torch

from lstmrep.data import Clips, Digits, MovingMNIST, load_digits

CLIPS = range(60)
FIELDS = ("frames", "positions", "velocities", "hits", "directions", "digit_labels", "digit_indices")


@pytest.fixture(scope="module")
def digits() -> Digits:
    return load_digits(size=28)


@pytest.fixture(scope="module")
def base(digits) -> Clips:
    return MovingMNIST(digits).clips(CLIPS)


def assert_only(base: Clips, other: Clips, *changed: str) -> None:
    for field in FIELDS:
        same = torch.equal(getattr(base, field), getattr(other, field))
        assert same == (field not in changed), field


def layers(clips: Clips, digits: Digits) -> torch.Tensor:
    """[n, B, T, 64, 64]: each digit alone."""
    B, T, n, _ = clips.positions.shape
    drawn = torch.zeros(n, B, T, 64, 64)
    for b in range(B):
        for t in range(T):
            for k in range(n):
                x, y = clips.positions[b, t, k].long().tolist()
                drawn[k, b, t, y : y + 28, x : x + 28] = digits.images[clips.digit_indices[b, k]]
    return drawn


class TestOverlap:
    def test_sum_and_occlude_by_layers(self, digits, base):
        few = MovingMNIST(digits, num_digits=3)
        lower, middle, upper = layers(few.clips(range(8)), digits)
        added = MovingMNIST(digits, num_digits=3, overlap="sum").batch(range(8))[:, :, 0]
        assert torch.equal(added, ((lower + middle).clamp(max=1) + upper).clamp(max=1))
        assert (lower + middle + upper).max() > 1
        covered = MovingMNIST(digits, num_digits=3, overlap="occlude").batch(range(8))[:, :, 0]
        assert torch.equal(covered, torch.where(upper > 0, upper, torch.where(middle > 0, middle, lower)))

    @pytest.mark.parametrize("overlap", ["sum", "occlude"])
    def test_changes_pixels_where_digits_overlap_and_nothing_else(self, digits, base, overlap):
        other = MovingMNIST(digits, overlap=overlap).clips(CLIPS)
        assert_only(base, other, "frames")
        shared = (layers(base, digits) > 0).all(dim=0)
        assert not (base.frames[:, :, 0] != other.frames[:, :, 0])[~shared].any()


class TestBounce:
    def test_reflect_is_the_same_until_the_first_hit_and_loses_no_way(self, digits, base):
        other = MovingMNIST(digits, bounce="reflect").clips(CLIPS)
        assert torch.equal(base.digit_indices, other.digit_indices) and torch.equal(base.directions, other.directions)
        _assert_parts_at_the_first_hit(base, other)
        # The way to the wall and back from it is that of a free step. It is a sum of two rounded differences.
        before, after, hit = other.positions[:, :-1], other.positions[:, 1:], other.hits[:, 1:]
        wall = torch.where(other.velocities[:, :-1] > 0, 36.0, 0.0)
        way = torch.where(hit, (wall - before).abs() + (wall - after).abs(), (after - before).abs())
        step = other.velocities[:, :-1].abs()
        assert (way - step).abs().max() <= 8 * torch.finfo(torch.float64).eps * 36
        assert torch.equal(step, step[:, :1].expand_as(step))
        assert other.positions.min() >= 0 and other.positions.max() <= 36

    def test_stochastic_same_start_is_identical_until_the_first_hit_and_differs_after(self, digits):
        one, two = (MovingMNIST(digits, bounce="stochastic", bounce_seed=s).clips(CLIPS) for s in (1, 2))
        assert torch.equal(one.digit_indices, two.digit_indices) and torch.equal(one.directions, two.directions)
        _assert_parts_at_the_first_hit(one, two)
        for b in CLIPS:
            hit = one.hits[b].any(dim=-1).any(dim=-1)
            # At the frame of the hit the digit is at the wall in both.
            end = int(hit.int().argmax()) + 1 if hit.any() else 20
            assert torch.equal(one.frames[b, :end], two.frames[b, :end])
            assert hit.any() == (not torch.equal(one.positions[b], two.positions[b]))

    def test_stochastic_keeps_the_speed_or_draws_it_from_its_range(self, digits):
        fixed = MovingMNIST(digits, bounce="stochastic").clips(CLIPS).velocities.norm(dim=-1)
        assert (fixed - 3.6).abs().max() <= 4 * torch.finfo(torch.float64).eps * 3.6
        drawn = MovingMNIST(digits, bounce="stochastic", step=(0.05, 0.15)).clips(CLIPS)
        speed = drawn.velocities.norm(dim=-1)
        assert speed.min() > 0.0499 * 36 and speed.max() < 0.1501 * 36
        turned = drawn.hits[:, 1:].any(dim=-1)
        changed = speed[:, 1:] != speed[:, :-1]
        # The norm of a velocity and of its mirror image are the same number.
        assert changed[turned].all() and not changed[~turned].any()

    def test_stochastic_turns_inward(self, digits):
        clips = MovingMNIST(digits, bounce="stochastic").clips(CLIPS)
        assert (clips.velocities[clips.hits & (clips.positions == 0)] > 0).all()
        assert (clips.velocities[clips.hits & (clips.positions == 36)] < 0).all()

    def test_without_a_seed_of_its_own_it_takes_the_clips(self, digits):
        own = MovingMNIST(digits, bounce="stochastic", bounce_seed=0)
        assert torch.equal(MovingMNIST(digits, bounce="stochastic").batch([4]), own.batch([4]))


def _assert_parts_at_the_first_hit(one: Clips, two: Clips) -> None:
    hit = one.hits.any(dim=-1)
    before = hit.int().cumsum(dim=1) == 0
    first = hit & (hit.int().cumsum(dim=1) == 1)
    assert before.any() and first.any()
    assert torch.equal(one.positions[before], two.positions[before])
    assert torch.equal(one.velocities[before], two.velocities[before])
    assert torch.equal(one.hits[first], two.hits[first])
    differs = (one.positions != two.positions).any(dim=-1) | (one.velocities != two.velocities).any(dim=-1)
    # Whether by place or by speed, every digit that hit has parted by the end of the frame after.
    parted = differs | torch.cat([differs[:, 1:], torch.ones_like(differs[:, :1])], dim=1)
    assert parted[first].all()


class TestCounts:
    def test_more_digits_leave_the_first_ones_motion(self, digits, base):
        three = MovingMNIST(digits, num_digits=3).clips(CLIPS)
        assert torch.equal(three.positions[:, :, :2], base.positions)
        assert torch.equal(three.directions[:, :2], base.directions)
        assert three.digit_indices.shape == (60, 3)

    def test_a_range_hides_some_digits_and_changes_nothing_else(self, digits):
        most = MovingMNIST(digits, num_digits=3, labels="digits").clips(range(300))
        some = MovingMNIST(digits, num_digits=(1, 3), labels="digits").clips(range(300))
        assert_only(most, some, "frames", "digit_labels", "digit_indices")
        shown = some.digit_indices >= 0
        assert torch.equal(shown, some.digit_labels >= 0)
        assert torch.equal(some.digit_indices[shown], most.digit_indices[shown])
        counts = shown.sum(dim=1)
        assert torch.equal(shown, torch.arange(3) < counts[:, None])
        # Three counts, binomial.
        assert (counts.bincount(minlength=4)[1:] - 100).abs().max() < 5 * math.sqrt(300 * 2 / 9)
        whole = counts == 3
        assert torch.equal(some.frames[whole], most.frames[whole])
        one = int((counts == 1).int().argmax())
        x, y = some.positions[one, 0, 0].long().tolist()
        assert torch.equal(some.frames[one, 0, 0, y : y + 28, x : x + 28], digits.images[some.digit_indices[one, 0]])
        assert (some.frames[one, 0] > 0).sum() == (digits.images[some.digit_indices[one, 0]] > 0).sum()


class TestTheRest:
    def test_canvas_scales_places_alone(self, digits, base):
        wide = MovingMNIST(digits, canvas=(64, 100)).clips(CLIPS)
        assert wide.frames.shape == (60, 20, 1, 64, 100)
        assert torch.equal(wide.positions, base.positions * torch.tensor([2, 1]))
        assert torch.equal(wide.hits, base.hits) and torch.equal(wide.digit_indices, base.digit_indices)

    def test_a_canvas_of_the_digits_size_shows_it_whole(self, digits):
        clips = MovingMNIST(digits, canvas=28, num_digits=1).clips([0, 1])
        assert not clips.positions.any()
        assert torch.equal(clips.frames[:, 7, 0], digits.images[clips.digit_indices[:, 0]])

    def test_step_changes_speed_alone(self, digits, base):
        fast = MovingMNIST(digits, step=0.2).clips(CLIPS)
        assert torch.equal(fast.velocities[:, 0].abs(), 2 * base.velocities[:, 0].abs())
        assert torch.equal(fast.directions, base.directions) and torch.equal(fast.digit_indices, base.digit_indices)

    def test_step_range_draws_a_speed_for_each_digit(self, digits, base):
        drawn = MovingMNIST(digits, step=(0.05, 0.15)).clips(range(500))
        speed = drawn.velocities[:, 0].norm(dim=-1) / 36
        assert speed.min() > 0.0499 and speed.max() < 0.1501
        # A uniform draw over a width w has the standard deviation w / sqrt(12).
        assert abs(float(speed.mean()) - 0.1) < 5 * 0.1 / math.sqrt(12 * speed.numel())
        assert abs(float(speed.std()) - 0.1 / math.sqrt(12)) < 5 * 0.1 / math.sqrt(12 * speed.numel())
        assert torch.equal(drawn.directions[:60], base.directions)
        assert torch.equal(drawn.digit_indices[:60], base.digit_indices)

    def test_replacement_changes_which_digits_alone(self, digits, base):
        other = MovingMNIST(digits, replacement=True).clips(CLIPS)
        assert_only(base, other, "frames", "digit_labels", "digit_indices")
        few = Digits(digits.images[:30], digits.labels[:30], "first 30", "train")
        drawn = MovingMNIST(few, 1, replacement=True).clips(range(1500)).digit_indices.flatten()
        assert len(drawn[:30].unique()) < 30
        # Of 3000 draws each image has a thirtieth, binomially.
        assert (drawn.bincount(minlength=30) - 100).abs().max() < 5 * math.sqrt(100 * 29 / 30)

    def test_color_changes_channels_alone(self, digits, base):
        data = MovingMNIST(digits, color=True)
        other = data.clips(CLIPS)
        assert data.frame_shape == (3, 64, 64) and other.frames.shape == (60, 20, 3, 64, 64)
        assert_only(base, other, "frames")
        # A saturated colour of value 1 has a channel of 1 and one of 0.
        assert torch.equal(other.colors.amax(dim=-1), torch.ones(60, 2))
        assert torch.equal(other.colors.amin(dim=-1), torch.zeros(60, 2))
        assert len(other.colors.reshape(-1, 3).unique(dim=0)) == 120
        assert torch.equal(other.frames.amax(dim=2, keepdim=True), base.frames)
        assert base.colors is None
        alone = MovingMNIST(digits, color=True, num_digits=1).clips([3])
        grey = MovingMNIST(digits, num_digits=1).batch([3])
        assert torch.equal(alone.frames, grey * alone.colors[0, 0][:, None, None])

    def test_color_occludes_whole_pixels(self, digits):
        clips = MovingMNIST(digits, color=True, overlap="occlude").clips(range(8))
        lower, upper = (layer[:, :, None] for layer in layers(clips, digits))
        tinted = [layer * clips.colors[:, k, :][:, None, :, None, None] for k, layer in enumerate((lower, upper))]
        assert torch.equal(clips.frames, torch.where(upper > 0, tinted[1], tinted[0]))

    def test_more_frames_go_on_from_the_first(self, digits, base):
        longer = MovingMNIST(digits, num_frames=33).batch([2, 5])
        assert torch.equal(longer[:, :20], base.frames[[2, 5]])

    def test_labels_change_what_comes_with_the_frames_alone(self, digits, base):
        frames, directions = MovingMNIST(digits, labels="direction").batch(CLIPS)
        assert torch.equal(frames, base.frames) and torch.equal(directions, base.directions[:, 0])
        frames, shown = MovingMNIST(digits, labels="digits").batch(CLIPS)
        assert torch.equal(frames, base.frames) and torch.equal(shown, digits.labels[base.digit_indices])
        frames, headings = MovingMNIST(digits, labels="heading").batch(CLIPS)
        right, down = (base.velocities[:, -1, 0] > 0).long().unbind(-1)
        assert torch.equal(frames, base.frames) and torch.equal(headings, right + 2 * down)
        assert headings.dtype == torch.int64 and len(headings.unique()) == 4
        frame, label = MovingMNIST(digits, labels="direction")[7]
        assert torch.equal(frame, base.frames[7]) and label == base.directions[7, 0]
        items = MovingMNIST(digits, labels="digits").__getitems__([7, 8])
        assert torch.equal(items[1][1], shown[8])

    def test_direction_is_the_quadrant_of_the_first_velocity(self, base):
        first = torch.where(base.hits[:, 0], -base.velocities[:, 0], base.velocities[:, 0])
        x, y = first.unbind(dim=-1)
        expected = torch.where(x.abs() > y.abs(), torch.where(x > 0, 0, 2), torch.where(y > 0, 1, 3))
        assert torch.equal(base.directions, expected)
        assert base.directions.dtype == torch.int64 and len(base.directions.unique()) == 4

    def test_length_is_nominal(self, digits, base):
        assert torch.equal(MovingMNIST(digits, length=5).batch(CLIPS), base.frames)

    def test_the_description_names_source_split_seed_and_settings(self, digits):
        data = MovingMNIST(digits, seed=7, num_digits=(1, 3), step=(0.05, 0.1), overlap="sum", color=True)
        text = data.description
        parts = ("sklearn", "split train", "seed 7", "3x64x64", "1 to 3 digits", "0.05 to 0.1", "sum", "clamp")
        for part in ("1297 28x28", "20 frames", "without replacement", "labels none", *parts):
            assert part in text, part
        assert "\n" not in text and text in repr(data)
        bounces = MovingMNIST(digits, bounce="stochastic", bounce_seed=3, replacement=True).description
        assert "bounces 3" in bounces and "with replacement" in bounces


class TestErrors:
    @pytest.mark.parametrize(
        ("kind", "match", "given"),
        [
            (ValueError, "'canvas' is 10, expected at least the digit's 28; pass canvas=28 or more", {"canvas": 10}),
            (ValueError, r"'canvas' is \(64, 20\)", {"canvas": (64, 20)}),
            (ValueError, "'canvas' is .*one number or two", {"canvas": (64, 64, 3)}),
            (TypeError, "'canvas' is 64.0, expected an integer", {"canvas": 64.0}),
            (ValueError, "'num_frames' is 0, expected 1 or more", {"num_frames": 0}),
            (ValueError, "'num_digits' is 0, expected 1 to 100", {"num_digits": 0}),
            (ValueError, r"'num_digits' is \(3, 1\), expected the lower number first", {"num_digits": (3, 1)}),
            (ValueError, "'step' is 1.5, expected 0 to 1", {"step": 1.5}),
            (ValueError, "'step' is nan", {"step": math.nan}),
            (ValueError, r"'step' is \(0.2, 0.1\)", {"step": (0.2, 0.1)}),
            (TypeError, "'step' is '0.1', expected a number", {"step": ("0.1", "0.2")}),
            (ValueError, "'overlap' is 'add', expected one of 'max', 'sum', 'occlude'", {"overlap": "add"}),
            (ValueError, "'bounce' is 'stop'", {"bounce": "stop"}),
            (ValueError, "'bounce_seed' is 3, expected None for bounce='clamp'", {"bounce_seed": 3}),
            (
                ValueError,
                "'labels' is 'speed', expected one of None, 'direction', 'heading', 'digits'",
                {"labels": "speed"},
            ),
            (ValueError, "'seed' is -1", {"seed": -1}),
            (TypeError, "'seed' is None", {"seed": None}),
            (ValueError, "'length' is 0", {"length": 0}),
        ],
        ids=lambda v: v if isinstance(v, str) else "",
    )
    def test_arguments(self, digits, kind, match, given):
        with pytest.raises(kind, match=match) as caught:
            MovingMNIST(digits, **given)
        text = str(caught.value)
        assert text.startswith("lstmrep.data.MovingMNIST: ") and text.endswith(".") and "\n" not in text

    def test_digits(self):
        with pytest.raises(TypeError, match=r"'digits' is a Tensor, expected Digits; pass load_digits\(\)"):
            MovingMNIST(torch.zeros(3, 28, 28))

    def test_indices(self, digits):
        data = MovingMNIST(digits)
        with pytest.raises(IndexError, match="index -1 is outside the set, expected 0 to"):
            data[-1]
        with pytest.raises(TypeError, match="indices are float64 of 1 dimensions"):
            data.batch([0.5])
        with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
            data["first"]
