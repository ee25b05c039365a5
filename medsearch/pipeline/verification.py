"""``medsearch verify``: what a delivered network's ``budget.json`` certifies, measured again on the machine at hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medsearch.core.config import Node
from medsearch.core.errors import RunError, UsageError
from medsearch.core.files import read_json
from medsearch.exporters.checkpoint import Checkpoint, load_model
from medsearch.measurement.budget import show
from medsearch.measurement.costs import COSTS
from medsearch.measurement.device import Profile, describe
from medsearch.measurement.memory.processor import instructions
from medsearch.pipeline.alone import measure_alone
from medsearch.pipeline.deliver import artifact_name, training_device, versions
from medsearch.pipeline.setup import save_in_cache
from medsearch.targets import TARGETS
from medsearch.targets.target import make_target
from medsearch.train import TrainingRecipe

FOLDER = "Give a folder that a search delivered, such as models/<id>, with model.pt, model.onnx and budget.json."
PARTS = ("architecture", "verdict", "device", "instructions", "versions", "conditions", "limits")
CHANGED = "It is not as a search of this version writes it; deliver the network again."


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What a ``budget.json`` says.

    Args:
        architecture: id of the genotype.
        device, instructions, versions: where it was measured, and with what.
        recipe: of the training step.
        images: type of the intensities that the step was made with, ``uint8`` or ``float32``.
        size: spatial size of the images.
        target, threads: that its latency was measured with.
        limits, measured: by the name of the cost; None where there is no limit.
    """

    architecture: str
    device: Mapping[str, Any]
    instructions: Mapping[str, Any]
    versions: Mapping[str, Any]
    recipe: TrainingRecipe
    images: str
    size: tuple[int, ...]
    target: str
    threads: int
    limits: Mapping[str, float | None]
    measured: Mapping[str, float]


def verify(path: Path) -> dict[str, Any]:
    """Measure a delivered network again, and compare it with its certificate and its limits.

    Args:
        path: its folder, or the model.pt in it.

    Raises:
        MedsearchError: for anything that is no delivered network, or is damaged.
    """
    folder = path if path.is_dir() else path.parent
    if path.is_dir() and not (folder / "model.pt").is_file():
        raise UsageError(str(path), "holds no model.pt.", FOLDER)
    checkpoint = load_model(folder / "model.pt" if path.is_dir() else path)
    certificate = read_certificate(folder / "budget.json")
    if (certificate.architecture, certificate.size) != (checkpoint.genotype.id, checkpoint.size):
        seen = f"{certificate.architecture} at {certificate.size}"
        raise RunError(str(folder / "budget.json"), f"is of {seen}, the model is {checkpoint.genotype.id}.", FOLDER)
    artifact = _artifact(folder, checkpoint, certificate.target)
    profile = Profile(threads=certificate.threads, target=certificate.target)
    names = list(certificate.measured)
    found = measure_alone(
        checkpoint, profile, recipe=certificate.recipe, images=certificate.images, artifact=artifact, names=names
    )
    compared = _compared(certificate, {name: found[name].value if name in found else None for name in names})
    if unsaved := save_in_cache(profile):
        compared["remarks"].append(unsaved)
    return compared


def read_certificate(path: Path) -> Certificate:
    """What ``path`` says, checked.

    Raises:
        RunError: for a file that is missing, damaged or of another version.
    """
    if not path.is_file():
        raise RunError(str(path), "is not there.", FOLDER)
    root = Node(read_json(path), str(path), error=RunError)
    entries = root.mapping(required=PARTS)
    conditions = entries["conditions"].entries()
    training = ("batch", "accumulate", "checkpointing", "precision")
    wanted = {*(f"training_{name}" for name in training), "images", "size", "inference_target", "inference_threads"}
    if missing := wanted - set(conditions):
        raise entries["conditions"].wrong(f"missing {', '.join(sorted(missing))}.", CHANGED)
    costs = entries["limits"].entries()
    for name, node in costs.items():
        COSTS.find(name, where=node.where, error=RunError)
    keys = ("limit", "predicted", "measured", "verdict")
    fields = {name: node.mapping(required=keys) for name, node in costs.items()}
    batch = conditions["training_batch"].integer(low=1)
    return Certificate(
        architecture=entries["architecture"].text(),
        device={name: node.value for name, node in entries["device"].entries().items()},
        instructions={name: node.value for name, node in entries["instructions"].entries().items()},
        versions={name: node.value for name, node in entries["versions"].entries().items()},
        recipe=TrainingRecipe(
            epochs=1,
            batch=batch,
            accumulate=conditions["training_accumulate"].integer(low=1, high=batch),
            checkpointing=conditions["training_checkpointing"].boolean(),
            precision=conditions["training_precision"].choice(("fp32", "bf16")),
        ),
        images=conditions["images"].choice(("uint8", "float32")),
        size=tuple(side.integer(low=1) for side in conditions["size"].items()),
        target=conditions["inference_target"].choice(tuple(TARGETS)),
        threads=conditions["inference_threads"].integer(low=1),
        limits={name: _limit(found["limit"]) for name, found in fields.items()},
        measured={name: _value(found["measured"]) for name, found in fields.items()},
    )


def _limit(node: Node) -> float | None:
    return None if node.value is None else node.number(low=0)


def _value(node: Node) -> float:
    entries = node.entries()
    if "value" not in entries:
        raise node.wrong("missing value.", CHANGED)
    return entries["value"].number(low=0)


def _artifact(folder: Path, checkpoint: Checkpoint, target: str) -> bytes:
    """The file for the target, if that opens it and it takes images like those of the model."""
    path = folder / artifact_name(target)
    if not path.is_file():
        raise RunError(str(path), "is not there.", FOLDER)
    model = path.read_bytes()
    try:
        shapes = make_target(target).input_shapes(model)
    except Exception as problem:  # a target has no common class for what it refuses
        raise RunError(str(path), f"is not a model that {target} can open.", str(problem)) from problem
    wanted = ((1, checkpoint.interface.channels, *checkpoint.size),)
    if shapes != wanted:
        raise RunError(str(path), f"takes {shapes}, the model takes {wanted}.", FOLDER)
    return model


def _compared(certificate: Certificate, now: Mapping[str, float | None]) -> dict[str, Any]:
    costs = {
        name: {
            "certified": certificate.measured[name],
            "now": value,
            "limit": (limit := certificate.limits[name]),
            "verdict": _verdict(value, limit),
        }
        for name, value in now.items()
    }
    over = [name for name, cost in costs.items() if cost["verdict"] == "over"]
    here = {**describe(certificate.threads, certificate.target), "training": training_device()}
    compared = {
        "another device": (certificate.device, here),
        "other instructions": (_used(certificate.instructions), _used(instructions())),
        "other versions": (certificate.versions, versions()),
    }
    remarks = [f"{what}: {', '.join(found)}." for what, pair in compared.items() if (found := _differing(*pair))]
    return {
        "architecture": certificate.architecture,
        "kept": not over,
        "verdict": f"over budget: {', '.join(over)}" if over else "within budget",
        "device": here,
        "remarks": remarks,
        "costs": costs,
    }


def _verdict(value: float | None, limit: float | None) -> str:
    if limit is None:
        return "no limit"
    return "kept" if value is not None and value <= limit else "over"


def _used(instructions: Mapping[str, Any]) -> dict[str, Any]:
    """What is computed with; processor and torch are compared as device and versions."""
    return {name: instructions.get(name) for name in ("aten", "onednn")}


def _differing(certified: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What is not as certified, in words."""
    names = sorted({*certified, *here})
    return [
        f"{name} {here.get(name)}, certified {certified.get(name)}"
        for name in names
        if certified.get(name) != here.get(name)
    ]


def rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The comparison as a table."""
    return [
        {
            "cost": name,
            "certified": show(name, cost["certified"]),
            "now": "cannot be measured here" if cost["now"] is None else show(name, cost["now"]),
            "limit": "" if cost["limit"] is None else show(name, cost["limit"]),
            "verdict": cost["verdict"],
        }
        for name, cost in found["costs"].items()
    ]
