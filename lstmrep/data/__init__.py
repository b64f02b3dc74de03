"""Clips to train on: moving digits by the original's rules, digit sources, the fixed test file, crops of videos,
features of frames.

The class that stands in for torchvision's is in ``lstmrep.data.torchvision_compatible``.
"""

from lstmrep.data.dataset import ClipDataset
from lstmrep.data.digits import Digits, load_digits
from lstmrep.data.encoders import FrameEncoder, projection, vgg16
from lstmrep.data.excerpts import Excerpt, random_excerpts
from lstmrep.data.extraction import Extracted, FlowStacks, VideoFrames, extract
from lstmrep.data.few import FewClips
from lstmrep.data.fixed import SequenceFile
from lstmrep.data.moving import Clips, MovingMNIST
from lstmrep.data.patches import VideoPatches
from lstmrep.data.percepts import Percepts
from lstmrep.data.registry import make, names
from lstmrep.data.store import FeatureStore, StoreWriter

__all__ = [
    "ClipDataset",
    "Clips",
    "Digits",
    "Excerpt",
    "Extracted",
    "FeatureStore",
    "FewClips",
    "FlowStacks",
    "FrameEncoder",
    "MovingMNIST",
    "Percepts",
    "SequenceFile",
    "StoreWriter",
    "VideoFrames",
    "VideoPatches",
    "extract",
    "load_digits",
    "make",
    "names",
    "projection",
    "random_excerpts",
    "vgg16",
]
