"""Figure 7 of the paper: what units of the future predictor do over a long roll-out, trained and untrained."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lstmrep.figures.activity import Activity, activity, strongest_period
from lstmrep.figures.figure import INK, Figure, bare, plot, write
from lstmrep.nn import CompositeModel
from lstmrep.nn.init import Scheme

CALLER = "lstmrep.figures.gates"
KINDS = {
    "c": "cell state",
    "i": "input gate",
    "f": "forget gate",
    "g": "cell input",
    "o": "output gate",
    "h": "h",
}
TRAINED, UNTRAINED = "trained", "untrained"
COLORS = {TRAINED: "#0072b2", UNTRAINED: "#d55e00"}
# Fewer steps past the trained horizon have no spectrum to speak of.
FEWEST = 4


def gates(
    model: CompositeModel,
    inputs: Tensor,
    out: str | Path,
    *,
    steps: int = 100,
    units: int = 200,
    layer: int = -1,
    seed: int = 0,
    init: Scheme | str | None = None,
) -> Figure:
    """Draw the activity of units of the future predictor over a long roll-out, beside that of an untrained one.

    Writes ``gates.png``; ``gates.csv``: ``model,unit,step,c,i,f,g,o,h`` of the first clip; ``gates-steps.csv``:
    ``step,trained,untrained``, the mean of :math:`|h_t - h_{t-1}|` over all clips and all units of the layer;
    ``gates-units.csv``: ``model,unit,period,share,amplitude`` of h of the first clip. A period is that of the highest
    peak of the spectrum of the steps past the trained horizon, its share the part of the power that the peak holds, and
    the amplitude the standard deviation over these steps, without which a share says nothing.

    Args:
        model: a trained :class:`lstmrep.CompositeModel` with a future head.
        inputs: input frames only, ``[B, T, *frame]``.
        out: the folder.
        steps: recurrent steps of the roll-out, 2 or more. Default 100.
        units: how many units are drawn at random; all where the layer has fewer. Default 200.
        layer: of the predictor, from 0, or -1 for the top one. Default the top one.
        seed: of the choice of units and of the untrained model's parameters. Default 0.
        init: how the untrained model starts; default torch's ranges, see ``lstmrep.nn.init``.

    Returns:
        The :class:`Figure`.

    Raises:
        ValueError: no future head, no such layer, fewer than 2 steps or 1 unit.
        ImportError: matplotlib is not installed.

    Source: Srivastava et al. 2015, section 3.1, on the activity past the training horizon.
    """
    for name, value, least in (("steps", steps, 2), ("units", units, 1)):
        if value < least:
            raise ValueError(f"{CALLER}: argument '{name}' is {value}, expected {least} or more.")
    read = inputs if model.batch_first else inputs.transpose(0, 1)
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.choice(model.config.hidden_size, min(units, model.config.hidden_size), replace=False))
    found = {TRAINED: activity(model, read, steps, layer=layer)}
    found[UNTRAINED] = activity(_untrained(model, seed, init), read, steps, layer=layer)
    shown = {name: {kind: getattr(a, kind)[:, 0].float().cpu().numpy() for kind in KINDS} for name, a in found.items()}
    changes = {name: a.change().cpu().numpy() for name, a in found.items()}
    figure = Figure(Path(out))
    _draw(figure, {n: {k: v[:, chosen] for k, v in kinds.items()} for n, kinds in shown.items()}, changes)
    figure.table(
        "gates",
        [
            {"model": name, "unit": int(u), "step": t, **{kind: kinds[kind][t, u] for kind in KINDS}}
            for name, kinds in shown.items()
            for u in chosen
            for t in range(steps)
        ],
    )
    figure.table(
        "gates-steps",
        [{"step": t + 1, **{name: float(change[t]) for name, change in changes.items()}} for t in range(steps - 1)],
    )
    trained = model.config.predict - (1 if model.config.handover == "copy" else 0)
    begin = trained if steps - trained >= FEWEST else 0
    _periods(figure, {name: kinds["h"][begin:, chosen] for name, kinds in shown.items()}, chosen, begin)
    figure.found.insert(0, _said(changes, found))
    return figure


def _untrained(model: CompositeModel, seed: int, init: Scheme | str | None) -> CompositeModel:
    """A model of the same configuration; the caller's random numbers stay where they are."""
    one = next(model.parameters())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = CompositeModel(**asdict(model.config), init=init)
    return made.to(one.device, one.dtype).eval()


def _periods(figure: Figure, h: dict[str, NDArray[np.float32]], chosen: NDArray[np.int64], begin: int) -> None:
    lines = []
    for name, series in h.items():
        period, share = strongest_period(series)
        amplitude = series.astype(np.float64).std(0)
        lines += [
            {"model": name, "unit": int(u), "period": float(p), "share": float(s), "amplitude": float(a)}
            for u, p, s, a in zip(chosen, period, share, amplitude, strict=True)
        ]
        known = period[np.isfinite(period)]
        middle = f"{np.median(known):.1f} steps" if len(known) else "none"
        # A peak at the lowest frequency is a drift as likely as a period.
        twice = int((known <= len(series) / 2).sum())
        figure.found.append(
            f"{name}, steps {begin} to {begin + len(series) - 1}: strongest period {middle}, its share of the power "
            f"{np.median(share):.2f}, standard deviation {np.median(amplitude):.2g} (medians over units); for {twice} "
            f"of {len(chosen)} units the period fits in twice"
        )
    figure.table("gates-units", lines)


def _said(changes: dict[str, NDArray[np.float64]], found: dict[str, Activity]) -> str:
    last = len(changes[TRAINED])
    at = sorted({step for step in (1, 10, 30, 59) if step < last} | {last})
    parts = [f"step {t}: {changes[TRAINED][t - 1]:.2g} and {changes[UNTRAINED][t - 1]:.2g}" for t in at]
    units = found[TRAINED].h.shape[2]
    return f"mean |h_t - h_(t-1)| of {units} units, trained and untrained, {', '.join(parts)}"


def _draw(
    figure: Figure, shown: dict[str, dict[str, NDArray[np.float32]]], changes: dict[str, NDArray[np.float64]]
) -> None:
    made = plot(CALLER, 15, 8)
    places = made.add_gridspec(3, len(KINDS))
    axes = [[made.add_subplot(places[row, column]) for column in range(len(KINDS))] for row in range(2)]
    for row, (name, kinds) in enumerate(shown.items()):
        for column, (kind, title) in enumerate(KINDS.items()):
            panel = axes[row][column]
            # One scale for both models, so that what stands still looks still.
            most = max(float(np.abs(other[kind]).max()) for other in shown.values()) or 1.0
            low, high = (0.0, 1.0) if kind in "ifo" else (-most, most)
            drawn = panel.imshow(
                kinds[kind].T,
                aspect="auto",
                interpolation="nearest",
                cmap="gray" if kind in "ifo" else "RdBu_r",
                vmin=low,
                vmax=high,
            )
            if not row:
                panel.set_title(title, fontsize="medium", color=INK)
                made.colorbar(drawn, ax=[axes[0][column], axes[1][column]], location="bottom", shrink=0.8)
            if not column:
                panel.set_ylabel(f"{name}, unit", color=INK)
    below = bare(made.add_subplot(places[2, :]))
    for name, change in changes.items():
        # Nothing can be drawn of a zero on this axis.
        below.semilogy(range(1, len(change) + 1), np.where(change > 0, change, np.nan), color=COLORS[name], label=name)
    below.set_xlabel("step", color=INK)
    below.set_ylabel("mean |h_t - h_(t-1)|", color=INK)
    below.legend(frameon=False)
    write(made, figure.picture("gates.png"))
