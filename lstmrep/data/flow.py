"""Optical flow of videos: how far each pixel goes to the next frame, and folders that keep it in bytes.

A field is ``[H, W, 2]``: channel 0 is u, pixels to the right, channel 1 is v, pixels down. Field k leads from frame k
to frame k + 1, so N frames have N - 1 fields.

A folder of flow has one ``.npy`` a video, named after the video with ``.npy`` appended, and ``flow.json`` with what a
reader must know. :func:`find_flow` lists it, :func:`read_flow` maps the bytes of one video, :func:`stack` forms the
input of a network.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from lstmrep.data.arguments import one_of, real, whole
from lstmrep.data.fixed import open_array
from lstmrep.data.video import Frames, Video, by_number, grey, read_frames, target_size
from lstmrep.files import replacing, write_text
from lstmrep.optional import package

CALLER = "lstmrep.data.flow"
METHODS = ("dis", "tvl1")
BOUND = 20.0
# The byte of no motion, and the steps from it to the bound.
CENTRE, STEPS = 128, 127
# Smaller frames have no second level in DIS's pyramid: OpenCV reads beyond them.
LEAST_SIDE = 16
SETTINGS = "flow.json"
VERSION = 1
ENDING = ".npy"
# What a writer that was killed leaves behind (lstmrep.files.replacing).
LEFT_BEHIND = re.compile(r"\..+\.[a-z0-9_]{8}\.npy")
Field = NDArray[np.float32]


@dataclass(frozen=True)
class FlowSettings:
    """What all flow of a folder was made with; ``flow.json`` holds it.

    Args:
        method: ``"dis"`` (default) or ``"tvl1"``; or what flow that was computed elsewhere is to be called.
        bound: pixels; longer components are cut off there. Default 20.
        resize: what frames were resized to first, as of :func:`lstmrep.data.video.read_frames`. Default: none.

    Raises:
        TypeError, ValueError: an argument is not as above.
    """

    method: str = "dis"
    bound: float = BOUND
    resize: int | Sequence[int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "bound", _bound(self.bound))
        target_size(1, 1, self.resize)
        if isinstance(self.resize, Sequence):
            object.__setattr__(self, "resize", tuple(self.resize))


@dataclass(frozen=True)
class FlowVideo:
    """Where the flow of a video is.

    Args:
        path: its ``.npy``.
        name: the video's, as :func:`lstmrep.data.video.find_videos` calls it.
        bound: of its bytes, in pixels.
    """

    path: Path
    name: str
    bound: float


def optical_flow(frames: Frames, method: str = "dis") -> Field:
    """Flow from each frame to the next.

    Frame k at (x, y) is found in frame k + 1 at (x + u, y + v). Colours are first made grey.

    Args:
        frames: uint8 ``[N, H, W, 3]`` or ``[N, H, W, 1]``, two or more, 16x16 or larger.
        method: ``"dis"``, dense inverse search, preset MEDIUM of OpenCV (default), or ``"tvl1"``, total variation with
            an L1 data term, as scikit-image has it: slower by far.

    Returns:
        float32 ``[N - 1, H, W, 2]``, (u, v) in pixels, right and down.

    Raises:
        ValueError: frames are not as above, or the method is not known.
        ImportError: OpenCV, or scikit-image for ``"tvl1"``, is not installed.

    Source: Kroeger, Timofte, Dai, Van Gool, "Fast Optical Flow using Dense Inverse Search" (ECCV 2016); Zach, Pock,
    Bischof, "A Duality Based Approach for Realtime TV-L1 Optical Flow" (DAGM 2007).
    """
    fields = flow_fields(frames, method)
    out = np.empty((len(frames) - 1, *frames.shape[1:3], 2), np.float32)
    for k, field in enumerate(fields):
        out[k] = field
    return out


def flow_fields(frames: Frames, method: str = "dis") -> Iterator[Field]:
    """The fields of :func:`optical_flow` one after the other: of a long video only one is held.

    Args:
        frames, method: as there.

    Returns:
        Iterator of N - 1 float32 ``[H, W, 2]``. Arguments are checked before the first is asked for.

    Raises:
        ValueError, ImportError: as there.
    """
    one_of(CALLER, "method", method, METHODS)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] not in (1, 3):
        raise ValueError(
            f"{CALLER}: argument 'frames' is {frames.dtype} of shape {frames.shape}, expected uint8 [N, H, W, 3] or "
            "[N, H, W, 1]; pass what lstmrep.data.video.read_frames gives."
        )
    if len(frames) < 2:
        raise ValueError(f"{CALLER}: argument 'frames' has {len(frames)} frame, expected 2 or more; flow is of pairs.")
    height, width = frames.shape[1:3]
    if min(height, width) < LEAST_SIDE:
        raise ValueError(
            f"{CALLER}: frames are {height}x{width}, expected {LEAST_SIDE}x{LEAST_SIDE} or larger; pass a larger "
            "resize."
        )
    pair = {"dis": _dis, "tvl1": _tvl1}[method]()
    return _fields(frames, pair)


def to_bytes(flow: Field, bound: float = BOUND) -> NDArray[np.uint8]:
    """Flow in 8 bits a component.

    .. math:: b = 128 + \\mathrm{round}(127\\, \\mathrm{clip}(x, -bound, bound) / bound)

    128 is no motion, exactly; 1 and 255 are the bounds; 0 does not occur. The step is bound / 127 pixels, 0.157 for a
    bound of 20, and what lies within the bound comes back with an error of half a step at most.

    Args:
        flow: floating point of any shape, pixels.
        bound: in pixels; what is longer is cut off. Default 20.

    Returns:
        uint8 of the same shape.

    Raises:
        ValueError: flow is not finite, or the bound is not positive.
    """
    bound = _bound(bound)
    if not np.isfinite(flow).all():
        raise ValueError(f"{CALLER}: argument 'flow' has values that are not finite; leave out those fields.")
    steps = np.rint(np.clip(flow, -bound, bound) * (STEPS / bound))
    made: NDArray[np.uint8] = (steps + CENTRE).astype(np.uint8)
    return made


def from_bytes(data: NDArray[np.uint8], bound: float = BOUND) -> Field:
    """Flow of the bytes of :func:`to_bytes`.

    Args:
        data: uint8 of any shape.
        bound: that of ``to_bytes``. Default 20.

    Returns:
        float32 of the same shape, pixels.

    Raises:
        ValueError: the values are not bytes, or the bound is not positive.
    """
    bound = _bound(bound)
    if data.dtype != np.uint8:
        raise ValueError(f"{CALLER}: argument 'data' is {data.dtype}, expected uint8; pass what to_bytes gives.")
    flow: Field = (data.astype(np.float32) - np.float32(CENTRE)) * np.float32(bound / STEPS)
    return flow


def stack(flow: NDArray[Any], length: int) -> NDArray[Any]:
    """Windows of consecutive fields: what a temporal-stream network reads.

    N frames have N - 1 fields and so N - ``length`` stacks; stack k is of fields k to k + ``length`` - 1. Stacks
    overlap, and share their memory: the fields are copied once, planes apart, whatever the length.

    Args:
        flow: ``[N - 1, H, W, 2]``, floating point or bytes.
        length: fields of a stack, L; 1 or 10 in the paper.

    Returns:
        Of the same dtype ``[N - L, 2 L, H, W]``, channels u1, v1, u2, v2, ...; a view that cannot be written. Take a
        batch as ``numpy.array(stacks[first:end])``.

    Raises:
        TypeError, ValueError: flow has another shape or fewer fields.

    Source: Simonyan, Zisserman, "Two-Stream Convolutional Networks for Action Recognition in Videos" (NIPS 2014).
    """
    if flow.ndim != 4 or flow.shape[-1] != 2:
        raise ValueError(f"{CALLER}: argument 'flow' has the shape {flow.shape}, expected [N - 1, H, W, 2].")
    fields, height, width = flow.shape[:3]
    length = whole(CALLER, "length", length, 1)
    if length > fields:
        raise ValueError(
            f"{CALLER}: argument 'length' is {length}, but there are {fields} fields; pass a smaller length, or leave "
            "this video out."
        )
    planes = np.ascontiguousarray(np.moveaxis(flow, -1, 1)).reshape(2 * fields, height, width)
    windows: NDArray[Any] = np.moveaxis(sliding_window_view(planes, 2 * length, axis=0)[::2], -1, 1)
    return windows


def flow_image(flow: Field, largest: float | None = None) -> Frames:
    """A field as a picture: the hue is the direction, the saturation the length, white is no motion.

    Red goes right, yellow-green down, cyan left, violet up.

    Args:
        flow: floating point ``[H, W, 2]``, pixels.
        largest: length of full saturation, in pixels; longer ones look the same. Default: the longest of the field.

    Returns:
        uint8 ``[H, W, 3]``, red first.

    Raises:
        ValueError: it is not one field, or ``largest`` is negative.
        ImportError: scikit-image is not installed.
    """
    if flow.ndim != 3 or flow.shape[-1] != 2:
        raise ValueError(f"{CALLER}: argument 'flow' has the shape {flow.shape}, expected [H, W, 2], one field.")
    u, v = flow[..., 0], flow[..., 1]
    lengths = np.hypot(u, v)
    most = real(CALLER, "largest", float(lengths.max()) if largest is None else largest, 0)
    saturation = np.clip(lengths / most, 0, 1) if most else np.zeros_like(lengths)
    hsv = np.stack([np.arctan2(v, u) / (2 * math.pi) % 1, saturation, np.ones_like(lengths)], axis=-1)
    colours: NDArray[np.float64] = package("skimage.color", CALLER, "flow").hsv2rgb(hsv)
    return np.rint(colours * 255).astype(np.uint8)


def compute_flow(video: Video, folder: str | Path, settings: FlowSettings) -> Path:
    """Compute the flow of a video and put it into a folder of flow.

    The frames are held in bytes, the flow one field at a time.

    Args:
        video: which.
        folder: of the flow.
        settings: of the folder.

    Returns:
        The file: uint8 ``[N - 1, H, W, 2]``.

    Raises:
        ValueError: the video cannot be read, has fewer than two frames or too small ones, or the folder has other
            settings.
        OSError: the file cannot be written.
        ImportError: a package is missing.
    """
    try:
        frames = read_frames(video, resize=settings.resize, color=False)
    except OSError as error:
        raise ValueError(f"{CALLER}: {video.path} cannot be read ({error}); get it again, or leave it out.") from error
    fields = flow_fields(frames, settings.method)
    return write_flow(folder, video.name, fields, settings, count=len(frames) - 1)


def write_flow(
    folder: str | Path, name: str, fields: Iterable[Field], settings: FlowSettings, *, count: int | None = None
) -> Path:
    """Write the flow of a video in bytes, whole or not at all.

    Args:
        folder: of the flow; it is made, with its ``flow.json``, where there is none.
        name: the video's, as ``find_videos`` calls it.
        fields: floating point ``[N - 1, H, W, 2]``, or an iterable of ``[H, W, 2]``, which is asked for one at a time.
        settings: of the folder; their bound is that of the bytes.
        count: fields of an iterable that has no ``len()``.

    Returns:
        The file: :func:`flow_path`.

    Raises:
        TypeError: fields have no ``len()`` and there is no count.
        ValueError: the folder has other settings, or fields are not as many as said, differ in size or are not finite.
    """
    if count is None:
        if not isinstance(fields, Sized):
            raise TypeError(f"{CALLER}: argument 'fields' has no len(); pass the number of its fields as count.")
        count = len(fields)
    total = whole(CALLER, "count", count, 1)
    claim_folder(folder, settings)
    path = flow_path(folder, name)
    with replacing(path) as temporary:
        shape: tuple[int, ...] | None = None
        written = 0
        # Not a map of the file: where the disk is full, that ends the process instead of raising.
        with temporary.open("wb") as file:
            for field in fields:
                if shape is None:
                    shape = field.shape
                    header = {"descr": "|u1", "fortran_order": False, "shape": (total, *shape)}
                    np.lib.format.write_array_header_1_0(file, header)
                if field.shape != shape or len(shape) != 3 or shape[-1] != 2:
                    raise ValueError(
                        f"{CALLER}: field {written} of {name} has the shape {field.shape}, expected [H, W, 2], all of "
                        "one size."
                    )
                file.write(to_bytes(field, settings.bound).tobytes())
                written += 1
        if written != total:
            raise ValueError(f"{CALLER}: {name} has {written} fields, expected {total}; pass their number as count.")
    return path


def flow_path(folder: str | Path, name: str) -> Path:
    """Where the flow of a video is in a folder: the video's name with ``.npy`` appended.

    Args:
        folder: of the flow.
        name: the video's, with ``/`` between folders.
    """
    return Path(folder) / f"{name}{ENDING}"


def find_flow(folder: str | Path) -> list[FlowVideo]:
    """All flow of a folder.

    Names and order are those of the videos: :func:`lstmrep.data.video.find_videos` of the same videos has each in the
    same place.

    Args:
        folder: that ``write_flow`` or ``lstmrep flow`` wrote.

    Returns:
        In the order of the videos' names, numbers within them by value.

    Raises:
        FileNotFoundError: there is no such folder, or no flow in it.
        ValueError: ``flow.json`` is damaged.
    """
    bound = read_settings(folder).bound
    found = {path.relative_to(folder).as_posix().removesuffix(ENDING): path for path in _files(Path(folder))}
    if not found:
        raise FileNotFoundError(f"{CALLER}: no flow in {folder} yet; run python -m lstmrep flow VIDEOS --out {folder}.")
    return [FlowVideo(found[name], name, bound) for name in sorted(found, key=by_number)]


def read_flow(flow: FlowVideo) -> tuple[NDArray[np.uint8], float]:
    """The flow of a video, mapped from the disk.

    Args:
        flow: of :func:`find_flow`.

    Returns:
        uint8 ``[N - 1, H, W, 2]``, which :func:`stack` takes as it is, and the bound in pixels with which
        :func:`from_bytes` turns it, or stacks of it, into pixels.

    Raises:
        FileNotFoundError: it is gone.
        ValueError: it is damaged, or no flow.
    """
    data = open_array(flow.path, CALLER)
    if data.dtype != np.uint8 or data.ndim != 4 or data.shape[-1] != 2:
        raise ValueError(
            f"{CALLER}: {flow.path} has {data.dtype} of shape {data.shape}, expected uint8 [N - 1, H, W, 2]."
        )
    return data, flow.bound


def read_settings(folder: str | Path) -> FlowSettings:
    """What the flow of a folder was made with.

    Args:
        folder: that ``write_flow`` or ``lstmrep flow`` wrote.

    Raises:
        FileNotFoundError: it has no ``flow.json``.
        ValueError: that is damaged, or of a later version.
    """
    path = Path(folder) / SETTINGS
    if not path.is_file():
        raise FileNotFoundError(f"{CALLER}: there is no {path}; pass a folder that python -m lstmrep flow wrote.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        version = values.pop("version")
        settings = FlowSettings(**values)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{CALLER}: {path} is damaged ({error}); write the folder again.") from error
    if version != VERSION:
        raise ValueError(f"{CALLER}: {path} is of version {version}, expected {VERSION}; write the folder again.")
    return settings


def claim_folder(folder: str | Path, settings: FlowSettings) -> None:
    """Make a folder of flow, or see that it has these settings.

    Args:
        folder: the folder.
        settings: of all flow in it.

    Raises:
        ValueError: it has other settings, or flow without any.
    """
    folder = Path(folder)
    if (folder / SETTINGS).is_file():
        there, asked = asdict(read_settings(folder)), asdict(settings)
        other = [f"{name} {there[name]}, not {asked[name]}" for name in asked if there[name] != asked[name]]
        if other:
            raise ValueError(
                f"{CALLER}: {folder} has flow with {', '.join(other)}; pass the folder's settings, or another folder."
            )
        return
    if folder.is_dir() and any(_files(folder)):
        raise ValueError(
            f"{CALLER}: {folder} has .npy files but no {SETTINGS} that tells their settings; pass another folder."
        )
    write_text(folder / SETTINGS, json.dumps({"version": VERSION, **asdict(settings)}, indent=1) + "\n")


def remove_left_behind(folder: str | Path) -> None:
    """Delete the half-written files of a run that was killed.

    Args:
        folder: of flow, into which nobody is writing.
    """
    for path in Path(folder).rglob(f".*{ENDING}"):
        if LEFT_BEHIND.fullmatch(path.name):
            path.unlink()


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob(f"*{ENDING}") if not LEFT_BEHIND.fullmatch(path.name))


def _bound(bound: float) -> float:
    bound = real(CALLER, "bound", bound, 0)
    if not bound:
        raise ValueError(f"{CALLER}: argument 'bound' is 0, expected more than 0, in pixels.")
    return bound


def _fields(frames: Frames, pair: Any) -> Iterator[Field]:
    before = grey(frames[:1])[0, ..., 0]
    for k in range(1, len(frames)):
        after = grey(frames[k : k + 1])[0, ..., 0]
        yield pair(before, after)
        before = after


def _dis() -> Any:
    """A function of two grey frames."""
    cv2 = package("cv2", CALLER, "flow")
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def pair(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> Field:
        field: Field = search.calc(np.ascontiguousarray(before), np.ascontiguousarray(after), None)
        return field

    return pair


def _tvl1() -> Any:
    """A function of two grey frames."""
    solve = package("skimage.registration", CALLER, "flow").optical_flow_tvl1

    def pair(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> Field:
        # Its weights are for intensities of 0 to 1; it gives (v, u).
        v, u = solve(*(frame.astype(np.float32) / np.float32(255) for frame in (before, after)), dtype=np.float32)
        return np.stack([u, v], axis=-1)

    return pair
