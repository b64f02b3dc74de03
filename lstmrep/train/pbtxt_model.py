"""The released code's messages ``Model`` and ``LSTM`` as the sections of a config but for ``data``."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

from lstmrep.train.pbtxt_fields import Fields
from lstmrep.train.pbtxt_training import Dataset, Param, read_init, read_loop, read_optimizer, read_param, set_scale


class _Layer(NamedTuple):
    """One block ``lstm``, ``lstm_dec`` or ``lstm_future``."""

    place: str
    units: int
    inputs: int
    outputs: int
    relu: bool
    drop_input: float
    drop_output: float
    params: list[Param]


def read_model(top: Fields, data: Dataset | None, sections: dict[str, Any], notes: list[str]) -> None:
    """Fill ``sections`` and ``notes`` from a model file and what its dataset's file says.

    Raises:
        ValueError: the model cannot be built here.
    """
    encoder = _stack(top, "lstm", notes)
    steps = {name: top.take(f"{name}_seq_length", 0) for name in ("dec", "future")}
    stacks = {name: _stack(top, f"lstm_{name}", notes) if steps[name] else [] for name in steps}
    fed = {name: top.take(f"{name}_conditional", False) for name in steps}
    for name in steps:
        top.left.discard(f"lstm_{name}")
        if not steps[name] and top.has(f"lstm_{name}"):
            notes.append(f"lstm_{name} is there and {name}_seq_length is 0: the layers are never built.")
    params = [p for layer in (*encoder, *stacks["dec"], *stacks["future"]) for p in layer.params]
    earlier = any(p.settings["rms_prop"] or p.kind == "LSTM_BIAS" for p in params)
    if earlier:
        notes.append(
            "rms_prop and LSTM_BIAS are fields of the authors' earlier code: its decoders always copy the encoder's "
            "state, and its gradient is divided by the batch."
        )
    if not encoder[0].inputs:
        raise top.wrong("lstm", "has no input in its first layer, expected has_input and input_dims")
    composite = any(steps.values())
    if not composite and not encoder[-1].outputs:
        raise top.wrong("lstm", "has no output and there is no decoder, expected dec_seq_length or future_seq_length")
    model: dict[str, Any] = {"input_size": encoder[0].inputs, "hidden_size": encoder[0].units}
    if composite:
        for name in steps:
            if steps[name]:
                _check_decoder(top, name, stacks[name], encoder, fed[name], notes)
        if any(layer.drop_input or layer.drop_output for layer in (*encoder, *stacks["dec"], *stacks["future"])):
            notes.append("A dropprob is set: the original drops nothing in this model, nor is anything dropped here.")
        model |= {"num_layers": len(encoder), "reconstruct": steps["dec"], "predict": steps["future"]}
        model |= {"conditional_reconstruction": fed["dec"] and steps["dec"] > 0}
        model |= {"conditional_future": fed["future"] and steps["future"] > 0}
        model |= _output(top, earlier, notes) | {"handover": _handover(top, steps, earlier, notes)}
    else:
        model |= {"num_classes": encoder[-1].outputs, "num_layers": len(encoder)}
        model |= {"dropout": _dropout(encoder, notes)}
        if top.take("squash_relu", False):
            notes.append("squash_relu is true: ActionClassifier has no such curve; squash its frames before.")
        top.left.discard("squash_relu_lambda")
    model["cell"] = _cell(top, [*encoder, *stacks["dec"], *stacks["future"]])
    model |= read_init(params, notes)
    sections["model"] = model
    sections["optimizer"] = read_optimizer(params, notes)
    read_loop(top, sections, notes)
    set_scale(sections, steps, earlier, data, notes)
    top.note_rest(notes)


def _stack(top: Fields, field: str, notes: list[str]) -> list[_Layer]:
    layers = []
    for block in top.blocks(field):
        block.take("name", "")
        units = block.take("num_hid", 0)
        if units < 1:
            raise block.wrong("num_hid", f"is {units}, expected 1 or more")
        has = {"w_input": block.take("has_input", False), "w_output": block.take("has_output", False)}
        sizes = {"w_input": block.take("input_dims", 0), "w_output": block.take("output_dims", 0)}
        for name, size in sizes.items():
            if has[name] and size < 1:
                raise block.wrong(name.replace("w_", "") + "_dims", f"is {size}, expected 1 or more")
        names = ["w_dense", "w_diag", "b"]
        names += ["w_input"] * has["w_input"] + ["w_output", "b_output"] * has["w_output"]
        params = [read_param(block, name, notes) for name in names]
        layers.append(
            _Layer(
                block.place,
                units,
                has["w_input"] * sizes["w_input"],
                has["w_output"] * sizes["w_output"],
                block.take("use_relu", False),
                block.take("input_dropprob", 0.0),
                block.take("output_dropprob", 0.0),
                params,
            )
        )
        block.note_rest(notes, "belongs to nothing that this layer has and was left out")
    if not layers:
        raise top.wrong(field, "is missing, expected a block for each layer")
    for below, layer in pairwise(layers):
        if layer.units != below.units or layer.inputs != below.units:
            raise top.wrong(field, f"has layers of different sizes, expected {below.units} inputs and units in each")
    return layers


def _check_decoder(
    top: Fields, name: str, stack: list[_Layer], encoder: list[_Layer], fed: bool, notes: list[str]
) -> None:
    """A decoder takes the encoder's state layer by layer, and makes frames of the encoder's size."""
    field, frame = f"lstm_{name}", encoder[0].inputs
    if len(stack) != len(encoder) or stack[0].units != encoder[0].units:
        raise top.wrong(
            field,
            f"has {len(stack)} layers of {stack[0].units} units, expected the encoder's {len(encoder)} of "
            f"{encoder[0].units}",
        )
    if stack[-1].outputs != frame:
        raise top.wrong(field, f"gives {stack[-1].outputs} values a frame, expected the encoder's {frame}")
    if fed and stack[0].inputs != frame:
        raise top.wrong(field, f"reads {stack[0].inputs} values a frame, expected {frame} for {name}_conditional")
    if not fed and stack[0].inputs:
        notes.append(
            f"{stack[0].place}.w_input is there and {name}_conditional is false: the original keeps this matrix and "
            "never uses it, the model here has none."
        )


def _output(top: Fields, earlier: bool, notes: list[str]) -> dict[str, Any]:
    binary, relu = top.take("binary_data", False), top.take("relu_data", False)
    squash, slope = top.take("squash_relu", False), top.take("squash_relu_lambda", 2.0)
    if earlier:
        if squash or relu or not binary:
            notes.append("The earlier code takes its data for probabilities whatever the file says.")
        return {"output": "bernoulli"}
    if squash:
        return {"output": "squash", "squash": slope}
    return {"output": "bernoulli" if binary else "relu" if relu else "gaussian"}


def _handover(top: Fields, steps: dict[str, int], earlier: bool, notes: list[str]) -> str:
    copies = {"dec": top.take("decoder_copy_init_state", False), "future": top.take("future_copy_init_state", False)}
    if earlier:
        return "copy"
    asked = {copies[name] for name in steps if steps[name]}
    if len(asked) > 1:
        notes.append(
            "decoder_copy_init_state and future_copy_init_state differ: both decoders here start in one way, the "
            f"reconstruction's ({'copy' if copies['dec'] else 'step'})."
        )
        return "copy" if copies["dec"] else "step"
    return "copy" if asked == {True} else "step"


def _cell(top: Fields, layers: list[_Layer]) -> str:
    if len({layer.relu for layer in layers}) > 1:
        raise top.wrong("lstm", "has use_relu in some layers and not in others, expected one cell in all")
    return "relu" if layers[0].relu else "tanh"


def _dropout(layers: list[_Layer], notes: list[str]) -> float:
    if layers[0].drop_input:
        notes.append(f"{layers[0].place}.input_dropprob is {layers[0].drop_input}: no frame values are dropped here.")
    between = {layer.drop_input for layer in layers[1:]} | {layers[-1].drop_output}
    if len(between) > 1:
        notes.append(f"Dropout differs by layer ({sorted(between)}): here it is one, the one before the softmax.")
    return layers[-1].drop_output
