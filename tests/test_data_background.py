"""Balls and backgrounds: what is drawn is where it is said to be, and the background is behind it and stands still."""

import numpy as np
import pytest
import torch

from lstmrep.data import MovingMNIST, load_digits, make
from lstmrep.data.render import texture


def balls(size=9, n=3, canvas=64, **options):
    return MovingMNIST(load_digits("ball", "train", size=size), num_digits=n, canvas=canvas, **options)


def centroid(image):
    """(x, y) of an image's mass."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(image * x).sum(), (image * y).sum()]) / image.sum()


@pytest.mark.parametrize("size", [3, 8, 9, 12])
def test_the_disk(size):
    (ball,) = load_digits("ball", "test", size=size).images.double().numpy()
    assert ball.shape == (size, size) and ball.min() >= 0 and ball.max() == 1
    assert np.array_equal(ball, ball.T) and np.array_equal(ball, ball[::-1])
    # 8 x 8 points a pixel: at most the pixels on the rim are half a point's share off.
    assert abs(ball.sum() - np.pi * size**2 / 4) < 4 * size / 8
    assert load_digits("ball").size == (12, 12)


@pytest.mark.parametrize("background", [0.0, 0.6])
def test_positions_are_those_of_the_rendered_centroids(background):
    clips = balls(n=1, background=background).clips(range(20))
    frames = clips.frames[:, :, 0].double().numpy()
    if background:
        behind = frames.min(1, keepdims=True)  # a ball never covers one place in all 20 frames
        frames = (frames - behind) / (1 - behind)
    corners = clips.positions[:, :, 0].long().numpy()
    for b in range(20):
        for t in range(frames.shape[1]):
            assert np.abs(centroid(frames[b, t]) - corners[b, t] - 4).max() <= 0.5


def test_the_background_is_behind_and_stands_still():
    plain, before = balls().clips(range(8)), balls(background=0.5).clips(range(8))
    assert torch.equal(plain.positions, before.positions), "nothing else is drawn otherwise"
    empty = plain.frames == 0
    lowest = before.frames.masked_fill(~empty, 2.0).amin(1)
    highest = before.frames.masked_fill(~empty, -1.0).amax(1)
    shown = highest >= 0
    assert torch.equal(lowest[shown], highest[shown]), "one value in all frames where no ball is"
    assert torch.equal(before.frames[plain.frames == 1], torch.ones(int((plain.frames == 1).sum())))
    assert highest.max() <= 0.5 and highest[shown].std() > 0.05
    assert not torch.equal(highest[0], highest[1]), "each clip has its own"


def test_a_texture_goes_through_its_points():
    grid = np.random.default_rng(0).random((2, 5, 4))
    made = texture(grid, (33, 25))
    assert made.shape == (2, 33, 25)
    np.testing.assert_array_equal(made[:, ::8, ::8], grid.astype(np.float32))
    assert np.abs(np.diff(made, axis=1)).max() <= 1 / 8 and np.abs(np.diff(made, axis=2)).max() <= 1 / 8


def test_colour_and_description():
    made = balls(background=0.4, color=True)
    frames = made.batch(range(4))
    assert frames.shape[2] == 3 and frames.max() <= 1 and "background 0.4, labels" in made.description
    corner = frames[:, :, :, :1, :1]
    assert torch.equal(corner[:, :, 0], corner[:, :, 1]) or (corner.amax(2) == 1).any(), "grey, where no ball is"
    assert "background" not in balls().description
    named = make("moving_mnist", "train", source="ball", background=0.4, num_digits=2)
    assert named.digits.size == (12, 12) and torch.equal(named.batch([3]), balls(12, 2, background=0.4).batch([3]))


def test_refused():
    with pytest.raises(ValueError, match=r"argument 'background' is 1\.5, expected 0 to 1"):
        balls(background=1.5)
