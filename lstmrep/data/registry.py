"""Datasets by name and settings, as a configuration file gives them: one mapping makes train, valid and test."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from lstmrep.data.arguments import one_of
from lstmrep.data.dataset import ClipDataset
from lstmrep.data.digits import load_digits
from lstmrep.data.few import FewClips
from lstmrep.data.fixed import SequenceFile
from lstmrep.data.moving import MovingMNIST
from lstmrep.data.patches import VideoPatches
from lstmrep.data.percepts import Percepts
from lstmrep.data.sources import BALL_SIZE, GLYPH_SIZE, SIDE, SPLITS
from lstmrep.data.store import FeatureStore

CALLER = "lstmrep.data.make"


def make(name: str, split: str, **settings: Any) -> ClipDataset:
    """The dataset ``name`` for ``split``.

    ``make("moving_mnist", split, ...)`` loads digits (``source``, default ``"sklearn"``; ``root``; ``digit_size``,
    default 28, for glyphs 5, for the ball 12; ``digit_seed``, default 0) and moves them; other settings are those of
    :class:`MovingMNIST`. The same settings give each split digits and clips of its own. ``per_class`` and
    ``resampling`` thin out the training split (:class:`FewClips`).

    ``make("sequence_file", split, path=..., ...)`` reads a file; other settings are those of :class:`SequenceFile`.
    ``path``, ``clips`` and ``md5`` may be mappings by split, such as ``clips={"valid": (0, 1000), "test": (1000,
    10000)}``. One file without ``clips`` is a test set and nothing else.

    ``make("video_patches", split, root=..., ...)`` crops videos; other settings are those of :class:`VideoPatches`.

    ``make("percepts", split, root=..., ...)`` takes windows of features; other settings are those of :class:`Percepts`.
    Those that name files may be mappings by split, such as ``features_file={"train": "a.h5", "valid": "b.h5"}``.

    Args:
        name: one of :func:`names`.
        split: ``"train"``, ``"valid"`` or ``"test"``.
        settings: arguments of the dataset by name; lists do for tuples.

    Returns:
        The dataset.

    Raises:
        ValueError: the name, the split or a setting is not known, or not as the dataset expects.
    """
    one_of(CALLER, "name", name, names())
    one_of(CALLER, "split", split, SPLITS)
    build, dataset = _DATASETS[name]
    parameters = {**inspect.signature(build).parameters, **inspect.signature(dataset).parameters}
    if dataset is Percepts:
        parameters |= inspect.signature(FeatureStore).parameters
    known = [key for key in parameters if key not in ("split", "rest", "digits", "files")]
    unknown = [key for key in settings if key not in known]
    if unknown:
        raise ValueError(f"{CALLER}: setting '{unknown[0]}' of {name} is not known; known are {', '.join(known)}.")
    return build(split, **settings)


def names() -> tuple[str, ...]:
    """The names that :func:`make` knows."""
    return tuple(_DATASETS)


def _moving_mnist(
    split: str,
    source: str = "sklearn",
    root: str | Path | None = None,
    digit_size: int | None = None,
    digit_seed: int = 0,
    per_class: int | None = None,
    resampling: int = 0,
    **rest: Any,
) -> ClipDataset:
    if digit_size is None:
        digit_size = {"glyphs": GLYPH_SIZE, "ball": BALL_SIZE}.get(source, SIDE)
    made = MovingMNIST(load_digits(source, split, root, digit_size, seed=digit_seed), **rest)
    return made if per_class is None or split != "train" else FewClips(made, per_class, resampling)


def _sequence_file(
    split: str,
    path: str | Path | Mapping[str, str | Path] | None = None,
    clips: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
    md5: bool | str | Mapping[str, bool | str] = False,
    **rest: Any,
) -> ClipDataset:
    if path is None:
        raise ValueError(f"{CALLER}: setting 'path' of sequence_file is missing; pass the .npy file.")
    by_split = isinstance(path, Mapping) or isinstance(clips, Mapping)
    if not by_split and split != "test":
        raise ValueError(
            f"{CALLER}: one sequence_file is a test set, and split is '{split}'; pass clips or path as a mapping by "
            "split to divide it."
        )
    if isinstance(clips, Mapping) and not isinstance(path, Mapping):
        _disjoint(clips)
    own = _of(path, "path", split)
    return SequenceFile(own, clips=_of(clips, "clips", split), md5=_of(md5, "md5", split), split=split, **rest)


def _video_patches(split: str, root: str | Path | Sequence[str | Path] | None = None, **rest: Any) -> ClipDataset:
    if root is None:
        raise ValueError(
            f"{CALLER}: setting 'root' of video_patches is missing; pass a video, or a folder of videos or pictures."
        )
    return VideoPatches(root, split=split, **rest)


def _percepts(split: str, root: str | Path | Sequence[str | Path] | None = None, **rest: Any) -> ClipDataset:
    if root is None:
        raise ValueError(f"{CALLER}: setting 'root' of percepts is missing; pass a folder that extract wrote.")
    if isinstance(rest.get("features_file"), Mapping):
        # Each split's own files need no division.
        rest["everything"] = True
    return Percepts(root, split=split, **{name: _of(value, name, split, "percepts") for name, value in rest.items()})


def _of(setting: Any, name: str, split: str, dataset: str = "sequence_file") -> Any:
    if not isinstance(setting, Mapping):
        return setting
    if split not in setting:
        raise ValueError(f"{CALLER}: setting '{name}' of {dataset} has no '{split}', only {', '.join(setting)}.")
    return setting[split]


def _disjoint(clips: Mapping[str, Sequence[int]]) -> None:
    ends = sorted((first, end, split) for split, (first, end) in clips.items())
    for (_, end, one), (first, _, other) in pairwise(ends):
        if first < end:
            raise ValueError(f"{CALLER}: setting 'clips' gives clips {first} to {end - 1} to both {one} and {other}.")


_DATASETS: dict[str, tuple[Callable[..., ClipDataset], type[ClipDataset]]] = {
    "moving_mnist": (_moving_mnist, MovingMNIST),
    "sequence_file": (_sequence_file, SequenceFile),
    "video_patches": (_video_patches, VideoPatches),
    "percepts": (_percepts, Percepts),
}
