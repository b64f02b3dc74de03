"""``lstmrep flow``: every video once, however often it is started and wherever it was killed."""

import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from video_files import moving_texture, write_pictures, write_video

from lstmrep.cli import flow as command
from lstmrep.cli import main
from lstmrep.data import flow
from lstmrep.data.flow import find_flow, read_flow
from lstmrep.data.video import find_videos

pytest.importorskip("cv2", reason="opencv-python-headless is not installed")
pytest.importorskip("av", reason="PyAV is not installed")
pytest.importorskip("PIL", reason="pillow is not installed")

FRAMES = {"g1/v2.mkv": 4, "g1/v10.mkv": 3, "g2/v1.mkv": 5, "stills": 3, "z.npy": 2}
# Started with the words of the command; kills itself at a point that the first word names.
KILLED = """
import os, signal, sys
from lstmrep.cli import flow as command, main
from lstmrep.data import flow

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    if sys.argv[1] == "in the third video":
        dis, pairs = flow._dis, []
        def counted():
            pair = dis()
            return lambda *frames: kill() if len(pairs) == 7 else (pairs.append(1), pair(*frames))[1]
        flow._dis = counted
    else:
        command._Progress.advance = lambda *said: kill()
    main(sys.argv[2:])
"""


def words(*arguments):
    return [str(a) for a in arguments]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A folder of every kind of video."""
    root = tmp_path_factory.mktemp("flow") / "videos"
    for k, (name, frames) in enumerate(FRAMES.items()):
        made = moving_texture(frames, (k - 2, 1), 24, 32, seed=k)
        if name.endswith(".mkv"):
            write_video(root / name, made)
        elif name.endswith(".npy"):
            np.save(root / name, made)
        else:
            write_pictures(root / name, made)
    return root


@pytest.fixture(scope="module")
def whole(videos):
    """Files of a run that nothing stopped, by their names."""
    out = videos.parent / "whole"
    assert main(words("flow", videos, "--out", out, "--resize", 48)) == 0
    return contents(out)


@pytest.fixture
def computed(monkeypatch):
    """Shapes of the frames whose flow was computed in this process."""
    calls, fields = [], flow.flow_fields
    monkeypatch.setattr(
        flow, "flow_fields", lambda frames, method: calls.append(frames.shape) or fields(frames, method)
    )
    return calls


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_every_video_has_its_flow(videos, tmp_path, computed, capsys):
    out = tmp_path / "flow"
    assert main(words("flow", videos, "--out", out, "--resize", 48, "--bound", 6, "--pictures", 2)) == 0
    said = capsys.readouterr()
    assert "videos    5: 0 there already (cache hit)\n" in said.out and "5 computed, 0 failed" in said.out
    assert re.search(r"^5/5  z\.npy$", said.err, re.MULTILINE)
    assert len(computed) == 5
    found = find_flow(out)
    assert [one.name for one in found] == [video.name for video in find_videos(videos)]
    for k, one in enumerate(found):
        data, bound = read_flow(one)
        assert bound == 6 and data.shape == (FRAMES[one.name] - 1, 48, 64, 2)
        # Frames are enlarged to twice their size, and so is their motion.
        moved = np.median(flow.from_bytes(np.array(data[:, 10:-10, 10:-10]), bound), axis=(0, 1, 2))
        assert (np.abs(moved - np.array([2 * (k - 2), 2])) < 0.5).all(), one.name
    assert sorted(p.name for p in (out / "pictures").iterdir()) == ["flow-000.png", "flow-001.png"]


def test_pictures_are_of_the_first_fields(videos, tmp_path):
    from PIL import Image

    assert main(words("flow", videos / "g1", "--out", tmp_path, "--resize", 0, "--pictures", 9)) == 0
    data, bound = read_flow(find_flow(tmp_path)[0])
    fields = flow.from_bytes(np.array(data), bound)
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert len(pictures) == len(fields) == 3 and fields.shape[1:3] == (24, 32)
    largest = float(np.hypot(fields[..., 0], fields[..., 1]).max())
    for path, field in zip(pictures, fields, strict=True):
        assert np.array_equal(np.asarray(Image.open(path)), flow.flow_image(field, largest))


def test_a_second_run_computes_nothing(videos, tmp_path, whole, computed, capsys):
    again = words("flow", videos, "--out", tmp_path, "--resize", 48)
    assert main(again) == 0 and len(computed) == 5
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    capsys.readouterr()
    assert main(again) == 0 and len(computed) == 5
    assert "videos    5: 5 there already (cache hit)" in capsys.readouterr().out
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    (tmp_path / "stills.npy").unlink()
    assert main(again) == 0
    assert len(computed) == 6 and contents(tmp_path) == whole


@pytest.mark.parametrize(("where", "workers"), [("in the third video", 1), ("after a video", 2)])
def test_a_killed_run_goes_on_where_it_was(where, workers, videos, tmp_path, whole, computed):
    """Its workers end with it: they hold the pipe, which this waits for."""
    (tmp_path / "killed.py").write_text(KILLED)
    out = tmp_path / "flow"
    arguments = words("flow", videos, "--out", out, "--resize", 48, "--workers", workers)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "killed.py"), where, *arguments], capture_output=True, check=False, timeout=120
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    there = contents(out)
    left = [name for name in there if os.path.basename(name).startswith(".")]
    ready = {name for name in there if name.endswith(".npy")} - set(left)
    assert all(there[name] == whole[name] for name in ready)
    if workers == 1:
        assert ready == {"g1/v2.mkv.npy", "g1/v10.mkv.npy"} and len(left) == 1
    assert main(arguments[:-2]) == 0
    assert len(computed) == 5 - len(ready) and contents(out) == whole


def test_workers_write_the_same_files(videos, tmp_path, whole):
    assert main(words("flow", videos, "--out", tmp_path, "--resize", 48, "--workers", 2)) == 0
    assert contents(tmp_path) == whole


@pytest.mark.parametrize("workers", [1, 2])
def test_what_cannot_be_computed_is_named_and_stops_nothing(workers, tmp_path, capsys):
    frames = moving_texture(3, (1, 0), 24, 32)
    write_video(tmp_path / "videos" / "a.mkv", frames[:1])
    (tmp_path / "videos" / "b.mp4").write_text("words " * 100)
    write_video(tmp_path / "videos" / "c.mkv", frames)
    np.save(tmp_path / "videos" / "d.npy", frames[:, :8])
    out = tmp_path / "flow"
    arguments = words("flow", tmp_path / "videos", "--out", out, "--resize", 0, "--workers", workers)
    for computed in (1, 0):
        assert main(arguments) == 1
        said = capsys.readouterr()
        assert f"{computed} computed, 3 failed" in said.out
        named = [line for line in said.err.splitlines() if line.startswith("failed")]
        assert len(named) == 3
        for sentence in (
            "a.mkv: lstmrep.data.flow: argument 'frames' has 1 frame, expected 2 or more",
            "b.mp4: lstmrep.data.video: ",
            "d.npy: lstmrep.data.flow: frames are 8x32, expected 16x16 or larger",
        ):
            assert any(sentence in line for line in named), named
    assert [one.name for one in find_flow(out)] == ["c.mkv"]


def test_nothing_but_damage(tmp_path, capsys):
    (tmp_path / "b.mp4").write_text("words " * 100)
    assert main(words("flow", tmp_path / "b.mp4", "--out", tmp_path / "flow", "--pictures", 2)) == 1
    assert "failed    b.mp4: " in capsys.readouterr().err


def test_other_settings_than_those_of_the_folder(videos, tmp_path, computed, capsys):
    assert main(words("flow", videos / "g2", "--out", tmp_path, "--resize", 48)) == 0
    before = contents(tmp_path)
    capsys.readouterr()
    for other, said in (
        (("--resize", 48, "--method", "tvl1"), "method dis, not tvl1"),
        (("--resize", 48, "--bound", 10), "bound 20.0, not 10.0"),
        ((), "resize 48, not 240"),
    ):
        assert main(words("flow", videos, "--out", tmp_path, *other)) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and said in error and error.count("\n") == 1
    assert contents(tmp_path) == before and len(computed) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--method", "brox"), "--method is 'brox', expected one of dis, tvl1"),
        (("--workers", 0), "--workers is 0, expected 1 or more"),
        (("--resize", -1), "--resize is -1, expected 0 or more"),
        (("--pictures", -1), "--pictures is -1, expected 0 or more"),
        (("--bound", 0), "argument 'bound' is 0, expected more than 0"),
        (("--bound", "nan"), "argument 'bound' is nan"),
    ],
)
def test_mistakes(arguments, sentence, videos, tmp_path, capsys):
    assert main(words("flow", videos, "--out", tmp_path / "flow", *arguments)) == 2
    error = capsys.readouterr().err
    assert sentence in error and error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "flow").exists()


def test_a_folder_among_the_videos_is_refused(videos, capsys):
    for inside in (videos, videos / "flow"):
        assert main(words("flow", videos, "--out", inside)) == 2
        assert "where it would be taken for videos" in capsys.readouterr().err
    assert not (videos / "flow").exists()


@pytest.mark.parametrize("name", ["cv2", "av"])
def test_without_a_package_one_sentence(name, videos, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, name, None)
    assert main(words("flow", videos, "--out", tmp_path / "flow")) == 2
    error = capsys.readouterr().err
    assert "this needs the package" in error and error.count("\n") == 1
    assert not list(tmp_path.rglob("*.npy"))


class TestProgress:
    def test_a_bar_on_a_terminal(self, monkeypatch, capsys):
        pytest.importorskip("tqdm", reason="tqdm is not installed")
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        progress = command._Progress(2)
        progress.advance("a.mkv", "")
        progress.advance("b.mkv", "")
        progress.close()
        assert "2/2" in capsys.readouterr().err

    def test_else_a_line_every_few_seconds_and_at_the_end(self, monkeypatch, capsys):
        clock = [0.0]
        monkeypatch.setattr(command.time, "monotonic", lambda: clock[0])
        progress = command._Progress(20)
        for k in range(20):
            clock[0] += 1
            progress.advance(f"v{k}", "damaged" if k == 9 else "")
        progress.close()
        lines = capsys.readouterr().err.splitlines()
        assert lines == ["5/20  v4", "10/20  v9: failed", "15/20  v14", "20/20  v19"]
