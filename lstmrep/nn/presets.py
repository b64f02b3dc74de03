"""Configurations of the paper, of its released code and of a later paper that re-ran the model, by name.

Each is a set of constructor arguments; parameter counts are tested. The paper and its code disagree in places, which
docs/original.md lists; names say whose configuration it is where that matters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_DIGITS = {"input_size": 64 * 64, "hidden_size": 2048}
_BOTH = {"conditional_reconstruction": True, "conditional_future": True}

COMPOSITE: dict[str, dict[str, Any]] = {
    # Released code: 167,823,360 parameters.
    "mnist_1layer": {**_DIGITS, **_BOTH},
    # Released code: 268,529,664.
    "mnist_2layer": {**_DIGITS, **_BOTH, "num_layers": 2},
    # The authors' earlier code, whose log reaches the paper's loss: 100,714,496.
    "mnist_1layer_unconditional": {**_DIGITS, "handover": "copy"},
    # The FC-LSTM-2048-2048 that the ConvLSTM paper compares with: 142,667,776.
    "fc_lstm": {**_DIGITS, "num_layers": 2, "reconstruct": 0},
    # Released code, 32x32 colour patches: 138,461,184.
    "patches_1layer": {"input_size": 32 * 32 * 3, "hidden_size": 2048, **_BOTH, "output": "gaussian"},
    # The paper's patches: 16 frames in, 16 told again, 13 predicted.
    "patches_paper": {
        "input_size": 32 * 32 * 3,
        "hidden_size": 2048,
        "output": "gaussian",
        "reconstruct": 16,
        "predict": 13,
    },
    # The paper's model for action recognition: fc6 features, two layers.
    "percepts": {
        "input_size": 4096,
        "hidden_size": 2048,
        "num_layers": 2,
        "output": "relu",
        "reconstruct": 16,
        "predict": 13,
    },
}

CLASSIFIER: dict[str, dict[str, Any]] = {
    # Released code, UCF-101: 50,552,933 parameters.
    "ucf101_1layer": {"input_size": 4096, "hidden_size": 2048, "num_classes": 101},
    "hmdb51_1layer": {"input_size": 4096, "hidden_size": 2048, "num_classes": 51},
}


def arguments(table: Mapping[str, dict[str, Any]], name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a preset with some replaced.

    Raises:
        ValueError: there is no preset of this name; the message lists them.
    """
    if name not in table:
        raise ValueError(f"lstmrep.nn.presets: preset {name!r} is not known; choose one of {', '.join(table)}.")
    return {**table[name], **options}
