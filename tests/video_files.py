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


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 ``[H, W, 3]``: smooth random colours without an edge, by a low-pass of noise."""
    noise = np.fft.fft2(np.random.default_rng(seed).standard_normal((height, width, 3)), axes=(0, 1))
    y, x = np.fft.fftfreq(height)[:, None, None], np.fft.fftfreq(width)[None, :, None]
    smooth = np.fft.ifft2(noise * np.exp(-40 * (x**2 + y**2)), axes=(0, 1)).real
    low, high = smooth.min(), smooth.max()
    return np.rint(255 * (smooth - low) / (high - low)).astype(np.uint8)


def moving_texture(frames: int, shift: tuple[int, int], height: int = 64, width: int = 80, seed: int = 0) -> np.ndarray:
    """uint8 ``[N, H, W, 3]``: a window of a texture; what it shows goes (right, down) pixels a frame."""
    right, down = shift
    room = frames * max(abs(right), abs(down))
    large = texture(height + 2 * room, width + 2 * room, seed)
    corners = [(room - k * down, room - k * right) for k in range(frames)]
    return np.stack([large[top : top + height, left : left + width] for top, left in corners])
