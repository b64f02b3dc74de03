"""The paper's main claim in miniature: an encoder pretrained without labels is worth most where labels are few.

Where a glyph is heading after 8 frames, one of four quadrants, from so many labelled clips of each; chance is 0.25.
Thresholds are in points of accuracy, means over 4 resamplings that differ in examples, start and order.
"""

import json

import pytest
from test_cli_transfer import rows, words

from lstmrep.cli import main

pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("sklearn", reason="scikit-learn is not installed")

# The paper's variants; a shorter training than that of the configuration shows their order to the classifier already.
VARIANTS = {
    "autoencoder": ["model.predict=0", "data.num_frames=8"],
    "conditional-autoencoder": ["model.predict=0", "data.num_frames=8", "model.conditional_reconstruction=true"],
    "future": ["model.reconstruct=0"],
    "conditional-future": ["model.reconstruct=0", "model.conditional_future=true"],
    "composite-conditional": ["model.conditional_future=true"],
}
STEPS = 400
LABELS = (4, 16, 64)


def transfer(out, encoders, labels, *more):
    """Mean accuracy in points by (encoder, labels)."""
    named = [f"{name}={folder}" for name, folder in encoders.items()]
    call = words("transfer", "toy_heading", *more, "--encoder", "none", *named, "--labels", *labels, "--out", out)
    assert main(call) == 0
    found = {}
    for row in rows(out):
        found.setdefault((row["task"], row["encoder"], row["labels"]), []).append(100 * float(row["accuracy"]))
    assert all(len(values) == 4 for values in found.values())
    return {key: sum(values) / 4 for key, values in found.items()}


@pytest.fixture(scope="module")
def composite(toy_run, tmp_path_factory):
    """Results of the composite model of the configuration 'toy', trained as it says."""
    out = tmp_path_factory.mktemp("transfer")
    return out, transfer(out, {"composite": toy_run}, LABELS)


def test_pretraining_is_worth_at_least_five_points_where_labels_are_few(composite):
    _, found = composite
    gains = {k: found["task", "composite", str(k)] - found["task", "none", str(k)] for k in LABELS}
    print("gains in points", gains)
    assert gains[4] >= 5 and gains[16] >= 5 and gains[64] > 0


def test_the_figure_of_accuracy_against_labels(composite, tmp_path):
    out, _ = composite
    assert main(words("figures", "labels", "--results", out / "results.csv", "--out", tmp_path)) == 0
    lines = (tmp_path / "labels.csv").read_text().splitlines()
    assert lines[0].startswith("encoder,labels,mean,std,resamplings") and len(lines) == 1 + 2 * len(LABELS)
    assert (tmp_path / "labels.png").stat().st_size > 5000


def test_every_variant_of_pretraining_beats_a_random_start(composite, toy_run, tmp_path):
    encoders = {"composite": toy_run}
    for name, changes in VARIANTS.items():
        encoders[name] = tmp_path / name
        short = [f"train.max_iters={STEPS}", "train.validate_every=0", "train.save_every=0"]
        assert main(words("train", "toy", *changes, *short, "--out", encoders[name])) == 0
    found = transfer(tmp_path / "results", encoders, (16,))
    scratch = found["task", "none", "16"]
    print({name: found["task", name, "16"] - scratch for name in encoders})
    assert all(found["task", name, "16"] > scratch for name in encoders)
    assert found["task", "composite", "16"] >= found["task", "autoencoder", "16"]


def test_pretraining_on_another_alphabet_helps_too(composite, toy_run):
    """Unrelated data: glyphs that the encoder never saw."""
    out, _ = composite
    more = ["data.digit_seed=1", "--task", "other-alphabet"]
    found = transfer(out, {"composite": toy_run}, (4,), *more)
    assert found["other-alphabet", "composite", "4"] > found["other-alphabet", "none", "4"]


def test_one_frame_alone_does_not_tell(composite, tmp_path):
    """Where a glyph is does not say where it is heading: a softmax of the last frame is at chance, within 5 points.

    The frames before do say something: one that was at the left wall is heading right.
    """
    frame = ["model.input_size=144", "model.num_classes=4", "data.name=moving_mnist", "data.source=glyphs"]
    frame += ["data.canvas=12", "data.num_digits=1", "data.num_frames=8", "data.labels=heading"]
    frame += ["model.pooling=last"]
    config = tmp_path / "frame.toml"
    config.write_text("[train]\nmax_iters = 200\nvalidate_every = 0\n")
    assert main(words("train", config, *frame, "data.per_class=64", "--out", tmp_path / "frame")) == 0
    assert main(words("eval", tmp_path / "frame")) == 0
    told = json.loads((tmp_path / "frame" / "eval-test" / "scores.json").read_text())
    assert abs(told["accuracy"] - 0.25) <= 0.05
    _, found = composite
    assert found["task", "none", "64"] > 100 * told["accuracy"] + 5
