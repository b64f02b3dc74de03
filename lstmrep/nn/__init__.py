"""Modules: parameters, state_dict names, dropout and batch_first around ``lstmrep.ops``."""

from lstmrep.nn.classifier import ActionClassifier, ClassifierConfig, ClassifierOutput
from lstmrep.nn.composite import CompositeConfig, CompositeModel, CompositeOutput
from lstmrep.nn.frame_classifier import FrameClassifier, FrameClassifierConfig
from lstmrep.nn.lstm import LSTM
from lstmrep.nn.stack import State
from lstmrep.nn.vgg import VGG16

__all__ = [
    "LSTM",
    "VGG16",
    "ActionClassifier",
    "ClassifierConfig",
    "ClassifierOutput",
    "CompositeConfig",
    "CompositeModel",
    "CompositeOutput",
    "FrameClassifier",
    "FrameClassifierConfig",
    "State",
]
