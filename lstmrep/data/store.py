"""Features of many videos in one folder, in the released code's layout: frames of all videos one after the other.

=================== ========================================================================
``features.npy``    ``[frames of all videos, D]``, float32 or float16; or ``features.h5``
``num_frames.txt``  one whole number a line: frames of each video, in the order of the frames
``labels.txt``      one whole number a line: class of each video; absent where there are none
``names.txt``       one name a line; absent in folders of the released code
``store.json``      how the features were made; absent in folders of the released code
=================== ========================================================================

A store is written video by video: what a killed writer leaves is a whole store of the videos before, and the next one
goes on from there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lstmrep.data.arguments import one_of, whole
from lstmrep.data.fixed import open_array
from lstmrep.files import replacing, write_text
from lstmrep.optional import package

CALLER = "lstmrep.data.FeatureStore"
WRITER = "lstmrep.data.StoreWriter"
FEATURES = "features.npy"
LENGTHS, LABELS, NAMES, ABOUT = "num_frames.txt", "labels.txt", "names.txt", "store.json"
DTYPES = ("float32", "float16")
H5, LIST = (".h5", ".hdf5"), ".txt"
# What the released code calls the array in its files.
H5_KEY = "hidden6"
# Of the .npy header, with room for any number of rows: it is written again as the file grows.
HEADER = 128
Values = NDArray[Any]
Numbers = NDArray[np.int64]


class FeatureStore:
    """Features of videos, read where they lie.

    Args:
        root: the folder.
        features_file: the array, ``.npy`` or ``.h5``; a path from the folder on. Or a ``.txt`` with the path of such a
            file for every video, one a line. Default: ``features.npy`` or ``features.h5``, whichever is there.
        num_frames_file, labels_file, names_file: the three lists. Defaults as in the table above.
        dataset: name of the array in an ``.h5`` file. Default: the only one, or ``hidden6``.

    Attributes:
        size: D, values of a frame.
        num_frames: int64 ``[V]``, frames of each video.
        labels: int64 ``[V]``, or none.
        names: of the videos; their numbers where the folder has no names.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: files that do not belong together, or a store that is not written to its end.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        features_file: str | None = None,
        num_frames_file: str = LENGTHS,
        labels_file: str = LABELS,
        names_file: str = NAMES,
        dataset: str | None = None,
    ) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise FileNotFoundError(f"{CALLER}: there is no folder {self.root}; pass one that extract wrote.")
        self.about = _about(self.root)
        if not self.about.get("complete", True):
            raise ValueError(f"{CALLER}: {self.root} is not written to its end; go on with the command that began it.")
        self.file, self.dataset = self._file(features_file), dataset
        self.num_frames = _whole_numbers(self.root / num_frames_file)
        found = self.root / labels_file
        self.labels = _whole_numbers(found) if found.is_file() else None
        found = self.root / names_file
        numbers = [str(k) for k in range(len(self.num_frames))]
        self.names = found.read_text(encoding="utf-8").splitlines() if found.is_file() else numbers
        self._opened: tuple[int, Any] | None = None
        array = self._array()
        if isinstance(array, _Files) and not found.is_file():
            self.names = [path.name for path in array.paths]
        if array.ndim != 2 or array.dtype.kind != "f":
            raise ValueError(
                f"{CALLER}: {self.file} holds {array.dtype} of shape {array.shape}, expected floats [frames, D]."
            )
        self.size = int(array.shape[1])
        for what, listed in (("labels", self.labels), ("names", self.names)):
            if listed is not None and len(listed) != len(self.num_frames):
                raise ValueError(
                    f"{CALLER}: {self.root} has {len(self.num_frames)} videos by {num_frames_file} and {len(listed)} "
                    f"{what}."
                )
        if int(self.num_frames.sum()) != array.shape[0]:
            raise ValueError(
                f"{CALLER}: {self.file} has {array.shape[0]} frames and {self.root / num_frames_file} counts "
                f"{int(self.num_frames.sum())}; they are of different features."
            )
        self.first = np.concatenate([[0], np.cumsum(self.num_frames)])[:-1]

    def __len__(self) -> int:
        return len(self.num_frames)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def frames(self, video: int, first: int = 0, count: int | None = None) -> NDArray[np.float32]:
        """Features of consecutive frames of a video.

        Args:
            video: its number, 0 to ``len(store) - 1``.
            first: frame to begin with.
            count: how many; default: all from there.

        Returns:
            float32 ``[count, D]``.
        """
        end = int(self.num_frames[video]) if count is None else first + count
        if not 0 <= first <= end <= self.num_frames[video]:
            raise IndexError(
                f"{CALLER}: frames {first} to {end - 1} of video {video} are asked for, it has "
                f"{int(self.num_frames[video])}."
            )
        at = int(self.first[video])
        found: NDArray[np.float32] = np.asarray(self._array()[at + first : at + end], np.float32)
        return found

    def save_h5(self, path: str | Path, key: str = H5_KEY) -> None:
        """Write the array as an ``.h5`` file that the released code reads; the lists are text files already.

        Args:
            path: the file.
            key: name of the array in it.
        """
        h5py = package("h5py", CALLER, "files")
        array = self._array()
        with replacing(path) as temporary, h5py.File(temporary, "w") as file:
            made = file.create_dataset(key, array.shape, array.dtype)
            for video in range(len(self)):
                at, end = int(self.first[video]), int(self.first[video] + self.num_frames[video])
                made[at:end] = array[at:end]

    def _file(self, name: str | None) -> Path:
        known = [FEATURES, *(Path(FEATURES).stem + suffix for suffix in H5)] if name is None else [name]
        for one in known:
            if (self.root / one).is_file():
                return self.root / one
        raise FileNotFoundError(f"{CALLER}: no {' or '.join(known)} in {self.root}; pass the name of the array's file.")

    def _array(self) -> Any:
        # Neither a map nor a file of hdf5 may be shared with a process that was forked.
        if self._opened is None or self._opened[0] != os.getpid():
            if self.file.suffix == LIST:
                opened: Any = _Files(self.file, self.num_frames, self.dataset)
            else:
                opened = _open(self.file, self.dataset)
            self._opened = (os.getpid(), opened)
        return self._opened[1]


class _Files:
    """Arrays of one video each, as if they lay one after the other; a file is opened when it is read."""

    ndim = 2

    def __init__(self, listed: Path, num_frames: Numbers, dataset: str | None) -> None:
        lines = listed.read_text(encoding="utf-8").splitlines()
        self.paths = [listed.parent / line.strip() for line in lines if line.strip()]
        self.ends, self.dataset = np.cumsum(num_frames), dataset
        if len(self.paths) != len(num_frames) or not self.paths:
            raise ValueError(f"{CALLER}: {listed} lists {len(self.paths)} files for {len(num_frames)} videos.")
        first = _open(self.paths[0], dataset)
        self.dtype, self.shape = first.dtype, (int(self.ends[-1]), *first.shape[1:])

    def __getitem__(self, rows: slice) -> Values:
        """Rows of one video."""
        video = int(np.searchsorted(self.ends, rows.start, side="right"))
        path, end = self.paths[video], int(self.ends[video])
        array = _open(path, self.dataset)
        start = end - len(array)
        if array.shape[1:] != self.shape[1:] or start != (int(self.ends[video - 1]) if video else 0):
            raise ValueError(
                f"{CALLER}: {path} has the shape {array.shape}, expected as many rows as its number of frames, of "
                f"{self.shape[1]} values."
            )
        return np.asarray(array[rows.start - start : rows.stop - start])


class StoreWriter:
    """Writes a store, or goes on with one.

    Every video is on the disk before it is counted. Used in a ``with`` block, which marks the store as whole when it
    ends without an error.

    Args:
        root: the folder, made where it is not there.
        size: D, values of a frame.
        about: how the features are made; a store that was begun otherwise is refused. JSON must hold it.
        dtype: ``"float32"`` or ``"float16"``. Default ``"float32"``.
        labelled: whether videos come with a class.

    Attributes:
        names: of the videos that are there.

    Raises:
        ValueError: the folder holds a store that was made otherwise, or files of something else.
    """

    def __init__(
        self, root: str | Path, size: int, about: dict[str, Any], *, dtype: str = "float32", labelled: bool = False
    ) -> None:
        self.root, self.size = Path(root), whole(WRITER, "size", size, 1)
        self.dtype = np.dtype(one_of(WRITER, "dtype", dtype, DTYPES)).newbyteorder("<")
        self.labelled = labelled
        self.about = {"format": 1, "size": size, "dtype": dtype, "labelled": labelled, **about}
        before = _about(self.root)
        self._check_same(before)
        self.complete = bool(before.get("complete", False))
        lists = (LABELS, NAMES, LENGTHS) if labelled else (NAMES, LENGTHS)
        self._lists = {name: _lines(self.root / name) for name in lists}
        kept = min(len(lines) for lines in self._lists.values())
        self.names = set(self._lists[NAMES][:kept])
        self.rows = sum(int(n) for n in self._lists[LENGTHS][:kept])
        self._kept = kept

    def __enter__(self) -> StoreWriter:
        self.root.mkdir(parents=True, exist_ok=True)
        self._seal(False)
        for name, lines in self._lists.items():
            write_text(self.root / name, "".join(f"{line}\n" for line in lines[: self._kept]))
        path = self.root / FEATURES
        path.touch()
        end = HEADER + self.rows * self.size * self.dtype.itemsize
        if self.rows and path.stat().st_size < end:
            raise ValueError(
                f"{WRITER}: {path} has {path.stat().st_size} bytes, fewer than the {len(self.names)} videos listed "
                "need; remove the folder and extract again."
            )
        self._file = path.open("r+b")
        self._write_header()
        self._file.truncate(end)  # drops rows of a video that was under way when the writer before was stopped
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        self._write_header()
        self._synced()
        self._file.close()
        if kind is None:
            self._seal(True)

    def append(self, name: str, features: ArrayLike, label: int | None = None) -> None:
        """Add a video.

        Args:
            name: of it, without line breaks; one of its own.
            features: ``[frames, D]``.
            label: its class, where the store is labelled.

        Raises:
            ValueError: another D, a name that is there, a label too much or missing.
        """
        rows = np.ascontiguousarray(features, self.dtype)
        if rows.ndim != 2 or rows.shape[1] != self.size:
            raise ValueError(f"{WRITER}: features of {name} have shape {rows.shape}, expected [frames, {self.size}].")
        if name in self.names or not name or "\n" in name:
            raise ValueError(f"{WRITER}: argument 'name' is {name!r}, expected a name of its own on one line.")
        if (label is not None) != self.labelled:
            raise ValueError(f"{WRITER}: video {name} has the label {label}, and the store's labelled={self.labelled}.")
        if not np.isfinite(rows).all():
            raise ValueError(f"{WRITER}: features of {name} are not finite in {self.dtype}; nothing of it was written.")
        self._file.seek(HEADER + self.rows * self.size * self.dtype.itemsize)
        self._file.write(rows.tobytes())
        self._synced()
        told = {LABELS: str(label), NAMES: name, LENGTHS: str(len(rows))}
        for one in self._lists:  # the lengths last: a video counts from there on
            with (self.root / one).open("a", encoding="utf-8") as file:
                file.write(f"{told[one]}\n")
        self.rows += len(rows)
        self.names.add(name)

    def _synced(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def _write_header(self) -> None:
        described = f"{{'descr': '{self.dtype.str}', 'fortran_order': False, 'shape': ({self.rows}, {self.size}), }}"
        room = HEADER - 10
        text = described.ljust(room - 1).encode("latin1") + b"\n"
        self._file.seek(0)
        self._file.write(b"\x93NUMPY\x01\x00" + room.to_bytes(2, "little") + text)

    def _seal(self, complete: bool) -> None:
        write_text(self.root / ABOUT, json.dumps({**self.about, "complete": complete}, indent=2) + "\n")

    def _check_same(self, before: dict[str, Any]) -> None:
        if not before:
            if any((self.root / name).exists() for name in (FEATURES, LENGTHS)):
                raise ValueError(f"{WRITER}: {self.root} holds features of another origin; pass another folder.")
            return
        for key in sorted({*before, *self.about} - {"complete"}):
            one, other = before.get(key), json.loads(json.dumps(self.about.get(key)))
            if one != other:
                raise ValueError(
                    f"{WRITER}: {self.root} was written with {key} = {one!r}, and now it is {other!r}; pass the "
                    "settings of then, or another folder."
                )


def size_of(root: Path) -> int:
    """D of a store that was begun."""
    return int(_about(root)["size"])


def _about(root: Path) -> dict[str, Any]:
    path = root / ABOUT
    if not path.is_file():
        return {}
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{CALLER}: {path} is not JSON ({error}); extract the features again.") from error
    if not isinstance(read, dict):
        raise ValueError(f"{CALLER}: {path} holds a {type(read).__name__}, expected what extract writes.")
    return read


def _lines(path: Path) -> list[str]:
    """Whole lines: one that a writer was stopped in has no end."""
    if not path.is_file():
        return []
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def _whole_numbers(path: Path) -> Numbers:
    if not path.is_file():
        raise FileNotFoundError(f"{CALLER}: no file {path}, expected one whole number a line.")
    try:
        found = np.array([int(word) for word in path.read_text(encoding="utf-8").split()], np.int64)
    except ValueError as error:
        raise ValueError(f"{CALLER}: {path} is not a list of whole numbers ({error}).") from error
    if (found < 0).any():
        raise ValueError(f"{CALLER}: {path} has the number {found.min()}, expected 0 or more.")
    return found


def _open(path: Path, dataset: str | None) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{CALLER}: no file {path}; check the list of files.")
    return _hdf5(path, dataset) if path.suffix in H5 else open_array(path, CALLER)


def _hdf5(path: Path, dataset: str | None) -> Any:
    h5py = package("h5py", CALLER, "files")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{CALLER}: {path} is not a whole hdf5 file ({error}); get it again.") from error
    arrays = [key for key in file if hasattr(file[key], "shape")]
    if dataset is None:
        dataset = arrays[0] if len(arrays) == 1 else H5_KEY
    if dataset not in arrays:
        raise ValueError(
            f"{CALLER}: {path} has the arrays {', '.join(arrays) or 'none'}, and none named '{dataset}'; pass the name "
            "as argument 'dataset'."
        )
    return file[dataset]


def selected(path: str | Path, names: Sequence[str]) -> list[int]:
    """Videos that a file lists, one name or number a line: the released code's file of ids.

    Args:
        path: the file.
        names: of all videos.

    Returns:
        Their numbers, in the file's order.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or no such video.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{CALLER}: no file {path}, expected one name or number of a video a line.")
    known = {name: k for k, name in enumerate(names)}
    found = []
    for word in filter(None, map(str.strip, path.read_text(encoding="utf-8").splitlines())):
        number = known.get(word, int(word) if word.isdigit() else -1)
        if not 0 <= number < len(names):
            raise ValueError(f"{CALLER}: {path} lists {word!r}, and no video is called so; {len(names)} are known.")
        found.append(number)
    return found
