"""How the released code's parameters start and learn (message ``Param``), and its loop, as sections of a config."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from lstmrep.train.pbtxt_fields import Fields

ROLES = {
    "w_input": "weight_ih",
    "w_dense": "weight_hh",
    "w_diag": "peephole",
    "b": "bias",
    "w_output": "head_weight",
    "b_output": "head_bias",
}
# What lstmrep.nn.init calls "original"; what UNIFORM, GAUSSIAN and CONSTANT of a file become is written the same way.
ORIGINAL_INIT = {
    "weight_ih": "uniform(0.01)",
    "weight_hh": "uniform(0.01)",
    "peephole": "uniform(0.1)",
    "bias": "constant(0.0)",
    "head_weight": "uniform(0.01)",
    "head_bias": "constant(0.0)",
}
GATE_BIASES = {"i": "input_gate_bias", "f": "forget_gate_bias", "g": "input_bias", "o": "output_gate_bias"}


class Dataset(NamedTuple):
    """What a dataset file says."""

    settings: dict[str, Any]
    batch: int
    frames: int


class Param(NamedTuple):
    """How one matrix or vector starts and learns."""

    place: str
    kind: str
    init: str | None
    settings: dict[str, Any]
    l2: float
    file: str
    entry: str


def read_param(layer: Fields, name: str, notes: list[str]) -> Param:
    """The block ``name`` of a layer; one left out has the schema's defaults: zero, and never changed."""
    blocks = layer.blocks(name)
    if len(blocks) > 1:
        raise layer.wrong(name, f"is given {len(blocks)} times, expected one block")
    block = blocks[0] if blocks else Fields({}, layer.path, layer.name(name))
    kind, scale = block.take("init_type", "CONSTANT"), block.take("scale", 0.0)
    biases = {gate: block.take(field, 0.0) for gate, field in GATE_BIASES.items()}
    file, entry = block.take("file_name", ""), block.take("dataset_name", "")
    settings: dict[str, Any] = {
        "epsilon": block.take("epsilon", 0.0),
        "momentum": block.take("momentum", 0.0),
        "gradient_clip": block.take("gradient_clip", 0.0),
        "eps_decay": (block.take("eps_decay_factor", 1.0), block.take("eps_decay_after", 0)),
        "rms_prop": block.take("rms_prop", False),
        "rms_prop_factor": block.take("rms_prop_factor", 0.95),
    }
    init: str | None
    if kind == "PRETRAINED":
        init = None
    elif kind == "LSTM_BIAS":
        given = {gate: value for gate, value in biases.items() if value}
        init = repr(given) if given else "constant(0.0)"
    elif kind in ("UNIFORM", "GAUSSIAN", "CONSTANT"):
        how = {"UNIFORM": "uniform", "GAUSSIAN": "normal", "CONSTANT": "constant"}[kind]
        init = f"{how}({scale!r})" if scale else "constant(0.0)"
    else:
        raise block.wrong("init_type", f"is {kind!r}, expected CONSTANT, GAUSSIAN, UNIFORM, PRETRAINED or LSTM_BIAS")
    l2 = block.take("l2_decay", 0.0)
    block.note_rest(notes)
    return Param(block.place, kind, init, settings, l2, file, entry)


def read_init(params: list[Param], notes: list[str]) -> dict[str, str]:
    """Argument ``init``, where the start values have a name; a note where they have none."""
    by_role: dict[str, dict[str, list[str]]] = {}
    from_files: dict[str, list[str]] = {}
    for p in params:
        if p.init is None:
            from_files.setdefault(p.file, []).append(f"{p.place} from '{p.entry}'")
        else:
            by_role.setdefault(ROLES[p.place.rpartition(".")[2]], {}).setdefault(p.init, []).append(p.place)
    for file, entries in from_files.items():
        notes.append(f"PRETRAINED in {file}: {', '.join(entries)}; lstmrep.nn.original reads such files.")
    if not by_role:
        return {}
    scheme = {role: next(iter(ways)) for role, ways in by_role.items()}
    for role, ways in by_role.items():
        for how, places in list(ways.items())[1:]:
            notes.append(f"{', '.join(places)} start as {how}, other {role} as {scheme[role]}: one way acts on all.")
    if all(scheme[role] == ORIGINAL_INIT[role] for role in scheme):
        return {"init": "original"}
    written = ", ".join(f"'{role}': {how}" for role, how in scheme.items())
    notes.append(f"Initial values have no name: pass init={{{written}}} with functions of lstmrep.nn.init.")
    return {}


def read_optimizer(params: list[Param], notes: list[str]) -> dict[str, Any]:
    """Section ``optimizer``: the values that most parameters have; notes on the others."""
    frozen = [p.place for p in params if not p.settings["epsilon"]]
    if frozen:
        notes.append(f"{', '.join(frozen)} have epsilon 0, so they never change: call requires_grad_(False) on them.")
    trained = [p for p in params if p.settings["epsilon"]]
    if not trained:
        return {}
    common = {}
    for name in trained[0].settings:
        values = Counter(p.settings[name] for p in trained)
        common[name] = values.most_common(1)[0][0]
        for other in values:
            if other != common[name]:
                where = ", ".join(p.place for p in trained if p.settings[name] == other)
                notes.append(f"{name} is {other} in {where}, and {common[name]} acts on all parameters here.")
    weights = [p for p in trained if ".w_" in p.place]
    decays = Counter(p.l2 for p in weights)
    l2 = decays.most_common(1)[0][0] if decays else 0.0
    odd = [f"{p.l2} in {p.place}" for p in trained if p.l2 != (l2 if p in weights else 0.0)]
    if odd:
        notes.append(f"l2_decay is {', '.join(odd)}: here it is {l2} for weights and peepholes, 0 for biases.")
    optimizer = {
        "name": "velocity_rmsprop" if common["rms_prop"] else "velocity_sgd",
        "lr": common["epsilon"],
        "momentum": common["momentum"],
        "weight_decay": l2,
        "velocity_clip": common["gradient_clip"],
    }
    if common["rms_prop"]:
        optimizer["rms_decay"] = common["rms_prop_factor"]
    factor, after = common["eps_decay"]
    if after > 0 and factor != 1.0:
        # Both codes compute this decay and then use the rate without it.
        optimizer |= {"schedule": "step", "decay_factor": factor, "decay_after": after, "inert": True}
    return optimizer


def read_loop(top: Fields, sections: dict[str, Any], notes: list[str]) -> None:
    """Section ``train``; notes on the names of files."""
    train = sections["train"]
    train["max_iters"] = top.take("max_iters", 0)
    printed = top.take("print_after", 1)
    if printed > 0:
        train["print_every"] = printed
    else:
        notes.append(f"print_after is {printed}, which the original cannot run with; the default stands.")
    train["validate_every"] = top.take("validate_after", 0)
    train["save_every"] = top.take("save_after", 0)
    if not train["save_every"]:
        notes.append("save_after is 0: the original then never saves, here the last step is saved.")
    shown = top.take("display_after", 0)
    if shown:
        notes.append(f"display_after is {shown}: there is no display during training here.")
    name, folder, stamps = top.take("name", ""), top.take("checkpoint_dir", ""), top.texts("timestamp")
    if folder:
        notes.append(f"checkpoint_dir is {folder}: pass the folder of the run where it is started.")
    if stamps:
        notes.append(
            f"The original goes on from {folder}/{name}_{stamps[-1]}.h5; read its weights with lstmrep.nn.original."
        )


def set_scale(
    sections: dict[str, Any], steps: dict[str, int], earlier: bool, data: Dataset | None, notes: list[str]
) -> None:
    """Set the factor between gradients: the original sums over frames and, in the released code, over the batch.

    Losses here are means over both, so the factor is the product of the two numbers.
    """
    if not sections["optimizer"]:
        return
    frames = steps["future"] or steps["dec"] or (data.frames if data else 0)
    batch = 1 if earlier else (data.batch if data else 0)
    if not batch or not frames:
        notes.append(
            "The original's gradient is summed over batch and frames, and this file does not say how many: pass the "
            "dataset's file as data, or set optimizer.gradient_scale to their product."
        )
        return
    sections["optimizer"]["gradient_scale"] = float(batch * frames)
    if steps["dec"] and steps["future"] and steps["dec"] != steps["future"]:
        sections["model"]["reconstruction_weight"] = steps["dec"] / steps["future"]
