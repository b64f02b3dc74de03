"""Baselines on arrays small enough to work out by hand."""

import math

import pytest
import torch

from lstmrep import eval as ev
from lstmrep.nn.outputs import squash

EPS = torch.finfo(torch.float64).eps


def test_mean_frame_and_pixel():
    first = torch.tensor([[[0.0, 1.0], [1.0, 1.0]]]).view(1, 1, 1, 2, 2)
    second = torch.tensor([[0.0, 0.0], [0.0, 1.0]]).expand(1, 3, 1, 2, 2)
    mean = ev.mean_frame([first, (second, torch.tensor([7]))])
    assert torch.equal(mean, torch.tensor([[[0.0, 0.25], [0.25, 1.0]]]))
    assert torch.equal(ev.mean_pixel(mean), torch.full((1, 2, 2), 0.375))


def test_mean_pixel_goes_by_channel_and_over_all_features():
    colour = torch.tensor([0.0, 0.5, 1.0])[:, None, None].expand(3, 2, 2)
    assert torch.equal(ev.mean_pixel(colour), colour)
    assert torch.equal(ev.mean_pixel(torch.tensor([1.0, 3.0])), torch.tensor([2.0, 2.0]))


def test_mean_of_squashed_frames():
    frames = torch.rand(2, 3, 4) * 3
    assert torch.equal(ev.mean_frame([frames], squash=1.5), squash(frames, 1.5).double().sum((0, 1)).div(6).float())


def test_constant_mean_pixel_has_the_entropy_of_the_mean():
    """k of n pixels lit in every frame: n times the entropy of k/n, wherever they are."""
    frames = torch.zeros(4, 2, 1, 6, 6)
    frames.flatten(2)[:, :, :9] = 1
    frames = frames.flatten(2)[:, :, torch.randperm(36)].view_as(frames)
    mean = ev.mean_pixel(ev.mean_frame([frames]))
    assert torch.equal(mean, torch.full((1, 6, 6), 0.25))
    expected = -36 * (0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    got = ev.cross_entropy(mean.expand(4, 2, 1, 6, 6), frames)
    # 36 terms, each within some roundings.
    assert float((got - expected).abs().max()) <= 44 * EPS * expected


def test_copy_last():
    inputs = torch.rand(3, 4, 1, 2, 2)
    copied = ev.copy_last(inputs, 5)
    assert copied.shape == (3, 5, 1, 2, 2)
    assert all(torch.equal(copied[:, k], inputs[:, 3]) for k in range(5))
    # One pixel wrong in each frame, at a clamp of 1e-4: 9.21 nats.
    target = copied.round()
    target[..., 0, 0] = 1 - target[..., 0, 0]
    nats = ev.cross_entropy(copied.round(), target, clamp=1e-4)
    assert float((nats + math.log(1e-4)).abs().max()) <= 8 * EPS * 10


def _square(y, x, size=12):
    frame = torch.zeros(size, size)
    frame[max(y, 0) : max(y + 3, 0), max(x, 0) : max(x + 3, 0)] = torch.tensor(0.5)
    return frame


def test_linear_motion_goes_on_and_leaves():
    """Two clips with motions of their own; the second one's square leaves the picture."""
    starts, steps = [(4, 2), (5, 3)], [(0, 2), (-2, -1)]
    inputs = torch.stack(
        [
            torch.stack([_square(y + t * dy, x + t * dx) for t in range(2)])
            for (y, x), (dy, dx) in zip(starts, steps, strict=True)
        ]
    ).unsqueeze(2)
    assert ev.displacement(inputs[:, 0], inputs[:, 1]).tolist() == [list(s) for s in steps]
    moved = ev.linear_motion(inputs, 4)
    assert moved.shape == (2, 4, 1, 12, 12)
    for clip, ((y, x), (dy, dx)) in enumerate(zip(starts, steps, strict=True)):
        for k in range(4):
            assert torch.equal(moved[clip, k, 0], _square(y + (k + 2) * dy, x + (k + 2) * dx)), (clip, k)
    assert not moved[1, 3].any()


def test_displacement_of_textures_and_of_nothing():
    texture = torch.rand(1, 3, 10, 8)
    for down in (-4, 0, 3, 5):
        for right in (-3, 0, 4):
            assert ev.displacement(texture, texture.roll((down, right), (2, 3))).tolist() == [[down, right]]
    empty = torch.zeros(2, 1, 5, 5)
    assert not ev.displacement(empty, empty).any()


def test_linear_motion_of_one_frame_stands_still():
    inputs = torch.rand(2, 1, 1, 4, 4)
    assert torch.equal(ev.linear_motion(inputs, 3), ev.copy_last(inputs, 3))


def test_errors():
    with pytest.raises(ValueError, match="holds no frames"):
        ev.mean_frame([])
    with pytest.raises(TypeError, match=r"torch.uint8.*divide 8-bit frames by 255"):
        ev.mean_frame([torch.zeros(2, 3, 4, dtype=torch.uint8)])
    with pytest.raises(TypeError, match="a batch is a str"):
        ev.mean_frame(["frames"])
    with pytest.raises(ValueError, match=r"expected \[B, T, \*frame\]"):
        ev.mean_frame([torch.zeros(2, 3)])
    with pytest.raises(ValueError, match="expected images"):
        ev.linear_motion(torch.zeros(2, 3, 4), 1)
