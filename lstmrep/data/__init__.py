"""Clips to train on: moving digits by the original's rules, digit sources, the fixed test file, crops of videos.

The class that stands in for torchvision's is in ``lstmrep.data.torchvision_compatible``.
"""

from lstmrep.data.dataset import ClipDataset
from lstmrep.data.digits import Digits, load_digits
from lstmrep.data.fixed import SequenceFile
from lstmrep.data.moving import Clips, MovingMNIST
from lstmrep.data.patches import VideoPatches
from lstmrep.data.registry import make, names

__all__ = [
    "ClipDataset",
    "Clips",
    "Digits",
    "MovingMNIST",
    "SequenceFile",
    "VideoPatches",
    "load_digits",
    "make",
    "names",
]
