"""Windows of frames' features, such as fc6 percepts: what the paper's action models read and are pretrained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lstmrep.data import actions
from lstmrep.data.arguments import one_of, real, whole
from lstmrep.data.dataset import ClipDataset, Item
from lstmrep.data.random import WORD
from lstmrep.data.sources import SPLITS, shuffled, tenths
from lstmrep.data.store import FeatureStore, selected

CALLER = "lstmrep.data.Percepts"


class Percepts(ClipDataset):
    """Windows of consecutive frames of every video of a split: ``[T, D]``, float32, as they are stored.

    Of a video of n frames ``(n - T) // stride + 1`` windows are taken. One shorter than T has none; it is named, and
    moves no other video's place.

    Args:
        root: a folder of features (:class:`FeatureStore`), or a list of such: their videos one after the other.
        num_frames: T, frames of a window. Default 16.
        stride: frames from one window's start to the next one's. Default 1; the paper scores with 8.
        split: ``"train"``, ``"valid"`` or ``"test"``.
        labels: whether a window comes with its video's class. Default False.
        annotations: folder of the official lists (``lstmrep.data.actions.read_annotations``), which then say what is in
            which split and of which class. Default: eight, one and one tenths of the videos, in an order drawn from
            the seed, and labels are the store's.
        fold: of the official lists. Default 1.
        valid_share: of the groups of the official training list that are for validation. Default 0.1.
        ids: file of names or numbers of the videos to use, one a line. Default: all.
        everything: True to take every video, whatever the split. Default False.
        per_class: so many videos of every class in split ``"train"``. Default: all.
        resampling: which draw of these. Default 0.
        seed: of all draws. Default 0.
        files: other arguments of :class:`FeatureStore`, such as ``features_file="fc6.h5"``.

    Attributes:
        videos: names of the split's videos.
        labels: int64 ``[V]``, their classes, or none.
        num_classes: of the official lists, or by the largest label.
        video: int64 ``[len]``, number within ``videos`` of every window's.
        short: names of videos without a window.

    Raises:
        FileNotFoundError, ValueError: files are missing or do not fit, or the split has no window.
    """

    infinite = False

    def __init__(
        self,
        root: str | Path | Sequence[str | Path],
        *,
        num_frames: int = 16,
        stride: int = 1,
        split: str = "train",
        labels: bool = False,
        annotations: str | Path | None = None,
        fold: int = 1,
        valid_share: float = 0.1,
        ids: str | Path | None = None,
        everything: bool = False,
        per_class: int | None = None,
        resampling: int = 0,
        seed: int = 0,
        **files: Any,
    ) -> None:
        self.num_frames = whole(CALLER, "num_frames", num_frames, 1)
        self.stride = whole(CALLER, "stride", stride, 1)
        self.split = one_of(CALLER, "split", split, SPLITS)
        self.seed = whole(CALLER, "seed", seed, 0, WORD - 1)
        self.fold, self.valid_share = fold, real(CALLER, "valid_share", valid_share, 0, 1)
        self.per_class, self.resampling = per_class, resampling
        self.root, self.annotations, self.ids, self.everything = root, annotations, ids, everything
        roots = [root] if isinstance(root, (str, Path)) else list(root)
        self.stores = [FeatureStore(one, **files) for one in roots]
        sizes = {store.size for store in self.stores}
        if len(sizes) != 1:
            raise ValueError(f"{CALLER}: the folders have features of {sorted(sizes)} values, expected one size.")
        self.frame_shape = (sizes.pop(),)
        names = [name for store in self.stores for name in store.names]
        chosen, classes = self._chosen(names, list(range(len(names))) if ids is None else selected(ids, names))
        self.videos = [names[k] for k in chosen]
        self.labels = None if classes is None else np.array(classes, np.int64)
        if labels and self.labels is None:
            raise ValueError(
                f"{CALLER}: argument 'labels' is True and {root} has none; extract with labels, or pass annotations."
            )
        self.gives_labels = bool(labels)
        self._places = self._windows(chosen)
        counts = np.bincount(self.video, minlength=len(chosen))
        self.short = [name for name, count in zip(self.videos, counts, strict=True) if not count]
        if not len(self):
            raise ValueError(
                f"{CALLER}: no video of split '{split}' of {root} has the {num_frames} frames of a window; pass fewer "
                "num_frames, or more videos."
            )

    def __len__(self) -> int:
        return len(self.video)

    @property
    def description(self) -> str:
        """Features, split and settings in one line."""
        where = "a list" if not isinstance(self.root, (str, Path)) else Path(self.root).name
        how = "all videos" if self.everything else f"split {self.split}"
        if self.annotations is not None:
            how += f" of {Path(self.annotations).name} fold {self.fold}, valid_share {self.valid_share:g}"
        few = f", {self.per_class} a class (resampling {self.resampling})" if self._is_subset else ""
        return (
            f"Percepts: {where}, {how}{few}; {len(self.videos)} videos, {len(self.short)} too short, {len(self):,} "
            f"windows of {self.num_frames} frames of {self.frame_shape[0]}, stride {self.stride}; seed {self.seed}"
        )

    def batch(self, indices: Sequence[int]) -> Item:
        """The windows at ``indices``.

        Args:
            indices: integers, any order, repeats allowed; negative ones from the end.

        Returns:
            float32 ``[B, T, D]``; with labels a pair of it and int64 ``[B]``.

        Raises:
            IndexError: an index is outside the set.
        """
        found = self._checked(indices)
        out = np.empty((len(found), self.num_frames, *self.frame_shape), np.float32)
        for k, (store, video, first) in enumerate(self._places[found]):
            out[k] = self.stores[store].frames(int(video), int(first), self.num_frames)
        frames = torch.from_numpy(out)
        if not self.gives_labels:
            return frames
        assert self.labels is not None
        return frames, torch.from_numpy(self.labels[self.video[found]])

    @property
    def _is_subset(self) -> bool:
        return self.per_class is not None and self.split == "train"

    def _chosen(self, names: list[str], among: list[int]) -> tuple[list[int], list[int] | None]:
        """Numbers of the split's videos, and their classes where they are known."""
        where = str(self.root)
        classes: dict[int, int] | None = None
        if self.annotations is not None:
            official = actions.read_annotations(self.annotations, self.fold)
            here = [names[k] for k in among]
            found = actions.divided(
                here,
                official,
                self.split,
                where,
                valid_share=self.valid_share,
                seed=self.seed,
                partly=self.ids is not None,
            )
            classes = {among[k]: label for k, label in found.items()}
            chosen = list(classes)
            self.num_classes = len(official.classes)
        else:
            count = len(among)
            places = range(count) if self.everything else shuffled(count, tenths(count), self.split, self.seed)
            chosen = [among[k] for k in sorted(places)]
            told = [store.labels for store in self.stores]
            if all(one is not None for one in told):
                every = np.concatenate([one for one in told if one is not None])
                classes = {k: int(every[k]) for k in chosen}
                self.num_classes = int(every.max()) + 1 if len(every) else 0
        if self._is_subset:
            if classes is None:
                raise ValueError(f"{CALLER}: argument 'per_class' is {self.per_class}, and {where} has no labels.")
            kept = actions.of_each_class(
                [classes[k] for k in chosen], int(self.per_class or 0), self.seed, self.resampling
            )
            chosen = [chosen[k] for k in kept]
        return chosen, None if classes is None else [classes[k] for k in chosen]

    def _windows(self, chosen: list[int]) -> Any:
        """int64 ``[len, 3]``: store, video of it, first frame; sets ``video``."""
        ends = np.cumsum([len(store) for store in self.stores])
        places, owners = [np.empty((0, 3), np.int64)], [np.empty(0, np.int64)]
        for k, number in enumerate(chosen):
            store = int(np.searchsorted(ends, number, side="right"))
            video = number - int(ends[store]) + len(self.stores[store])
            starts = np.arange(0, int(self.stores[store].num_frames[video]) - self.num_frames + 1, self.stride)
            places.append(np.stack([np.full_like(starts, store), np.full_like(starts, video), starts], axis=1))
            owners.append(np.full(len(starts), k, np.int64))
        self.video = np.concatenate(owners)
        return np.concatenate(places)
