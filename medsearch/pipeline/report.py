"""``medsearch report``: the results of a finished search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medsearch.core.errors import RunError
from medsearch.core.files import read_json
from medsearch.pipeline.results import FORMAT
from medsearch.run import resume_command


def read_results(folder: Path) -> dict[str, Any]:
    """The ``results.json`` of a run; RunError if there is none."""
    path = folder / "results.json"
    if not path.exists():
        going = (folder / "config.json").exists()
        remedy = f"Finish it with: {resume_command(folder)}" if going else "Give the folder that -o named."
        raise RunError(str(folder), "there are no results here.", remedy)
    results = read_json(path)
    if not isinstance(results, dict) or "delivered" not in results:
        raise RunError(str(path), "does not hold the results of a search.")
    if (seen := results.get("format", 1)) != FORMAT:
        problem = f"holds results in format {seen} of another version of medsearch; this one has format {FORMAT}."
        raise RunError(str(path), problem, "Read its report.md, or use the version that wrote it.")
    return results
