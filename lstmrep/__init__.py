"""lstmrep: fused LSTM kernels with peephole connections behind torch modules.

The composite encoder-decoder and the action classifier of Srivastava, Mansimov and Salakhutdinov (ICML 2015,
arXiv 1502.04681) are built from :class:`lstmrep.LSTM`.
"""

from pkgutil import extend_path

# Started from a source checkout, this package is the checkout's; its compiled parts are the installed package's.
__path__ = extend_path(__path__, __name__)

__version__ = "0.1.0"

from lstmrep import ops
from lstmrep.check import check
from lstmrep.explain import explain
from lstmrep.info import show_config
from lstmrep.launches import count_launches
from lstmrep.nn import (
    LSTM,
    ActionClassifier,
    ClassifierConfig,
    ClassifierOutput,
    CompositeConfig,
    CompositeModel,
    CompositeOutput,
    FrameClassifier,
    State,
)
from lstmrep.plan import Machine, Plan, PlanError, Problem, plan

__all__ = [
    "LSTM",
    "ActionClassifier",
    "ClassifierConfig",
    "ClassifierOutput",
    "CompositeConfig",
    "CompositeModel",
    "CompositeOutput",
    "FrameClassifier",
    "Machine",
    "Plan",
    "PlanError",
    "Problem",
    "State",
    "check",
    "count_launches",
    "explain",
    "ops",
    "plan",
    "show_config",
]
