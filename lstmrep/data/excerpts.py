"""Random excerpts of long videos: unlabelled data for pretraining, as the paper takes 300 hours out of Sports-1M."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lstmrep.data.arguments import real, whole
from lstmrep.data.random import WORD, Key, Purpose, uniform
from lstmrep.data.video import Video, count_frames, find_videos, frame_rate

CALLER = "lstmrep.data.random_excerpts"
HOUR = 3600
# Of pictures and arrays, which tell none: the paper's videos have about 30 frames a second.
RATE = 30.0


@dataclass(frozen=True)
class Excerpt:
    """A stretch of a video.

    Attributes:
        video: which.
        first: its first frame.
        count: frames in it.
        rate: frames a second.
    """

    video: Video
    first: int
    count: int
    rate: float

    @property
    def name(self) -> str:
        """The video's name and the frames, ``games/1.mp4@300-599``."""
        return f"{self.video.name}@{self.first}-{self.first + self.count - 1}"


def random_excerpts(
    root: str | Path | Sequence[str | Path],
    *,
    seconds: float = 10.0,
    hours: float | None = None,
    excerpts: int | None = None,
    seed: int = 0,
) -> list[Excerpt]:
    """Excerpts of one length, each beginning at a time drawn uniformly from all at which one may begin.

    Excerpt i is a function of (seed, i) and the videos: of more hours the first ones are the same.

    Args:
        root: videos, as of ``lstmrep.data.video.find_videos``.
        seconds: length. Default 10: 300 frames at 30 a second.
        hours: of all excerpts together, rounded up to whole excerpts; 300 in the paper, 108,000 excerpts.
        excerpts: how many, in place of ``hours``.
        seed: of the draws. Default 0.

    Returns:
        The excerpts. Videos shorter than one are passed over.

    Raises:
        FileNotFoundError: there is no video.
        ValueError: no video is long enough, or not one of ``hours`` and ``excerpts`` is given.
    """
    real(CALLER, "seconds", seconds, 0)
    whole(CALLER, "seed", seed, 0, WORD - 1)
    if (hours is None) == (excerpts is None):
        raise ValueError(f"{CALLER}: pass one of 'hours' and 'excerpts', which say how many are drawn.")
    if excerpts is None:
        excerpts = math.ceil(real(CALLER, "hours", hours or 0.0, 0) * HOUR / seconds)
    whole(CALLER, "excerpts", excerpts, 1)
    videos = find_videos(root)
    rates = [frame_rate(video) or RATE for video in videos]
    lengths = [max(1, round(seconds * rate)) for rate in rates]
    starts = [max(0, count_frames(video) - n + 1) for video, n in zip(videos, lengths, strict=True)]
    # In seconds, not frames: a video of 60 frames a second is no likelier than one of 30.
    room = np.array([n / rate for n, rate in zip(starts, rates, strict=True)])
    if not room.any():
        raise ValueError(f"{CALLER}: no video of {root} is {seconds:g} seconds long; pass fewer seconds.")
    ends = np.cumsum(room)
    at = uniform(Key(seed), Purpose.EXCERPT, np.arange(excerpts), 1)[:, 0] * ends[-1]
    found = []
    for time, place in zip(at, np.searchsorted(ends, at, side="right"), strict=True):
        k = int(place)
        first = min(int((time - (ends[k] - room[k])) * rates[k]), starts[k] - 1)
        found.append(Excerpt(videos[k], first, lengths[k], rates[k]))
    return found


def hours_of(excerpts: Sequence[Excerpt]) -> float:
    """How long they are together."""
    return sum(one.count / one.rate for one in excerpts) / HOUR
