"""Weights of the original's files: both layouts, what the loaded model computes, and what a wrong file says.

The files here are written by the functions below, with the names and shapes that the original's code gives its entries.
The model is held against a transcription of the original's equations in its own names and layouts, and against the
oracle of numpy_composite.py, which knows neither.
"""

import h5py
import numpy as np
import pytest
import torch
from numpy_composite import Settings, forward

import lstmrep
from lstmrep.nn.original import arguments_from_original, read_original, state_dict_from_original
from lstmrep.testing import assert_within, budget, moved

D, H, B, T_IN = 5, 3, 2, 4
ROLES = {"encoder": "enc", "reconstruction": "dec", "future": "fut"}


def layer(rng, inputs, outputs, columns, hidden=H):
    """One layer's entries, as rows (the released code) or columns (the earlier one)."""
    vector = (lambda n: (n, 1)) if columns else (lambda n: (1, n))
    shapes = {
        "w_dense": (4 * hidden, hidden),
        "w_diag": (hidden, 3) if columns else (1, 3 * hidden),
        "b": vector(4 * hidden),
    }
    if inputs:
        shapes["w_input"] = (4 * hidden, inputs)
    if outputs:
        shapes |= {"w_output": (outputs, hidden), "b_output": vector(outputs)}
    return {part: rng.uniform(-0.5, 0.5, shape).astype(np.float32) for part, shape in shapes.items()}


def composite(layers=1, conditional=True, columns=False, decoders=("reconstruction", "future")):
    """Entries by layer's name, of all stacks."""
    rng = np.random.default_rng(2)
    found = {}
    for stack in ("encoder", *decoders):
        for k in range(1, layers + 1):
            bottom = D if stack == "encoder" or conditional else 0
            inputs = H if k > 1 else bottom
            outputs = D if stack != "encoder" and k == layers else 0
            found[f"lstm_{k}_{ROLES[stack]}"] = layer(rng, inputs, outputs, columns)
    return found


def write(path, layers, columns=False):
    """The original's file: every entry with its velocity, and a step count as an attribute."""
    with h5py.File(path, "w") as file:
        for name, entries in layers.items():
            for part, values in entries.items():
                entry = f"{name}:{part}"
                file[entry] = values
                file[f"{entry}_grad"] = np.full_like(values, 7.0)
                if columns:
                    file[f"{entry}_rms_prop"] = np.full_like(values, 8.0)
                file.attrs[f"{entry}_t"] = 12
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lstm_combo_20151230175240.h5"


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def step(w, v, h, c):
    """The original's step in its own names: the gates lie side by side as i, f, a, o, the peepholes as i, f, o."""
    gates = h @ w["w_dense"].T + w["b"].reshape(1, -1)
    if v is not None:
        gates = gates + v @ w["w_input"].T
    i, f, a, o = np.split(gates, 4, axis=1)
    diagonal = w["w_diag"].T if w["w_diag"].shape == (H, 3) else w["w_diag"].reshape(3, H)
    i = sigmoid(i + c * diagonal[0])
    f = sigmoid(f + c * diagonal[1])
    c = f * c + i * np.tanh(a)
    return sigmoid(o + c * diagonal[2]) * np.tanh(c), c


def transcription(layers, v, dec, fut, copy_init_state, conditional):
    """Probabilities of the decoder and the future predictor, teacher-forced, as the original runs them in training."""
    w = {n: {p: x.astype(np.float64) for p, x in e.items()} for n, e in layers.items()}
    depth = sum(name.endswith("enc") for name in w)
    encoded = [(np.zeros((B, H)), np.zeros((B, H)))] * depth
    enc = v.shape[1] - fut

    def advance(suffix, x, states):
        after = []
        for k in range(depth):
            after.append(step(w[f"lstm_{k + 1}_{suffix}"], x, *states[k]))
            x = after[-1][0]
        return after

    for t in range(enc):
        encoded = advance("enc", v[:, t], encoded)
    made = {}
    for suffix, steps, fed in (("dec", dec, lambda t: enc - t), ("fut", fut, lambda t: enc + t - 1)):
        states, frames = encoded, []
        top = w[f"lstm_{depth}_{suffix}"]
        for t in range(steps):
            if t or not copy_init_state:
                states = advance(suffix, v[:, fed(t)] if conditional and t else None, states)
            frames.append(sigmoid(states[-1][0] @ top["w_output"].T + top["b_output"].reshape(1, -1)))
        made[suffix] = np.stack(frames, 1)
    return made, encoded


@pytest.mark.parametrize("columns", [False, True], ids=["released", "earlier"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("handover", ["step", "copy"])
def test_a_loaded_model_computes_what_the_original_does(path, columns, layers, conditional, handover):
    entries = composite(layers, conditional, columns)
    state = state_dict_from_original(write(path, entries, columns))
    arguments = arguments_from_original(state)
    expected = {"input_size": D, "hidden_size": H, "num_layers": layers}
    assert arguments == {**expected, "conditional_reconstruction": conditional, "conditional_future": conditional}
    frames = np.random.default_rng(3).random((B, T_IN + 2, D), np.float32)

    def run(dtype, order):
        model = lstmrep.CompositeModel(**arguments, reconstruct=3, predict=2, handover=handover, backend="reference")
        model = model.to(dtype)
        model.load_state_dict({name: moved(t, dtype, order) for name, t in state.items()})
        with torch.no_grad():
            out = model(moved(torch.from_numpy(frames), dtype, order), feeding="teacher")
        return {"dec": out.reconstruction, "fut": out.future, "h": out.state.h, "c": out.state.c}

    allowed = budget(run, torch.float64)
    made, encoded = transcription(entries, frames.astype(np.float64), 3, 2, handover == "copy", conditional)
    assert_within(_tensors({**made, "h": [h for h, _ in encoded], "c": [c for _, c in encoded]}), allowed)
    fed = {"conditional_reconstruction": conditional, "conditional_future": conditional}
    oracle = forward(
        {name: t.double().numpy() for name, t in state.items()},
        frames.astype(np.float64),
        Settings(layers, 3, 2, **fed, handover=handover),
    )
    h, c = oracle["state"]
    assert_within(_tensors({"dec": oracle["reconstruction"], "fut": oracle["future"], "h": h, "c": c}), allowed)


def _tensors(arrays):
    return {name: torch.from_numpy(np.array(a)) for name, a in arrays.items()}


def test_names_shapes_and_values(path):
    entries = composite()
    state = state_dict_from_original(write(path, entries))
    encoder, decoder = entries["lstm_1_enc"], entries["lstm_1_dec"]
    expected = {
        "encoder.weight_ih_l0": encoder["w_input"],
        "encoder.weight_hh_l0": encoder["w_dense"],
        "encoder.bias_l0": encoder["b"][0],
        "encoder.weight_pi_l0": encoder["w_diag"][0, :H],
        "encoder.weight_pf_l0": encoder["w_diag"][0, H : 2 * H],
        "encoder.weight_po_l0": encoder["w_diag"][0, 2 * H :],
        "reconstruction.lstm.weight_ih_l0": decoder["w_input"],
        "reconstruction.head.weight": decoder["w_output"],
        "reconstruction.head.bias": decoder["b_output"][0],
    }
    for name, values in expected.items():
        assert state[name].dtype == torch.float32 and state[name].is_contiguous()
        assert np.array_equal(state[name].numpy(), values), name
    assert set(state) == set(
        lstmrep.CompositeModel(D, H, conditional_reconstruction=True, conditional_future=True).state_dict()
    )


def test_columns_and_rows_hold_the_same(path, tmp_path):
    rows = composite()
    columns = {
        name: {
            **entries,
            "w_diag": entries["w_diag"].reshape(3, H).T,
            **{part: entries[part].T for part in ("b", "b_output") if part in entries},
        }
        for name, entries in rows.items()
    }
    one, other = (
        state_dict_from_original(write(path, rows)),
        state_dict_from_original(write(tmp_path / "n.h5", columns)),
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("decoders", [("reconstruction",), ("future",), ()])
def test_a_stack_that_is_not_there_is_left_out(path, decoders):
    state = state_dict_from_original(write(path, composite(decoders=decoders)))
    assert {name.split(".")[0] for name in state} == {"encoder", *decoders}
    gone = {"reconstruction": "reconstruct", "future": "predict"}
    arguments = arguments_from_original(state)
    assert [arguments.get(steps) for stack, steps in gone.items() if stack not in decoders] == [0] * (2 - len(decoders))


def test_layers_are_ordered_by_number_and_may_be_named(path):
    rng = np.random.default_rng(4)
    entries = {f"lstm_{k}_enc": layer(rng, H, 0, False) for k in (10, 9, 2)}
    state = state_dict_from_original(write(path, entries))
    for k, name in enumerate(("lstm_2_enc", "lstm_9_enc", "lstm_10_enc")):
        assert np.array_equal(state[f"encoder.weight_hh_l{k}"].numpy(), entries[name]["w_dense"])
    named = state_dict_from_original(path, {"encoder": ["lstm_9_enc"]})
    assert np.array_equal(named["encoder.weight_hh_l0"].numpy(), entries["lstm_9_enc"]["w_dense"])
    assert len(named) == 6


def test_a_role_may_stand_in_another_word(path):
    rng = np.random.default_rng(5)
    entries = {"sequence_1_dec": layer(rng, 0, D, False), "Encoder_1": layer(rng, D, 0, False)}
    state = state_dict_from_original(write(path, entries))
    assert np.array_equal(state["reconstruction.lstm.weight_hh_l0"].numpy(), entries["sequence_1_dec"]["w_dense"])
    assert arguments_from_original(state)["conditional_reconstruction"] is False


def test_classifier(path):
    rng = np.random.default_rng(6)
    entries = {"lstm_1": layer(rng, D, 0, False), "lstm_2": layer(rng, H, 7, False)}
    state = state_dict_from_original(write(path, entries))
    arguments = arguments_from_original(state)
    assert arguments == {"input_size": D, "hidden_size": H, "num_layers": 2, "num_classes": 7}
    lstmrep.ActionClassifier(**arguments).load_state_dict(state)
    assert np.array_equal(state["head.weight"].numpy(), entries["lstm_2"]["w_output"])


def test_one_unit_reads_the_same_in_both_layouts(path):
    entries = {"lstm_1_enc": layer(np.random.default_rng(7), D, 0, False, hidden=1)}
    state = state_dict_from_original(write(path, entries))
    got = [state[f"encoder.weight_{p}_l0"].item() for p in ("pi", "pf", "po")]
    assert got == entries["lstm_1_enc"]["w_diag"][0].tolist()


def test_velocities_are_left_out(path):
    entries = composite(columns=True)
    found = read_original(write(path, entries, columns=True))
    assert set(found) == {f"{name}:{part}" for name, parts in entries.items() for part in parts}
    assert all(np.abs(values).max() < 1 for values in found.values())


def without(part, layer="lstm_1_enc"):
    def change(entries):
        del entries[layer][part]

    return change


def shaped(part, shape, layer="lstm_1_enc", dtype=np.float32):
    def change(entries):
        entries[layer][part] = np.zeros(shape, dtype)

    return change


def extra(name, *sizes):
    def change(entries):
        entries[name] = layer(np.random.default_rng(8), *sizes)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("w_dense"), "no entry 'lstm_1_enc:w_dense', which a layer of the encoder needs"),
        (without("w_input"), "no entry 'lstm_1_enc:w_input'"),
        (without("w_diag"), "no entry 'lstm_1_enc:w_diag'"),
        (without("b_output", "lstm_1_fut"), "no entry 'lstm_1_fut:b_output', which a layer of the future needs"),
        (without("w_output", "lstm_1_dec"), "no entry 'lstm_1_dec:w_output'"),
        (shaped("w_dense", (4 * H, H + 1)), r"'lstm_1_enc:w_dense' of shape \[12, 4\], expected \[4H, H\]"),
        (shaped("w_dense", 12), r"'lstm_1_enc:w_dense' of shape \[12\], expected \[4H, H\]"),
        (shaped("w_input", (D, 4 * H)), r"'lstm_1_enc:w_input' of shape \[5, 12\], expected \[12, 12\]"),
        (shaped("w_diag", (3, H + 1)), r"w_diag' of shape \[3, 4\], expected \[1, 9\] or \[3, 3\] or \[9\]"),
        (shaped("b", (H, 4)), r"'lstm_1_enc:b' of shape \[3, 4\], expected \[1, 12\] or \[12, 1\] or \[12\]"),
        (
            shaped("w_input", (4 * H, D + 1), "lstm_1_dec"),
            r"'lstm_1_dec:w_input' of shape \[12, 6\], expected \[12, 5\]",
        ),
        (shaped("w_output", (D + 1, H), "lstm_1_dec"), r"'lstm_1_dec:w_output' of shape \[6, 3\], expected \[5, 3\]"),
        (shaped("w_dense", (8, 2), "lstm_1_dec"), "2 units in layer 'lstm_1_dec' and 3 in others"),
        (shaped("w_output", (D, H)), "'lstm_1_enc:w_output', where only a decoder's last layer makes frames"),
        (shaped("w_diag", (1, 3 * H), dtype=np.int32), "'lstm_1_enc:w_diag' of another kind"),
        (shaped("b", (4, H, 1)), "'lstm_1_enc:b' of another kind"),
        (extra("lstm_2_enc", H, 0, False), "1 layers for the reconstruction and 2 for others"),
        (extra("other_1_enc", H, 0, False), "layers lstm_1_enc, other_1_enc for the encoder, whose order is not clear"),
        (extra("lstm_1", D, 0, False), "the layer 'lstm_1', whose name has none of enc, dec, fut; pass argument"),
    ],
)
def test_a_wrong_file_is_one_sentence(path, change, message):
    entries = composite()
    change(entries)
    with pytest.raises(ValueError, match=message) as raised:
        state_dict_from_original(write(path, entries))
    assert str(raised.value).startswith("lstmrep.nn.original: ") and "\n" not in str(raised.value)


def test_no_file_a_truncated_one_and_foreign_ones(path, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        read_original(path)
    write(path, composite())
    whole = path.read_bytes()
    for kept in (len(whole) // 2, 100, 0):
        path.write_bytes(whole[:kept])
        with pytest.raises(ValueError, match="is truncated or no HDF5 file"):
            read_original(path)
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["model_weights"] = np.zeros(3)
        file["lstm:kernel"] = np.zeros(3)
    with pytest.raises(ValueError, match="no entry such as 'lstm_1_enc:w_dense'"):
        read_original(tmp_path / "foreign.h5")
    with h5py.File(tmp_path / "group.h5", "w") as file:
        file.create_group("lstm_1_enc:b")
    with pytest.raises(ValueError, match="'lstm_1_enc:b' of another kind"):
        read_original(tmp_path / "group.h5")


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({"encoder": ["lstm_3_enc"]}, "no layer 'lstm_3_enc', only lstm_1_dec, lstm_1_enc, lstm_1_fut"),
        ({"encoders": ["lstm_1_enc"]}, "argument 'layers' has 'encoders'"),
        ({"encoder": "lstm_1_enc"}, "argument 'layers' has 'encoder': 'lstm_1_enc'"),
        ({"encoder": []}, "argument 'layers' has 'encoder': "),
        ({}, "argument 'layers' names nothing"),
        ({"classifier": ["lstm_1_fut"], "encoder": ["lstm_1_enc"]}, "names classifier, encoder, expected the stacks"),
    ],
)
def test_a_wrong_mapping_is_one_sentence(path, layers, message):
    with pytest.raises(ValueError, match=message):
        state_dict_from_original(write(path, composite()), layers)


def test_a_decoder_alone_has_no_arguments(path):
    state = state_dict_from_original(write(path, composite()), {"future": ["lstm_1_fut"]})
    assert {name.split(".")[0] for name in state} == {"future"}
    with pytest.raises(ValueError, match="has no encoder"):
        arguments_from_original(state)


def test_a_model_takes_the_file(path):
    state = state_dict_from_original(write(path, composite(2)))
    options = {"conditional_reconstruction": True, "conditional_future": True}
    model = lstmrep.CompositeModel(D, H, 2, **options)
    assert model.load_original(path) is model
    assert all(torch.equal(t, model.state_dict()[name]) for name, t in state.items())
    # The file's input matrix of a decoder that reads nothing has no place and is left out.
    unconditional = lstmrep.CompositeModel(D, H, 2).load_original(path)
    assert torch.equal(unconditional.future.lstm.weight_hh_l0, model.future.lstm.weight_hh_l0)
    with pytest.raises(ValueError, match="has peepholes; build the model with peephole=True"):
        lstmrep.CompositeModel(D, H, 2, **options, peephole=False).load_original(path)
    with pytest.raises(ValueError, match=r"tensor 'encoder.weight_ih_l0' .* has shape .*, the model's has"):
        lstmrep.CompositeModel(D, H + 1, 2, **options).load_original(path)
