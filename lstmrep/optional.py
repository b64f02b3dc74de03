"""Packages that only some parts need: imported at use, with one sentence on how to get them."""

from __future__ import annotations

import importlib
from typing import Any

# Where a module's package goes by another name.
PACKAGES = {"sklearn": "scikit-learn", "skimage": "scikit-image", "PIL": "pillow", "cv2": "opencv-python-headless"}


def package(name: str, caller: str, extra: str) -> Any:
    """Import ``name``.

    Args:
        name: the module, dotted where only a part is meant.
        caller: who needs it, for the message.
        extra: the extra of this library that installs it.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        top = name.split(".")[0]
        needed = PACKAGES.get(top, top)
        raise ImportError(
            f"{caller}: this needs the package {needed}; run pip install {needed}, or install lstmrep with its "
            f"extra [{extra}]."
        ) from error
