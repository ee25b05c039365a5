"""What a search found, as objects for a notebook."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsearch.core.errors import RunError, UsageError
from medsearch.pipeline.report import read_results
from medsearch.report.networks import text

if TYPE_CHECKING:
    import pandas

    from medsearch.backbones import Network


@dataclass(frozen=True, kw_only=True)
class DeliveredModel:
    """A network that was trained fully, exported, and measured within the budget.

    Args:
        id: of its architecture.
        folder: of its files.
        validation, test: metric to value.
        data: everything else that is known of it, as in ``results.json``.
    """

    id: str
    folder: Path
    validation: Mapping[str, float]
    test: Mapping[str, float]
    data: Mapping[str, Any] = field(repr=False)

    @property
    def checkpoint(self) -> Path:
        """``model.pt``, for :func:`medsearch.load` and :func:`medsearch.compress`."""
        return self.folder / "model.pt"

    @property
    def onnx(self) -> Path:
        """The ONNX file."""
        return self.folder / "model.onnx"

    @property
    def module(self) -> Path:
        """The network as one Python file that needs torch alone; its weights lie beside it."""
        return self.folder / "backbone.py"

    def load(self, *, num_classes: int | None = None) -> Network:
        """The network in eval mode; see :func:`medsearch.load`."""
        from medsearch.api.models import load

        return load(self.checkpoint, num_classes=num_classes)


@dataclass(frozen=True)
class SearchResult:
    """A finished search.

    Args:
        folder: of the run.
        data: everything that was found: the contents of ``results.json``.
    """

    folder: Path
    data: Mapping[str, Any] = field(repr=False)

    @classmethod
    def read(cls, folder: str | Path) -> SearchResult:
        """The results of a run that has finished.

        Raises:
            RunError: if there are none in ``folder``.
        """
        return cls(Path(folder), read_results(Path(folder)))

    @property
    def trials(self) -> Sequence[Mapping[str, Any]]:
        """Every trial in the order of the search, failed ones too."""
        found: Sequence[Mapping[str, Any]] = self.data["trials"]
        return found

    @property
    def front(self) -> Sequence[Mapping[str, Any]]:
        """The trials on the Pareto front of error and costs."""
        return [trial for trial in self.trials if trial["front"]]

    @property
    def models(self) -> Sequence[DeliveredModel]:
        """The delivered networks, the best on the validation split first."""
        return [
            DeliveredModel(
                id=each["id"],
                folder=self.folder / each["folder"],
                validation=each["validation"],
                test=each["test"],
                data=each,
            )
            for each in self.data["delivered"]
        ]

    @property
    def best(self) -> DeliveredModel:
        """The delivered network that is best on the validation split.

        Raises:
            RunError: if none kept the budget when it was measured; the report says by how much.
        """
        if not self.models:
            raise RunError(str(self.folder), "no network was delivered.", f"{self.report} says why.")
        return self.models[0]

    @property
    def report(self) -> Path:
        """The page for people, in Markdown."""
        return self.folder / "report.md"

    def to_frame(self) -> pandas.DataFrame:
        """A row for each trial, nested values in columns such as ``metrics.accuracy``.

        Raises:
            UsageError: where pandas is not installed.
        """
        try:
            import pandas
        except ImportError as problem:
            raise UsageError("to_frame", "needs pandas.", "pip install 'medsearch[notebook]'") from problem
        return pandas.json_normalize([dict(trial) for trial in self.trials])

    def _repr_html_(self) -> str:
        """A table of the delivered networks, as a notebook shows it."""
        primary = str(self.data["primary"])
        head = "".join(
            f"<th>{title}</th>" for title in ("network", "mixers", f"validation {primary}", f"test {primary}")
        )
        body = "".join(
            f"<tr><td>{_text(model.id)}</td><td>{_text(' / '.join(model.data['mixers']))}</td>"
            f"<td>{_score(model.validation.get(primary))}</td><td>{_score(model.test.get(primary))}</td></tr>"
            for model in self.models
        )
        title = f"{self.data['data']['name']}: {len(self.trials)} trials, {len(self.models)} networks delivered"
        return f"<p>{_text(title)}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


@dataclass(frozen=True)
class CompressionResult:
    """A compressed network.

    Args:
        folder: of its files.
        data: everything that was measured: the contents of ``compression.json``.
    """

    folder: Path
    data: Mapping[str, Any] = field(repr=False)

    @property
    def onnx(self) -> Path:
        """The int8 file."""
        return self.folder / "int8.onnx"

    def __str__(self) -> str:
        """What was gained, in one sentence."""
        return str(self.data["sentence"])


def _score(value: object) -> str:
    return text(value, "{:.4g}".format)


def _text(value: object) -> str:
    return html.escape(str(value))
