"""The figures of the paper, each as pictures, the numbers behind them, and a few lines on what they show."""

from lstmrep.figures.activity import Activity, activity
from lstmrep.figures.comparison import comparison
from lstmrep.figures.digits import digits
from lstmrep.figures.figure import Figure
from lstmrep.figures.filmstrip import filmstrip
from lstmrep.figures.gates import gates
from lstmrep.figures.input_features import input_features
from lstmrep.figures.labels import labels
from lstmrep.figures.output_features import output_features
from lstmrep.figures.rollout import rollout

__all__ = [
    "Activity",
    "Figure",
    "activity",
    "comparison",
    "digits",
    "filmstrip",
    "gates",
    "input_features",
    "labels",
    "output_features",
    "rollout",
]
