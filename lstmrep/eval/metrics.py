"""What a predicted frame is worth: one number a frame, formed in float64, never averaged here.

Every function takes a prediction and a target ``[B, T, *frame]`` and returns ``[B, T]``; the mean over clips and frames
is the number that papers print.  With :math:`p` the prediction and :math:`t` the target, sums over a frame's values:

==========================  ===========================================================================
``cross_entropy``           :math:`-\\sum t \\log p + (1 - t) \\log(1 - p)`, nats
``half_squared_error``      :math:`\\frac12 \\sum (p - t)^2`, what the released code reports for real-valued frames
``mse``, ``squared_error``  :math:`\\sum (p - t)^2`: by custom a *sum* over the frame, not a mean
``mae``                     :math:`\\sum |p - t|`
``psnr``                    :math:`-10 \\log_{10}` of the mean squared error of :math:`p` clipped to [0, 1], decibels
``ssim``                    structural similarity of :math:`p` clipped to [0, 1], uniform window of 7
==========================  ===========================================================================

``entropy`` of the targets is the least cross-entropy that any prediction can have.

Source: Srivastava et al. 2015, section 3, for the first two; the definitions of OpenSTL, under which the video
prediction literature compares models on Moving MNIST, for the others.
"""

from __future__ import annotations

import torch
from torch import Tensor

WINDOW = 7
# Values of a piece of frames whose structural similarity is formed at a time: its buffers then stay in the cache.
PIECE = 1 << 16


def cross_entropy(prediction: Tensor, target: Tensor, *, clamp: float = 1e-10) -> Tensor:
    """Bernoulli cross-entropy of each frame, in nats.

    Args:
        prediction: probabilities in [0, 1], floating point, ``[B, T, *frame]``.
        target: grey levels in [0, 1], the same shape.
        clamp: ``p`` and ``1 - p`` are taken to be at least this before the logarithm; default the 1e-10 of the released
            code. A float32 probability may be exactly 0 or 1, and one such value on the wrong side costs
            ``-log(clamp)`` = 23 nats instead of infinity. For a prediction that is all zeros and ones (a copied frame)
            the clamp decides the number: say it beside the result.

    Returns:
        float64 ``[B, T]``.

    Raises:
        TypeError, ValueError: not floating point, shapes differ, values outside [0, 1].
    """
    if not 0 < clamp < 0.5:
        raise ValueError(
            f"lstmrep.eval.cross_entropy: argument 'clamp' is {clamp}, expected a number between 0 and 0.5."
        )
    p, t = pair("cross_entropy", prediction, target)
    _unit("cross_entropy", "prediction", p)
    _unit("cross_entropy", "target", t)
    log_likelihood: Tensor = t * p.clamp_min(clamp).log() + (1 - t) * (1 - p).clamp_min(clamp).log()
    return -log_likelihood.flatten(2).sum(2)


def entropy(target: Tensor) -> Tensor:
    """Entropy of each frame's values seen as Bernoulli probabilities, in nats: the lower bound of the cross-entropy.

    Args:
        target: grey levels in [0, 1], ``[B, T, *frame]``. Binary frames have the entropy 0.

    Returns:
        float64 ``[B, T]``.
    """
    t, _ = pair("entropy", target, target)
    _unit("entropy", "target", t)
    nats: Tensor = (torch.special.entr(t) + torch.special.entr(1 - t)).flatten(2).sum(2)
    return nats


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared error summed over each frame, before any clipping.

    Args:
        prediction: floating point, ``[B, T, *frame]``.
        target: the same shape.

    Returns:
        float64 ``[B, T]``, in squared grey levels.
    """
    p, t = pair("squared_error", prediction, target)
    return (p - t).square().flatten(2).sum(2)


# The field's name for the same sum.
mse = squared_error


def half_squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Half of :func:`squared_error`: the loss of a model with real-valued frames. float64 ``[B, T]``."""
    return 0.5 * squared_error(prediction, target)


def mae(prediction: Tensor, target: Tensor) -> Tensor:
    """Absolute error summed over each frame, before any clipping.

    Args:
        prediction: floating point, ``[B, T, *frame]``.
        target: the same shape.

    Returns:
        float64 ``[B, T]``, in grey levels.
    """
    p, t = pair("mae", prediction, target)
    return (p - t).abs().flatten(2).sum(2)


def psnr(prediction: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each frame, in decibels, of values in [0, 1].

    Args:
        prediction: floating point, ``[B, T, *frame]``; clipped to [0, 1] first.
        target: values in [0, 1], the same shape.

    Returns:
        float64 ``[B, T]``; infinite where a frame is predicted exactly.

    Raises:
        TypeError: 8-bit frames. Their difference wraps around at 256, which has put many a published figure 15 dB too
            high.
    """
    p, t = pair("psnr", prediction, target)
    return -10 * (p.clamp(0, 1) - t).square().flatten(2).mean(2).log10()


def ssim(prediction: Tensor, target: Tensor, *, data_range: float = 2.0) -> Tensor:
    """Structural similarity of each frame: windows of 7 by 7, sample covariance, mean over windows and channels.

    It equals scikit-image's ``structural_similarity`` with its defaults, to rounding, and needs no such package.

    Args:
        prediction: floating point, ``[B, T, C, H, W]``, H and W of 7 or more; clipped to [0, 1] first.
        target: values in [0, 1], the same shape.
        data_range: L in the constants (0.01 L)^2 and (0.03 L)^2. Default 2, under which the Moving MNIST tables of the
            literature were made: OpenSTL passes no range and is bound to scikit-image 0.19.3 or older, which takes the
            range of a floating point image to be [-1, 1]. For values in [0, 1] the right range is 1; it gives a lower
            number.

    Returns:
        float64 ``[B, T]``, at most 1.

    Raises:
        TypeError, ValueError: not floating point, not images, smaller than a window, a range that is not positive.
    """
    p, t = pair("ssim", prediction, target)
    why = ssim_needs(tuple(p.shape[2:]))
    if why:
        raise ValueError(f"lstmrep.eval.ssim: {why}.")
    if not data_range > 0:
        raise ValueError(
            f"lstmrep.eval.ssim: argument 'data_range' is {data_range}, expected a positive number: 2 as in the "
            "literature, or 1."
        )
    B, T = p.shape[:2]
    frames = max(1, PIECE // p[0, 0].numel()) if p.numel() else 1
    pieces = zip(p.clamp(0, 1).flatten(0, 1).split(frames), t.flatten(0, 1).split(frames), strict=True)
    return torch.cat([_similarity(a, b, data_range) for a, b in pieces]).view(B, T)


def ssim_needs(frame: tuple[int, ...]) -> str:
    """Why frames of this shape have no structural similarity; empty if they have one."""
    if len(frame) != 3:
        return f"frames have the shape {frame}, structural similarity needs images [C, H, W]"
    if min(frame[1:]) < WINDOW:
        return f"frames are {frame[1]} by {frame[2]}, structural similarity needs {WINDOW} by {WINDOW} or more"
    return ""


def _similarity(a: Tensor, b: Tensor, data_range: float) -> Tensor:
    """[N, C, H, W] twice -> [N]."""
    many = torch.cat([a, b, a * a, b * b, a * b], 1)
    many = _window_sums(_window_sums(many, 2), 3) / WINDOW**2
    ma, mb, aa, bb, ab = many.chunk(5, 1)
    sample = WINDOW**2 / (WINDOW**2 - 1)
    va, vb, vab = sample * (aa - ma * ma), sample * (bb - mb * mb), sample * (ab - ma * mb)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    over = (2 * ma * mb + c1) * (2 * vab + c2)
    under = (ma * ma + mb * mb + c1) * (va + vb + c2)
    return (over / under).flatten(1).mean(1)


def _window_sums(x: Tensor, axis: int) -> Tensor:
    """Sums of every 7 neighbours along an axis, from sums of 2 and of 4: four additions instead of six."""
    n = x.shape[axis]
    two = x.narrow(axis, 0, n - 1) + x.narrow(axis, 1, n - 1)
    four = two.narrow(axis, 0, n - 3) + two.narrow(axis, 2, n - 3)
    last = n - WINDOW + 1
    return four.narrow(axis, 0, last) + two.narrow(axis, 4, last) + x.narrow(axis, 6, last)


def pair(name: str, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float64, after their dtypes and shapes were checked; ``name`` is the metric's, for the message."""
    for what, t in (("prediction", prediction), ("target", target)):
        if not t.is_floating_point():
            raise TypeError(
                f"lstmrep.eval.{name}: argument '{what}' is {t.dtype}, expected floating point frames in [0, 1]; "
                "divide 8-bit frames by 255."
            )
    if prediction.shape != target.shape or prediction.ndim < 3:
        raise ValueError(
            f"lstmrep.eval.{name}: prediction {tuple(prediction.shape)} and target {tuple(target.shape)}, expected "
            "one shape [B, T, *frame]."
        )
    return prediction.detach().double(), target.detach().double()


def _unit(name: str, what: str, values: Tensor) -> None:
    if not values.numel():
        return
    low, high = (float(x) for x in values.aminmax())
    if low < 0 or high > 1:
        raise ValueError(
            f"lstmrep.eval.{name}: argument '{what}' reaches from {low:g} to {high:g}, expected values in [0, 1]; "
            "real-valued frames have a squared error."
        )
