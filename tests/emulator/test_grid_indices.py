"""Indices of the grid-resident kernels at the largest sizes, which are too many threads to emulate."""

from __future__ import annotations

import subprocess

import emulated
import pytest

SOURCE = emulated.FOLDER / "grid_indices.cpp"

pytestmark = pytest.mark.skipif(bool(emulated.reason()), reason=emulated.reason() or "the emulator can be built")


@pytest.mark.parametrize("row_tiles", [1, 2])
@pytest.mark.parametrize("rows", [1, 80, 100, 128])
@pytest.mark.parametrize("h", [100, 2048, 4096])
def test_every_element_has_one_place(h, rows, row_tiles):
    program = emulated.build("plain", [SOURCE])
    done = subprocess.run([program, str(h), str(rows), str(row_tiles)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "sound\n", "")
