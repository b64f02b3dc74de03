"""``lstmrep predict``: the frames that follow the clips of a file."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lstmrep.cli import runs
from lstmrep.files import replacing
from lstmrep.nn import CompositeModel

EPILOG = """input: an array [B, T, *frame] or one clip [T, *frame]: floating point in [0, 1], or 8-bit, which is
divided by 255.

examples:
  python -m lstmrep predict runs/digits --input clips.npy --steps 30 --output future.npy
  python -m lstmrep predict runs/digits --input clips.npy --output future.npy --strips strips"""
BATCH = 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.epilog = EPILOG
    parser.add_argument("run", type=Path, help="folder of a run, or of save_pretrained")
    parser.add_argument("--input", type=Path, required=True, metavar="FILE", help=".npy with input frames")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help=".npy to write, [B, steps, *frame]")
    parser.add_argument("--steps", type=int, help="frames to predict (default: as trained)")
    parser.add_argument("--strips", type=Path, metavar="FOLDER", help="also draw the first 16 clips")


def run(given: argparse.Namespace) -> int:
    """Predict and write."""
    model, _ = runs.load_run(given.run)
    if not isinstance(model, CompositeModel):
        raise ValueError(f"lstmrep predict: {given.run} holds a {type(model).__name__}; predict continues frames.")
    frames = read_clips(given.input, model.config.input_size)
    by_batch = frames.split(BATCH)
    turned = [b if model.batch_first else b.transpose(0, 1) for b in by_batch]
    made = [model.predict(b, given.steps) for b in turned]
    future = torch.cat([m if model.batch_first else m.transpose(0, 1) for m in made])
    with replacing(given.output) as path:
        np.save(path, future.numpy(), allow_pickle=False)
    print(f"saved     {given.output}: {tuple(future.shape)} float32 after {frames.shape[1]} input frames")
    if given.strips:
        from lstmrep.viz import filmstrip

        for k in range(min(16, len(frames))):
            images = [_image(t[k]) for t in (frames, future)]
            filmstrip(images[0], None, images[1], None, given.strips / f"clip-{k:03d}.png", scale=4)
        print(f"strips    {given.strips}")
    return 0


def read_clips(path: Path, size: int) -> Tensor:
    """Clips of a ``.npy`` file as float32 ``[B, T, *frame]``.

    Args:
        path: the file.
        size: values of a frame, by which one clip is told from several.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"lstmrep predict: no file {path}; check --input.")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"lstmrep predict: {path} is no .npy array ({error}); write it with numpy.save.") from error
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise ValueError(f"lstmrep predict: {path} holds {array.dtype}, expected floating point in [0, 1], or uint8.")
    shape = array.shape
    if len(shape) >= 2 and math.prod(shape[1:]) == size:
        array = array[None]
    elif len(shape) < 3 or math.prod(shape[2:]) != size:
        raise ValueError(
            f"lstmrep predict: {path} has shape {shape}, expected [B, T, *frame] or [T, *frame] with {size} values a "
            "frame."
        )
    frames = torch.from_numpy(np.ascontiguousarray(array))
    return frames.float() / 255 if array.dtype == np.uint8 else frames.float()


def _image(frames: Tensor) -> Tensor:
    """``[T, C, H, W]`` of frames of any shape; flat ones are taken for grey squares."""
    if frames.dim() == 4:
        return frames
    if frames.dim() == 3:
        return frames.unsqueeze(1)
    side = math.isqrt(frames.shape[-1])
    if frames.dim() != 2 or side * side != frames.shape[-1]:
        raise ValueError(f"lstmrep predict: frames of shape {tuple(frames.shape[1:])} are no pictures; omit --strips.")
    return frames.reshape(len(frames), 1, side, side)
