"""Features of every frame of many videos, written video by video: what is there already is not computed again."""

from __future__ import annotations

import contextlib
import itertools
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from lstmrep.data.arguments import whole
from lstmrep.data.encoders import FrameEncoder
from lstmrep.data.excerpts import Excerpt
from lstmrep.data.flow import FlowVideo, read_flow, stack
from lstmrep.data.store import ABOUT, FeatureStore, StoreWriter, size_of
from lstmrep.data.video import Frames, Video, grey, iterate_frames
from lstmrep.optional import package

CALLER = "lstmrep.data.extract"
# Groups of frames that are decoded ahead.
AHEAD = 2
Thing = TypeVar("Thing")


class Source(Protocol):
    """A video to extract features of."""

    @property
    def name(self) -> str:
        """What it is called in the store."""

    def groups(self, encoder: FrameEncoder, size: int) -> Iterator[Frames]:
        """Its frames, uint8 ``[n, H, W, C]`` of ``size`` or fewer at a time."""


@dataclass(frozen=True)
class VideoFrames:
    """Frames of a video, or of an excerpt of it.

    Args:
        video: which.
        name: what it is called in the store.
        first, count: the part; default: all.
        every: one frame of so many is taken. Default 1.
    """

    video: Video
    name: str
    first: int = 0
    count: int | None = None
    every: int = 1

    @classmethod
    def of(cls, part: Video | Excerpt, every: int = 1) -> VideoFrames:
        """A whole video, or an excerpt."""
        if isinstance(part, Video):
            return cls(part, part.name, every=every)
        return cls(part.video, part.name, part.first, -(-part.count // every), every)

    def groups(self, encoder: FrameEncoder, size: int) -> Iterator[Frames]:
        """See :class:`Source`."""
        frames = iterate_frames(self.video, resize=encoder.resize, first=self.first, count=self.count, step=self.every)
        while group := list(itertools.islice(frames, size)):
            stacked = np.stack(group)
            yield stacked if encoder.color else grey(stacked)


@dataclass(frozen=True)
class FlowStacks:
    """Stacks of a video's optical flow: uint8 ``[n, H, W, 2L]``, one for every frame that L fields begin at.

    Args:
        flow: of the video, from ``lstmrep.data.flow.find_flow``; the frames' size is that of the flow.
        length: L, fields of a stack; 1 or 10 in the paper.
    """

    flow: FlowVideo
    length: int

    @property
    def name(self) -> str:
        """The video's, so that scores of both streams can be averaged."""
        return self.flow.name

    def groups(self, encoder: FrameEncoder, size: int) -> Iterator[Frames]:
        """See :class:`Source`."""
        stacks = stack(read_flow(self.flow)[0], self.length)
        for first in range(0, len(stacks), size):
            yield np.ascontiguousarray(np.moveaxis(stacks[first : first + size], 1, -1))


@dataclass(frozen=True)
class Extracted:
    """What :func:`extract` came to.

    Attributes:
        store: all features.
        computed: names of the videos that were not there before.
        failed: name of a video -> why it is left out.
    """

    store: FeatureStore
    computed: list[str]
    failed: dict[str, str]


def extract(
    sources: Sequence[Source],
    encoder: FrameEncoder,
    out: str | Path,
    *,
    labels: Sequence[int] | None = None,
    batch: int = 32,
    device: torch.device | str = "cpu",
    dtype: str = "float32",
    settings: dict[str, Any] | None = None,
    say: Callable[[str], None] | None = None,
) -> Extracted:
    """Write the features of videos into a store, or add those that it lacks.

    Frames are decoded ahead while the encoder works. A run that is killed has lost the video under way and nothing
    else; the same call goes on. A video is known by its name: one whose frames have changed is not noticed.

    Args:
        sources: the videos (:class:`VideoFrames`, :class:`FlowStacks`), each of a name of its own.
        encoder: frames to vectors.
        out: folder of the store.
        labels: class of each video, or none.
        batch: frames that the encoder takes at once. Default 32.
        device: where it runs. Default: the CPU.
        dtype: of the store: ``"float32"`` or ``"float16"``, half the size.
        settings: what else the features depend on; a store with other settings is refused.
        say: told about progress; without it there is a bar where standard error is a terminal.

    Returns:
        An :class:`Extracted`. A video that cannot be read is in ``failed`` and stops no other.

    Raises:
        ValueError: the store was made otherwise, two videos have one name, or no video could be read.
    """
    whole(CALLER, "batch", batch, 1)
    names = [source.name for source in sources]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{CALLER}: two videos are called {twice}; pass folders whose files differ in name.")
    if labels is not None and len(labels) != len(names):
        raise ValueError(f"{CALLER}: argument 'labels' has {len(labels)} entries for {len(names)} videos.")
    about = {"encoder": encoder.description, **(settings or {})}
    encoder = encoder.to(device)
    computed: list[str] = []
    failed: dict[str, str] = {}
    writer: StoreWriter | None = None
    with contextlib.ExitStack() as stack:
        begun = _begun(Path(out), about, dtype, labels is not None)
        todo = [k for k, name in enumerate(names) if begun is None or name not in begun.names]
        if begun is not None and (todo or not begun.complete):
            writer = stack.enter_context(begun)
        for k in _shown(todo, len(names), say, names):
            try:
                rows = _features(sources[k], encoder, batch, device)
            except (ValueError, OSError) as error:
                failed[names[k]] = str(error)
                continue
            if writer is None:
                writer = stack.enter_context(
                    StoreWriter(out, rows.shape[1], about, dtype=dtype, labelled=labels is not None)
                )
            writer.append(names[k], rows, None if labels is None else int(labels[k]))
            computed.append(names[k])
        if begun is None and writer is None:
            raise ValueError(f"{CALLER}: none of {len(names)} videos could be read: {next(iter(failed.values()), '')}")
    return Extracted(FeatureStore(out), computed, failed)


def _begun(out: Path, about: dict[str, Any], dtype: str, labelled: bool) -> StoreWriter | None:
    """The store that is there, or none; its D is its own, since the encoder has not been asked yet."""
    if not (out / ABOUT).is_file():
        return None
    return StoreWriter(out, size_of(out), about, dtype=dtype, labelled=labelled)


def _features(source: Source, encoder: FrameEncoder, batch: int, device: torch.device | str) -> NDArray[np.float32]:
    with _ahead(source.groups(encoder, batch)) as groups:
        parts = [encoder.encode(group, batch, device) for group in groups]
    if not parts:
        raise ValueError(f"{CALLER}: {source.name} has no frame; leave it out.")
    return np.concatenate(parts)


@contextlib.contextmanager
def _ahead(things: Iterable[Thing]) -> Iterator[Iterator[Thing]]:
    """The same things, made by a thread that is a few ahead; ends with the block, whatever is left."""
    made: queue.Queue[tuple[str, Any]] = queue.Queue(AHEAD)
    stopped = threading.Event()

    def put(kind: str, thing: Any) -> bool:
        while not stopped.is_set():
            with contextlib.suppress(queue.Full):
                made.put((kind, thing), timeout=0.1)
                return True
        return False

    def make() -> None:
        try:
            for thing in things:
                if not put("thing", thing):
                    return
            put("end", None)
        except BaseException as error:  # raised where the things are used
            put("error", error)

    def take() -> Iterator[Thing]:
        while True:
            kind, thing = made.get()
            if kind == "error":
                raise thing
            if kind == "end":
                return
            yield thing

    thread = threading.Thread(target=make, name="lstmrep-decode", daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        stopped.set()
        thread.join()


def _shown(todo: list[int], total: int, say: Callable[[str], None] | None, names: list[str]) -> Iterator[int]:
    """The numbers in ``todo``, with a bar or a line each."""
    if say is None and sys.stderr.isatty():
        with contextlib.suppress(ImportError):
            bar = package("tqdm", CALLER, "train").tqdm(todo, total=total, initial=total - len(todo), unit="video")
            yield from bar
            return
    for count, k in enumerate(todo, total - len(todo) + 1):
        yield k
        if say is not None:
            say(f"{count}/{total} {names[k]}")
