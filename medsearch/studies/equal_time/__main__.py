"""The command: ``python -m medsearch.studies.equal_time --recipe recipes/bench/equal-time.yaml --core 1``.

Rows that are in the file already are not measured again, so that what was interrupted goes on when it is started anew.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from medsearch.core.errors import MedsearchError, UsageError
from medsearch.core.files import read_json, write_text
from medsearch.core.lock import hold
from medsearch.core.units import format_seconds
from medsearch.studies.equal_time.job import ROW, Job
from medsearch.studies.equal_time.plan import Case, Plan, read_plan
from medsearch.studies.equal_time.report import page
from medsearch.studies.equal_time.rows import Row, append_row, read_rows

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing, or only write the page; returns the exit code.

    0: no row is missing.  1: some rows could not be measured.  2: wrong input.  130: interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="python -m medsearch.studies.equal_time", description=__doc__)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/bench/equal-time.yaml"), metavar="YAML")
    parser.add_argument("--core", type=int, default=0, metavar="N", help="that rows are measured on (default 0)")
    parser.add_argument("--data-folder", type=Path, default=Path(), metavar="DIR", help="below which the files lie")
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("reports/search/equal-time.jsonl"), metavar="JSONL", help="of the rows"
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/equal-time"), metavar="DIR", help="where searches go and what they say"
    )
    parser.add_argument("--report", action="store_true", help="write the page from the rows, and measure nothing")
    options = parser.parse_args(arguments)
    command = " ".join(["python -m medsearch.studies.equal_time", *(each for each in arguments if each != "--report")])
    try:
        plan = read_plan(options.recipe)
        if options.report:
            write_text(options.out.with_suffix(".md"), page(read_rows(options.out), plan.cases, command=command))
            return 0
        with hold(options.runs):
            failed = equal_time(
                plan,
                core=options.core,
                data_folder=options.data_folder,
                out=options.out,
                runs=options.runs,
                command=command,
            )
        return 1 if failed else 0
    except MedsearchError as problem:
        print(f"equal_time: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("equal_time: interrupted; rows that were finished are kept.", file=sys.stderr)
        return 130


def equal_time(plan: Plan, *, core: int, data_folder: Path, out: Path, runs: Path, command: str) -> list[Case]:
    """Measure every row that is not in ``out``, and write the page beside it after each; returns those that failed.

    Args:
        plan: what to measure.
        core: number of the core that rows are measured on; a row of more workers takes the next ones too.
        data_folder: below which the files of the sets lie.
        out: the file of rows.
        runs: a folder for the runs of searches and what they print.
        command: that the page names.

    Raises:
        UsageError: if there is no such core.
        RunError: if the file holds something else.
    """
    cores = sorted(os.sched_getaffinity(0))
    if core not in cores:
        raise UsageError("--core", f"there is no core {core} here.", f"Known: {', '.join(map(str, cores))}.")
    if (most := max((case.workers for case in plan.cases), default=1)) > len(cores):
        raise UsageError("--recipe", f"a row needs {most} cores, there are {len(cores)}.", "Leave that row out.")
    cores = [core, *(other for other in cores if other != core)]
    rows = read_rows(out)
    done = set(map(Case.of, rows))
    todo, failed = [case for case in plan.cases if case not in done], []
    left = format_seconds(60 * sum(case.minutes for case in todo))
    print(f"{len(rows)} rows are there, {len(todo)} to be measured in at least {left}.", flush=True)
    for number, case in enumerate(todo, start=1):
        print(f"[{number}/{len(todo)}] {case.name}", flush=True)
        row = _measured(case, plan, cores=cores[: case.workers], source=plan.source(case.data, data_folder), runs=runs)
        if row is None:
            failed.append(case)
            print(f"{case.name} failed, and is tried again at the next start.", file=sys.stderr, flush=True)
            continue
        rows.append(row)
        append_row(out, row)
        write_text(out.with_suffix(".md"), page(rows, plan.cases, command=command))
    if not todo:
        write_text(out.with_suffix(".md"), page(rows, plan.cases, command=command))
    return failed


def _measured(case: Case, plan: Plan, *, cores: Sequence[int], source: str, runs: Path) -> Row | None:
    """A row, measured by a fresh process on ``cores``; None if that ended without one."""
    folder = runs / case.name
    job = Job(
        case=case,
        source=source,
        folder=str(folder),
        fresh_profile=plan.profile == "fresh",
        search_options=plan.search_options,
    )
    with _pinned(cores):
        process = subprocess.Popen(
            [sys.executable, "-m", "medsearch.studies.equal_time.measure", job.to_text()],
            stdin=subprocess.PIPE,
            env={**os.environ, **dict.fromkeys(THREADS, "1")},
            start_new_session=True,
        )
    try:
        code = process.wait()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.stdin is not None:
            process.stdin.close()
    return None if code else read_json(folder / ROW)


@contextmanager
def _pinned(cores: Sequence[int]) -> Iterator[None]:
    """Processes that are begun in the block stay on ``cores``, as do all that those begin."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


if __name__ == "__main__":
    sys.exit(main())
