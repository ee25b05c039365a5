"""The command line: a mistake costs one message and leaves nothing behind, and a killed search loses nothing."""

from __future__ import annotations

import json
import os
import pickle
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsearch.cli import main
from medsearch.cli.parser import parse
from medsearch.cli.verbs.search import asked_for
from medsearch.core.errors import RefusedError
from medsearch.core.lock import hold
from medsearch.measurement.budget import Budget
from medsearch.run import Inputs, Run, SearchConfig

ROOT = Path(__file__).parents[1]
BLOCKS = ROOT / "recipes" / "bench" / "blocks.yaml"
Fails = Callable[..., str]

PAIRS = """\
name: pairs
runs: [{mode: eager, precisions: [fp32], threads: [1], batch: 1, shapes: [8x8x16]}]
references:
  - {mixer: axial_shift, reference: textbook_as_mlp, dims: [2]}
  - {mixer: hyena, reference: textbook_hyena, dims: [2]}
"""

TINY = """\
name: tiny
dims: 2
stem: {name: conv, stride: 2}
heads: {classification: classify}
stages:
  - {dim: {choice: [8, 16]}, mixer: {name: dwconv, kernel: {choice: [3, 5]}}, channel: {name: mlp, ratio: 2}}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every command runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str], folder: Path) -> Fails:
    """``fails("search", ...)``: the message; asserts the exit code, and that no file or folder has come or gone."""

    def run(*arguments: str, code: int = 2) -> str:
        before = sorted(folder.rglob("*"))
        assert main(arguments) == code
        written = capsys.readouterr()
        assert "Traceback" not in written.err + written.out
        assert written.err.startswith("medsearch: ")
        assert sorted(folder.rglob("*")) == before
        return written.err

    return run


def write_npz(path: str, *, count: int = 12, size: tuple[int, ...] = (16, 16), **changes: Any) -> str:
    """A set of two classes."""
    rng = np.random.default_rng(0)
    made: dict[str, Any] = {}
    for name, images in (("train", count), ("val", 4), ("test", 4)):
        made[f"{name}_images"] = rng.integers(0, 256, (images, *size), np.uint8)
        made[f"{name}_labels"] = np.arange(images) % 2
    np.savez(path, **{**made, **changes})
    return path


def write_text(path: str, text: str) -> str:
    Path(path).write_text(text)
    return path


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--budget-mem", "1banana", "--budget-mem: expected an amount of memory, got '1banana'"),
        ("--budget-mem", "0", "--budget-mem: expected an amount of memory, got '0'"),
        ("--budget-mem", "0GB", "--budget-mem: expected an amount of memory above zero, got '0GB'"),
        ("--budget-mem", "nan", "--budget-mem: expected an amount of memory, got 'nan'"),
        ("--budget-mem", "1e999GB", "--budget-mem: expected an amount of memory above zero"),
        ("--budget-mem", "-1GB", "argument --budget-mem: expected one argument"),
        ("--budget-mem=-1GB", None, "--budget-mem: expected an amount of memory above zero, got '-1GB'"),
        ("--budget-latency", "20", "--budget-latency: expected a time, got '20'"),
        ("--budget-infer-mem", "5", "--budget-infer-mem: expected an amount of memory, got '5'"),
        ("--budget-infer-mem", "5 fish", "Write it like 1GB or 512MiB; units: b, kb, mb, gb, tb, kib, mib, gib, tib."),
        ("--budget-macs", "1GB", "--budget-macs: expected a count, got '1GB'.\n  Write it like 5M or 300k"),
        ("--budget-macs", "0.1", "--budget-macs: expected a count above zero, got '0.1'"),
        ("--budget-file", "5M", "--budget-file: expected an amount of memory, got '5M'"),
        ("--budget-file", "0MB", "--budget-file: expected an amount of memory above zero, got '0MB'"),
        ("--fit-batch", None, "--fit-batch: fits what to?\n  Give the memory of a training step: --budget-mem 1GB."),
        ("--budget-params", "inf", "--budget-params: expected a count, got 'inf'"),
        ("--time", "soon", "--time: expected a time, got 'soon'"),
        ("--trials", "0", "--trials: expected a whole number of at least 1, got 0"),
        ("--trials", "many", "--trials: expected a whole number, got 'many'.\n  Like: --trials 3"),
        ("--workers", "-1", "--workers: expected a whole number of at least 1, got -1"),
        ("--precision", "fp8", "--precision: unknown choice 'fp8'.\n  Known: bf16, fp32."),
        ("--strategy", "magic", "--strategy: unknown search strategy 'magic'"),
        ("--latency-threads", "0", "--latency-threads: expected a whole number of at least 1, got 0"),
        ("--profile", "my.json", "there is no file 'my.json'.\n  Make one here: medsearch doctor --profile -o my.json"),
        ("--space", "hybrid2d-tny", "there is none named 'hybrid2d-tny'.\n  Did you mean 'hybrid2d-tiny'?"),
        ("--space", "mine.yaml", "mine.yaml: there is no such file"),
        ("--recipe", "dmeo", "Did you mean 'demo'?"),
        ("--task", "detection", "unknown task 'detection'"),
        ("--data", "nowhere.npz", "nowhere.npz: no such file"),
        ("--data", "brain2", "Did you mean 'brain2d'?"),
        ("--banana", None, "medsearch search: unknown argument '--banana'.\n  See: medsearch search --help"),
        ("--trial", "3", "unknown argument '--trial'.\n  Did you mean '--trials'?"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(fails: Fails, option: str, value: str | None, words: str) -> None:
    assert words in fails("search", "-o", "run", option, *([] if value is None else [value]))


def test_no_verb_and_no_such_verb_point_to_the_help(fails: Fails) -> None:
    assert "See: medsearch --help" in fails()
    assert "invalid choice: 'serach'" in fails("serach")


@pytest.mark.parametrize(
    ("verb", "text", "words"),
    [
        ("--space", TINY.replace("stages", "steges"), "unknown key 'steges'.\n  Did you mean 'stages'?"),
        ("--space", TINY.replace("dwconv", "dwcov"), "unknown token mixer 'dwcov'.\n  Did you mean 'dwconv'?"),
        ("--space", TINY.replace("kernel", "kernal"), "'dwconv' has no knob 'kernal'.\n  Did you mean 'kernel'?"),
        ("--space", TINY.replace("[3, 5]", "[3, 4]"), "kernel"),
        ("--space", TINY.replace("dims: 2", "dims: [2"), "mine.yaml (line"),
        ("--space", "", "mine.yaml"),
        ("--recipe", "name: mine\nbudget: {memry: 1GB}\n", "unknown key 'memry'.\n  Did you mean 'memory'?"),
        ("--recipe", "name: mine\nbudget: {memory: 1banana}\n", "budget.memory (line 2): expected an amount of memory"),
        ("--recipe", "name: mine\nbudget: {file: 1banana}\n", "budget.file (line 2): expected an amount of memory"),
        ("--recipe", "name: mine\nfit_batch: 1GB\n", "fit_batch (line 2): expected true or false"),
        ("--recipe", "name: mine\ntrials: 2.5\n", "trials (line 2): expected a whole number"),
        ("--recipe", "name: mine\nprecision: fp8\n", "precision (line 2): unknown choice 'fp8'"),
        ("--recipe", "name: mine\nstrategy: magic\n", "unknown search strategy 'magic'"),
        ("--recipe", "trials: 3\n", "missing name"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(fails: Fails, verb: str, text: str, words: str) -> None:
    assert words in fails("search", "-o", "run", verb, write_text("mine.yaml", text))


@pytest.mark.parametrize(
    ("size", "changes", "options", "words"),
    [
        ((16, 16), {}, ["--task", "segmentation"], "has no train_masks"),
        ((8, 8, 8), {}, ["--space", "hybrid2d-tiny"], "mine.npz has 3D ones"),
        ((16, 16), {}, ["--space", "hybrid3d-tiny"], "'hybrid3d-tiny' is for 3D images"),
        ((16, 16), {"train_labels": np.zeros(12, int)}, [], "class 'class 1' (label 1) is empty in train"),
        ((16, 16), {"val_images": np.zeros((4, 12, 12), np.uint8)}, [], "images are 1 x 16 x 16"),
        ((16, 16), {"train_labels": np.arange(11) % 2}, [], "12 images, but 11 targets"),
    ],
)
def test_data_that_does_not_fit_is_refused(
    fails: Fails, size: tuple[int, ...], changes: dict[str, Any], options: list[str], words: str
) -> None:
    assert words in fails("search", "-o", "run", "--data", write_npz("mine.npz", size=size, **changes), *options)


def test_images_that_are_not_numbers_are_refused(fails: Fails) -> None:
    images = np.ones((12, 16, 16), np.float32)
    images[7, 0, 0] = np.nan
    assert "image 7 (counted from 0) holds NaN" in fails("search", "--data", write_npz("n.npz", train_images=images))


def test_images_of_mixed_size_are_refused_by_name(fails: Fails) -> None:
    from PIL import Image

    for name, side in (("cat/a.png", 8), ("cat/b.png", 8), ("dog/c.png", 9)):
        Path("pets", name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((side, side), np.uint8)).save(Path("pets", name))
    message = fails("search", "--data", "pets", "-o", "run")
    assert re.search(r"a\.png: is 8 x 8 pixels, but \S*c\.png is 9 x 9", message)


@pytest.mark.parametrize("verb", ["search", "data"])
def test_what_is_no_data_set_is_refused(fails: Fails, verb: str) -> None:
    write_text("mine.csv", "a,b")
    write_text("mine.npz", "not zipped")
    arguments = ("data", "check") if verb == "data" else ("search", "--data")
    assert "a folder of classes, an .npz file.  Convert it" in fails(*arguments, "mine.csv")
    assert "mine.npz: is not an npz file" in fails(*arguments, "mine.npz")


def test_a_folder_that_is_in_use_is_left_alone(fails: Fails) -> None:
    Path("run").mkdir()
    write_text("run/mine.txt", "mine")
    data, space = write_npz("mine.npz"), write_text("tiny.yaml", TINY)
    assert "not empty" in fails("search", "--data", data, "--space", space, "-o", "run")
    assert "cannot be written" in fails("search", "--data", data, "--space", space, "-o", "mine.npz/run")


def begun(**config: Any) -> Run:
    return Run.create(Path("run"), SearchConfig(**config), "medsearch search", Inputs(data={}, space=""), space="")


def test_what_trials_depend_on_cannot_change(fails: Fails) -> None:
    assert "is not the folder of a search" in fails("search", "--resume", "nowhere")
    begun(trials=3, seed=1)
    with hold(Path("run")):
        pass
    message = fails("search", "--resume", "run", "--seed", "2")
    assert "the run was begun with seed = 1, now 2 is asked for" in message
    message = fails("search", "--resume", "run", "--budget-file", "5MB")
    assert "the run was begun with budget = Budget(), now Budget(file='5 MB') is asked for" in message
    assert "begun with fit_batch = False, now True" in fails("search", "--resume", "run", "--fit-batch")


def test_limits_that_are_used_up_are_refused_with_the_numbers(fails: Fails) -> None:
    run = begun(time=600.0)
    run.note(seconds=843.0)
    with hold(Path("run")):
        pass
    message = fails("search", "--resume", "run", "--time", "14m")
    assert "--time: is the time of all starts together: 14 min 03 s are used, 14 min 00 s given." in message
    assert "Give more than what is used: medsearch search --resume run --time 29m" in message
    run.finish({"delivered": [], "trials": [{"state": "complete"}] * 5 + [{"state": "failed"}]})
    message = fails("search", "--resume", "run")
    assert "this search is finished.\n  Read run/report.md - or extend it" in message
    assert "medsearch search --resume run --time 29m" in message
    message = fails("search", "--resume", "run", "--trials", "5")
    assert "--trials: is the number of all starts together: 5 are done, 5 given." in message
    assert "medsearch search --resume run --trials 10" in message
    assert "14 min 00 s given" in fails("search", "--resume", "run", "--trials", "50", "--time", "14m")


def test_a_run_that_another_process_works_on_is_refused_at_once(fails: Fails) -> None:
    begun()
    with hold(Path("run")):
        for arguments in (["--resume", "run"], ["-o", "run", "--data", "mine.npz"]):
            assert "medsearch: run: " in fails("search", *arguments)
        message = fails("search", "--resume", "run")
    assert f"process {os.getpid()} on " in message
    assert f"Wait until it ends, or stop it: kill {os.getpid()}" in message


def test_a_search_that_is_not_finished_has_no_report(fails: Fails) -> None:
    assert "there are no results here.\n  Give the folder" in fails("report", "nowhere")
    begun()
    assert "Finish it with: medsearch search --resume run" in fails("report", "run")


class _Trap:
    """Unpickling it writes a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("trapped",)


def _models() -> dict[str, bytes]:
    whole = Path("whole.zip")
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps({"format": 1, "state_dict": _Trap()}, protocol=2))
        archive.writestr("model/version", "3\n")
    zipped = whole.read_bytes()
    whole.unlink()
    return {"text": b"hello", "empty": b"", "pickle": pickle.dumps(_Trap()), "zip": zipped, "cut": zipped[:-30]}


@pytest.mark.parametrize("verb", ["compress", "export", "bench"])
@pytest.mark.parametrize("kind", ["text", "empty", "pickle", "zip", "cut"])
def test_a_model_that_is_none_is_refused_and_not_run(fails: Fails, verb: str, kind: str) -> None:
    Path("model.pt").write_bytes(_models()[kind])
    options = ("-o", "backbone.py") if verb == "export" else ()
    assert "model.pt: is damaged, cut short, or holds more than tensors" in fails(verb, "model.pt", *options)
    assert not Path("trapped").exists()


@pytest.mark.parametrize("verb", ["compress", "export", "bench"])
def test_a_model_that_is_not_there_is_named(fails: Fails, verb: str) -> None:
    options = ("-o", "model.onnx") if verb == "export" else ()
    assert "nowhere.pt: cannot be read: No such file" in fails(verb, "nowhere.pt", *options)


@pytest.mark.parametrize("line", ["bench m.onnx --threads", "compress model.pt --epochs", "doctor --predictions"])
@pytest.mark.parametrize("value", ["0", "-1", "2.5", "many"])
def test_counts_are_whole_and_at_least_one(fails: Fails, line: str, value: str) -> None:
    option = line.split()[-1]
    message = fails(*line.split()[:-1], f"{option}={value}")
    assert re.search(f"{option}: expected a whole number(, at least 1,|,| of at least 1,) got '?{value}'?", message)


def test_a_result_that_cannot_be_written_is_one_message(fails: Fails) -> None:
    from medsearch.backbones import Interface, build
    from medsearch.core.config import parse_yaml
    from medsearch.exporters.checkpoint import save_model
    from medsearch.spaces import read_space

    genotype = read_space(parse_yaml(TINY, "tiny").value, "tiny").first()
    interface = Interface(task="classification", channels=1, outputs=2)
    facts: dict[str, Any] = {"size": (16, 16), "classes": ("one", "other"), "scores": {}, "provenance": {}}
    save_model("model.pt", genotype=genotype, interface=interface, model=build(genotype, interface), **facts)
    write_text("mine.txt", "mine")
    assert "mine.txt is not a folder" in fails("export", "model.pt", "-o", "mine.txt/model.onnx")
    assert "no deployment target has files that end in '.txt'" in fails("export", "model.pt", "-o", "mine.txt")
    assert "cannot be imported under its name" in fails("export", "model.pt", "-o", "my-net.py")
    assert "in place of the library 'torch'" in fails("export", "model.pt", "-o", "torch.py")
    assert "the weights of 'model.py' would replace model.pt" in fails("export", "model.pt", "-o", "model.py")


def test_only_onnx_files_are_timed(fails: Fails) -> None:
    write_text("model.onnx", "hello")
    assert "model.onnx: is not a model that onnxruntime-cpu can open" in fails("bench", "model.onnx")
    assert "other.onnx: cannot be read: No such file" in fails("bench", "other.onnx")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "nothing to time.\n  Give ONNX files, or --blocks with a recipe."),
        (("a.onnx", "-o", "b.csv"), "-o and --only go with --blocks"),
        (("a.onnx", "--blocks", "b.yaml"), "--blocks: times token mixers, not files"),
        (("--blocks", "b.yaml"), "--blocks: needs -o, a CSV file"),
        (("--blocks", "b.yaml", "-o", "b.csv", "--seconds", "-1"), "--seconds: expected seconds from 0 to 3600, got"),
        (("--blocks", "b.yaml", "-o", "b.csv", "--seconds", "nan"), "--seconds: expected seconds from 0 to 3600, got"),
        (("--blocks", "b.yaml", "-o", "b.csv"), "b.yaml: cannot be read"),
        (("--blocks", str(BLOCKS), "-o", "b.csv", "--only", "dwcov"), "Did you mean 'dwconv'?"),
    ],
)
def test_a_benchmark_says_what_it_needs(fails: Fails, arguments: tuple[str, ...], words: str) -> None:
    assert words in fails("bench", *arguments)


def test_mixers_are_timed_beside_their_rivals(capsys: pytest.CaptureFixture[str]) -> None:
    write_text("one.yaml", PAIRS)
    asked = ["bench", "--blocks", "one.yaml", "-o", "one.csv", "--seconds", "0.01", "--only", "axial_shift"]
    assert main([*asked, "--json"]) == 0
    written = capsys.readouterr()
    (total,) = json.loads(written.out)
    assert (total["setup"], total["rows"]) == ("eager fp32, 1 thread", 1)
    assert "axial_shift" in written.err
    assert len(Path("one.csv").read_text().splitlines()) == 2
    assert "hyena" not in Path("one.md").read_text()
    assert main(asked) == 0
    assert "eager fp32, 1 thread" in capsys.readouterr().out


def test_recipes_of_other_verbs_are_not_taken_for_searches(fails: Fails) -> None:
    message = fails("search", "--recipe", "blocks")
    assert "there is none named 'blocks'" in message
    assert "Known: demo." in message


def test_every_way_of_saying_a_limit_reaches_the_settings() -> None:
    limits = "{inference: 1GiB, macs: 2G, memory: 1GB}"
    write_text("mine.yaml", f"name: mine\nfit_batch: true\nbudget: {limits}\n")
    _, options = parse(["search", "--recipe", "mine.yaml", "--budget-file", "1.5MB", "--budget-macs", "3M"])
    config = asked_for(options)
    kept = {"file": 1_500_000, "inference": 2**30, "macs": 3_000_000, "memory": 10**9}
    assert (dict(config.budget), config.fit_batch) == (kept, True)
    assert config.budget == Budget(file="1.5MB", inference="1GiB", macs="3M", memory=1e9)


def test_an_unknown_space_cannot_be_shown(fails: Fails) -> None:
    assert "there is none named 'swin'.\n  Did you mean 'swin-t'?" in fails("spaces", "show", "swin")
    assert "which space?" in fails("spaces", "count")


def test_tables_are_json_where_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["spaces", "count", write_text("tiny.yaml", TINY), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"space": "tiny", "architectures": 4, "genes": 2}]
    assert main(["data", "check", write_npz("mine.npz"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[0]["message"].startswith("mine: classification, 16x16, 1 channels, 2 classes; 12 train, 4 val")


def test_a_leak_between_splits_is_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16), np.uint8)
    assert main(["data", "check", write_npz("mine.npz", val_images=images, test_images=images), "--json"]) == 3
    assert "error" in {row["level"] for row in json.loads(capsys.readouterr().out)}


@pytest.mark.parametrize(
    ("option", "limit", "words"),
    [
        ("--budget-params", "10", r"fits 10: the smallest needs (\d+)\."),
        ("--budget-mem", "1kB", r"fits 1 kB: the smallest needs ([\d.]+) (kB|MB)\."),
        ("--budget-infer-mem", "1kB", r"fits 1 kB: the smallest needs ([\d.]+) kB\."),
        ("--budget-macs", "10", r"fits 10: the smallest needs ([\d.]+) k\."),
        ("--budget-latency", "1us", r"fits 0.001 ms: the smallest needs ([\d.e-]+) ms\."),
    ],
)
def test_a_budget_that_nothing_fits_names_what_can_be_had(fails: Fails, option: str, limit: str, words: str) -> None:
    """The smallest of TINY has 8 channels and a kernel of 3; the count is that of the network itself."""
    data, space = write_npz("mine.npz", count=32), write_text("tiny.yaml", TINY)
    message = fails("search", "--data", data, "--space", space, "-o", "run", option, limit, "--precision", "fp32")
    assert f"medsearch: {option}: no network of space 'tiny' fits" in message
    found = re.search(words, message)
    assert found
    assert "Give at least" in message
    if option == "--budget-params":
        from medsearch.backbones import Interface, build
        from medsearch.core.config import parse_yaml
        from medsearch.spaces import read_space

        smallest = read_space(parse_yaml(TINY, "tiny").value, "tiny").first()
        network = build(smallest, Interface(task="classification", channels=1, outputs=2))
        assert int(found[1]) == sum(parameter.numel() for parameter in network.parameters())


def test_a_refused_result_and_an_interruption_have_exit_codes_of_their_own(
    monkeypatch: pytest.MonkeyPatch, fails: Fails
) -> None:
    def ends(problem: BaseException) -> Callable[..., None]:
        def verb(*_: object) -> None:
            raise problem

        return verb

    monkeypatch.setattr("medsearch.pipeline.spaces.spaces", ends(RefusedError("model.onnx", "is worse.")))
    assert fails("spaces", "list", code=3) == "medsearch: model.onnx: is worse.\n"
    monkeypatch.setattr("medsearch.pipeline.spaces.spaces", ends(KeyboardInterrupt()))
    assert "interrupted" in fails("spaces", "list", code=130)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_any_verb_with_one_message(folder: Path, number: signal.Signals) -> None:
    """The verb waits in a plugin, as it would in any other work."""
    write_text("waiting.py", "import sys, time\nprint('ready', flush=True)\ntime.sleep(600)\n")
    verb = _start("--plugin", "waiting", "spaces", "list")
    assert verb.stdout and verb.stdout.readline() == "ready\n"
    verb.send_signal(number)
    assert verb.communicate()[1] == "medsearch: interrupted; what was finished is kept.\n"
    assert verb.returncode == 130


def test_a_signal_that_is_ignored_stays_ignored_and_its_handler_comes_back(folder: Path) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert main(["spaces", "count", write_text("tiny.yaml", TINY)]) == 0
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
    assert main(["spaces", "count", "tiny.yaml"]) == 0
    assert signal.getsignal(signal.SIGTERM) is before


def test_help_comes_at_once_and_without_torch() -> None:
    """Processor time of the whole process, the best of three."""
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-X", "importtime", "-m", "medsearch", "--help"]
        ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in ended.stderr.splitlines()}
    assert ended.stdout.startswith("usage: medsearch")
    assert "argparse" in loaded
    assert not {"torch", "numpy", "optuna", "onnx", "rich"} & loaded
    assert min(spent) < 0.5


def _finished(run: Path) -> list[tuple[int, str]]:
    """Number and values of the complete trials, read as any other program would."""
    try:
        with sqlite3.connect(f"file:{run / 'study.db'}?mode=ro", uri=True, timeout=10) as study:
            query = """
                SELECT number, group_concat(value) FROM trials JOIN trial_values USING (trial_id)
                WHERE state = 'COMPLETE' GROUP BY number ORDER BY number"""
            return study.execute(query).fetchall()
    except sqlite3.OperationalError:
        return []


def _start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "medsearch", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, start_new_session=True, **pipes)


def _wait_for_trials(search: subprocess.Popen[str], run: Path, count: int) -> list[tuple[int, str]]:
    while len(found := _finished(run)) < count:
        assert search.poll() is None, search.communicate()
        time.sleep(0.2)
    return found


def _children(search: subprocess.Popen[str]) -> list[Path]:
    tasks = Path(f"/proc/{search.pid}/task").glob("*/children")
    return [Path("/proc", child) for task in tasks for child in task.read_text().split()]


def _gone(processes: list[Path], *, seconds: float) -> bool:
    """Whether all of them end in time (one that nobody waits for stays as a zombie)."""
    end = time.monotonic() + seconds
    while any(process.exists() and ") Z " not in (process / "stat").read_text() for process in processes):
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def _done(*arguments: str) -> str:
    ended = _start(*arguments)
    out, err = ended.communicate()
    assert ended.returncode == 0, out + err
    assert "Traceback" not in err
    return out


@pytest.mark.slow
def test_a_search_is_interrupted_killed_resumed_and_delivers(folder: Path) -> None:
    run = folder / "run"
    asked = ["--trials", "4", "--epochs-search", "1", "--epochs", "1", "--finalists", "2", "--budget-mem", "1GB"]
    search = _start("search", *asked, "--precision", "fp32", "--workers", "1", "-o", str(run))
    first = _wait_for_trials(search, run, 1)
    os.killpg(search.pid, signal.SIGINT)
    out, err = search.communicate()
    assert search.returncode == 130
    assert "medsearch: interrupted" in err
    assert f"Go on with: medsearch search --resume {run}" in err
    assert f"medsearch search --resume {run}" in out
    assert "Traceback" not in out + err

    search = _start("search", "--resume", str(run))
    second = _wait_for_trials(search, run, 2)
    workers = _children(search)
    search.kill()
    search.communicate()
    assert workers
    assert _gone(workers, seconds=60)
    assert second[: len(first)] == first
    assert not (run / "results.json").exists()

    results = json.loads(_done("search", "--resume", str(run), "--json").splitlines()[-1])
    assert results == json.loads((run / "results.json").read_text())
    last = _finished(run)
    assert last[: len(second)] == second
    good = [trial for trial in results["trials"] if trial["state"] == "complete"]
    assert len(good) == 4
    assert len({trial["id"] for trial in good}) == 4
    assert results["proposals"]["trials_over_budget"] == 0

    assert 1 <= len(results["delivered"]) <= 2
    for network in results["delivered"]:
        models = run / network["folder"]
        assert network["costs"]["memory"]["measured"] <= 1e9
        assert json.loads((models / "budget.json").read_text())["verdict"] == "within budget"
        alone = subprocess.run(
            [sys.executable, "-I", "backbone.py"], cwd=models, capture_output=True, text=True, check=False
        )
        assert alone.returncode == 0, alone.stderr
    assert (run / "front.png").read_bytes().startswith(b"\x89PNG")
    page = (run / "report.md").read_text()
    assert all(network["id"] in page for network in results["delivered"])

    model = run / results["delivered"][0]["folder"] / "model.pt"
    assert "within budget" in _done("verify", str(model))
    _done("export", str(model), "-o", "out/backbone.py")
    _done("export", str(model), "-o", "out/model.onnx")
    assert subprocess.run([sys.executable, "-I", "out/backbone.py"], capture_output=True, check=False).returncode == 0
    rows = json.loads(_done("bench", str(model.with_name("model.onnx")), "out/model.onnx", str(model), "--json"))
    assert [row["times as fast"] > 0.2 for row in rows] == [True] * 3
    (run / "report.md").unlink()
    assert str(run / "report.md") in _done("report", str(run)).replace("\n", "")
    assert (run / "report.md").read_text() == page
    again = _start("search", "--resume", str(run))
    assert "this search is finished" in again.communicate()[1]
    assert again.returncode == 2
