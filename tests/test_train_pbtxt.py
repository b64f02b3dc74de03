"""Configurations of the released code: the text format, the sections they become, the notes on what has no place.

The files are those of tests/original_files.py.
"""

import pytest
from original_files import (
    CLASSIFIER,
    COUNTS,
    DATASETS,
    MODELS,
    MOVING,
    Word,
    body,
    composite,
    composite_param,
    layer,
)
from percept_files import original_folder

import lstmrep
from lstmrep import data
from lstmrep.train import config
from lstmrep.train.pbtxt import load, parse


@pytest.fixture
def write(tmp_path):
    def made(fields, name="file"):
        path = tmp_path / f"{name}.pbtxt"
        path.write_text(fields if isinstance(fields, str) else body(fields))
        return path

    return made


def built(model):
    kind = lstmrep.ActionClassifier if "num_classes" in model else lstmrep.CompositeModel
    return kind(**model, device="meta")


@pytest.mark.parametrize("name", MODELS)
def test_a_released_model_is_built_with_its_count(name, write):
    loaded = load(write(MODELS[name]))
    model = built(loaded["model"])
    assert sum(p.numel() for p in model.parameters()) == COUNTS[name]
    # What is said is a config's: every name known, every value in range.
    config.from_dict(loaded.to_dict())


def test_sections_of_the_digits_model(write):
    loaded = load(
        write(MODELS["lstm_combo_1layer_mnist"]),
        write(DATASETS["bouncing_mnist"], "train"),
        write(DATASETS["bouncing_mnist_valid"], "valid"),
    )
    assert loaded["model"] == {
        "input_size": 4096,
        "hidden_size": 2048,
        "num_layers": 1,
        "reconstruct": 10,
        "predict": 10,
        "conditional_reconstruction": True,
        "conditional_future": True,
        "output": "bernoulli",
        "handover": "step",
        "cell": "tanh",
        "init": "original",
    }
    assert loaded["optimizer"] == {
        "name": "velocity_sgd",
        "lr": 0.0001,
        "momentum": 0.9,
        "weight_decay": 0.0001,
        "velocity_clip": 0.0001,
        "schedule": "step",
        "decay_factor": 0.9,
        "decay_after": 10000,
        "inert": True,
        "gradient_scale": 800.0,
    }
    assert loaded["train"] == {
        "max_iters": 10_000_000,
        "print_every": 100,
        "validate_every": 500,
        "save_every": 500,
        "batch_size": 80,
    }
    assert loaded["data"] == MOVING
    assert [note.split(":")[0] for note in loaded.notes] == [
        "The original's digits are MNIST",
        "checkpoint_dir is models",
        "The validation set is another dataset, {'name'",
    ]
    assert loaded.to_dict() == {name: loaded[name] for name in ("model", "data", "optimizer", "train")}


def test_the_config_loader_takes_it(write):
    read = config.load(write(MODELS["lstm_combo_1layer_mnist"]), ["train.max_iters=5"])
    assert (read.train.max_iters, read.optimizer.name, read.model["hidden_size"]) == (5, "velocity_sgd", 2048)


def test_patches_are_squared_error_and_two_files_of_one_dataset(write):
    loaded = load(
        write(MODELS["lstm_combo_1layer_ucf101_patches"]),
        write(DATASETS["ucf101_patches"], "train"),
        write(DATASETS["ucf101_patches_valid"], "valid"),
    )
    assert loaded["model"]["output"] == "gaussian"
    assert loaded["data"] == {
        "name": "sequence_file",
        "path": {"train": "ucf101_train_patches.npy", "valid": "ucf101_valid_patches.npy"},
        "layout": "rows",
        "frame_shape": [3, 32, 32],
    }
    assert loaded["optimizer"]["gradient_scale"] == 1000.0
    assert loaded.notes == ["checkpoint_dir is models: pass the folder of the run where it is started."]


def test_classifier(write):
    loaded = load(write(CLASSIFIER), write(DATASETS["ucf101_features"], "train"))
    expected = {"input_size": 4096, "hidden_size": 2048, "num_classes": 101, "num_layers": 1}
    assert loaded["model"] == {**expected, "dropout": 0.0, "cell": "tanh"}
    optimizer = loaded["optimizer"]
    assert (optimizer["momentum"], optimizer["velocity_clip"], optimizer["weight_decay"]) == (0.0, 0.0, 0.00001)
    assert optimizer["gradient_scale"] == 16 * 128
    assert loaded["data"] == {
        "name": "percepts",
        "root": ".",
        "num_frames": 16,
        "stride": 1,
        "labels": True,
        "everything": True,
        "dataset": "hidden6",
        "features_file": {"train": "features.h5"},
        "num_frames_file": {"train": "num_frames.txt"},
        "labels_file": {"train": "labels.txt"},
    }
    text = " ".join(loaded.notes)
    assert "lstm[0].w_diag have epsilon 0" in text
    assert "'weight_ih': uniform(0.001)" in text and "'head_weight': normal(0.001)" in text
    assert "'peephole': constant(0.0)" in text
    assert "save_after is 0" in text


def test_features_of_training_and_validation_are_read_from_their_own_files(write, tmp_path, monkeypatch):
    """The released code's classifier, from its model file and its data files to a step of training."""
    pytest.importorskip("h5py", reason="h5py is not installed")
    own = {}
    for split, labels in (("train", [0, 1, 2]), ("valid", [1, 0, 2])):
        original_folder(tmp_path / split, frames=[20, 16, 30], labels=labels, size=4096, h5=True)
        files = {"data_file": "features.h5", "labels_file": "labels.txt", "num_frames_file": "num_frames.txt"}
        fields = {**DATASETS["ucf101_features"], **{k: f"{split}/{name}" for k, name in files.items()}}
        own[split] = str(write(fields, split))
    monkeypatch.chdir(tmp_path)
    loaded = load(write(CLASSIFIER), own["train"], own["valid"])
    train, valid = (data.make(**{**loaded["data"], "split": split}) for split in ("train", "valid"))
    assert len(train) == len(valid) == 5 + 1 + 15
    assert train[5][1] == 1 and valid[5][1] == 0 and train[0][0].shape == (16, 4096)


def test_unlabelled_features_are_a_list_of_files(write):
    fields = {"dataset_type": Word("UNLABELLED"), "data_file": "list.txt", "num_frames_file": "n.txt", "num_frames": 29}
    loaded = load(write({**fields, "batch_size": 10, "stride": 2}))
    assert loaded["data"] == {
        "name": "percepts",
        "root": ".",
        "num_frames": 29,
        "stride": 2,
        "labels": False,
        "everything": True,
        "dataset": "hidden6",
        "features_file": "list.txt",
        "num_frames_file": "n.txt",
    }
    assert not loaded.notes


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_alone(name, write):
    loaded = load(write(DATASETS[name]))
    assert loaded["model"] == {} and loaded["optimizer"] == {}
    assert loaded["train"] == {"batch_size": DATASETS[name]["batch_size"]}
    if name == "bouncing_mnist":
        assert loaded["data"] == MOVING
    elif "features" in name:
        assert loaded["data"]["features_file"] == DATASETS[name]["data_file"] and not loaded.notes
    else:
        assert loaded["data"]["path"] == DATASETS[name]["data_file"]
        assert loaded["data"]["frame_shape"][0] == DATASETS[name].get("num_colors", 1)


def test_pretrained_names_its_entries(write):
    loaded = load(write(MODELS["lstm_combo_1layer_mnist_pretrained"]))
    (note,) = [n for n in loaded.notes if n.startswith("PRETRAINED")]
    assert "in lstm_combo_20151230175240.h5: lstm[0].w_dense from 'lstm_1_enc:w_dense'" in note
    assert note.count(" from ") == 4 + 6 + 6
    assert "init" not in loaded["model"]


def test_the_earlier_code(write):
    def param(name):
        bias = {"init_type": Word("LSTM_BIAS"), "forget_gate_bias": 5}
        return {**composite_param(name), **(bias if name == "b" else {}), "rms_prop": name != "b_output"}

    fields = composite(6, units=4, param=param, dec_seq_length=0, future_conditional=False, timestamp=["1", "2"])
    loaded = load(write(fields))
    model = loaded["model"]
    assert (model["handover"], model["reconstruct"], model["conditional_future"]) == ("copy", 0, False)
    assert loaded["optimizer"]["name"] == "velocity_rmsprop" and loaded["optimizer"]["rms_decay"] == 0.95
    assert loaded["optimizer"]["gradient_scale"] == 10.0
    text = " ".join(loaded.notes)
    for part in (
        "'bias': {'f': 5.0}",
        "rms_prop is False in lstm_future[0].b_output",
        "lstm_dec is there and dec_seq_length is 0",
        "lstm_future[0].w_input is there and future_conditional is false",
        "models/lstm_combo_2.h5",
        "earlier code",
    ):
        assert part in text, part
    assert sum(p.numel() for p in built(model).parameters()) == 4 * 4 * 6 + 2 * (4 * 4 * 4 + 7 * 4) + 6 * 4 + 6


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"output": "bernoulli", "handover": "step"}),
        ({"binary_data": False, "relu_data": True}, {"output": "relu"}),
        ({"squash_relu": True}, {"output": "squash", "squash": 2.0}),
        ({"squash_relu": True, "squash_relu_lambda": 3}, {"output": "squash", "squash": 3.0}),
        ({"decoder_copy_init_state": True, "future_copy_init_state": True}, {"handover": "copy"}),
        ({"decoder_copy_init_state": True, "dec_seq_length": 0}, {"handover": "step", "reconstruct": 0}),
        ({"future_seq_length": 5}, {"predict": 5, "reconstruction_weight": 2.0}),
    ],
)
def test_variants(fields, expected, write):
    loaded = load(write(composite(6, units=4, **fields)), write(DATASETS["bouncing_mnist"], "data"))
    assert {name: loaded["model"][name] for name in expected} == expected
    built(loaded["model"])


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"decoder_copy_init_state": True}, "decoder_copy_init_state and future_copy_init_state differ"),
        ({"display_after": 7}, "display_after is 7"),
        ({"print_after": 0}, "print_after is 0"),
        ({"only_mine": 3}, "only_mine = 3 is not a field known here"),
        ({"lstm": [layer("e", 6, 0, 4, input_dropprob=0.5)]}, "A dropprob is set"),
        ({"lstm": [layer("e", 6, 0, 4, w_extra=1)]}, "lstm[0].w_extra = 1 belongs to nothing"),
        (
            {"lstm": [layer("e", 6, 0, 4, param=lambda name: {**composite_param(name), "epsilon": 0.5})]},
            "epsilon is 0.5 in lstm[0].w_dense, lstm[0].w_diag, lstm[0].b, lstm[0].w_input",
        ),
        (
            {"lstm": [layer("e", 6, 0, 4, param=lambda name: {**composite_param(name), "l2_decay": 0.0001})]},
            "l2_decay is 0.0001 in lstm[0].b",
        ),
        (
            {"lstm": [layer("e", 6, 0, 4, param=lambda name: {**composite_param(name), "scale": 0.3})]},
            "lstm_dec[0].w_dense, lstm_future[0].w_dense start as uniform(0.01), other weight_hh as uniform(0.3)",
        ),
    ],
)
def test_what_has_no_place_is_noted(change, note, write):
    notes = load(write(composite(6, units=4, **change))).notes
    assert [n for n in notes if note in n], notes


def test_without_the_datasets_file_the_gradients_scale_is_noted(write):
    loaded = load(write(composite(6, units=4)))
    assert "gradient_scale" not in loaded["optimizer"]
    assert [n for n in loaded.notes if "optimizer.gradient_scale" in n]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_iters": "many"}, "field 'max_iters' is 'many', expected one whole number"),
        ({"binary_data": 2}, "field 'binary_data' is 2, expected one true or false"),
        ({"max_iters": [1, 2]}, "field 'max_iters' is given 2 times, expected one whole number"),
        ({"lstm": [3]}, "field 'lstm' is 3, expected a block in braces"),
        ({"lstm": [layer("e", 6, 0, 0)]}, r"field 'lstm\[0\].num_hid' is 0"),
        ({"lstm": [layer("e", 0, 0, 4)]}, "field 'lstm' has no input in its first layer"),
        ({"lstm": [layer("e", 6, 0, 4), layer("f", 5, 0, 4)]}, "layers of different sizes"),
        ({"lstm": [layer("e", 6, 0, 4, use_relu=True)]}, "use_relu in some layers"),
        ({"lstm_dec": [layer("d", 6, 6, 5)]}, "field 'lstm_dec' has 1 layers of 5 units, expected the encoder's 1"),
        ({"lstm_dec": [layer("d", 6, 7, 4)]}, "gives 7 values a frame, expected the encoder's 6"),
        ({"lstm_dec": [layer("d", 0, 6, 4)]}, "reads 0 values a frame, expected 6 for dec_conditional"),
        ({"lstm_dec": []}, "field 'lstm_dec' is missing"),
        ({"dec_seq_length": 0, "future_seq_length": 0}, "field 'lstm' has no output and there is no decoder"),
    ],
)
def test_a_model_that_cannot_be_is_one_sentence(change, message, write):
    with pytest.raises(ValueError, match=message) as raised:
        load(write(composite(6, units=4, **change)))
    assert str(raised.value).startswith("lstmrep.train.pbtxt.load: ") and "\n" not in str(raised.value)


def test_files_that_are_none(write, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        load(tmp_path / "absent.pbtxt")
    (tmp_path / "binary.pbtxt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is not text"):
        load(tmp_path / "binary.pbtxt")
    with pytest.raises(ValueError, match=r"file.pbtxt: line 2, column 3: found 'x' where ':' or a block follows 'b'"):
        load(write("a: 1\nb x"))
    dataset = write(DATASETS["bouncing_mnist"], "data")
    with pytest.raises(ValueError, match="is no model file"):
        load(dataset, dataset)
    with pytest.raises(ValueError, match="image_size"):
        load(write({"dataset_type": Word("VIDEO_PATCH")}))


# The text format


def test_a_text_of_every_form():
    text = """
        # a comment
        name: "a \\"b\\" \\x41\\101\\u00e9" 'c'  # adjacent texts are one
        whole: -12, hexadecimal: 0x1F; octal: 017
        real: 1e-4 single: 2.5f dot: .5 low: -inf none: nan
        yes: true no: False word: BOUNCING_MNIST
        inner { deep < x: 1 > } inner: { x: 2 }
        apart : 4
        several: [1, 2, 3] blocks: [{a: 1}, {a: 2}] one: [7]
        lstm { num_hid: 4 }
        empty {}
    """
    found = parse(text)
    assert found.pop("none") != 0.0
    assert found == {
        "name": 'a "b" AA\u00e9c',
        "whole": -12,
        "hexadecimal": 31,
        "octal": 15,
        "real": 1e-4,
        "single": 2.5,
        "dot": 0.5,
        "low": float("-inf"),
        "yes": True,
        "no": False,
        "word": "BOUNCING_MNIST",
        "inner": [{"deep": {"x": 1}}, {"x": 2}],
        "apart": 4,
        "several": [1, 2, 3],
        "blocks": [{"a": 1}, {"a": 2}],
        "one": [7],
        "lstm": [{"num_hid": 4}],
        "empty": {},
    }
    assert type(found["whole"]) is int and type(found["real"]) is float and type(found["yes"]) is bool
    assert parse("") == {} and parse("# nothing\n") == {}


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("a: ", (1, 4), "the end of the text where a value is expected"),
        ("a", (1, 2), "where ':' or a block follows 'a'"),
        ("a {\n b: 1", (2, 6), "where the block opened at line 1, column 3 ends with '}'"),
        ("a: 1\n}", (2, 1), "'}' where no block is open"),
        ("a < b: 1 }", (1, 10), "'}' where the block opened at line 1, column 3 ends with '>'"),
        ('a: "x\n', (1, 4), "a text is not closed on its line"),
        ("a: 10abc", (1, 4), "'10abc', which has no meaning"),
        ("a: 1.2.3", (1, 4), "'1.2.3', which has no meaning"),
        ("a\n  : @", (2, 5), "'@', which has no meaning"),
        ("a: [1 2]", (1, 7), "'2' where ',' or ']' is expected"),
        ("a: [1", (1, 6), "the end of the text where ',' or ']' is expected"),
        ("[a.b]: 1", (1, 1), "'[' where the name of a field is expected"),
        ("a: -b", (1, 4), "'-b' where a value is expected"),
        ("a: }", (1, 4), "'}' where a value is expected"),
        ('a: "\\q"', (1, 4), "the escape \\q is not known"),
        ('a: "\\377"', (1, 4), "is not UTF-8"),
        ('a: "\\U00110000"', (1, 4), "there is no character U+110000"),
        ("a: 09", (1, 4), "starts like an octal number"),
        ("a {" * 200, (1, 304), "blocks lie more than 100 deep"),
    ],
)
def test_an_error_names_line_and_column(text, place, what):
    with pytest.raises(ValueError, match=f"line {place[0]}, column {place[1]}: ") as raised:
        parse(text)
    message = str(raised.value)
    assert what in message and message.startswith("lstmrep.train.pbtxt.parse: ") and message.count("\n") == 0
