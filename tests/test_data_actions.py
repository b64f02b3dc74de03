"""Official divisions: the right members, the right labels, and what is said where lists contradict."""

import random

import pytest
from percept_files import hmdb51, ucf101

from lstmrep.data import actions
from lstmrep.data.actions import Annotations, divided, hold_out, key_of, labelled, of_each_class, read_annotations

CLASSES = ("Zumba", "Archery", "HandstandPushups")  # not in the order of the alphabet
UCF = [f"{kind}/v_{kind}_g{g:02d}_c{c:02d}.avi" for kind in CLASSES for g in (1, 2, 3, 4) for c in (1, 2)]
TRAIN = [video for video in UCF if "_g04_" not in video]
TEST = [video for video in UCF if "_g04_" in video]


@pytest.fixture
def official(tmp_path):
    return ucf101(tmp_path / "lists", TRAIN, TEST, CLASSES)


def test_ucf101(official):
    found = read_annotations(official)
    assert found.classes == CLASSES
    assert list(found.train) == [key_of(v) for v in TRAIN] and list(found.test) == [key_of(v) for v in TEST]
    for video, label in {**found.train, **found.test}.items():
        assert CLASSES[label] == video.split("/")[0]


def test_folds_are_told_apart(official):
    ucf101(official, TEST, TRAIN, CLASSES, fold=3)
    first, third = read_annotations(official, 1), read_annotations(official, 3)
    assert first.train == third.test and first.test == third.train
    with pytest.raises(FileNotFoundError, match=r"no file .*trainlist02\.txt"):
        read_annotations(official, 2)
    with pytest.raises(ValueError, match="argument 'fold' is 4, expected 1 to 3"):
        read_annotations(official, 4)


def test_hmdb51(tmp_path):
    tags = {
        "wave": {"one_wave_f_0.avi": 2, "two_wave_f_0.avi": 1},
        "brush_hair": {"a (1)_brush_hair_u_cm.avi.x_0.avi".replace(" ", "_"): 1, "b_brush_hair_0.avi": 0},
    }
    found = read_annotations(hmdb51(tmp_path / "lists", tags))
    assert found.classes == ("brush_hair", "wave")
    assert found.train == {"brush_hair/a_(1)_brush_hair_u_cm.avi.x_0": 0, "wave/two_wave_f_0": 1}
    assert found.test == {"wave/one_wave_f_0": 1}


def test_labels_follow_names_whatever_the_order_and_whatever_else_is_there(official):
    """Lists of labels beside lists of files went out of step in other loaders when files were left out."""
    found = read_annotations(official)
    names = [f"some/where/{video}".replace(".avi", ".mp4") for video in UCF] + ["Extra/v_Extra_g01_c01.avi"]
    for seed in range(5):
        random.Random(seed).shuffle(names)
        for wanted in (found.train, found.test):
            got = labelled(names, wanted, "here")
            assert sorted(key_of(names[k]) for k in got) == sorted(wanted)
            assert all(CLASSES[label] == names[k].split("/")[2] for k, label in got.items())
            assert list(got) == sorted(got)


def test_what_is_missing_is_named(official):
    found = read_annotations(official)
    names = [video for video in UCF if video != TRAIN[5]]
    with pytest.raises(
        ValueError, match=f"here lacks 1 of the 18 videos of the official list, such as {key_of(TRAIN[5])}"
    ):
        labelled(names, found.train, "here")
    assert len(labelled(names, found.train, "here", partly=True)) == 17
    with pytest.raises(ValueError, match=r"which go by one name in the official lists; leave one out"):
        labelled([*UCF, UCF[0].replace(".avi", ".mp4")], found.train, "here")


def test_recordings_are_never_divided_between_training_and_validation(official):
    found = read_annotations(official)
    parts = {s: divided(UCF, found, s, "here", valid_share=0.3, seed=5) for s in ("train", "valid", "test")}
    groups = {s: {UCF[k].rsplit("_c", 1)[0] for k in part} for s, part in parts.items()}
    assert not groups["train"] & groups["valid"] and not (groups["train"] | groups["valid"]) & groups["test"]
    assert sorted([*parts["train"], *parts["valid"], *parts["test"]]) == list(range(len(UCF)))
    # One group of three in every class.
    assert sorted(parts["valid"].values()) == [0, 0, 1, 1, 2, 2]
    assert parts["valid"] == divided(UCF, found, "valid", "here", valid_share=0.3, seed=5)
    drawn = {tuple(divided(UCF, found, "valid", "here", valid_share=0.3, seed=s)) for s in range(6)}
    assert len(drawn) > 1
    assert not any(hold_out(TRAIN, 0.0, 5))
    assert sum(hold_out(["a/x_1.avi", "a/x_2.avi"], 0.5, 0)) == 0  # one recording alone is trained on


@pytest.mark.parametrize("k", [1, 4, 10])
def test_exactly_so_many_of_every_class(k):
    labels = random.Random(0).choices(range(3), k=100)
    chosen = of_each_class(labels, k, seed=3)
    assert [sum(labels[i] == c for i in chosen) for c in range(3)] == [k] * 3 and len(set(chosen)) == 3 * k
    assert chosen == of_each_class(labels, k, seed=3)
    assert chosen != of_each_class(labels, k, seed=3, resampling=1)
    assert set(chosen) <= set(of_each_class(labels, k + 2, seed=3)), "fewer are among more"
    with pytest.raises(ValueError, match=r"argument 'per_class' is 90, and class 0 has \d+ examples; pass fewer"):
        of_each_class(labels, 90, seed=3)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("classInd.txt", "1 A\n3 B\n", "is not class 2; expected classes counted from 1"),
        ("classInd.txt", "1\n", r"line 1 is '1', expected 2 words"),
        (
            "trainlist01.txt",
            "Archery/v_a_g01_c01.avi 1\n",
            "gives class 1 to a video of Archery; classInd.txt says other",
        ),
        ("trainlist01.txt", "Archery/v_a_g01_c01.avi x\n", "gives class x to a video of Archery"),
        ("testlist01.txt", "Yoga/v_a_g01_c01.avi\n", "is of a class that classInd.txt does not have"),
        ("testlist01.txt", TRAIN[0], "in the training list and in the test list"),
    ],
)
def test_lists_that_contradict(official, file, text, said):
    (official / file).write_text(text)
    with pytest.raises(ValueError, match=said):
        read_annotations(official)


def test_other_folders_and_tags(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has neither classInd\.txt"):
        read_annotations(tmp_path)
    with pytest.raises(ValueError, match="has the tag 3, expected 0, 1 or 2"):
        read_annotations(hmdb51(tmp_path / "lists", {"wave": {"a_wave_0.avi": 3}}))
    with pytest.raises(ValueError, match="argument 'split' is 'dev'"):
        divided([], Annotations((), {}, {}), "dev", "here", valid_share=0.1, seed=0)
    assert actions.key_of("x.avi") == "x"
