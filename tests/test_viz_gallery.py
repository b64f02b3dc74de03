"""Curves and the page: every picture is there, every link is relative, text is escaped."""

import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from eval_stand_in import Fading

from lstmrep import eval as ev
from lstmrep import viz

Image = pytest.importorskip("PIL.Image", reason="pillow is not installed")
pytest.importorskip("matplotlib", reason="matplotlib is not installed")


def _report(shape=(1, 8, 8), clips=3, metrics=("mse",), **fields):
    frames = torch.rand(clips, 7, *shape, generator=torch.Generator().manual_seed(2))
    size = int(np.prod(shape))
    model = Fading(input_size=size, conditional_future=True, **fields)
    description = "<b>noise</b> & 'seed' 2"
    return ev.evaluate(model, [frames], steps=4, mean=frames.mean((0, 1)), metrics=metrics, description=description)


class _Page(HTMLParser):
    """Links, alternative texts and the text of a page; tags must close."""

    def __init__(self, text):
        super().__init__()
        self.links, self.images, self.text, self.open, self.tags = [], [], "", [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.links += [attrs[name] for name in ("src", "href", "srcset") if name in attrs]
        if tag == "img":
            self.images.append(attrs)
        if tag not in ("meta", "img", "source"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


class TestCurves:
    def test_error_curve_draws_what_the_report_says(self, tmp_path, monkeypatch):
        from matplotlib.figure import Figure

        figures = []
        save = Figure.savefig
        monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), save(self, *a, **k)))
        report = _report()
        viz.error_curve(report, tmp_path / "curve.png", metric="mse")
        lines = {line.get_label(): line for line in figures[0].axes[0].get_lines()}
        for row in report.rows:
            if row.head == "future" and "mse" in row.values:
                assert (lines[row.name].get_ydata() == row.curve("mse")).all()
                assert list(lines[row.name].get_xdata()) == list(range(1, row.frames + 1))
        assert "copy last" in lines and "mean pixel" in lines
        # The last trained frame is marked.
        assert any(list(line.get_xdata()) == [2, 2] for line in lines.values())
        assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()

    def test_training_curve(self, tmp_path):
        series = {"train": ([0, 10, 20], [3.0, 2.0, 1.5]), "valid": ([0, 20], [3.1, 1.8])}
        for name, dark in (("light.png", False), ("dark.png", True)):
            viz.training_curve(series, tmp_path / name, baselines={"mean pixel": 2.5}, dark=dark)
        light, dark = (np.asarray(Image.open(tmp_path / name).convert("L")) for name in ("light.png", "dark.png"))
        assert light[0, 0] > 200 > 60 > dark[0, 0]
        assert light.std() > 5 and dark.std() > 5
        viz.training_curve(series, tmp_path / "curve.svg")
        assert "<svg" in (tmp_path / "curve.svg").read_text()

    def test_errors(self, tmp_path):
        with pytest.raises(ValueError, match="argument 'series' is empty"):
            viz.training_curve({}, tmp_path / "curve.png")
        with pytest.raises(ValueError, match="series 'train' has 2 steps and 1 values"):
            viz.training_curve({"train": ([0, 1], [1.0])}, tmp_path / "curve.png")
        with pytest.raises(ValueError, match=r"ends in \.png or \.svg"):
            viz.training_curve({"train": ([0], [1.0])}, tmp_path / "curve.jpg")
        with pytest.raises(ValueError, match="has no 'lpips' for the head 'future'"):
            viz.error_curve(_report(), tmp_path / "curve.png", metric="lpips")


class TestGallery:
    def test_page(self, tmp_path):
        report = _report(metrics=("mse", "ssim"))
        index = viz.gallery(
            tmp_path,
            report,
            title="Glyphs <1>",
            clips=2,
            training={"train": ([0, 1], [2.0, 1.0])},
            settings={"learning rate": 1e-3, "note": "<script>alert(1)</script>"},
        )
        assert index == tmp_path / "index.html"
        source = index.read_text()
        page = _Page(source)
        assert page.links and all("/" in link and not link.startswith(("/", "http", "..")) for link in page.links)
        for link in page.links:
            assert (tmp_path / link).is_file(), link
        kinds = [sum(link.startswith(kind) for link in page.links) for kind in ("strips/", "films/", "curves/training")]
        assert kinds == [2, 2, 2]
        assert all(image["alt"] for image in page.images)
        # Every number of the table, the data and the settings are there as text, and no tag of theirs.
        for block in report.blocks():
            for cells in report.cells(*block[1:]):
                assert all(cell in page.text for cell in cells)
        for text in (
            "Glyphs <1>",
            "<b>noise</b> & 'seed' 2",
            "<script>alert(1)</script>",
            "learning rate",
            "ssim_range",
        ):
            assert text in page.text
        assert "script" not in page.tags and "b" not in page.tags
        assert "prefers-color-scheme: dark" in source and "image-rendering: pixelated" in source
        assert 'name="viewport"' in source and "http" not in source
        with Image.open(tmp_path / "films" / "clip-000.gif") as film:
            assert film.n_frames == 7

    def test_of_a_loaded_report(self, tmp_path):
        report = _report()
        report.save(tmp_path / "report")
        viz.gallery(tmp_path / "a", report, clips=1)
        viz.gallery(tmp_path / "b", ev.load(tmp_path / "report"), clips=1)
        assert (tmp_path / "a" / "index.html").read_text() == (tmp_path / "b" / "index.html").read_text()
        strips = [(tmp_path / name / "strips" / "clip-000.png").read_bytes() for name in "ab"]
        assert strips[0] == strips[1]

    def test_colour_and_one_head(self, tmp_path):
        index = viz.gallery(tmp_path, _report((3, 8, 8), reconstruct=0), clips=1)
        assert "reconstruction-" not in index.read_text()

    def test_errors(self, tmp_path):
        report = _report()
        report.arrays.clear()
        with pytest.raises(ValueError, match="the report holds no frames"):
            viz.gallery(tmp_path, report)
        with pytest.raises(ValueError, match="features that are no images"):
            viz.gallery(tmp_path, _report((64,)))
        assert not list(tmp_path.iterdir())
