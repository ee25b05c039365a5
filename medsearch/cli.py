"""The command line: verbs to functions.  It parses, prints and decides exit codes, nothing else.

Exit codes: 0 done, 2 wrong input (one message, no traceback), 3 refused (a result did not pass its own checks),
130 interrupted, by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medsearch import __version__
from medsearch.core.errors import MedsearchError, RefusedError, UsageError, WriteError

UNITS = "GB = 10^9 bytes, GiB = 2^30 bytes; times like 20ms, 0.02s, 10m; counts like 5M, 300k"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong the way every other error is said."""

    def error(self, message: str) -> Any:
        raise UsageError(self.prog, f"{message}.", f"See: {self.prog} --help")


def _count(text: str) -> int:
    """A whole number, at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number, at least 1, got '{text}'")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code.  SIGTERM ends it as Ctrl-C does."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _open_standard_streams()
    with _interrupted_by(signal.SIGTERM):
        return _run(arguments)


def _open_standard_streams() -> None:
    """Put the null device where input, output or errors were closed, so that no file or pipe takes their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free


@contextmanager
def _interrupted_by(number: signal.Signals) -> Iterator[None]:
    """A signal that is not ignored raises KeyboardInterrupt while the block runs; not in a thread, which gets none."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(number) is signal.SIG_IGN:
        yield
        return
    before = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(number, before or signal.SIG_DFL)


def _run(arguments: list[str]) -> int:
    # torch's profiler otherwise writes a line whenever memory is measured
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    try:
        options = _parser().parse_args(arguments)
        options.command = shlex.join(["medsearch", *arguments])
        if options.plugin:
            from medsearch.core.plugins import use

            use(options.plugin)
        return int(options.verb(options) or 0)
    except MedsearchError as problem:
        print(f"medsearch: {problem}", file=sys.stderr)
        return 3 if isinstance(problem, RefusedError) else 2
    except KeyboardInterrupt as stop:
        print(
            "\n  ".join(["medsearch: interrupted; what was finished is kept.", *map(str, stop.args)]), file=sys.stderr
        )
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    except OSError as problem:  # no room, no permission
        print(f"medsearch: {problem.filename or 'a file'}: {problem.strerror or problem}.", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="medsearch",
        description="Find, shrink and export the network that fits your medical images and your machine.",
        epilog=f"Units: {UNITS}.",
    )
    parser.add_argument("--version", action="version", version=f"medsearch {__version__}")
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module of yours that registers mixers or other parts, before the verb; may be repeated",
    )
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB", parser_class=_Parser)
    for add in (
        _add_search,
        _add_verify,
        _add_compress,
        _add_export,
        _add_bench,
        _add_report,
        _add_data,
        _add_spaces,
        _add_doctor,
    ):
        add(verbs)
    return parser


def _add_search(verbs: Any) -> None:
    verb = verbs.add_parser(
        "search",
        help="search networks under hard budgets, train and deliver the best",
        description="Search a space of networks on a data set; nothing over budget is trained or delivered.",
        epilog=f"Units: {UNITS}.",
    )
    verb.add_argument(
        "--data", help="an .npz file, a folder of classes, or an embedded set (default: embedded brain2d)"
    )
    verb.add_argument("--task", help="classification, segmentation or denoising, where the data leaves it open")
    verb.add_argument("--space", help="name or file of a search space (default: by the data's dimensions)")
    verb.add_argument("--recipe", help="name or file of a recipe; options on the command line win over it")
    verb.add_argument("--budget-mem", metavar="1GB", help="peak memory of one training step")
    verb.add_argument("--budget-latency", metavar="20ms", help="median latency of the ONNX file, batch 1, 1 thread")
    verb.add_argument(
        "--latency-threads", type=int, metavar="N", help="of ONNX Runtime, for --budget-latency (default 1)"
    )
    verb.add_argument("--runtime", help="that networks are timed in: onnxruntime-cpu (default) or onnxruntime-cuda")
    verb.add_argument("--profile", metavar="JSON", help="file of doctor --profile -o (default: the one in the cache)")
    verb.add_argument("--budget-params", metavar="1M", help="number of parameters")
    verb.add_argument("--budget-infer-mem", metavar="100MB", help="peak memory of a forward pass, batch 1")
    verb.add_argument("--budget-macs", metavar="500M", help="multiply-adds of one image")
    verb.add_argument("--budget-file", metavar="5MB", help="size of the ONNX file")
    verb.add_argument(
        "--fit-batch",
        action="store_true",
        default=None,
        help="train each network so that a step keeps --budget-mem: the batch in pieces whose gradients add up, in 16 "
        "bits unless --precision is given, blocks run again in the backward pass",
    )
    verb.add_argument(
        "--time",
        metavar="10m",
        help="time for everything (default 15m, unless --trials is given); with --resume that of all starts together",
    )
    verb.add_argument(
        "--trials", type=int, metavar="N", help="number of trials; with --resume that of all starts together"
    )
    verb.add_argument("--finalists", type=int, metavar="N", help="networks trained fully (default 3)")
    verb.add_argument("--strategy", help="tpe (default), nsga2, evolution or random")
    verb.add_argument("--epochs-search", type=int, metavar="N", help="epochs of a trial (default: by the time)")
    verb.add_argument("--epochs", type=int, metavar="N", help="epochs of the full training (default: by the time)")
    verb.add_argument(
        "--batch",
        type=int,
        metavar="N",
        help="images per training step (default by the size of the data, at most 64 in 2D, 32 in 3D)",
    )
    verb.add_argument("--precision", choices=["fp32", "bf16"], help="of training (default: whichever is faster here)")
    verb.add_argument("--workers", type=int, metavar="N", help="trainings at once (default: one per processor)")
    verb.add_argument("--seed", type=int, metavar="N", help="of everything random (default 0)")
    verb.add_argument("--compress", action="store_true", default=None, help="compress the best network at the end")
    verb.add_argument("-o", "--out", metavar="RUN", help="folder of the run (default: runs/<data>-<date>)")
    verb.add_argument(
        "--resume",
        metavar="RUN",
        help="go on with an interrupted search, or extend a finished one by a larger --time or --trials; --data and "
        "--space say where the same data and space are now",
    )
    verb.add_argument("--json", action="store_true", help="print the results as JSON")
    verb.set_defaults(verb=_search)


def _add_verify(verbs: Any) -> None:
    verb = verbs.add_parser(
        "verify",
        help="measure a delivered network again, on this machine, and compare with its budget.json",
        description="Exit code 0: every limit is kept here; 3: at least one is not.",
    )
    verb.add_argument("model", help="a delivered folder, or the model.pt in it")
    verb.add_argument("--json", action="store_true", help="print the results as JSON")
    verb.set_defaults(verb=_verify)


def _add_compress(verbs: Any) -> None:
    verb = verbs.add_parser(
        "compress",
        help="prune and quantize a model.pt to an ONNX file that is measured to be smaller, faster and as good",
        description="Prune, distil, quantize; what is slower, larger or worse than allowed is refused (exit code 3).",
    )
    verb.add_argument("model", help="a model.pt")
    verb.add_argument("--data", help="the data to prune, distil and judge by (default: what the model was trained on)")
    verb.add_argument("--keep-macs", type=float, default=0.7, metavar="0.7", help="share of multiply-adds to keep")
    verb.add_argument("--max-drop", type=float, default=1.0, metavar="1.0", help="points of the metric it may lose")
    verb.add_argument("--epochs", type=_count, metavar="N", help="epochs of distillation")
    verb.add_argument("-o", "--out", metavar="DIR", help="where the files go (default: compressed/ beside the model)")
    verb.add_argument("--json", action="store_true", help="print the results as JSON")
    verb.set_defaults(verb=_compress)


def _add_export(verbs: Any) -> None:
    verb = verbs.add_parser("export", help="write a model.pt as one plain Python file, or as ONNX")
    verb.add_argument("model", help="a model.pt")
    verb.add_argument("-o", "--out", required=True, metavar="FILE", help="backbone.py or model.onnx")
    verb.set_defaults(verb=_export)


def _add_bench(verbs: Any) -> None:
    verb = verbs.add_parser(
        "bench",
        help="latency and size of ONNX files side by side, or of token mixers and public implementations",
        description="FILES side by side, as ratios in one process; or with --blocks token mixers beside "
        "public implementations (needs the extra 'bench': pip install 'medsearch[bench]').",
    )
    verb.add_argument("files", nargs="*", help="ONNX files or model.pt; the first is what the others are compared with")
    verb.add_argument("--blocks", metavar="RECIPE", help="a file such as recipes/bench/blocks.yaml")
    verb.add_argument("-o", "--out", metavar="CSV", help="with --blocks: gets a row as each is measured, keeps others")
    verb.add_argument("--seconds", type=float, default=0.5, metavar="S", help="with --blocks: for a row (default 0.5)")
    verb.add_argument("--only", action="append", default=[], metavar="MIXER", help="with --blocks; may be repeated")
    verb.add_argument("--threads", type=_count, metavar="N", help="of ONNX Runtime (default 1; with --blocks all)")
    verb.add_argument("--json", action="store_true", help="print the results as JSON")
    verb.set_defaults(verb=_bench)


def _add_report(verbs: Any) -> None:
    verb = verbs.add_parser("report", help="print the report of a finished search and write its page again")
    verb.add_argument("run", help="folder of the run")
    verb.add_argument("--json", action="store_true", help="print the results as JSON")
    verb.set_defaults(verb=_report)


def _add_data(verbs: Any) -> None:
    verb = verbs.add_parser("data", help="check a data set: balance, leaks between splits, unreadable files")
    verb.add_argument("action", choices=["check"])
    verb.add_argument("source", nargs="?", help="as for search --data")
    verb.add_argument("--task", help="where the data leaves it open")
    verb.add_argument("--json", action="store_true", help="print the results as JSON")
    verb.set_defaults(verb=_data)


def _add_spaces(verbs: Any) -> None:
    verb = verbs.add_parser(
        "spaces",
        help="list, show or count search spaces; verify the published architectures among them",
        description="verify: count every published architecture (exit code 1 if one differs from what was published).",
    )
    verb.add_argument("action", choices=["list", "show", "count", "verify"])
    verb.add_argument("name", nargs="?", help="name or file of a space")
    verb.add_argument("--json", action="store_true", help="print the results as JSON")
    verb.set_defaults(verb=_spaces)


def _add_doctor(verbs: Any) -> None:
    verb = verbs.add_parser("doctor", help="what this machine has, and how well costs are predicted on it")
    verb.add_argument("--profile", action="store_true", help="time the parts of --space on this device, once (minutes)")
    verb.add_argument(
        "--operators",
        action="store_true",
        help="run every operator of --space once, in both precisions, and say what this machine cannot do",
    )
    verb.add_argument("--predictions", type=_count, metavar="N", help="predict and measure N networks of --space")
    verb.add_argument(
        "--feasibility",
        type=_count,
        metavar="N",
        help="search --space for N trials under binding budgets, measure each",
    )
    verb.add_argument("--strategy", default="tpe", help="of the search for --feasibility (default tpe)")
    verb.add_argument("--threads", type=_count, default=1, metavar="N", help="of ONNX Runtime (default 1)")
    verb.add_argument("--runtime", help="onnxruntime-cpu (default) or onnxruntime-cuda")
    verb.add_argument("--space", help="name or file of a space (default: hybrid2d-tiny)")
    verb.add_argument("--data", help="the data whose image size counts (default: embedded)")
    verb.add_argument("-o", "--out", metavar="FILE", help="CSV to append a row per network to; JSON of --profile")
    verb.add_argument("--json", action="store_true", help="print the results as JSON")
    verb.set_defaults(verb=_doctor)


def _search(options: argparse.Namespace) -> None:
    from medsearch.pipeline.begin import begin, go_on
    from medsearch.pipeline.search import search

    with go_on(options) if options.resume else begin(options) as (run, setup):
        try:
            results = search(run, run.config, run.command, setup)
        except WriteError as problem:
            remedy = f"{problem.remedy} Then go on with: {run.resume_command}"
            raise WriteError(problem.where, problem.problem, remedy) from problem
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"Go on with: {run.resume_command}") from None
    if options.json:
        print(json.dumps(results))
        return
    from medsearch.report.terminal import front_table

    _print(front_table(results))
    print(f"Report: {run.folder / 'report.md'}")


def _verify(options: argparse.Namespace) -> int:
    from medsearch.pipeline.verification import rows, verify

    found = verify(Path(options.model))
    if options.json:
        print(json.dumps(found))
    else:
        _show(rows(found), options)
        print("\n".join([*found["remarks"], found["verdict"]]))
    return 0 if found["kept"] else 3


def _compress(options: argparse.Namespace) -> None:
    from medsearch.pipeline.compress import compress_file

    results = compress_file(
        Path(options.model),
        data=options.data,
        keep_macs=options.keep_macs,
        max_drop=options.max_drop,
        epochs=options.epochs,
        out=Path(options.out) if options.out else None,
    )
    if options.json:
        print(json.dumps(results))
        return
    from medsearch.report.terminal import compression_table

    _print(compression_table(results))


def _export(options: argparse.Namespace) -> None:
    from medsearch.pipeline.export import export_file

    print(export_file(Path(options.model), Path(options.out)))


def _bench(options: argparse.Namespace) -> None:
    if options.blocks:
        _show(_bench_blocks(options), options)
        return
    if not options.files:
        raise UsageError("medsearch bench", "nothing to time.", "Give ONNX files, or --blocks with a recipe.")
    if options.out or options.only:
        raise UsageError("medsearch bench", "-o and --only go with --blocks.", "See: medsearch bench --help")
    from medsearch.pipeline.bench import bench

    _show(bench([Path(file) for file in options.files], threads=options.threads or 1), options)


def _bench_blocks(options: argparse.Namespace) -> list[dict[str, Any]]:
    if options.files:
        raise UsageError("--blocks", "times token mixers, not files.", "Leave the files out, or --blocks.")
    if not options.out:
        raise UsageError("--blocks", "needs -o, a CSV file for the rows.", "For example: -o blocks.csv")
    if not 0 < options.seconds <= 3600:
        raise UsageError("--seconds", f"expected seconds from 0 to 3600, got {options.seconds:g}.", "For example: 0.5")
    from medsearch.studies.mixers import bench_blocks

    return bench_blocks(
        Path(options.blocks),
        out=Path(options.out),
        seconds=options.seconds,
        only=options.only,
        threads=options.threads,
        say=lambda line: print(line, file=sys.stderr if options.json else sys.stdout),
    )


def _report(options: argparse.Namespace) -> None:
    from medsearch.pipeline.report import read_results

    results = read_results(Path(options.run))
    if options.json:
        print(json.dumps(results))
        return
    from medsearch.report.page import write_report
    from medsearch.report.terminal import front_table

    _print(front_table(results))
    print(f"Report: {write_report(results, Path(options.run))}")


def _data(options: argparse.Namespace) -> int:
    from medsearch.pipeline.data import check_data

    rows = check_data(options.source, task=options.task)
    _show(rows, options)
    return 3 if any(row.get("level") == "error" for row in rows) else 0


def _spaces(options: argparse.Namespace) -> int:
    if options.action == "verify":
        from medsearch.studies.published import verify_published

        rows = verify_published(options.name)
        _show(rows, options)
        return int(any(row["verdict"] == "differs" for row in rows))
    from medsearch.pipeline.spaces import spaces

    _show(spaces(options.action, options.name), options)
    return 0


def _doctor(options: argparse.Namespace) -> None:
    from medsearch.measure.latency.runtime import DEFAULT
    from medsearch.studies.doctor import doctor

    rows = doctor(
        profile=options.profile,
        operators=options.operators,
        predictions=options.predictions,
        feasible=options.feasibility,
        strategy=options.strategy,
        threads=options.threads,
        runtime=options.runtime or DEFAULT,
        say=lambda line: print(f"medsearch: {line}", file=sys.stderr),
        space=options.space,
        data=options.data,
        out=Path(options.out) if options.out else None,
    )
    _show(rows, options)


def _show(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(rows))
        return
    from medsearch.report.rows import table

    _print(table(rows))


def _print(renderable: Any) -> None:
    from rich.console import Console

    Console().print(renderable)
