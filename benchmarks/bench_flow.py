"""How far optical flow is off, and how long it takes: the methods of ``lstmrep.data.flow`` on known warps of stills.

    python benchmarks/bench_flow.py [--runs N]

Two frames are sampled from one still of scikit-image's wheel such that the true flow is a formula.  Printed are the
mean end-point errors over the stills, in pixels, of the whole frame and, in brackets, of what is 16 pixels or more from
its border; and the median time of a pair, from colours to the field, rounds alternating between the methods.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version

import numpy as np

from lstmrep.data.flow import METHODS, optical_flow
from lstmrep.optional import package

HEIGHT, WIDTH = 240, 320
BORDER = 16
STILLS = ("astronaut", "chelsea", "coffee")
CALLER = "benchmarks/bench_flow.py"
Array = np.ndarray


def shift(x: Array, y: Array) -> tuple[Array, Array]:
    """The same everywhere, no whole number."""
    return np.full_like(x, 3.3), np.full_like(x, -1.7)


def turn(x: Array, y: Array) -> tuple[Array, Array]:
    """Two degrees about the centre, and three hundredths larger."""
    c, s = 1.03 * np.cos(np.radians(2)), 1.03 * np.sin(np.radians(2))
    x, y = x - WIDTH / 2, y - HEIGHT / 2
    return c * x - s * y - x, s * x + c * y - y


def waves(x: Array, y: Array) -> tuple[Array, Array]:
    """Up to four pixels, over 160."""
    return 4 * np.sin(2 * np.pi * y / 160), 4 * np.cos(2 * np.pi * x / 160)


WARPS: dict[str, Callable[[Array, Array], tuple[Array, Array]]] = {
    "shift by (3.3, -1.7)": shift,
    "turned by 2 degrees, 3% larger": turn,
    "waves of 4 pixels": waves,
}


def pair(still: Array, warp: Callable[[Array, Array], tuple[Array, Array]]) -> tuple[Array, Array]:
    """Two frames uint8 ``[2, H, W, 3]`` and their flow ``[H, W, 2]``: frame 0 at x is frame 1 at x + flow."""
    sample = package("scipy.ndimage", CALLER, "flow").map_coordinates
    y, x = np.meshgrid(np.arange(HEIGHT, dtype=float), np.arange(WIDTH, dtype=float), indexing="ij")
    u, v = warp(x, y)
    top, left = (still.shape[0] - HEIGHT) // 2, (still.shape[1] - WIDTH) // 2
    first = [sample(still[..., c].astype(float), [top + y + v, left + x + u], order=3) for c in range(3)]
    second = still[top : top + HEIGHT, left : left + WIDTH]
    frames = np.stack([np.clip(np.rint(np.stack(first, axis=-1)), 0, 255).astype(np.uint8), second])
    return frames, np.stack([u, v], axis=-1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10, help="rounds over all pairs (default 10)")
    runs = parser.parse_args().runs
    data = package("skimage.data", CALLER, "flow")
    stills = [np.asarray(getattr(data, name)()) for name in STILLS]
    pairs = {name: [pair(still, warp) for still in stills] for name, warp in WARPS.items()}
    times: dict[str, list[float]] = {method: [] for method in METHODS}
    errors: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for _ in range(runs):
        for name, made in pairs.items():
            for method in METHODS:
                found = errors[name, method] = []
                for frames, truth in made:
                    start = time.perf_counter()
                    flow = optical_flow(frames, method)[0]
                    times[method].append(time.perf_counter() - start)
                    off = np.linalg.norm(flow - truth, axis=-1)
                    found.append((off.mean(), off[BORDER:-BORDER, BORDER:-BORDER].mean()))
    versions = ", ".join(f"{p} {version(p)}" for p in ("opencv-python-headless", "scikit-image"))
    print(f"{HEIGHT}x{WIDTH}, stills {', '.join(STILLS)}; {platform.processor() or platform.machine()}; {versions}\n")
    print(f"| | {' | '.join(METHODS)} |\n|---|{'---|' * len(METHODS)}")
    for name in WARPS:
        cells = [np.mean(errors[name, method], axis=0) for method in METHODS]
        print(f"| {name} | {' | '.join(f'{whole:.2f} ({inner:.2f})' for whole, inner in cells)} |")
    count = len(times[METHODS[0]])
    cells = [f"{statistics.median(times[method]) * 1e3:,.1f} ms" for method in METHODS]
    print(f"| time of a pair, median of {count} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
