"""Pictures of predictions: filmstrips, animations, curves, a gallery page."""

from lstmrep.viz.animation import animation
from lstmrep.viz.curves import error_curve, training_curve
from lstmrep.viz.filmstrip import filmstrip
from lstmrep.viz.frames import Grid, to_image
from lstmrep.viz.gallery import gallery

__all__ = ["Grid", "animation", "error_curve", "filmstrip", "gallery", "to_image", "training_curve"]
