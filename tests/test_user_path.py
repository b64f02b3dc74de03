"""A user's way through the library, from a tree of small videos to figures, with every stage killed and started again.

Each stage is a command in a process of its own. It is killed by SIGKILL at some moment in its middle, started again,
and must leave the same files as where it was never killed: byte for byte, but for times that are part of them. What a
killed writer leaves hidden (lstmrep.files.replacing) is no result.
"""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from video_files import moving_square, write_video

import lstmrep

for need in ("av", "safetensors", "PIL", "matplotlib"):
    if importlib.util.find_spec(need) is None:
        pytest.skip(f"{need} is not installed", allow_module_level=True)

SMALL = ["model.hidden_size=8", "train.batch_size=4", "train.max_iters=12", "train.print_every=2"]
SMALL += ["train.validate_every=4", "train.validation_batches=1", "train.save_every=2"]
DATA = ["data.root=features", "model.input_size=6"]
HEADS = ["model.reconstruct=4", "model.predict=3", "data.num_frames=7"]
CLASSES = ["model.num_classes=2", "data.num_frames=7"]
FEW = ["--encoder", "none", "pretrained=pretrained", "--labels", "1", "2", "--resamplings", "2"]
# Of each stage: the command, what a second start adds, a file that shows that it is in its middle, and its results.
STAGES = {
    "extract": (
        ["extract", "videos", "--encoder", "projection", "--size", "6", "--labels", "--out", "features"],
        [],
        "features/num_frames.txt",
        ["features"],
    ),
    "pretrain": (
        ["train", "percepts_small", *DATA, *SMALL, *HEADS, "--out", "pretrained"],
        ["--resume"],
        "pretrained/checkpoints/step-00000004.safetensors",
        ["pretrained/model", "pretrained/history.jsonl"],
    ),
    "finetune": (
        [
            "train",
            "actions_small",
            "data.root=features",
            *SMALL,
            *CLASSES,
            "model.encoder=pretrained",
            "--out",
            "tuned",
        ],
        ["--resume"],
        "tuned/checkpoints/step-00000004.safetensors",
        ["tuned/model", "tuned/history.jsonl"],
    ),
    "eval": (["eval", "tuned"], [], "tuned/eval-test/probabilities.npy", ["tuned/eval-test"]),
    "transfer": (
        ["transfer", "actions_small", *DATA, *SMALL, *CLASSES, "train.validate_every=0", *FEW, "--out", "few"],
        [],
        "few/results.csv",
        ["few"],
    ),
    "figures": (["figures", "labels", "--results", "few/results.csv", "--out", "figures"], [], "figures", ["figures"]),
}
# Half a second after every file that is renamed into place, every update and every video: time to be killed in.
SLOW = """
import sys, time
from lstmrep import files
from lstmrep.data import store
from lstmrep.train import update
def slow(owner, name):
    own = getattr(owner, name)
    def after(*a, **k):
        out = own(*a, **k)
        time.sleep(0.3)
        return out
    setattr(owner, name, after)
slow(store.StoreWriter, "append"); slow(update.Update, "__call__"); slow(files.os, "replace")
from lstmrep.cli import main
sys.exit(main(sys.argv[1:]))
"""


def environment():
    path = [str(Path(lstmrep.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join(path)}


def run(words, folder):
    done = subprocess.run(
        [sys.executable, "-m", "lstmrep", *words],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


def killed(words, folder, shown):
    """Start a command slowly and kill it as soon as the file that shows its middle is there."""
    child = subprocess.Popen(
        [sys.executable, "-c", SLOW, *words], cwd=folder, env=environment(), stdout=subprocess.DEVNULL
    )
    try:
        while not (folder / shown).exists() or not middle(folder / shown):
            assert child.poll() is None, f"{words} ended before it could be killed"
            time.sleep(0.01)
    finally:
        os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL


def middle(path):
    """A list has entries, but for the folder and files that are written at once."""
    return path.suffix not in (".txt", ".csv") or path.read_text().count("\n") >= 2


def contents(folder, names):
    found = {}
    for name in names:
        path = folder / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and not file.name.startswith("."):
                found[str(file.relative_to(folder))] = re.sub(rb'"seconds": [\d.e-]+', b"", file.read_bytes())
    return found


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two copies of one tree: of the way that is never disturbed, and of the other."""
    made = tmp_path_factory.mktemp("undisturbed"), tmp_path_factory.mktemp("killed")
    for folder in made:
        for k in range(16):
            kind = ("left", "right")[k % 2]
            frames = moving_square(12 + k % 3, seed=k)
            write_video(folder / "videos" / kind / f"v_{kind}_g{k:02d}_c01.mkv", frames[:: 1 - 2 * (k % 2)])
    return made


@pytest.mark.parametrize("stage", STAGES)
def test_killed_in_its_middle_and_started_again(folders, stage):
    undisturbed, other = folders
    words, again, shown, results = STAGES[stage]
    run(words, undisturbed)
    wanted = contents(undisturbed, results)
    assert wanted
    killed(words, other, shown)
    assert contents(other, results) != wanted, "it was killed too late"
    run([*words, *again], other)
    assert contents(other, results) == wanted


def test_the_way_led_somewhere(folders):
    for folder in folders:
        assert np.load(folder / "tuned" / "eval-test" / "probabilities.npy").shape[1] == 2
        assert (folder / "few" / "results.csv").read_text().count("\n") == 9
        assert (folder / "figures" / "labels.png").stat().st_size > 1000
