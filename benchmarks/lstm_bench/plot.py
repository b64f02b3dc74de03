"""A picture of a run: each contender's time over the baseline's, one panel a pass."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lstm_bench.report import Row
from lstmrep.files import replacing


def draw(file: Path, rows: Sequence[Row], title: str) -> str:
    """Write a PNG.

    Args:
        file: where to.
        rows: those with a ratio are drawn.
        title: above the panels.

    Returns:
        Where it is.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    shown = [r for r in rows if r.ratio]
    passes = list(dict.fromkeys(r.passes for r in shown))
    contenders = list(dict.fromkeys(r.backend for r in shown if r.ratio != 1.0))
    cases = list(dict.fromkeys(f"{r.problem}, {r.dtype}" for r in shown))
    height = 1.5 + 0.22 * len(cases)
    figure, panels = pyplot.subplots(
        1,
        max(1, len(passes)),
        figsize=(4 + 3.2 * max(1, len(passes)), height),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for panel, one in zip(panels[0], passes, strict=False):
        for k, contender in enumerate(contenders):
            points = [
                (r.ratio, cases.index(f"{r.problem}, {r.dtype}"))
                for r in shown
                if (r.backend, r.passes) == (contender, one)
            ]
            if points:
                panel.plot(*zip(*points, strict=True), "osD^v<>"[k % 7], color=f"C{k}", label=contender, markersize=5)
        panel.axvline(1.0, color="grey", linewidth=1)
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.tick_params(axis="x", labelsize=7)
        panel.set_title(one, fontsize=9)
        panel.set_xlabel("time / baseline (less is faster)", fontsize=8)
        panel.grid(axis="x", which="both", linewidth=0.3)
    panels[0][0].set_yticks(range(len(cases)), cases, fontsize=6)
    panels[0][0].invert_yaxis()
    handles, labels = [], []
    for panel in panels[0]:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            if label not in labels:
                handles.append(handle)
                labels.append(label)
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=7)
    figure.suptitle(title, fontsize=8)
    with replacing(file) as part:
        figure.savefig(part, dpi=130, format="png", bbox_inches="tight")
    pyplot.close(figure)
    return str(file)
