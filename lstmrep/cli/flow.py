"""``lstmrep flow``: optical flow of a folder of videos, in bytes; what is there already is passed over."""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np

from lstmrep.data import flow
from lstmrep.data.video import Video, find_videos
from lstmrep.files import replacing
from lstmrep.optional import package

CALLER = "lstmrep flow"
EPILOG = f"""output: FOLDER/NAME.npy for each video NAME, uint8 [frames - 1, height, width, 2]: u to the right, v
down; 128 is no motion, 127 steps lead to the bound. FOLDER/flow.json has the settings. A killed run goes on
when it is started again with the same words. One run at a time may write into a folder.

examples:
  python -m lstmrep flow VIDEOS --out flow
  python -m lstmrep flow VIDEOS --out flow --workers 8 --pictures 20
  python -m lstmrep flow VIDEOS --out flow_tvl1 --method tvl1 --bound {flow.BOUND:g} --resize 240"""
PICTURES = "pictures"
# Between two lines where standard error is no terminal.
SECONDS = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.epilog = EPILOG
    parser.add_argument("videos", type=Path, metavar="VIDEOS", help="a video, or a folder of them at any depth")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder of the flow, not in VIDEOS")
    parser.add_argument("--method", default="dis", help="dis (default), or tvl1, which is slower by far")
    parser.add_argument("--bound", type=float, default=flow.BOUND, help="pixels that are kept (default 20)")
    parser.add_argument("--resize", type=int, default=240, help="shorter side of the frames; 0: as it is (default 240)")
    parser.add_argument("--pictures", type=int, default=0, metavar="N", help="draw the first N fields of a video")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="videos at a time (default 1)")


def run(given: argparse.Namespace) -> int:
    """Compute what is missing."""
    for name, low in (("pictures", 0), ("workers", 1), ("resize", 0)):
        if getattr(given, name) < low:
            raise ValueError(f"{CALLER}: --{name} is {getattr(given, name)}, expected {low} or more.")
    if given.method not in flow.METHODS:
        raise ValueError(f"{CALLER}: --method is {given.method!r}, expected one of {', '.join(flow.METHODS)}.")
    if given.out.resolve().is_relative_to(given.videos.resolve()):
        raise ValueError(f"{CALLER}: --out {given.out} lies in {given.videos}, where it would be taken for videos.")
    settings = flow.FlowSettings(given.method, given.bound, given.resize or None)
    videos = find_videos(given.videos)
    flow.claim_folder(given.out, settings)
    flow.remove_left_behind(given.out)
    missing = [video for video in videos if not flow.flow_path(given.out, video.name).exists()]
    print(f"videos    {len(videos)}: {len(videos) - len(missing)} there already (cache hit)", flush=True)
    failed: list[str] = []
    with contextlib.closing(_Progress(len(missing))) as progress:
        for video, error in compute_all(missing, given.out, settings, given.workers):
            progress.advance(video.name, error)
            if error:
                failed.append(f"{video.name}: {error}")
    print(f"flow      {given.out}: {len(missing) - len(failed)} computed, {len(failed)} failed")
    if given.pictures and len(failed) < len(videos):
        print(f"pictures  {write_pictures(given.out, given.pictures)}")
    for line in failed:
        print(f"failed    {line}", file=sys.stderr)
    return 1 if failed else 0


def compute_all(
    videos: list[Video], folder: Path, settings: flow.FlowSettings, workers: int = 1
) -> Iterator[tuple[Video, str]]:
    """Compute the flow of each video.

    Args:
        videos: which.
        folder: of the flow.
        settings: of the folder.
        workers: processes; 1 is this one.

    Yields:
        Each video when it is done, and why it has no flow, else empty.
    """
    if workers == 1 or len(videos) < 2:
        for video in videos:
            yield video, _compute(video, folder, settings)
        return
    # Started afresh: torch's threads do not live through a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(videos)), context, _start) as pool:
        futures = {pool.submit(_compute, video, folder, settings): video for video in videos}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:  # when interrupted, what has not begun is not begun
            pool.shutdown(wait=False, cancel_futures=True)


def write_pictures(folder: Path, count: int) -> Path:
    """Draw the first fields of the first video that has flow, all to one scale.

    Args:
        folder: of the flow.
        count: fields.

    Returns:
        The folder of the pictures.
    """
    image = package("PIL.Image", CALLER, "flow")
    data, bound = flow.read_flow(flow.find_flow(folder)[0])
    fields = flow.from_bytes(np.array(data[:count]), bound)
    largest = float(np.hypot(fields[..., 0], fields[..., 1]).max())
    for k, field in enumerate(fields):
        with replacing(folder / PICTURES / f"flow-{k:03d}.png") as path:
            image.fromarray(flow.flow_image(field, largest)).save(path)
    return folder / PICTURES


def _compute(video: Video, folder: Path, settings: flow.FlowSettings) -> str:
    """Why there is no flow of a video, else empty. A full disk or a missing package ends the run."""
    try:
        flow.compute_flow(video, folder, settings)
    except ValueError as error:
        return str(error)
    return ""


def _start() -> None:
    """What a worker does first: one thread for it, and an end of its own when the command is killed."""
    with contextlib.suppress(ImportError):  # said when it is used
        package("cv2", CALLER, "flow").setNumThreads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        sentinel = parent.sentinel
        threading.Thread(target=lambda: (wait([sentinel]), os._exit(1)), daemon=True).start()


class _Progress:
    """A bar on standard error where that is a terminal and tqdm is installed; else a line every few seconds."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.last = total, 0, time.monotonic()
        self.bar: Any = None
        if total and sys.stderr.isatty():
            with contextlib.suppress(ImportError):
                self.bar = package("tqdm", CALLER, "train").tqdm(total=total, unit="video")

    def advance(self, name: str, error: str) -> None:
        """One more video is done."""
        self.done += 1
        if self.bar is not None:
            self.bar.set_postfix_str(name, refresh=False)
            self.bar.update(1)
        elif time.monotonic() - self.last >= SECONDS or self.done == self.total:
            self.last = time.monotonic()
            print(f"{self.done}/{self.total}  {name}{': failed' if error else ''}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.close()
