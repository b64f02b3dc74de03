"""Videos for tests, written here: every pixel tells its frame, its row and its column."""

from pathlib import Path

import numpy as np


def coordinates(frames: int, height: int, width: int, first: int = 0) -> np.ndarray:
    """uint8 ``[N, H, W, 3]``: red is the number of the frame, green the row, blue the column."""
    t, y, x = np.meshgrid(np.arange(first, first + frames), np.arange(height), np.arange(width), indexing="ij")
    return np.stack([t, y, x], axis=-1).astype(np.uint8)


def moving_square(frames: int, side: int = 32, seed: int = 0) -> np.ndarray:
    """uint8 ``[N, H, W, 3]``: a bright square that goes to and fro before a still ground."""
    rng = np.random.default_rng(seed)
    out = np.repeat(rng.integers(0, 60, (1, side, side, 3), dtype=np.uint8), frames, axis=0)
    travel, at = side - 8, int(rng.integers(side))
    for k in range(frames):
        left = abs((at + 2 * k) % (2 * travel) - travel)
        out[k, side // 2 - 4 : side // 2 + 4, left : left + 8] = 220
    return out


def write_video(path: Path, frames: np.ndarray, codec: str = "ffv1", pixels: str = "bgr0", rate: int = 25) -> Path:
    """A file of frames by PyAV; ffv1 in .mkv keeps every value."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def write_pictures(folder: Path, frames: np.ndarray, suffix: str = ".png") -> Path:
    """A folder of pictures, numbered without leading zeros."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for k, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"frame{k}{suffix}")
    return folder
