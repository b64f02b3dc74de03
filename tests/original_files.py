"""Configurations in the released code's text format, written from the values that it publishes.

The files themselves are not part of this project: sizes, ranges, rates and counts are the code's, in the fields of its
schema ``config.proto``.
"""

LEARNS = {
    "epsilon": 0.0001,
    "momentum": 0.9,
    "gradient_clip": 0.0001,
    "eps_decay_factor": 0.9,
    "eps_decay_after": 10000,
}
RANGES = {"w_dense": 0.01, "w_diag": 0.1, "w_input": 0.01, "w_output": 0.01}


def block(name, fields, depth=0):
    """``name { ... }`` with a line for each field; dictionaries become blocks, other texts are quoted."""
    pad = "  " * depth
    return f"{pad}{name} {{\n{body(fields, depth + 1)}{pad}}}\n"


def body(fields, depth=0):
    pad, lines = "  " * depth, []
    for name, value in fields.items():
        for v in value if isinstance(value, list) else [value]:
            if isinstance(v, dict):
                lines.append(block(name, v, depth))
            else:
                word = str(v).lower() if isinstance(v, bool) else v if isinstance(v, Word) else repr(v)
                lines.append(f"{pad}{name}: {word}\n".replace("'", '"'))
    return "".join(lines)


class Word(str):
    """An enum's word, which has no quotes."""


def composite_param(name):
    weight = name in RANGES
    starts = {"init_type": Word("UNIFORM"), "scale": RANGES[name], "l2_decay": 0.0001} if weight else {}
    return {"init_type": Word("CONSTANT"), "scale": 0.0, **starts, **LEARNS}


def layer(name, inputs, outputs, units=2048, param=composite_param, **fields):
    names = ["w_dense", "w_diag", "b"] + ["w_input"] * (inputs > 0) + ["w_output", "b_output"] * (outputs > 0)
    sizes = {"has_input": True, "input_dims": inputs} if inputs else {}
    sizes |= {"has_output": True, "output_dims": outputs} if outputs else {}
    return {"name": name, "num_hid": units, **sizes, **fields, **{p: param(p) for p in names}}


def composite(frame, layers=1, units=2048, param=composite_param, **fields):
    """Both decoders conditional, 10 frames in, back and ahead."""

    def stack(suffix, top):
        return [
            layer(f"lstm_{k}_{suffix}", frame if k == 1 else units, top if k == layers else 0, units, param)
            for k in range(1, layers + 1)
        ]

    return {
        "name": "lstm_combo",
        "checkpoint_dir": "models",
        "print_after": 100,
        "display_after": 0,
        "validate_after": 500,
        "save_after": 500,
        "max_iters": 10_000_000,
        "dec_seq_length": 10,
        "future_seq_length": 10,
        "dec_conditional": True,
        "future_conditional": True,
        "binary_data": True,
        "lstm": stack("enc", 0),
        "lstm_dec": stack("dec", frame),
        "lstm_future": stack("fut", frame),
        **fields,
    }


def pretrained(frame, file, **fields):
    found = composite(frame, **fields)
    for stack in ("lstm", "lstm_dec", "lstm_future"):
        for each in found[stack]:
            for name, param in each.items():
                if isinstance(param, dict):
                    entry = {"file_name": file, "dataset_name": f"{each['name']}:{name}"}
                    each[name] = {**param, "init_type": Word("PRETRAINED"), **entry}
    return found


def classifier_param(name):
    decay = {"eps_decay_factor": 0.9, "eps_decay_after": 10000}
    frozen = {"init_type": Word("UNIFORM"), "scale": 0.0, "epsilon": 0.0}
    uniform = {"init_type": Word("UNIFORM"), "epsilon": 0.0001, "l2_decay": 0.00001}
    return {
        "w_dense": {**uniform, "scale": 0.01},
        "w_input": {**uniform, "scale": 0.001},
        "w_output": {**uniform, "init_type": Word("GAUSSIAN"), "scale": 0.001},
        "w_diag": frozen,
    }.get(name, {"init_type": Word("CONSTANT"), "scale": 0.0, "epsilon": 0.0001}) | decay


CLASSIFIER = {
    "name": "lstm_classifier",
    "checkpoint_dir": "models",
    "print_after": 100,
    "display_after": 0,
    "validate_after": 500,
    "save_after": 0,
    "max_iters": 1_000_000,
    "lstm": [layer("lstm_1", 4096, 101, param=classifier_param, input_dropprob=0.0, output_dropprob=0.0)],
}
MODELS = {
    "lstm_combo_1layer_mnist": composite(4096),
    "lstm_combo_2layer_mnist": composite(4096, 2, validate_after=0, save_after=0),
    "lstm_combo_1layer_ucf101_patches": composite(3072, binary_data=False, max_iters=100_000),
    "lstm_combo_1layer_mnist_pretrained": pretrained(4096, "lstm_combo_20151230175240.h5"),
    "lstm_combo_1layer_ucf101_patches_pretrained": pretrained(3072, "lstm_combo_20151231151745.h5", binary_data=False),
    "lstm_classifier_1layer_ucf101_features": CLASSIFIER,
}
COUNTS = {
    "lstm_combo_1layer_mnist": 167_823_360,
    "lstm_combo_2layer_mnist": 268_529_664,
    "lstm_combo_1layer_ucf101_patches": 138_461_184,
    "lstm_combo_1layer_mnist_pretrained": 167_823_360,
    "lstm_combo_1layer_ucf101_patches_pretrained": 138_461_184,
    "lstm_classifier_1layer_ucf101_features": 50_552_933,
}
PATCHES = {"dataset_type": Word("VIDEO_PATCH"), "num_frames": 20, "batch_size": 100, "image_size": 32, "num_colors": 3}
FEATURES = {
    "data_file": "features.h5",
    "dataset_name": "hidden6",
    "labels_file": "labels.txt",
    "num_frames_file": "num_frames.txt",
    "num_frames": 16,
    "stride": 1,
    "batch_size": 128,
}
DATASETS = {
    "bouncing_mnist": {
        "dataset_type": Word("BOUNCING_MNIST"),
        "num_frames": 20,
        "batch_size": 80,
        "image_size": 64,
        "num_digits": 2,
        "step_length": 0.1,
    },
    "bouncing_mnist_valid": {
        "dataset_type": Word("VIDEO_PATCH"),
        "data_file": "bouncing_mnist_test.npy",
        "num_frames": 20,
        "batch_size": 80,
        "image_size": 64,
    },
    "ucf101_patches": {**PATCHES, "data_file": "ucf101_train_patches.npy"},
    "ucf101_patches_valid": {**PATCHES, "data_file": "ucf101_valid_patches.npy"},
    "ucf101_features": {**FEATURES, "randomize": True},
    "ucf101_features_valid": {**FEATURES, "randomize": False},
}
MOVING = {"name": "moving_mnist", "source": "mnist", "num_frames": 20, "canvas": 64, "num_digits": 2, "step": 0.1}
