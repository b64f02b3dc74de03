"""The best of K draws, on numbers by hand."""

import pytest
import torch

from lstmrep import eval as ev
from lstmrep.eval.stochastic import HIGHER, METRICS


def by_hand():
    """Three draws of two clips of two frames of one value; the truth is zero, so errors are squares."""
    draws = torch.tensor([[[3.0, 1.0], [0.0, 2.0]], [[1.0, 1.0], [2.0, 2.0]], [[0.0, 4.0], [1.0, 0.0]]])
    return draws[..., None], torch.zeros(2, 2, 1)


def test_the_curve_by_hand():
    """Means over frames: clip 0 has 5, 1, 8; clip 1 has 2, 4, 0.5."""
    best = ev.best_of(*by_hand(), "mse")
    assert best.curve.tolist() == [(5 + 2) / 2, (1 + 2) / 2, (1 + 0.5) / 2]
    assert best.chosen.tolist() == [[0, 0], [1, 0], [1, 2]]
    # Draw 1 of clip 0 is 1, 1; draw 2 of clip 1 is 1, 0.
    assert best.per_frame.tolist() == [1.0, 0.5]


def test_a_draw_is_chosen_for_the_whole_sequence():
    """Frame by frame, clip 0 would have a draw that is right in frame 0, and another in frame 1."""
    draws, truth = by_hand()
    best = ev.best_of(draws, truth, "mse")
    frame_by_frame = torch.stack([ev.mse(d, truth) for d in draws]).amin(0).mean()
    assert frame_by_frame < best.curve[-1]


def test_higher_is_better_by_hand():
    draws, truth = by_hand()
    best = ev.best_of(draws, truth, lambda p, t: p.flatten(2).sum(2), higher=True)  # means 2, 1, 2 and 1, 2, 0.5
    assert best.curve.tolist() == [1.5, 2.0, 2.0]
    assert best.chosen.tolist() == [[0, 0], [0, 1], [0, 1]]  # of draws equally good the first


@pytest.mark.parametrize("metric", METRICS)
def test_the_curve_never_gets_worse(metric):
    g = torch.Generator().manual_seed(0)
    truth, draws = torch.rand(3, 2, 1, 8, 8, generator=g), torch.rand(12, 3, 2, 1, 8, 8, generator=g)
    curve = ev.best_of(draws, truth, metric).curve
    assert curve.shape == (12,) and curve.dtype == torch.float64
    step = curve.diff() if metric in HIGHER else -curve.diff()
    assert (step >= 0).all() and step.sum() > 0
    torch.testing.assert_close(curve[0], METRICS[metric](draws[0], truth).mean())
    # More draws do not change what fewer gave.
    torch.testing.assert_close(ev.best_of(draws[:5], truth, metric).curve, curve[:5])


def test_wrong_arguments():
    draws, truth = by_hand()
    for samples in (draws[0], draws[:, :1], draws[:0]):
        with pytest.raises(ValueError, match=r"expected \[K, B, T, \*frame\] and \[B, T, \*frame\] with K and B"):
            ev.best_of(samples, truth, "mse")
    with pytest.raises(ValueError, match=r"argument 'metric' is 'vgg', expected one of cross_entropy, .*, psnr\."):
        ev.best_of(draws, truth, "vgg")
    with pytest.raises(ValueError, match="argument 'higher' is missing; with a metric of your own say"):
        ev.best_of(draws, truth, ev.mse)
    with pytest.raises(ValueError, match="the metric is not a number somewhere"):
        ev.best_of(draws * float("nan"), truth, "mse")
    with pytest.raises(ValueError, match=r"the metric is of shape \(2,\), expected numbers \[B, T\]"):
        ev.best_of(draws, truth, lambda p, t: ev.mse(p, t).mean(1), higher=False)
