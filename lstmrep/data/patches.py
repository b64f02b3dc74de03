"""Natural video in small: the same crop of consecutive frames, of any videos a user has."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lstmrep.data.arguments import one_of, real, two, whole
from lstmrep.data.dataset import ClipDataset
from lstmrep.data.random import WORD, Indices, Key, Purpose, uniform
from lstmrep.data.sources import SPLITS, part, shuffled, tenths
from lstmrep.data.video import FrameCache, Video, count_frames, find_videos, target_size

CALLER = "lstmrep.data.VideoPatches"
DIVISIONS = ("video", "time")
# Frames that the paper's model reads and predicts.
READ, PREDICTED = 16, 13
WHITE = np.float32(255)


class VideoPatches(ClipDataset):
    """Crops of videos, at the same place in all frames of a clip: natural image patches.

    Clip i starts at a frame drawn uniformly from all windows of the split, and is cropped at a place drawn uniformly
    from the frame. It is a function of (seed, split, i): the same in any order, batch and process. The set has no end.

    Args:
        root: a video, a folder of videos or of pictures, or a list of such (``lstmrep.data.video.find_videos``).
        num_frames: frames of a clip. Default 29: 16 to read and 13 to predict.
        size: (height, width) of the crop in pixels, or one number for both. Default 32.
        stride: frames from one of the clip to the next. Default 1.
        resize: (height, width) that frames get before the crop, or the length of the shorter side. Default: none.
        color: three channels; else one of grey values. Default True.
        split: ``"train"``, ``"valid"`` or ``"test"``.
        divide: what the splits divide, eight, one and one tenth each. ``"video"``: the videos, in an order drawn from
            the seed; ``"time"``: each video's frames, in their order. Default: ``"video"`` from 10 videos on.
        cut: mean difference of neighbouring frames, of 0 to 1, from which on a new scene begins; no clip has frames of
            two. Default 0: scenes are not looked for, as the paper does not say that they were.
        seed: of all draws. Default 0.
        length: nominal ``len()``. Default 10,000.
        megabytes: of decoded frames to keep. Default 1,024; with DataLoader workers for each of them.

    Raises:
        FileNotFoundError: there is no video.
        ValueError: no window is long enough, a frame is smaller than the crop, or an argument is not as above.
    """

    infinite = True

    def __init__(
        self,
        root: str | Path | Sequence[str | Path],
        *,
        num_frames: int = READ + PREDICTED,
        size: int | Sequence[int] = 32,
        stride: int = 1,
        resize: int | Sequence[int] | None = None,
        color: bool = True,
        split: str = "train",
        divide: str | None = None,
        cut: float = 0.0,
        seed: int = 0,
        length: int = 10_000,
        megabytes: int = 1024,
    ) -> None:
        self.num_frames = whole(CALLER, "num_frames", num_frames, 1)
        height, width = (whole(CALLER, "size", side, 1) for side in two(CALLER, "size", size))
        self.stride = whole(CALLER, "stride", stride, 1)
        self._span = (self.num_frames - 1) * self.stride + 1  # frames from the first of a clip to its last
        self.split = one_of(CALLER, "split", split, SPLITS)
        one_of(CALLER, "divide", divide, (None, *DIVISIONS))
        self.cut = real(CALLER, "cut", cut, 0, 1)
        self.seed = whole(CALLER, "seed", seed, 0, WORD - 1)
        self.length = whole(CALLER, "length", length, 1)
        if resize is not None:
            target_size(1, 1, resize)
        self.frame_shape = (3 if color else 1, height, width)
        self.root = root
        self._frames = FrameCache(megabytes, resize, bool(color))
        videos = find_videos(root)
        self.divide = divide or ("video" if len(videos) >= 10 else "time")
        self._videos, self._first, self._windows = self._found(videos)
        self._ends = np.cumsum(self._windows)

    def __len__(self) -> int:
        return self.length

    @property
    def description(self) -> str:
        """Videos, split, seed and settings in one line."""
        where = "a list" if not isinstance(self.root, (str, Path)) else Path(self.root).name
        shape = "x".join(map(str, self.frame_shape))
        return (
            f"VideoPatches: {where}, split {self.split} by {self.divide}; {len(set(self._videos))} videos, "
            f"{int(self._ends[-1]):,} windows; {self.num_frames} frames of {shape}, stride {self.stride}, "
            f"resize {self._frames.resize}, cut {self.cut:g}; seed {self.seed}"
        )

    def batch(self, indices: Sequence[int]) -> Tensor:
        """The clips at ``indices``, formed together; each video is decoded once.

        Args:
            indices: integers of 0 or more, any order, repeats allowed; ``len()`` is no bound.

        Returns:
            float32 ``[B, T, C, H, W]`` in [0, 1].

        Raises:
            IndexError: an index is negative.
            ValueError: a video decodes to fewer frames than its packets promised.
        """
        places, starts, corners = self._drawn(self._checked(indices))
        channels, height, width = self.frame_shape
        out = np.empty((len(places), self.num_frames, channels, height, width), np.float32)
        # Parts of one video have neighbouring places.
        for video, clips in groupby(np.argsort(places), key=lambda k: self._videos[places[k]]):
            frames = self._frames(video)
            for k in clips:
                out[k] = self._crop(frames, video, int(starts[k]), corners[k])
        return torch.from_numpy(np.divide(out, WHITE, out=out))

    def _crop(
        self, frames: NDArray[np.uint8], video: Video, start: int, share: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        """One clip ``[T, C, h, w]``; share: of the room for the corner, down and right."""
        _, height, width = self.frame_shape
        if start + self._span > len(frames):
            raise ValueError(
                f"{CALLER}: {video.path} decodes to {len(frames)} frames, fewer than its packets promised; get it "
                "again, or leave it out."
            )
        if frames.shape[1] < height or frames.shape[2] < width:
            raise ValueError(
                f"{CALLER}: frames of {video.path} are {frames.shape[1]}x{frames.shape[2]}, smaller than the crop of "
                f"{height}x{width}; pass resize, or a smaller size."
            )
        top, left = (
            int(s * (have - want + 1)) for s, have, want in zip(share, frames.shape[1:3], (height, width), strict=True)
        )
        window = frames[start : start + self._span : self.stride, top : top + height, left : left + width]
        turned: NDArray[np.uint8] = window.transpose(0, 3, 1, 2)
        return turned

    def _drawn(self, index: Indices) -> tuple[Indices, Indices, NDArray[np.float64]]:
        """Of each clip: its place in the list of parts, its first frame, and its corner as a share of the room."""
        key = Key(self.seed, SPLITS.index(self.split))
        window = (uniform(key, Purpose.WINDOW, index, 1)[:, 0] * self._ends[-1]).astype(np.int64)
        place = np.searchsorted(self._ends, window, side="right")
        start = self._first[place] + window - (self._ends[place] - self._windows[place])
        return place, start, uniform(key, Purpose.CROP, index, 2)

    def _found(self, videos: list[Video]) -> tuple[list[Video], Indices, Indices]:
        """Parts of the split with a window: the video, its first frame, and the windows that begin from there on."""
        chosen = videos
        if self.divide == "video":
            chosen = [videos[k] for k in sorted(shuffled(len(videos), tenths(len(videos)), self.split, self.seed))]
        found: list[tuple[Video, int, int]] = []
        longest = 0
        for video in chosen:
            for first, end in self._scenes(video):
                longest = max(longest, end - first)
                if end - first >= self._span:
                    found.append((video, first, end - first - self._span + 1))
        if not found:
            raise ValueError(
                f"{CALLER}: no part of split '{self.split}' of {self.root} has the {self._span} frames of a clip; the "
                f"longest has {longest}. Pass fewer num_frames, longer videos, or another divide."
            )
        parts, first_frames, windows = zip(*found, strict=True)
        return list(parts), np.array(first_frames, np.int64), np.array(windows, np.int64)

    def _scenes(self, video: Video) -> list[tuple[int, int]]:
        """(first, end) of the stretches of a video that this split may use."""
        total = count_frames(video)
        first, end = part(total, tenths(total), self.split) if self.divide == "time" else (0, total)
        if not self.cut:
            return [(first, end)]
        frames = self._frames(video)
        cuts = [k for k in range(first + 1, min(end, len(frames))) if _difference(frames[k - 1], frames[k]) >= self.cut]
        return list(zip([first, *cuts], [*cuts, min(end, len(frames))], strict=True))


def _difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Mean absolute difference of two frames, of 0 to 1."""
    return float(np.abs(one.astype(np.int16) - other).mean()) / float(WHITE)
