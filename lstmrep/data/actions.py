"""Official divisions of action data sets: which videos of UCF-101 and HMDB-51 are for training, which for testing, and
the class of each.

A video goes by its class's folder and its file's name without the suffix, ``ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01``.
Labels follow names, never the order of a list or of a folder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lstmrep.data.arguments import one_of, real, whole
from lstmrep.data.random import WORD, Key, Purpose, permutation
from lstmrep.data.sources import SPLITS

CALLER = "lstmrep.data.actions"
FOLDS = 3
# In HMDB-51's lists: 1 is for training, 2 for testing, 0 for neither.
TRAIN, TEST, NEITHER = "1", "2", "0"


@dataclass(frozen=True)
class Annotations:
    """A fold of an official division.

    Attributes:
        classes: names, in the order of their labels.
        train: video -> label, of the training list.
        test: video -> label, of the test list.
    """

    classes: tuple[str, ...]
    train: dict[str, int]
    test: dict[str, int]


def read_annotations(folder: str | Path, fold: int = 1) -> Annotations:
    """The official division in a folder: UCF-101's or HMDB-51's, known by its files.

    Args:
        folder: with ``classInd.txt``, ``trainlist01.txt`` and ``testlist01.txt`` (ucfTrainTestlist), or with
            ``<class>_test_split1.txt`` of every class (testTrainMulti_7030_splits).
        fold: 1, 2 or 3.

    Returns:
        Its classes and lists.

    Raises:
        FileNotFoundError: the folder has neither.
        ValueError: a list contradicts itself; the message names the line.
    """
    folder = Path(folder)
    fold = whole(CALLER, "fold", fold, 1, FOLDS)
    if (folder / "classInd.txt").is_file():
        return _ucf101(folder, fold)
    lists = sorted(folder.glob(f"*_test_split{fold}.txt"))
    if lists:
        return _hmdb51(lists, fold)
    raise FileNotFoundError(
        f"{CALLER}: {folder} has neither classInd.txt (UCF-101) nor *_test_split{fold}.txt (HMDB-51); pass the folder "
        "of the official lists."
    )


def key_of(name: str) -> str:
    """What a video goes by: its class's folder and its name without the suffix, wherever the folder lies.

    >>> key_of("videos/run/some.clip.avi")
    'run/some.clip'
    """
    path = PurePosixPath(name)
    return "/".join([*path.parts[:-1][-1:], re.sub(r"\.\w{2,4}$", "", path.name)])


def labelled(names: Sequence[str], wanted: dict[str, int], where: str, partly: bool = False) -> dict[int, int]:
    """Videos of a list among those that there are.

    Args:
        names: of the videos that there are.
        wanted: video -> label, from :func:`read_annotations`.
        where: what the names belong to, for the message.
        partly: whether videos of the list may be missing.

    Returns:
        Number of the video -> label, in the order of ``names``.

    Raises:
        ValueError: a video of the list is not there, or is there twice.
    """
    places: dict[str, int] = {}
    for k, name in enumerate(names):
        key = key_of(name)
        if key in places:
            raise ValueError(
                f"{CALLER}: {where} has {names[places[key]]} and {name}, which go by one name in the official lists; "
                "leave one out."
            )
        places[key] = k
    absent = [video for video in wanted if video not in places]
    if absent and not partly:
        raise ValueError(
            f"{CALLER}: {where} lacks {len(absent)} of the {len(wanted)} videos of the official list, such as "
            f"{absent[0]}; extract them too, or list those to use with 'ids'."
        )
    return {places[video]: wanted[video] for video in sorted(set(wanted) - set(absent), key=places.__getitem__)}


def hold_out(names: Sequence[str], share: float, seed: int) -> list[bool]:
    """Which training videos are for validation: whole groups, whose videos are cut from one recording.

    Args:
        names: of the training videos. UCF-101's ``_gNN`` tells the group, HMDB-51's name before its last number.
        share: of the groups of a class that is held out, 0 to 1; at least one of two or more, unless it is 0.
        seed: of the draw.

    Returns:
        One truth value a video.
    """
    share = real(CALLER, "valid_share", share, 0, 1)
    belongs = [_group(name) for name in names]
    groups: dict[str, set[str]] = {}
    for kind, group in belongs:
        groups.setdefault(kind, set()).add(group)
    held: set[tuple[str, str]] = set()
    for number, kind in enumerate(sorted(groups)):
        members = sorted(groups[kind])
        count = min(len(members) - 1, max(1, round(share * len(members)))) if share else 0
        order = permutation(Key(seed, number), Purpose.HOLD_OUT, 0, len(members))
        held |= {(kind, members[k]) for k in order[:count]}
    return [one in held for one in belongs]


def of_each_class(labels: Sequence[int], per_class: int, seed: int, resampling: int = 0) -> list[int]:
    """So many of every class, drawn without replacement; with more, those drawn before are among them.

    Args:
        labels: the class of every example.
        per_class: k of each.
        seed: of the draw.
        resampling: which draw.

    Returns:
        Places in ``labels``, ascending.

    Raises:
        ValueError: a class has fewer.
    """
    whole(CALLER, "per_class", per_class, 1)
    whole(CALLER, "resampling", resampling, 0, WORD - 1)
    chosen: list[int] = []
    for label in sorted(set(labels)):
        members = [k for k, one in enumerate(labels) if one == label]
        if len(members) < per_class:
            raise ValueError(
                f"{CALLER}: argument 'per_class' is {per_class}, and class {label} has {len(members)} examples; pass "
                "fewer."
            )
        order = permutation(Key(seed, label), Purpose.SUBSET, resampling, len(members))
        chosen += [members[k] for k in order[:per_class]]
    return sorted(chosen)


def divided(
    names: Sequence[str],
    annotations: Annotations,
    split: str,
    where: str,
    *,
    valid_share: float,
    seed: int,
    partly: bool = False,
) -> dict[int, int]:
    """Number -> label of a split's videos; validation videos come out of the training list.

    Args:
        names, where, partly: as of :func:`labelled`.
        annotations: the official lists.
        split: ``"train"``, ``"valid"`` or ``"test"``.
        valid_share, seed: as ``share`` and ``seed`` of :func:`hold_out`.
    """
    one_of(CALLER, "split", split, SPLITS)
    if split == "test":
        return labelled(names, annotations.test, where, partly)
    found = labelled(names, annotations.train, where, partly)
    held = hold_out([names[k] for k in found], valid_share, seed)
    return {k: label for (k, label), out in zip(found.items(), held, strict=True) if out == (split == "valid")}


def _group(name: str) -> tuple[str, str]:
    """The class and the group of a video."""
    kind, _, stem = key_of(name).rpartition("/")
    ucf = re.fullmatch(r"(.+_g\d+)_c\d+", stem)
    return kind, ucf[1] if ucf else re.sub(r"_\d+$", "", stem)


def _ucf101(folder: Path, fold: int) -> Annotations:
    numbers: dict[str, int] = {}
    for line, (number, name) in _words(folder / "classInd.txt", 2):
        if not number.isdigit() or int(number) != len(numbers) + 1:
            raise ValueError(f"{CALLER}: {line} is not class {len(numbers) + 1}; expected classes counted from 1.")
        numbers[name] = len(numbers)
    train: dict[str, int] = {}
    for line, (video, label) in _words(folder / f"trainlist{fold:02d}.txt", 2):
        kind = PurePosixPath(video).parts[0]
        if numbers.get(kind) != int(label) - 1 if label.isdigit() else True:
            raise ValueError(f"{CALLER}: {line} gives class {label} to a video of {kind}; classInd.txt says otherwise.")
        train[key_of(video)] = int(label) - 1
    test: dict[str, int] = {}
    for line, (video, *_) in _words(folder / f"testlist{fold:02d}.txt", 1):
        kind = PurePosixPath(video).parts[0]
        if kind not in numbers:
            raise ValueError(f"{CALLER}: {line} is of a class that classInd.txt does not have.")
        test[key_of(video)] = numbers[kind]
    return _whole(Annotations(tuple(numbers), train, test), folder)


def _hmdb51(lists: list[Path], fold: int) -> Annotations:
    classes = [path.name.removesuffix(f"_test_split{fold}.txt") for path in lists]
    train: dict[str, int] = {}
    test: dict[str, int] = {}
    for label, (kind, path) in enumerate(zip(classes, lists, strict=True)):
        for line, (video, tag) in _words(path, 2):
            if tag not in (TRAIN, TEST, NEITHER):
                raise ValueError(f"{CALLER}: {line} has the tag {tag}, expected 0, 1 or 2.")
            if tag != NEITHER:
                (train if tag == TRAIN else test)[key_of(f"{kind}/{video}")] = label
    return _whole(Annotations(tuple(classes), train, test), lists[0].parent)


def _words(path: Path, least: int) -> list[tuple[str, list[str]]]:
    """Each line's place and its words."""
    if not path.is_file():
        raise FileNotFoundError(f"{CALLER}: no file {path}; the folder of the official lists has it.")
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        words = line.split()
        if words and len(words) < least:
            raise ValueError(f"{CALLER}: {path}, line {number} is {line!r}, expected {least} words.")
        if words:
            found.append((f"{path}, line {number} ({line!r})", words))
    return found


def _whole(found: Annotations, folder: Path) -> Annotations:
    both = set(found.train) & set(found.test)
    if both:
        raise ValueError(f"{CALLER}: {folder} has {sorted(both)[0]} in the training list and in the test list.")
    return found
