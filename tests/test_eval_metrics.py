"""Per-frame metrics against their formulas, written again as plain loops over random arrays."""

import math
import sys

import numpy as np
import pytest
import torch

from lstmrep import eval as ev
from lstmrep.eval import metrics

EPS = np.finfo(np.float64).eps
B, T, C, H, W = 3, 2, 2, 9, 8
N = C * H * W


def _frames(seed: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.rand(B, T, C, H, W, generator=g) * (high - low) + low


def _loop(prediction, target, term):
    """[B, T] of lists of terms, one for each value of a frame."""
    p, t = prediction.double().numpy().reshape(B, T, -1), target.double().numpy().reshape(B, T, -1)
    return [
        [[term(float(x), float(y)) for x, y in zip(p[b, f], t[b, f], strict=True)] for f in range(T)] for b in range(B)
    ]


def _assert_sums(got, terms, scale=1.0):
    """N terms, each within some roundings of its own: a sum in any order is within (N + 8) roundings of their sizes."""
    assert got.dtype == torch.float64 and got.shape == (B, T)
    for b in range(B):
        for f in range(T):
            exact, size = math.fsum(terms[b][f]) * scale, math.fsum(abs(x) for x in terms[b][f]) * scale
            assert abs(float(got[b, f]) - exact) <= (N + 8) * EPS * size


def test_cross_entropy():
    p, t = _frames(1), _frames(2)
    terms = _loop(p, t, lambda x, y: -y * math.log(max(x, 1e-10)) - (1 - y) * math.log(max(1 - x, 1e-10)))
    _assert_sums(ev.cross_entropy(p, t), terms)


def test_cross_entropy_of_certain_predictions_is_clamped():
    zero, one = torch.zeros(1, 1, 4), torch.ones(1, 1, 4)
    assert float(ev.cross_entropy(one, one)) == 0
    for clamp in (1e-10, 1e-4):
        for p, t in ((zero, one), (one, zero)):
            expected = -4 * math.log(clamp)
            assert abs(float(ev.cross_entropy(p, t, clamp=clamp)) - expected) <= 8 * EPS * expected


def test_entropy_is_the_lower_bound():
    t = _frames(3)
    terms = _loop(t, t, lambda _, y: sum(-q * math.log(q) for q in (y, 1 - y) if q > 0))
    _assert_sums(ev.entropy(t), terms)
    for seed in range(4):
        assert (ev.cross_entropy(_frames(10 + seed), t) > ev.entropy(t)).all()
    assert not ev.entropy((t > 0.5).float()).any()


def test_squared_and_absolute_errors():
    p, t = _frames(4, -0.5, 1.5), _frames(5)
    squares = _loop(p, t, lambda x, y: (x - y) ** 2)
    _assert_sums(ev.squared_error(p, t), squares)
    _assert_sums(ev.mse(p, t), squares)
    _assert_sums(ev.half_squared_error(p, t), squares, 0.5)
    _assert_sums(ev.mae(p, t), _loop(p, t, lambda x, y: abs(x - y)))


def test_mean_over_batch_and_time_is_what_the_literature_prints():
    """Mean over clips and frames first, then the sum over the frame: the same number."""
    p, t = _frames(6, -0.5, 1.5), _frames(7)
    a, b = p.double().numpy(), t.double().numpy()
    for got, expected in (
        (ev.mse(p, t).mean(), ((a - b) ** 2).mean((0, 1)).sum()),
        (ev.mae(p, t).mean(), np.abs(a - b).mean((0, 1)).sum()),
    ):
        assert abs(float(got) - expected) <= (N + B * T + 8) * EPS * expected


def test_psnr():
    p, t = _frames(8, -0.3, 1.3), _frames(9)
    squares = _loop(p, t, lambda x, y: (min(max(x, 0.0), 1.0) - y) ** 2)
    got = ev.psnr(p, t)
    for b in range(B):
        for f in range(T):
            # A relative error r of the mean is 10 r / ln 10 decibels, and the logarithm has a rounding of its own.
            expected = -10 * math.log10(math.fsum(squares[b][f]) / N)
            allowed = 10 / math.log(10) * (N + 8) * EPS + 4 * EPS * abs(expected)
            assert abs(float(got[b, f]) - expected) <= allowed


def test_psnr_is_never_that_of_wrapped_bytes():
    """Black against white is 0 dB. As bytes, 0 - 255 wraps to 1, and would give 48 dB."""
    black, white = torch.zeros(1, 1, 1, 4, 4), torch.ones(1, 1, 1, 4, 4)
    assert float(ev.psnr(black, white)) == 0
    as_bytes = np.uint8(0) * np.ones(4, np.uint8) - np.uint8(255) * np.ones(4, np.uint8)
    assert (as_bytes == 1).all()
    with pytest.raises(TypeError, match="divide 8-bit frames by 255"):
        ev.psnr(black.byte(), white.byte())


def test_psnr_of_exact_frames_is_infinite_and_predictions_are_clipped():
    white = torch.ones(1, 2, 1, 4, 4)
    assert ev.psnr(white * 1.7, white).tolist() == [[math.inf, math.inf]]


def _ssim_loop(p, t, data_range):
    """Every 7 by 7 window of every channel, one after another."""
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = []
    for c in range(C):
        for y in range(H - 6):
            for x in range(W - 6):
                a, b = p[c, y : y + 7, x : x + 7].ravel(), t[c, y : y + 7, x : x + 7].ravel()
                va, vb, vab = a.var(ddof=1), b.var(ddof=1), np.cov(a, b)[0, 1]
                ma, mb = a.mean(), b.mean()
                values.append((2 * ma * mb + c1) * (2 * vab + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    return np.mean(values)


def _ssim_error(data_range):
    """Means of 49 values up to 1 are within 49 roundings; means of products, differences and the two factors of the
    ratio multiply that by 16 or less; a factor is divided by no less than its constant, the smaller one is c1."""
    return 4 * 16 * 49 * EPS / (0.01 * data_range) ** 2


@pytest.mark.parametrize("data_range", [1.0, 2.0])
def test_ssim(data_range):
    p, t = _frames(11, -0.3, 1.3), _frames(12)
    p[0, 0] = t[0, 0]
    got = ev.ssim(p, t, data_range=data_range)
    for b in range(B):
        for f in range(T):
            expected = _ssim_loop(p[b, f].double().clamp(0, 1).numpy(), t[b, f].double().numpy(), data_range)
            assert abs(float(got[b, f]) - expected) <= _ssim_error(data_range)
    assert abs(float(got[0, 0]) - 1) <= _ssim_error(data_range)
    assert (ev.ssim(p, t, data_range=1.0)[1:] < ev.ssim(p, t)[1:]).all()


def test_ssim_equals_scikit_image():
    skimage = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    p, t = _frames(13), _frames(14)
    got = ev.ssim(p, t)
    for b in range(B):
        for f in range(T):
            a, c = p[b, f].double().numpy(), t[b, f].double().numpy()
            expected = skimage.structural_similarity(a, c, channel_axis=0, data_range=2.0)
            assert abs(float(got[b, f]) - expected) <= 2 * _ssim_error(2.0)


def test_ssim_needs_no_package_and_goes_in_pieces(monkeypatch):
    p, t = _frames(15), _frames(16)
    whole = ev.ssim(p, t)
    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.setattr(metrics, "PIECE", 2 * N)
    assert torch.equal(ev.ssim(p, t), whole)


class TestErrors:
    def test_types_and_shapes(self):
        p = torch.rand(2, 3, 4)
        for name in ("cross_entropy", "squared_error", "mae", "psnr"):
            with pytest.raises(ValueError, match=r"expected one shape \[B, T, \*frame\]"):
                getattr(ev, name)(p, p[:1])
            with pytest.raises(TypeError, match=rf"eval\.{name}: argument 'target' is torch.uint8"):
                getattr(ev, name)(p, p.byte())

    def test_ranges(self):
        p = torch.rand(2, 3, 4)
        with pytest.raises(ValueError, match=r"'prediction' reaches from .* expected values in"):
            ev.cross_entropy(p + 1, p)
        with pytest.raises(ValueError, match="'target' reaches from"):
            ev.entropy(p - 2)
        with pytest.raises(ValueError, match="argument 'clamp' is 0"):
            ev.cross_entropy(p, p, clamp=0)
        with pytest.raises(ValueError, match="argument 'data_range' is 0"):
            ev.ssim(_frames(1), _frames(2), data_range=0)

    def test_ssim_needs_images_of_some_size(self):
        with pytest.raises(ValueError, match="needs images"):
            ev.ssim(torch.rand(1, 1, 9), torch.rand(1, 1, 9))
        with pytest.raises(ValueError, match="frames are 6 by 9, structural similarity needs 7 by 7"):
            ev.ssim(torch.rand(1, 1, 1, 6, 9), torch.rand(1, 1, 1, 6, 9))
