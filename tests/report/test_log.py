"""A search as records of ``logging``."""

from __future__ import annotations

import logging

import pytest

from medsearch.report.log import LOGGER, Log


def tell(log: Log) -> None:
    """All that a search can tell."""
    log.begin("cells: classification in tiny", seconds=None, spent=0.0, resume="medsearch search --resume runs/x")
    log.earlier([{}, {}, {}], front=[{}])
    log.phase("searching")
    log.progress(2, 10, "blocks")
    log.trial({"number": 3, "id": "0123456789", "state": "complete", "error": 0.25})
    log.front([{}])
    log.note("100 % of it: %s stays as it is")
    log.end()


def test_everything_worth_reading_is_information_and_progress_is_for_debugging(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG, logger="medsearch"):
        tell(Log())
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "cells: classification in tiny; go on with: medsearch search --resume runs/x"),
        ("INFO", "going on after 3 trials, 1 on the front"),
        ("INFO", "searching"),
        ("DEBUG", "2 of 10 blocks"),
        ("INFO", "trial 3 0123456789: complete, error 0.25"),
        ("INFO", "100 % of it: %s stays as it is"),
    ]
    assert {record.name for record in caplog.records} == {"medsearch"}


def test_levels_and_handlers_are_left_to_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    tell(Log())
    assert (LOGGER.level, LOGGER.handlers) == (logging.NOTSET, [])
    assert capsys.readouterr() == ("", "")
