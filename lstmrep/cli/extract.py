"""``lstmrep extract``: features of every frame of many videos, in a folder that training reads."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from lstmrep.data.encoders import FrameEncoder
    from lstmrep.data.extraction import Source

EPILOG = """VIDEOS are files, folders of videos at any depth, or folders of pictures. The same command again adds
what is missing: after a kill, or when videos were added.

examples:
  python -m lstmrep extract UCF-101 --weights vgg16.pth --labels --out features/ucf101
  python -m lstmrep extract sports --weights vgg16.pth --hours 300 --out features/sports
  python -m lstmrep extract VIDEOS --encoder projection --out features/try
  python -m lstmrep extract FLOW --flow-stack 10 --weights temporal.pth --labels --out features/flow"""
ENCODERS = ("vgg16", "projection")
# Seconds between two lines where there is no bar.
QUIET = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.epilog = EPILOG
    parser.add_argument("videos", nargs="+", type=Path, metavar="VIDEOS", help="files or folders")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder of the features")
    parser.add_argument(
        "--encoder", choices=ENCODERS, default="vgg16", help="vgg16: its fc6 (default); projection: random, no weights"
    )
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="of vgg16, with torchvision's names: .pth, .safetensors"
    )
    parser.add_argument("--size", type=int, default=256, metavar="D", help="values of a projection (default 256)")
    parser.add_argument(
        "--resize", type=int, nargs="+", metavar="N", help="shorter side of frames, or height and width"
    )
    parser.add_argument(
        "--crop", type=int, metavar="N", help="side of the centre that is used (default: 224 for vgg16)"
    )
    parser.add_argument("--mean", type=float, nargs="+", metavar="X", help="of each channel of 0 to 1 (ImageNet's)")
    parser.add_argument("--std", type=float, nargs="+", metavar="X", help="of each channel (ImageNet's)")
    parser.add_argument("--labels", action="store_true", help="the first folder of a video's name is its class")
    parser.add_argument(
        "--flow-stack", type=int, metavar="L", help="VIDEOS is a folder that flow wrote: features of L fields at a time"
    )
    parser.add_argument("--every", type=int, default=1, metavar="K", help="one frame of K (default 1)")
    parser.add_argument("--hours", type=float, help="instead of whole videos: so many hours of random excerpts")
    parser.add_argument("--excerpts", type=int, metavar="N", help="or so many excerpts")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of an excerpt (default 10)")
    parser.add_argument("--seed", type=int, default=0, help="of excerpts and of a projection (default 0)")
    parser.add_argument("--batch", type=int, default=32, help="frames at a time (default 32)")
    parser.add_argument("--device", default="auto", help="auto (CUDA where there is one), cpu, cuda, ...")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="of the file (float32)")
    parser.add_argument("--h5", type=Path, metavar="FILE", help="also write the array as the released code's .h5")


def run(given: argparse.Namespace) -> int:
    """Extract; status 1 if a video had to be left out."""
    from lstmrep.data.extraction import extract

    sources, settings = _sources(given)
    labels = None
    if given.labels:
        labels, settings["classes"] = _classes([source.name for source in sources])
    encoder = _encoder(given)
    device = given.device if given.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    print(f"encoder   {encoder.description}")
    print(f"videos    {len(sources)}")
    began = time.perf_counter()
    made = extract(
        sources,
        encoder,
        given.out,
        labels=labels,
        batch=given.batch,
        device=device,
        dtype=given.dtype,
        settings=settings,
        say=None if sys.stderr.isatty() else _now_and_then(),
    )
    store = made.store
    for name, reason in made.failed.items():
        print(f"left out  {name}: {reason}")
    print(
        f"saved     {given.out}: {len(store)} videos, {int(store.num_frames.sum()):,} frames of {store.size} values; "
        f"{len(made.computed)} videos in {time.perf_counter() - began:.0f} s, the others were there"
    )
    if given.h5:
        store.save_h5(given.h5)
        print(f"saved     {given.h5}")
    return 1 if made.failed else 0


def _sources(given: argparse.Namespace) -> tuple[Sequence[Source], dict[str, object]]:
    from lstmrep.data.excerpts import hours_of, random_excerpts
    from lstmrep.data.extraction import VideoFrames
    from lstmrep.data.video import find_videos

    if given.every < 1:
        raise ValueError(f"lstmrep extract: --every is {given.every}, expected 1 or more.")
    if given.flow_stack is not None:
        return _flow(given)
    settings: dict[str, object] = {"every": given.every}
    if given.hours is None and given.excerpts is None:
        return [VideoFrames.of(video, given.every) for video in find_videos(given.videos)], settings
    drawn = random_excerpts(
        given.videos, seconds=given.seconds, hours=given.hours, excerpts=given.excerpts, seed=given.seed
    )
    print(f"excerpts  {len(drawn)} of {given.seconds:g} s, {hours_of(drawn):.2f} hours, seed {given.seed}")
    # One that was drawn twice is read once.
    once = dict.fromkeys(drawn)
    return [VideoFrames.of(one, given.every) for one in once], {
        **settings,
        "seconds": given.seconds,
        "seed": given.seed,
    }


def _flow(given: argparse.Namespace) -> tuple[Sequence[Source], dict[str, object]]:
    from lstmrep.data.extraction import FlowStacks
    from lstmrep.data.flow import find_flow, read_settings

    if len(given.videos) != 1 or given.every != 1 or given.hours is not None or given.excerpts is not None:
        raise ValueError(
            "lstmrep extract: --flow-stack takes one folder that flow wrote, and neither --every nor excerpts."
        )
    how = dataclasses.asdict(read_settings(given.videos[0]))
    found = [FlowStacks(one, given.flow_stack) for one in find_flow(given.videos[0])]
    return found, {"flow": how, "flow_stack": given.flow_stack}


def _classes(names: Sequence[str]) -> tuple[list[int], list[str]]:
    without = [name for name in names if "/" not in name]
    if without:
        raise ValueError(f"lstmrep extract: --labels needs a folder for every class, and {without[0]} lies in none.")
    of_each = [name.split("/")[0] for name in names]
    classes = sorted(set(of_each))
    label = {name: k for k, name in enumerate(classes)}
    return [label[one] for one in of_each], classes


def _encoder(given: argparse.Namespace) -> FrameEncoder:
    from lstmrep.data import encoders

    told = {name: _one_or_many(getattr(given, name)) for name in ("resize", "crop", "mean", "std")}
    how: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
    if given.encoder == "projection":
        return encoders.projection(given.size, seed=given.seed, **how)
    if given.weights is None:
        raise ValueError(
            "lstmrep extract: vgg16 needs --weights FILE, a state_dict with torchvision's names; none comes with the "
            "library. To try the way without, pass --encoder projection."
        )
    return encoders.vgg16(given.weights, **how)


def _one_or_many(value: Sequence[float] | float | None) -> Sequence[float] | float | None:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _now_and_then() -> Callable[[str], None]:
    said = 0.0

    def say(text: str) -> None:
        nonlocal said
        now = time.perf_counter()
        if now - said >= QUIET:
            said = now
            print(f"          {text}", flush=True)

    return say
