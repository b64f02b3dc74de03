"""A page that shows an evaluation: strips, films, curves, the table, the settings and the data's description.

One ``index.html`` with its style inside and its pictures beside it, linked by relative paths: the folder can be moved,
zipped or served as it is, and needs no network.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from lstmrep import files
from lstmrep.eval.report import Report
from lstmrep.eval.score import FREE, FUTURE, RECONSTRUCTION
from lstmrep.viz.animation import animation
from lstmrep.viz.curves import error_curve, training_curve
from lstmrep.viz.filmstrip import filmstrip

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --card: #f5f6f8; --ink: #24272c; --soft: #61666f; --line: #dfe2e7; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #0e1013; --card: #16181d; --ink: #d8dade; --soft: #9aa0aa; --line: #2b2f37; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem 1rem 4rem; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem; }
p, figcaption { color: var(--soft); margin: .25rem 0; max-width: 48rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem .3rem 0; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
td.text { white-space: normal; text-align: left; }
tr.model td { font-weight: 600; }
figure { margin: 0 0 1rem; padding: .75rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 6px; }
figure img { display: block; max-width: 100%; height: auto; }
img.pixels { image-rendering: pixelated; max-width: none; background: #fff; }
.films, .curves { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); }
.curves { grid-template-columns: repeat(auto-fill, minmax(min(100%, 28rem), 1fr)); }
.films figure, .curves figure { margin: 0; overflow-x: auto; }
"""


def gallery(
    folder: str | Path,
    report: Report,
    *,
    title: str = "Predicted frames",
    clips: int = 8,
    training: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    settings: Mapping[str, object] | None = None,
    scale: int = 2,
    milliseconds: int = 100,
) -> Path:
    """Write the page and its pictures.

    Args:
        folder: where; it is made. ``index.html``, ``strips/``, ``films/`` and ``curves/`` in it are replaced.
        report: from :func:`lstmrep.eval.evaluate` with kept clips, or :func:`lstmrep.eval.load`.
        title: the page's heading.
        clips: how many of the kept clips are shown, the first ones: they are not chosen by how well they came out.
        training: name -> (steps, values), for a curve of the training.
        settings: further settings to list, such as the model's and the trainer's.
        scale: pixels of a value's square in a strip; twice that in a film. Default 2.
        milliseconds: how long a film's frame shows. Default 100.

    Returns:
        The path of ``index.html``.

    Raises:
        ValueError: the report kept no frames, or its frames are no images.
        ImportError: pillow or matplotlib is not installed.
    """
    folder = Path(folder)
    if not report.kept:
        raise ValueError(
            "lstmrep.viz.gallery: the report holds no frames; pass one of lstmrep.eval.evaluate, or load its folder."
        )
    shown = min(clips, report.kept)
    strips, films = [], []
    for k in range(shown):
        clip = {name: np.asarray(a[k]) for name, a in report.arrays.items() if name != "mean"}
        parts = (clip["inputs"], clip.get("reconstruction"), clip.get("preds"), clip.get("trues"))
        strip, film = f"strips/clip-{k:03d}.png", f"films/clip-{k:03d}.gif"
        filmstrip(*parts, folder / strip, teacher=clip.get("preds_teacher"), scale=scale)
        animation(*parts, folder / film, scale=2 * scale, milliseconds=milliseconds)
        strips.append(_picture(strip, f"Clip {k}: {_scores(report, k)}", pixels=True))
        films.append(_picture(film, f"Clip {k}", pixels=True))
    sections = [
        ("Numbers", _tables(report)),
        (
            "Clips",
            "<p>Above the truth, below the model: its reconstruction under the input (blue numbers), then its "
            "prediction (orange numbers).</p>" + "".join(f'<div class="scroll">{s}</div>' for s in strips),
        ),
        ("Films", f'<div class="films">{"".join(films)}</div>'),
        ("Curves", f'<div class="curves">{"".join(_curves(folder, report, training))}</div>'),
        ("Settings", _settings(report, settings or {})),
    ]
    body = "".join(f"<section><h2>{name}</h2>{content}</section>\n" for name, content in sections)
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{html.escape(title)}</h1>\n"
        f"<p>{html.escape(report.description or 'Data not described.')}</p>\n{body}</body>\n</html>\n"
    )
    index = folder / "index.html"
    files.write_text(index, page)
    return index


def _picture(path: str, text: str, *, dark: str = "", pixels: bool = False) -> str:
    kind = ' class="pixels"' if pixels else ""
    image = f'<img{kind} src="{html.escape(path)}" alt="{html.escape(text)}" loading="lazy">'
    if dark:
        source = f'<source srcset="{html.escape(dark)}" media="(prefers-color-scheme: dark)">'
        image = f"<picture>{source}{image}</picture>"
    return f"<figure>{image}<figcaption>{html.escape(text)}</figcaption></figure>"


def _scores(report: Report, clip: int) -> str:
    """The loss of one clip in words."""
    parts = []
    for head in (RECONSTRUCTION, FUTURE):
        for row in report.rows:
            if (row.head, row.name) == (head, FREE) and clip < report.clips:
                parts.append(f"{head} {row.values[report.loss][clip].mean():.2f}")
    return ", ".join(parts) + f" {report.headings()[0]}"


def _tables(report: Report) -> str:
    made = []
    for block, head, start, stop in report.blocks():
        heading = "".join(f"<th>{html.escape(name)}</th>" for name in (block, *report.headings()))
        rows = ""
        for cells in report.cells(head, start, stop):
            kind = ' class="model"' if cells[0].startswith("model") else ""
            rows += f"<tr{kind}>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
        made.append(f'<div class="scroll"><table><thead><tr>{heading}</tr></thead><tbody>{rows}</tbody></table></div>')
    return "".join(made) + "".join(f"<p>{html.escape(note)}</p>" for note in report.notes)


def _settings(report: Report, settings: Mapping[str, object]) -> str:
    pairs = [*report.facts(), *asdict(report.settings).items(), *settings.items()]
    rows = "".join(
        f'<tr><td>{html.escape(str(name))}</td><td class="text">{html.escape(str(value))}</td></tr>'
        for name, value in pairs
    )
    return f'<div class="scroll"><table><tbody>{rows}</tbody></table></div>'


def _curves(
    folder: Path, report: Report, training: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None
) -> list[str]:
    made = []
    for head in (RECONSTRUCTION, FUTURE):
        for metric in report.columns():
            # One picture for the reconstruction: its loss.
            if (head == RECONSTRUCTION and metric != report.loss) or not any(r.head == head for r in report.rows):
                continue
            names = [f"curves/{head}-{metric}{suffix}.png" for suffix in ("", "-dark")]
            for name, dark in zip(names, (False, True), strict=True):
                error_curve(report, folder / name, metric=metric, head=head, dark=dark)
            made.append(_picture(names[0], f"{head}, {metric.replace('_', ' ')} by frame", dark=names[1]))
    if training:
        names = [f"curves/training{suffix}.png" for suffix in ("", "-dark")]
        for name, dark in zip(names, (False, True), strict=True):
            training_curve(training, folder / name, ylabel=report.headings()[0], dark=dark)
        made.insert(0, _picture(names[0], "training", dark=names[1]))
    return made
