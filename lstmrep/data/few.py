"""So many labelled clips of every class out of an endless set: what is left to learn from when labels are dear."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lstmrep.data.arguments import whole
from lstmrep.data.dataset import ClipDataset, Item

CALLER = "lstmrep.data.FewClips"
# Clips from one draw's first to the next one's: no two draws share one.
APART = 1 << 20
AT_ONCE = 256


class FewClips(ClipDataset):
    """The first clips of an endless labelled set that fill every class; all are kept in memory.

    Args:
        data: clips with one label each, and ``num_classes``.
        per_class: clips of every class. With more, those taken before are among them.
        resampling: which draw; draws have no clip in common. Default 0.

    Raises:
        ValueError: the set has no classes, or a class does not come up.
    """

    infinite = False

    def __init__(self, data: ClipDataset, per_class: int, resampling: int = 0) -> None:
        whole(CALLER, "per_class", per_class, 1)
        whole(CALLER, "resampling", resampling, 0, APART)
        self.num_classes = int(getattr(data, "num_classes", 0))
        if not self.num_classes:
            raise ValueError(f"{CALLER}: {data!r} has no classes; pass labels='direction'.")
        self.frame_shape, self.num_frames = data.frame_shape, data.num_frames
        self._about = f"{data.description}; {per_class} a class (resampling {resampling})"
        frames, labels = [], []
        missing = [per_class] * self.num_classes
        for first in range(resampling * APART, (resampling + 1) * APART, AT_ONCE):
            some, told = data.batch(range(first, first + AT_ONCE))
            for k, label in enumerate(told.tolist()):
                if missing[label]:
                    missing[label] -= 1
                    frames.append(some[k])
                    labels.append(label)
            if not any(missing):
                break
        else:
            raise ValueError(f"{CALLER}: of {APART} clips too few are of class {missing.index(max(missing))}.")
        self.frames, self.labels = torch.stack(frames), torch.tensor(labels)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def description(self) -> str:
        """That of the whole set, and how many of it these are."""
        return self._about

    def batch(self, indices: Sequence[int]) -> Item:
        """float32 ``[B, T, *frame]`` and int64 ``[B]``."""
        found = torch.from_numpy(self._checked(indices))
        return self.frames[found], self.labels[found]
