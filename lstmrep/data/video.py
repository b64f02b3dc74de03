"""Frames of videos: files that PyAV decodes, folders of pictures, arrays of numpy's.

A video is a path; what it holds is read when it is asked for. Nothing is downloaded.
"""

from __future__ import annotations

import itertools
import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstmrep.data.arguments import one_of, two, whole
from lstmrep.data.fixed import open_array
from lstmrep.optional import package

CALLER = "lstmrep.data.video"
FILES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
ARRAYS = (".npy",)
KINDS = ("file", "pictures", "array")
# Luma of ITU-R BT.601, as Pillow and libswscale have it.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Video:
    """Where a video is.

    Args:
        path: a file, or the folder of its pictures.
        kind: ``"file"`` that PyAV decodes, ``"pictures"``, one a frame, or ``"array"`` of ``[N, H, W]`` or
            ``[N, H, W, 3]`` bytes.
        name: what it is called below the folder that was searched, with ``/`` between folders.
    """

    path: Path
    kind: str
    name: str


def find_videos(root: str | Path | Sequence[str | Path]) -> list[Video]:
    """All videos of a folder, or those named.

    Args:
        root: a video, or a folder that is searched with all folders in it; or a list of such. A folder with pictures
            in it is one video, whatever else lies there.

    Returns:
        In the order of their names, numbers within them by value; of a list one after the other.

    Raises:
        FileNotFoundError: there is nothing at a place, or no video in it.
    """
    roots = [root] if isinstance(root, (str, Path)) else list(root)
    found: list[Video] = []
    for one in map(Path, roots):
        if not one.exists():
            raise FileNotFoundError(f"{CALLER}: there is no {one}; pass a video, or a folder of videos.")
        here = [_video(one, one.name)] if one.is_file() else list(_below(one, ""))
        if not here:
            known = ", ".join(sorted((*FILES, *ARRAYS)))
            raise FileNotFoundError(f"{CALLER}: no video in {one}; expected files ({known}) or folders of pictures.")
        found += sorted(here, key=lambda video: by_number(video.name))
    return found


def count_frames(video: Video) -> int:
    """Frames of a video, without decoding them.

    Args:
        video: which.

    Returns:
        Their number. Of a file that the packets promise: a damaged one may decode to fewer.

    Raises:
        ValueError: it cannot be read.
    """
    if video.kind == "pictures":
        return len(_pictures(video.path))
    if video.kind == "array":
        return len(_array(video.path))
    av = package("av", CALLER, "video")
    try:
        with av.open(str(video.path)) as container:
            stream = _stream(container, video)
            return sum(1 for packet in container.demux(stream) if packet.size)
    except av.FFmpegError as error:
        raise _unreadable(video, error) from error


def frame_rate(video: Video) -> float | None:
    """Frames a second, as a file's header tells; none for pictures, arrays and files that do not tell.

    Raises:
        ValueError: it cannot be read.
    """
    if video.kind != "file":
        return None
    av = package("av", CALLER, "video")
    try:
        with av.open(str(video.path)) as container:
            rate = _stream(container, video).average_rate
    except av.FFmpegError as error:
        raise _unreadable(video, error) from error
    return float(rate) if rate else None


def read_frames(
    video: Video,
    *,
    resize: int | Sequence[int] | None = None,
    color: bool = True,
    first: int = 0,
    count: int | None = None,
    step: int = 1,
) -> Frames:
    """Frames of a video, all of them unless a part is asked for.

    Args:
        video: which.
        resize: (height, width) that frames get, or the length of the shorter side, the other in proportion; default:
            as they are. Larger pictures are averaged over areas, smaller ones interpolated.
        color: three channels; else one of grey values.
        first, count, step: the frames ``first``, ``first + step``, ... , ``count`` of them; default: every one to the
            end. A file is decoded from the key frame before.

    Returns:
        uint8 ``[N, H, W, 3]``, red first, or ``[N, H, W, 1]``; fewer than ``count`` where the video ends.

    Raises:
        ValueError: it cannot be read, has no such frame, or frames differ in size.
    """
    found = list(iterate_frames(video, resize=resize, first=first, count=count, step=step))
    shapes = {frame.shape for frame in found}
    if len(shapes) != 1:
        told = "no frame" if not found else f"frames of {', '.join(map(str, sorted(shapes)))}"
        raise ValueError(
            f"{CALLER}: {video.path} has {told}, expected frames of one size; pass resize=(height, width)."
        )
    frames = np.stack(found)
    return frames if color else grey(frames)


def iterate_frames(
    video: Video,
    *,
    resize: int | Sequence[int] | None = None,
    first: int = 0,
    count: int | None = None,
    step: int = 1,
) -> Iterator[Frames]:
    """The same frames one after the other, uint8 ``[H, W, 3]`` each: a long video is never held as a whole."""
    one_of(CALLER, "kind", video.kind, KINDS)
    whole(CALLER, "first", first, 0)
    whole(CALLER, "step", step, 1)
    read = {"file": _decoded, "pictures": _opened, "array": _taken}[video.kind]
    return itertools.islice(read(video, resize, first, step), count)


def grey(frames: Frames) -> Frames:
    """``[..., 3]`` to ``[..., 1]`` by BT.601, rounded."""
    if frames.shape[-1] == 1:
        return frames
    out = np.empty((*frames.shape[:-1], 1), np.uint8)
    for k in range(len(frames)):  # a frame at a time: the floats of a whole video are twelve times its bytes
        out[k, ..., 0] = np.rint(frames[k].astype(np.float32) @ LUMA)
    return out


def target_size(height: int, width: int, resize: int | Sequence[int] | None) -> tuple[int, int]:
    """(height, width) of resized frames.

    Args:
        height, width: of the frames as they are.
        resize: as of :func:`read_frames`.
    """
    if resize is None:
        return height, width
    if isinstance(resize, Sequence):
        high, wide = (whole(CALLER, "resize", side, 1) for side in two(CALLER, "resize", resize))
        return high, wide
    short = whole(CALLER, "resize", resize, 1)
    scale = short / min(height, width)
    return (short, max(1, round(width * scale))) if height <= width else (max(1, round(height * scale)), short)


class FrameCache:
    """Frames of videos, of which those used last are kept.

    Args:
        megabytes: that may be kept; a video that is larger is decoded at each use.
        resize, color: as of :func:`read_frames`.
    """

    def __init__(self, megabytes: int, resize: int | Sequence[int] | None, color: bool) -> None:
        self.most = whole(CALLER, "megabytes", megabytes, 0) << 20
        self.resize, self.color = resize, color
        self._kept: OrderedDict[Video, Frames] = OrderedDict()

    # Each worker fills its own.
    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": OrderedDict()}

    def __call__(self, video: Video) -> Frames:
        """All frames of a video, as :func:`read_frames` gives them."""
        frames = self._kept.pop(video, None)
        if frames is None:
            frames = read_frames(video, resize=self.resize, color=self.color)
        self._kept[video] = frames
        while self._kept and sum(kept.nbytes for kept in self._kept.values()) > self.most:
            self._kept.popitem(last=False)
        return frames


def _below(folder: Path, name: str) -> Iterator[Video]:
    entries = sorted(folder.iterdir())
    if any(entry.suffix.lower() in PICTURES for entry in entries):
        yield Video(folder, "pictures", name or folder.name)
        return
    for entry in entries:
        inside = f"{name}/{entry.name}" if name else entry.name
        if entry.is_dir():
            yield from _below(entry, inside)
        elif entry.suffix.lower() in (*FILES, *ARRAYS):
            yield _video(entry, inside)


def _video(path: Path, name: str) -> Video:
    # A file that is named is taken at its word: PyAV knows more containers than are looked for.
    return Video(path, "array" if path.suffix.lower() in ARRAYS else "file", name)


def by_number(name: str) -> tuple[tuple[int, int, str], ...]:
    """A key that puts ``v2`` before ``v10``."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(p), p) if p.isdigit() else (1, 0, p) for p in parts)


def _stream(container: Any, video: Video) -> Any:
    if not container.streams.video:
        raise ValueError(f"{CALLER}: {video.path} has no video stream; pass a video.")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    return stream


def _decoded(video: Video, resize: int | Sequence[int] | None, first: int, step: int) -> Iterator[Frames]:
    av = package("av", CALLER, "video")
    number = 0
    try:
        with av.open(str(video.path)) as container:
            stream = _stream(container, video)
            start = _start(container, stream, first) if first else None
            decoded: Iterator[Any] = container.decode(stream)
            if start is None:
                decoded = itertools.islice(decoded, first, None)
            else:
                decoded = itertools.dropwhile(lambda frame: frame.pts < start, decoded)
            for number, frame in enumerate(decoded):
                if number % step:
                    continue
                height, width = target_size(frame.height, frame.width, resize)
                how = "AREA" if height < frame.height else "BICUBIC"
                yield frame.to_ndarray(format="rgb24", height=height, width=width, interpolation=how)
    except av.FFmpegError as error:
        raise _unreadable(video, error, number) from error


def _start(container: Any, stream: Any, first: int) -> int | None:
    """The time of frame ``first``, which the container is then placed before; none where packets tell no times."""
    times = [packet.pts for packet in container.demux(stream) if packet.size]
    told = None not in times and first < len(times)
    start = sorted(times)[first] if told else None
    container.seek(start if told else stream.start_time or 0, stream=stream, backward=True)
    return start


def _unreadable(video: Video, error: Exception, after: int = 0) -> ValueError:
    where = f" after {after} frames" if after else ""
    reason = " ".join(str(error).split()).rstrip(".")
    return ValueError(f"{CALLER}: {video.path} cannot be decoded{where} ({reason}); get it again, or leave it out.")


def _pictures(folder: Path) -> list[Path]:
    found = [entry for entry in folder.iterdir() if entry.suffix.lower() in PICTURES]
    return sorted(found, key=lambda entry: by_number(entry.name))


def _opened(video: Video, resize: int | Sequence[int] | None, first: int, step: int) -> Iterator[Frames]:
    image = package("PIL.Image", CALLER, "video")
    for path in _pictures(video.path)[first::step]:
        try:
            with image.open(path) as picture:
                frame = _fitted(picture.convert("RGB"), resize)
        except OSError as error:
            raise ValueError(f"{CALLER}: {path} is not a whole picture ({error}); get it again.") from error
        yield frame


def _fitted(picture: Any, resize: int | Sequence[int] | None) -> Frames:
    height, width = target_size(picture.height, picture.width, resize)
    if (height, width) != (picture.height, picture.width):
        image = package("PIL.Image", CALLER, "video")
        how = image.Resampling.BOX if height < picture.height else image.Resampling.BICUBIC
        picture = picture.resize((width, height), how)
    return np.asarray(picture, np.uint8)


def _array(path: Path) -> NDArray[Any]:
    array = open_array(path, CALLER)
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[-1] not in (1, 3)):
        raise ValueError(
            f"{CALLER}: {path} has {array.dtype} of shape {array.shape}, expected uint8 [N, H, W] or [N, H, W, 3]."
        )
    return array


def _taken(video: Video, resize: int | Sequence[int] | None, first: int, step: int) -> Iterator[Frames]:
    array = _array(video.path)
    for found in array[first::step]:
        frame = np.array(found if found.ndim == 3 else found[..., None])
        if frame.shape[-1] == 1:
            frame = np.repeat(frame, 3, axis=-1)
        if target_size(frame.shape[0], frame.shape[1], resize) != frame.shape[:2]:
            frame = _fitted(package("PIL.Image", CALLER, "video").fromarray(frame), resize)
        yield frame
