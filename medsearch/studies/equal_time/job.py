"""What the process that measures a row is told, as text on its command line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self

from medsearch.studies.equal_time.plan import Case

ROW = "row.json"
"""The file of the row in the folder of the job."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the process is told.

    Args:
        case: the row.
        source: of the data.
        folder: where the row goes, and the run of a search; emptied first.
        fresh_profile: whether a search measures the machine anew.
        search_options: more options of ``medsearch search``.
    """

    case: Case
    source: str
    folder: str
    fresh_profile: bool
    search_options: tuple[str, ...] = ()

    def to_text(self) -> str:
        """JSON that :meth:`of_text` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def of_text(cls, text: str) -> Self:
        """What :meth:`to_text` gave."""
        data = json.loads(text)
        return cls(**{**data, "case": Case(**data["case"]), "search_options": tuple(data["search_options"])})
