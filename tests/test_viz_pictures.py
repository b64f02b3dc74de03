"""Strips and films: read back from their files and compared with the arrays they were made from."""

import sys

import numpy as np
import pytest
import torch

from lstmrep import viz
from lstmrep.viz.frames import INPUT, PAPER, PREDICTED, to_array

Image = pytest.importorskip("PIL.Image", reason="pillow is not installed")

T, R, P = 4, 3, 2


def _clip(channels=1, h=6, w=5):
    g = torch.Generator().manual_seed(5)
    make = lambda n: torch.rand(n, channels, h, w, generator=g)  # noqa: E731
    return {"inputs": make(T), "reconstruction": make(R), "future": make(P), "truth": make(P)}


def _bytes(frame, scale):
    """[C, H, W] in [0, 1] -> [H * scale, W * scale, 3], pixel by pixel."""
    C, H, W = frame.shape
    made = np.zeros((H * scale, W * scale, 3), np.uint8)
    for y in range(H * scale):
        for x in range(W * scale):
            for c in range(3):
                made[y, x, c] = round(float(frame[c % C, y // scale, x // scale]) * 255)
    return made


class TestToImage:
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("scale", [1, 3])
    def test_pixels(self, channels, scale):
        frame = torch.rand(channels, 4, 5, dtype=torch.float64)
        made = viz.to_image(frame, scale)
        assert made.dtype == np.uint8 and made.shape == (4 * scale, 5 * scale, 3)[: 2 + (channels == 3)]
        expected = _bytes(frame, scale)
        assert (made == (expected if channels == 3 else expected[:, :, 0])).all()

    def test_values_outside_are_clipped(self):
        made = viz.to_image(np.array([[[-1.0, 0.0, 1.0, 7.0, np.nan, np.inf]]]))
        assert made.tolist() == [[0, 0, 255, 255, 0, 255]]

    def test_errors(self):
        with pytest.raises(TypeError, match="divide 8-bit frames by 255"):
            viz.to_image(torch.zeros(1, 2, 2, dtype=torch.uint8))
        with pytest.raises(ValueError, match=r"expected \[C, H, W\] with C = 1 or 3"):
            viz.to_image(torch.zeros(2, 3, 3))
        with pytest.raises(ValueError, match="argument 'scale' is 0"):
            viz.to_image(torch.zeros(1, 3, 3), 0)
        assert to_array(torch.zeros(2, 1, 3, 3, requires_grad=True)).shape == (2, 1, 3, 3)


class TestFilmstrip:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_every_frame_is_in_its_place(self, tmp_path, channels):
        """Truth above; below it the reconstruction turned back into time order, then the future."""
        clip = _clip(channels)
        teacher = 1 - clip["future"]
        grid = viz.filmstrip(**clip, path=tmp_path / "strip.png", teacher=teacher, scale=3)
        picture = np.asarray(Image.open(tmp_path / "strip.png").convert("RGB"))

        def at(row, column):
            left, top, right, bottom = grid.box(row, column)
            return picture[top:bottom, left:right]

        expected = {(0, t): clip["inputs"][t] for t in range(T)}
        expected |= {(0, T + t): clip["truth"][t] for t in range(P)}
        # Decoded first is the last input frame: it stands under column T - 1, the next one to its left.
        expected |= {(1, T - 1 - k): clip["reconstruction"][k] for k in range(R)}
        expected |= {(1, T + t): clip["future"][t] for t in range(P)}
        expected |= {(2, T + t): teacher[t] for t in range(P)}
        for place, frame in expected.items():
            assert (at(*place) == _bytes(frame, 3)).all(), place
        for place in [(1, 0), (2, 0), (2, T - 1)]:
            assert (at(*place) == PAPER).all(), place
        # A line between what was read and what was predicted.
        between = picture[:, grid.box(0, T - 1)[2] : grid.box(0, T)[0]]
        assert (between == PREDICTED).all(2).any(1).mean() > 0.8

    def test_colours_tell_input_from_prediction(self, tmp_path):
        grid = viz.filmstrip(**_clip(), path=tmp_path / "strip.png", scale=4)
        picture = np.asarray(Image.open(tmp_path / "strip.png").convert("RGB"))
        header = picture[: grid.top].astype(int)
        split = grid.box(0, T)[0] - grid.gap
        # Letters have soft edges: a pixel counts as blue or orange where these differ clearly.
        assert INPUT[2] > INPUT[0] and PREDICTED[0] > PREDICTED[2]
        blue = header[:, :, 2] - header[:, :, 0]
        reads, predicts = ((sign * blue > 60).any(0).nonzero()[0] for sign in (1, -1))
        assert reads.max() < split - 8 <= predicts.min()

    @pytest.mark.parametrize("left_out", ["reconstruction", "future", "truth"])
    def test_parts_may_be_left_out(self, tmp_path, left_out):
        clip = {**_clip(), left_out: None}
        grid = viz.filmstrip(**clip, path=tmp_path / "strip.png")
        picture = np.asarray(Image.open(tmp_path / "strip.png").convert("RGB"))
        left, top, right, bottom = grid.box(0, T - 1)
        assert (picture[top:bottom, left:right] == _bytes(clip["inputs"][T - 1], 2)).all()
        place = {"reconstruction": (1, T - 1), "future": (1, T), "truth": (0, T)}[left_out]
        left, top, right, bottom = grid.box(*place)
        assert (picture[top:bottom, left:right] == PAPER).all()

    def test_numpy_arrays_do_as_well(self, tmp_path):
        clip = _clip()
        viz.filmstrip(**clip, path=tmp_path / "a.png")
        viz.filmstrip(**{name: t.numpy() for name, t in clip.items()}, path=tmp_path / "b.png")
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()

    def test_errors(self, tmp_path):
        clip, path = _clip(), tmp_path / "strip.png"
        with pytest.raises(ValueError, match="'reconstruction' has 6 frames, 'inputs' has 4"):
            viz.filmstrip(**{**clip, "reconstruction": torch.zeros(6, 1, 6, 5)}, path=path)
        with pytest.raises(ValueError, match="'future' has frames of the shape"):
            viz.filmstrip(**{**clip, "future": torch.zeros(2, 1, 6, 6)}, path=path)
        with pytest.raises(ValueError, match="argument 'inputs' has no frames"):
            viz.filmstrip(**{**clip, "inputs": None}, path=path)
        with pytest.raises(ValueError, match="features that are no images"):
            viz.filmstrip(**{**clip, "inputs": torch.zeros(4, 30)}, path=path)
        assert not list(tmp_path.iterdir())


class TestAnimation:
    def _read(self, path):
        film = Image.open(path)
        frames, times = [], []
        for k in range(film.n_frames):
            film.seek(k)
            frames.append(np.asarray(film.convert("RGB")).astype(int))
            times.append(film.info["duration"])
        return film, frames, times

    def test_frames_and_durations(self, tmp_path):
        count = viz.animation(**_clip(), path=tmp_path / "film.gif", milliseconds=80, hold=500)
        film, frames, times = self._read(tmp_path / "film.gif")
        assert count == len(frames) == T + P
        assert times == [80] * (T + P - 1) + [500]
        assert film.info["loop"] == 0

    def test_frames_that_look_alike_are_kept(self, tmp_path):
        still = {name: torch.zeros_like(t) for name, t in _clip().items()}
        viz.animation(**still, path=tmp_path / "film.gif")
        assert len(self._read(tmp_path / "film.gif")[1]) == T + P

    def test_truth_left_model_right_border_by_phase(self, tmp_path):
        """Black and white frames survive the format's palette."""
        clip = {name: t.round() for name, t in _clip(h=16, w=16).items()}
        viz.animation(**clip, path=tmp_path / "film.gif", scale=4)
        _, frames, _ = self._read(tmp_path / "film.gif")
        told = [None, *clip["reconstruction"].flip(0)]
        left = [*clip["inputs"], *clip["truth"]]
        right = [*told, *clip["future"]]
        for t, frame in enumerate(frames):
            border = np.array(PREDICTED if t >= T else INPUT)
            distance = np.abs(frame - border).sum(2)
            # The border's outer corner, below the header: its first row and column.
            y, x = next((y, x) for y in range(18, 30) for x in range(10) if distance[y, x] < 60)
            for column, expected in ((0, left[t]), (1, right[t])):
                x0 = x + 3 + column * (64 + 10)
                found = frame[y + 3 : y + 67, x0 : x0 + 64]
                shown = np.full((64, 64, 3), 255) if expected is None else _bytes(expected, 4)
                assert (np.abs(found - shown) < 128).all(), (t, column)

    def test_errors(self, tmp_path):
        for name, value in (("milliseconds", 15), ("milliseconds", 10), ("hold", 33)):
            with pytest.raises(ValueError, match=f"argument '{name}' is {value}, expected a multiple of 10"):
                viz.animation(**_clip(), path=tmp_path / "film.gif", **{name: value})


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r"lstmrep.viz.filmstrip: .*pip install pillow.*extra \[viz\]"):
        viz.filmstrip(**_clip(), path=tmp_path / "strip.png")
