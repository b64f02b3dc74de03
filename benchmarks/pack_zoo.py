"""Puts a trained run into lstmrep/zoo: its model, its configuration and a manifest with hashes and numbers.

The command is the one that trained it; it is recorded as given, beside what the run's own files say.
"""

import argparse
import json
import platform
import shutil
from pathlib import Path

import torch

import lstmrep
from lstmrep import zoo
from lstmrep.cli import runs
from lstmrep.cli.evaluate import evaluate_run
from lstmrep.files import write_text
from lstmrep.train import read_history

FREE, MEAN = "model, free-running", "mean frame"


def pack(run: Path, out: Path, command: str, split: str, clips: int) -> dict:
    """Write the folder ``out``; returns the manifest."""
    model, config = runs.load_run(run)
    model.save_pretrained(out)
    shutil.copyfile(run / "config.toml", out / "config.toml")
    report = evaluate_run(model, config, split, clips=clips)
    print(report.table())
    heads = ("reconstruction", "future")
    made = {
        "files": {name: zoo.sha256(out / name) for name in ("config.json", "config.toml", "model.safetensors")},
        "parameters": report.parameters,
        "training": {
            "command": command,
            "steps": read_history(run / "history.jsonl")[-1]["step"],
            "seed": config.train.seed,
            "data": runs.make_data(config, "train").description,
            "versions": {
                "lstmrep": lstmrep.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
            "device": report.device,
        },
        "evaluation": {
            "split": split,
            "clips": report.clips,
            "data": report.description,
            "unit": "nats/frame",
            "cross_entropy": {head: report.row(head, FREE).mean("cross_entropy") for head in heads},
            "per_frame": {head: report.row(head, FREE).curve("cross_entropy").tolist() for head in heads},
            "mean_frame": {head: report.row(head, MEAN).mean("cross_entropy") for head in heads},
        },
    }
    write_text(out / zoo.MANIFEST, json.dumps(made, indent=2) + "\n")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("name", help="of the model in the zoo")
    parser.add_argument("command", help="that trained it")
    parser.add_argument("--split", default="test")
    parser.add_argument("--clips", type=int, default=256)
    given = parser.parse_args()
    out = Path(zoo.__file__).parent / given.name
    made = pack(given.run, out, given.command, given.split, given.clips)
    print(json.dumps(made, indent=2))


if __name__ == "__main__":
    main()
