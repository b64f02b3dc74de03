"""Training: configuration, optimizers, the loop, checkpoints, exact resume."""

from lstmrep.train.checkpoint import Checkpoint, CheckpointError, load_weights
from lstmrep.train.config import Config, OptimizerConfig, TrainConfig, load
from lstmrep.train.fit import fit
from lstmrep.train.guard import NotFiniteError
from lstmrep.train.history import read_history
from lstmrep.train.optimizers import VelocityRMSProp, VelocitySGD
from lstmrep.train.trainer import Result, Trainer

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Config",
    "NotFiniteError",
    "OptimizerConfig",
    "Result",
    "TrainConfig",
    "Trainer",
    "VelocityRMSProp",
    "VelocitySGD",
    "fit",
    "load",
    "load_weights",
    "read_history",
]
