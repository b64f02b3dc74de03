"""Classes of whole videos: a classifier over all windows of a set, pooled by video, and several of them averaged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lstmrep.eval.classification import class_accuracy, clip_accuracy, confusion, pool
from lstmrep.files import replacing, write_csv, write_text

if TYPE_CHECKING:
    from lstmrep.nn import ActionClassifier, FrameClassifier

CALLER = "lstmrep.eval.score_videos"
TABLE, NUMBERS, PROBABILITIES, CONFUSION = "videos.csv", "scores.json", "probabilities.npy", "confusion.csv"


@dataclass(frozen=True)
class VideoScores:
    """What a classifier, or several of them, said of the videos of a set.

    Attributes:
        videos: names.
        labels: int64 ``[V]``, the true classes.
        probabilities: float64 ``[V, K]``, means over a video's windows; zeros where it has none.
        windows: int64 ``[V]``, how many it has.
        clip_accuracy: share of the windows that are right; none for averages of several classifiers.
        description: the data, or what was averaged.
    """

    videos: list[str]
    labels: Tensor
    probabilities: Tensor
    windows: Tensor
    clip_accuracy: float | None
    description: str

    @property
    def predicted(self) -> Tensor:
        """int64 ``[V]``, the most probable class; -1 for a video without a window."""
        return torch.where(self.windows > 0, self.probabilities.argmax(1), -1)

    @property
    def accuracy(self) -> float:
        """Share of the videos with a window that are right."""
        seen = self.windows > 0
        return float((self.predicted == self.labels)[seen].double().mean())

    @property
    def majority(self) -> float:
        """Share of the largest class: what saying it always would reach."""
        return float(torch.bincount(self.labels[self.windows > 0]).double().max() / (self.windows > 0).sum())

    def save(self, folder: str | Path) -> None:
        """Write ``videos.csv``, ``scores.json``, ``probabilities.npy`` and ``confusion.csv`` into a folder."""
        folder = Path(folder)
        with replacing(folder / PROBABILITIES) as path:
            np.save(path, self.probabilities.numpy(), allow_pickle=False)
        rows = zip(self.videos, self.labels.tolist(), self.predicted.tolist(), self.windows.tolist(), strict=True)
        write_csv(folder / TABLE, ("video", "label", "predicted", "windows"), rows)
        classes = self.probabilities.shape[1]
        matrix = confusion(self.predicted, self.labels, classes)
        share = class_accuracy(matrix).tolist()
        table = [[k, *row, share[k]] for k, row in enumerate(matrix.tolist())]
        write_csv(folder / CONFUSION, ("class", *map(str, range(classes)), "accuracy"), table)
        told = {
            "accuracy": self.accuracy,
            "clip_accuracy": self.clip_accuracy,
            "majority": self.majority,
            "videos": len(self.videos),
            "without_windows": int((self.windows == 0).sum()),
            "windows": int(self.windows.sum()),
            "description": self.description,
        }
        write_text(folder / NUMBERS, json.dumps(told, indent=2) + "\n")


def score_videos(
    model: ActionClassifier | FrameClassifier, data: Any, *, clips: int | None = None, batch: int = 100
) -> VideoScores:
    """Classify every window of a set and pool them by video.

    Args:
        model: a classifier; it runs in eval mode under ``torch.inference_mode`` and has its mode back afterwards.
        data: clips with labels (:class:`lstmrep.data.Percepts` with ``labels=True``). Where it says which video each
            is cut from (``data.video``, ``data.videos``, ``data.labels``), these are pooled; else every clip is a
            video of its own.
        clips: the first ones alone, of a set without videos; default: all, of an endless one ``len(data)``.
        batch: windows at a time. Default 100.

    Returns:
        A :class:`VideoScores`.

    Raises:
        ValueError: the clips have no labels, or more classes than the model.
    """
    pooled = hasattr(data, "video") and hasattr(data, "videos")
    total = len(data) if clips is None or pooled else clips if data.infinite else min(clips, len(data))
    weight = model.head.weight
    made, labels = [], []
    mode = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for first in range(0, total, batch):
                given = data.batch(range(first, min(first + batch, total)))
                if isinstance(given, Tensor):
                    raise ValueError(f"{CALLER}: {data!r} gives no labels; set labels in its settings.")
                frames = given[0].to(weight.device, weight.dtype)
                out = model(frames if model.batch_first else frames.transpose(0, 1))
                made.append(out.probabilities.cpu().double())
                labels.append(given[1])
    finally:
        model.train(mode)
    probabilities, told = torch.cat(made), torch.cat(labels)
    if int(told.max()) >= probabilities.shape[1]:
        raise ValueError(
            f"{CALLER}: the clips have the class {int(told.max())}, and the model knows {probabilities.shape[1]}."
        )
    video, names = torch.arange(total), [str(k) for k in range(total)]
    of_videos = told
    if pooled:
        video, names, of_videos = torch.from_numpy(data.video), data.videos, torch.from_numpy(data.labels)
    means, counts = pool(probabilities, video, len(names))
    return VideoScores(names, of_videos, means, counts, clip_accuracy(probabilities, told), data.description)


def fuse(scores: Sequence[VideoScores]) -> VideoScores:
    """The mean of several classifiers' probabilities, video by video: two streams, or several models.

    Args:
        scores: two or more, over videos of the same names; flow features of a video have its name.

    Returns:
        Scores of the videos in the order of the first. A video that one of them has no window of has none.

    Raises:
        ValueError: the videos, their classes or the number of classes differ.
    """
    if len(scores) < 2:
        raise ValueError("lstmrep.eval.fuse: one classifier was given, expected two or more.")
    first = scores[0]
    sums, windows = torch.zeros_like(first.probabilities), first.windows.clone()
    for one in scores:
        place = {name: k for k, name in enumerate(one.videos)}
        missing = [name for name in first.videos if name not in place]
        if missing or len(one.videos) != len(first.videos):
            other = missing or [name for name in one.videos if name not in first.videos]
            raise ValueError(f"lstmrep.eval.fuse: not all classifiers have the video {other[0]}; score the same split.")
        order = torch.tensor([place[name] for name in first.videos])
        if one.probabilities.shape != sums.shape or not torch.equal(one.labels[order], first.labels):
            raise ValueError("lstmrep.eval.fuse: the classifiers' classes differ; use one list of classes for all.")
        sums += one.probabilities[order]
        windows = torch.minimum(windows, one.windows[order])
    return VideoScores(
        first.videos,
        first.labels,
        torch.where((windows > 0)[:, None], sums / len(scores), 0),
        windows,
        None,
        "mean of: " + " | ".join(one.description for one in scores),
    )
