"""Loads the compiled module once and keeps the reason when it cannot be loaded.

``module()`` is the only way the rest of the package reaches ``lstmrep._native``; ``reason()`` is the sentence that
``lstmrep info`` and the planner print when it is missing.
"""

from __future__ import annotations

import functools
from types import ModuleType

from lstmrep import env


@functools.cache
def _load() -> tuple[ModuleType | None, str]:
    try:
        from lstmrep import _native
    except ImportError as error:
        return None, (
            f"the compiled module lstmrep._native could not be imported ({error}); "
            "reinstall with a C++ compiler present: pip install --force-reinstall ."
        )
    from lstmrep import __version__

    if _native.version != __version__:
        return None, (
            f"the compiled module is version {_native.version} but the package is {__version__}; "
            "reinstall: pip install --force-reinstall ."
        )
    wanted = env.cpu_isa()
    if wanted:
        if wanted not in _native.cpu_isas_usable():
            return None, (
                f"LSTMREP_CPU_ISA={wanted!r} is not usable here; "
                f"set it to one of {', '.join(_native.cpu_isas_usable())} or unset it"
            )
        _native.set_cpu_isa(wanted)
    return _native, ""


def module() -> ModuleType:
    """The compiled module.

    Raises:
        RuntimeError: it is not there; the message says why and what to do.
    """
    loaded, why = _load()
    if loaded is None:
        raise RuntimeError(f"lstmrep: {why}")
    return loaded


def reason() -> str:
    """``""`` when the compiled module is loaded, otherwise one sentence that says why it is not."""
    return _load()[1]


def reset() -> None:
    """Forget the outcome of the load (for tests that change the environment)."""
    _load.cache_clear()
