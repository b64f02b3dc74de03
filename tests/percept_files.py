"""Features and official lists for tests: every value tells its video and its frame."""

from pathlib import Path

import numpy as np

# Frames of the videos of `store`.
FRAMES = (20, 3, 17, 16, 40)


def features(video: int, frames: int, size: int = 6) -> np.ndarray:
    """float32 ``[frames, size]``: column 0 is the video, column 1 the frame, the others noise of the video's own."""
    made = np.random.default_rng(video).normal(size=(frames, size)).astype(np.float32)
    made[:, 0], made[:, 1] = video, np.arange(frames)
    return made


def original_folder(root: Path, frames=FRAMES, labels=None, size: int = 6, h5: bool = False) -> Path:
    """A folder as the released code reads it, written with numpy alone."""
    root.mkdir(parents=True)
    array = np.concatenate([features(k, n, size) for k, n in enumerate(frames)])
    if h5:
        import h5py

        with h5py.File(root / "features.h5", "w") as file:
            file["hidden6"] = array
            file["other"] = array[:3]
    else:
        np.save(root / "features.npy", array)
    (root / "num_frames.txt").write_text("\n".join(map(str, frames)))
    if labels is not None:
        (root / "labels.txt").write_text("\n".join(map(str, labels)) + "\n")
    return root


def ucf101(folder: Path, train, test, classes, fold: int = 1) -> Path:
    """``classInd.txt`` and the lists of a fold, as published: Windows' line ends, classes from 1."""
    folder.mkdir(parents=True, exist_ok=True)
    number = {name: k for k, name in enumerate(classes, 1)}
    (folder / "classInd.txt").write_bytes(b"".join(f"{k} {n}\r\n".encode() for n, k in number.items()))
    lines = [f"{video} {number[video.split('/')[0]]}\r\n" for video in train]
    (folder / f"trainlist0{fold}.txt").write_bytes("".join(lines).encode())
    (folder / f"testlist0{fold}.txt").write_bytes("".join(f"{video}\r\n" for video in test).encode())
    return folder


def hmdb51(folder: Path, tags, fold: int = 1) -> Path:
    """``<class>_test_split1.txt`` of every class; tags: class -> file -> 0, 1 or 2."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind, files in tags.items():
        text = "".join(f"{name} {tag} \n" for name, tag in files.items())
        (folder / f"{kind}_test_split{fold}.txt").write_text(text)
    return folder
