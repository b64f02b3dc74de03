"""Clip and video accuracy of hand-made predictions: the numbers are worked out in the comments."""

import math

import pytest
import torch

from lstmrep import eval as ev


@pytest.mark.parametrize(
    ("frames", "starts"), [(16, [0]), (23, [0]), (24, [0, 8]), (40, [0, 8, 16, 24]), (15, []), (0, [])]
)
def test_windows(frames, starts):
    found = ev.windows(frames)
    assert found.shape == (len(starts), 16) and found.dtype == torch.int64
    assert found[:, 0].tolist() == starts
    assert all(row.tolist() == list(range(s, s + 16)) for row, s in zip(found, starts, strict=True))


def test_windows_of_other_sizes():
    assert ev.windows(7, 3, 2).tolist() == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]
    with pytest.raises(ValueError, match="argument 'stride' is 0"):
        ev.windows(7, stride=0)


# Four videos, three classes. Video 0: clips 0 and 3; 1: too short for a clip; 2: clip 1; 3: clips 2 and 4.
PROBABILITIES = torch.tensor(
    [
        [0.5, 0.25, 0.25],  # 0 -> class 0
        [0.0, 0.5, 0.5],  # 2 -> class 1 (the first of equals)
        [0.25, 0.0, 0.75],  # 3 -> class 2
        [0.0, 0.75, 0.25],  # 0 -> class 1
        [0.75, 0.0, 0.25],  # 3 -> class 0
    ]
)
VIDEO = torch.tensor([0, 2, 3, 0, 3])
LABELS = torch.tensor([1, 0, 2, 0])


def test_clip_accuracy():
    # Clips' labels are 1, 2, 0, 1, 0; predicted 0, 1, 2, 1, 0: two of five.
    assert ev.clip_accuracy(PROBABILITIES, LABELS[VIDEO]) == 0.4


def test_pooled_accuracy_with_a_video_that_is_too_short():
    # Means: video 0 (.25, .5, .25) -> 1, right; video 2 (0, .5, .5) -> 1, wrong; video 3 (.5, 0, .5) -> 0, right.
    means, counts = ev.pool(PROBABILITIES, VIDEO, 4)
    assert means.tolist() == [[0.25, 0.5, 0.25], [0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5]]
    assert counts.tolist() == [2, 0, 1, 2]
    found = ev.pooled_accuracy(PROBABILITIES, VIDEO, LABELS)
    assert found.accuracy == 2 / 3
    assert found.videos == 3
    assert found.without_clips.tolist() == [1]
    assert found.predicted.tolist() == [1, -1, 1, 0]
    # Had the short video shifted the others, its label would have met video 2's prediction, and so on: 1 of 3.
    assert (found.predicted[[0, 2, 3]] == LABELS[[0, 1, 2]]).double().mean() != found.accuracy


def test_pooled_accuracy_does_not_depend_on_the_order_of_clips():
    order = torch.tensor([4, 1, 0, 2, 3])
    assert ev.pooled_accuracy(PROBABILITIES[order], VIDEO[order], LABELS).predicted.tolist() == [1, -1, 1, 0]


def test_confusion():
    found = ev.pooled_accuracy(PROBABILITIES, VIDEO, LABELS)
    matrix = ev.confusion(found.predicted, LABELS, 3)
    # True 1 as 1, true 2 as 1, true 0 as 0.
    assert matrix.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]
    assert ev.class_accuracy(matrix).tolist() == [1.0, 1.0, 0.0]
    assert math.isnan(ev.class_accuracy(torch.tensor([[1, 0], [0, 0]]))[1])


def test_blocks_of_a_video_end_to_end():
    """Videos of 24, 10 and 16 frames: two clips, none, one."""
    lengths = [24, 10, 16]
    video = torch.cat([torch.full((len(ev.windows(n)),), k) for k, n in enumerate(lengths)])
    assert video.tolist() == [0, 0, 2]
    probabilities = torch.tensor([[0.0, 1.0], [0.75, 0.25], [1.0, 0.0]])
    assert ev.pooled_accuracy(probabilities, video, torch.tensor([1, 1, 0])).accuracy == 1.0


def test_errors():
    with pytest.raises(ValueError, match="one clip at least"):
        ev.clip_accuracy(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"probabilities \(5, 3\) and labels \(4,\)"):
        ev.clip_accuracy(PROBABILITIES, LABELS)
    with pytest.raises(ValueError, match="'video' reaches from 0 to 3, expected 0 to 2"):
        ev.pooled_accuracy(PROBABILITIES, VIDEO, LABELS[:3])
    with pytest.raises(ValueError, match="classes reach from 0 to 2, expected 0 to 1"):
        ev.confusion(LABELS, LABELS, 2)
    with pytest.raises(ValueError, match="expected one shape"):
        ev.confusion(LABELS, LABELS[:2], 3)
