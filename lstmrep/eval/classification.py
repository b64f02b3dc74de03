"""Accuracy of clips and of videos: a video's class is that of the mean of its clips' probabilities.

Videos are cut into blocks of 16 frames that start every 8 frames.  A video shorter than one block has no clip; it is
named in the result and moves no other video's prediction.

Source: Srivastava et al. 2015, section 3 (action recognition).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class PooledAccuracy(NamedTuple):
    """Accuracy over videos.

    Attributes:
        accuracy: share of the videos with a clip that are predicted right, 0 to 1.
        videos: how many videos have a clip.
        without_clips: int64, the videos that have none and are not counted.
        predicted: int64 ``[videos in all]``, the class of each; -1 for a video without clips.
    """

    accuracy: float
    videos: int
    without_clips: Tensor
    predicted: Tensor


def windows(num_frames: int, length: int = 16, stride: int = 8) -> Tensor:
    """Frame numbers of a video's clips: ``(num_frames - length) // stride + 1`` of them, none where it is too short.

    Args:
        num_frames: frames of the video.
        length: frames of a clip.
        stride: frames from one clip's start to the next one's.

    Returns:
        int64 ``[clips, length]``. Frames after the last whole clip are in none.

    Raises:
        ValueError: a length or stride below 1, a negative number of frames.
    """
    for name, value, least in (("num_frames", num_frames, 0), ("length", length, 1), ("stride", stride, 1)):
        if value < least:
            raise ValueError(f"lstmrep.eval.windows: argument '{name}' is {value}, expected {least} or more.")
    starts = torch.arange(0, max(0, num_frames - length + 1), stride)
    return starts[:, None] + torch.arange(length)


def clip_accuracy(probabilities: Tensor, labels: Tensor) -> float:
    """Share of clips whose largest probability is their label's.

    Args:
        probabilities: ``[clips, K]``; logits do as well.
        labels: int64 ``[clips]``.

    Returns:
        0 to 1.

    Raises:
        ValueError: no clips, shapes that do not belong together.
    """
    _check("clip_accuracy", probabilities, labels, "labels")
    return float((probabilities.argmax(1) == labels).double().mean())


def pool(probabilities: Tensor, video: Tensor, videos: int) -> tuple[Tensor, Tensor]:
    """Mean of the clips' probabilities, video by video.

    Args:
        probabilities: ``[clips, K]``; probabilities, not logits: their mean is what the paper takes.
        video: int64 ``[clips]``, the video that each clip is cut from, 0 to ``videos - 1``, in any order.
        videos: how many videos there are, those without a clip included.

    Returns:
        float64 ``[videos, K]`` (zeros for a video without clips) and the number of clips ``[videos]``.

    Raises:
        ValueError: a video number outside the range, shapes that do not belong together.
    """
    _check("pool", probabilities, video, "video")
    if int(video.min()) < 0 or int(video.max()) >= videos:
        raise ValueError(
            f"lstmrep.eval.pool: argument 'video' reaches from {int(video.min())} to {int(video.max())}, expected 0 to "
            f"{videos - 1}."
        )
    sums = probabilities.new_zeros(videos, probabilities.shape[1], dtype=torch.float64)
    sums.index_add_(0, video, probabilities.double())
    counts = torch.bincount(video, minlength=videos)
    return sums / counts.clamp_min(1)[:, None], counts


def pooled_accuracy(probabilities: Tensor, video: Tensor, labels: Tensor) -> PooledAccuracy:
    """Accuracy over videos, each predicted from the mean of its clips' probabilities.

    Args:
        probabilities: ``[clips, K]``.
        video: int64 ``[clips]``, the video of each clip, 0 to V - 1, in any order.
        labels: int64 ``[V]``, the label of every video, those without a clip included.

    Returns:
        A :class:`PooledAccuracy`; videos without a clip are named, not counted.

    Raises:
        ValueError: no clips, a video number outside the range, shapes that do not belong together.
    """
    means, counts = pool(probabilities, video, labels.shape[0])
    seen = counts > 0
    predicted = torch.where(seen, means.argmax(1), -1)
    right = (predicted == labels)[seen]
    return PooledAccuracy(float(right.double().mean()), int(seen.sum()), (~seen).nonzero().flatten(), predicted)


def confusion(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """How often a class was taken for which.

    Args:
        predicted: int64 ``[N]``; entries of -1 (a video without clips) are left out.
        labels: int64 ``[N]``, 0 to ``classes - 1``.
        classes: K, how many there are.

    Returns:
        int64 ``[K, K]``, row the true class, column the predicted one.

    Raises:
        ValueError: shapes differ, a class outside the range.
    """
    if predicted.shape != labels.shape or labels.ndim != 1:
        raise ValueError(
            f"lstmrep.eval.confusion: predicted {tuple(predicted.shape)} and labels {tuple(labels.shape)}, expected "
            "one shape [N]."
        )
    kept = predicted >= 0
    predicted, labels = predicted[kept], labels[kept]
    if labels.numel() and (int(labels.min()) < 0 or int(torch.maximum(predicted, labels).max()) >= classes):
        raise ValueError(
            f"lstmrep.eval.confusion: classes reach from {int(labels.min())} to "
            f"{int(torch.maximum(predicted, labels).max())}, expected 0 to {classes - 1}."
        )
    return torch.bincount(labels * classes + predicted, minlength=classes**2).view(classes, classes)


def class_accuracy(matrix: Tensor) -> Tensor:
    """Accuracy of each class from a confusion matrix: float64 ``[K]``, NaN for a class that does not occur."""
    counts = matrix.double()
    return counts.diagonal() / counts.sum(1)


def _check(name: str, probabilities: Tensor, other: Tensor, what: str) -> None:
    if probabilities.ndim != 2 or other.shape != probabilities.shape[:1] or not other.numel():
        raise ValueError(
            f"lstmrep.eval.{name}: probabilities {tuple(probabilities.shape)} and {what} {tuple(other.shape)}, "
            "expected [clips, K] and [clips] with one clip at least."
        )
