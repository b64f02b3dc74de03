"""What predictions are worth: the paper's units, the field's metrics, baselines beside every number."""

from lstmrep.eval.baselines import copy_last, displacement, linear_motion, mean_frame, mean_pixel
from lstmrep.eval.classification import (
    PooledAccuracy,
    class_accuracy,
    clip_accuracy,
    confusion,
    pool,
    pooled_accuracy,
    windows,
)
from lstmrep.eval.cost import flops_per_clip, parameters
from lstmrep.eval.evaluate import evaluate, recompute
from lstmrep.eval.metrics import cross_entropy, entropy, half_squared_error, mae, mse, psnr, squared_error, ssim
from lstmrep.eval.perceptual import lpips
from lstmrep.eval.report import Report, Row, load
from lstmrep.eval.stochastic import BestOf, best_of
from lstmrep.eval.videos import VideoScores, fuse, score_videos

__all__ = [
    "BestOf",
    "PooledAccuracy",
    "Report",
    "Row",
    "VideoScores",
    "best_of",
    "class_accuracy",
    "clip_accuracy",
    "confusion",
    "copy_last",
    "cross_entropy",
    "displacement",
    "entropy",
    "evaluate",
    "flops_per_clip",
    "fuse",
    "half_squared_error",
    "linear_motion",
    "load",
    "lpips",
    "mae",
    "mean_frame",
    "mean_pixel",
    "mse",
    "parameters",
    "pool",
    "pooled_accuracy",
    "psnr",
    "recompute",
    "score_videos",
    "squared_error",
    "ssim",
    "windows",
]
