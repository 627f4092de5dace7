"""Pages of docs/ that follow from the code."""

from typing import Any

from pydantic import TypeAdapter

from motionbench.data.perturbations import PERTURBATIONS, Perturbation

INTRODUCTION = """# Perturbations

`compare` tests every replicate on perturbed test clips too, to see what its answers rest on. The levels are in the
section `perturbations` of params.yaml. A new perturbation is one decorated function in
[perturbations.py](../src/motionbench/data/perturbations.py) and one line in params.yaml; `make docs` writes this page.
"""


def describe_perturbations() -> str:
    """Return docs/perturbations.md: what each perturbation does, its levels, and whether it changes labels."""
    rows = [
        ["perturbation", "what it does", "levels", "clips stay the same at", "labels"],
        ["---"] * 5,
        *([name, *_describe(perturbation)] for name, perturbation in PERTURBATIONS.items()),
    ]
    return "\n".join([INTRODUCTION, *(f"| {' | '.join(row)} |" for row in rows), ""])


def _describe(perturbation: Perturbation) -> list[str]:
    documentation = perturbation.apply.__doc__ or ""
    unchanged = perturbation.unchanged if isinstance(perturbation.unchanged, str) else f"{perturbation.unchanged:g}"
    labels = "ascending and descending swap" if perturbation.mirrors_labels else "stay"
    return [documentation.splitlines()[0], _bounds(perturbation.level), unchanged, labels]


def _bounds(level: Any) -> str:
    schema = TypeAdapter(level).json_schema()
    if "const" in schema:
        return f"{schema['const']}"
    kind = {"integer": "whole numbers", "number": "numbers"}[schema["type"]]
    low = f"from {schema['minimum']:g}" if "minimum" in schema else f"above {schema['exclusiveMinimum']:g}"
    return f"{kind} {low} to {schema['maximum']:g}"
