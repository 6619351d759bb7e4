"""Do to a small study what disks, kills and hands do to it, and count what comes of it.

    python tests/campaign/campaign.py --seed 0 --corruptions 600 --kills 200 --limits 60

Each trial has a number, from which and the seed all its draws come: `--first 300` goes on with the
trial 300 of each sort. SIGHUP ends a campaign with the report of the trials so far.

Each trial damages one thing, does what the plain command does until it succeeds, and compares all
products byte for byte with those of an undamaged study. It is

    harmless   nothing was wrong and nobody said so
    healed     the program said what was wrong, and all is as it should be
    wrong      a product differs from what it should be
    traceback  the program failed otherwise than by a sentence
    stuck      it still fails after some attempts

The last three must not occur. Docs: docs/reliability.md.
"""

import argparse
import collections
import contextlib
import copy
import functools
import io
import os
import random
import reprlib
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil
from training.tiny import CONFIG, NAME, Files, Interrupt, contents, tiny_study

from smoothdescent.cli import main
from smoothdescent.config.load import resolve
from smoothdescent.errors import UserError
from smoothdescent.files import (
    METADATA_KEY,
    UNSEALED,
    canonical_json,
    read_metadata,
    read_table,
    seal,
)
from smoothdescent.networks.weights import load_tensors
from smoothdescent.plan.forecast import Calibration, Costs
from smoothdescent.products import damaged
from smoothdescent.sharpness import run_command
from smoothdescent.source_code import code_digest
from smoothdescent.training import engine, trainer

SIZES = {
    "seeds": [0, 1],
    "epochs": 3,
    "snapshots": [0, 1],
    "measure": {"samples": 6, "paths": {"family": "svd", "strengths": [1, 3]}},
}
TABLES = ("history", "sharpness", "samples")
RUNS = ("w2_s0", "w2_s1")
ATTEMPTS = 4
BAD = ("wrong", "traceback", "stuck")


def command(*words):
    """Run the program in this process; its sentence is raised as a UserError."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            main([str(word) for word in words])
        except SystemExit as end:
            if end.code == 128 + signal.SIGINT:
                raise KeyboardInterrupt from None  # not a fault to be mended by another attempt
            if end.code:
                raise UserError(said.getvalue()) from None
    return said.getvalue()


class Study(Files):
    """A tiny study whose every product is made by `heal`, as the plain command makes it."""

    def __init__(self, folder, **changes):
        self.study = tiny_study(**SIZES | changes)
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.redirect_stdout(io.StringIO()):
            super().__init__(folder, self.study)

    def at(self, folder):
        """Return the same study in a folder with a copy of its files."""
        study = copy.copy(self)
        study.folder = folder
        study.data, study.labels = folder / self.data.name, folder / self.labels.name
        return study

    def groups(self):
        """Return the products of each job but trainings, with what they should say."""
        facts = {"experiment": NAME, "config_hash": self.resolved.identity}
        tables = {self.folder / f"{t}.parquet": {"table": t, **facts} for t in TABLES}
        figure = {self.folder / f"figure2.{suffix}": {} for suffix in ("pdf", "png", "md")}
        verdict = {self.folder / f"verdict.{suffix}": {} for suffix in ("md", "html")}
        return {
            "data": {self.data: {"name": "procedural10"}},
            "labels": {self.labels: {"settings": canonical_json(self.resolved.label_settings)}},
            "tables": {**tables, self.folder / "config.yaml": {}},
            "figure": {**figure, self.folder / "figure2.parquet": {"figure": "figure2"}},
            "verdict": {**verdict, self.folder / "verdict.parquet": {"table": "verdict"}},
        }

    def stale(self, name):
        """Say why a job has to run: a product is missing, or is not what it was."""
        group = self.groups()[name]
        missing = [f"{path} is missing" for path in group if not path.exists()]
        return missing + [f"{path} {fault}" for path, fault in damaged([group]).items()]

    def heal(self, all_products=True, drawn=True):
        """Do what the plain command does; return what was said."""
        said = []
        for name, job in (("data", self.prepare), ("labels", self.label)):
            if faults := self.stale(name):
                said += [*faults, job()]
        common = ["--settings", self.settings, "--data", self.data, "--labels", self.labels]
        common += ["--runs", *RUNS, "--folder", self.folder / "runs"]
        said.append(command("train", *common))
        if not all_products:
            return "\n".join(said)
        said.append(command("measure-runs", *common))
        faults = self.stale("tables")
        before = self.tables()
        said += [*faults, self.gather()]
        said.append(self.forecast())
        redo = before != self.tables()
        for name, job in (("figure", self.draw), ("verdict", self.decide)) if drawn else ():
            if (faults := self.stale(name)) or redo:
                said += [*faults, job()]
        return "\n".join(said)

    def tables(self):
        paths = [self.folder / f"{t}.parquet" for t in TABLES]
        return [path.read_bytes() if path.exists() else None for path in paths]

    def forecast(self):
        """Read the costs as the Snakefile does, and write them as `snakemake plan` does."""
        path = self.folder / "costs.json"
        try:
            Calibration.load(path)
        except UserError as error:
            numbers = {"widths": [2], "parameters": [1000], "train_samples": 100}
            numbers |= {"test_samples": 40, "image_size": 8, "device_memory": 1, "host_memory": 1}
            times = {name: [0.1] for name in ("train", "evaluate", "point", "volumes")}
            Calibration("a machine", 1.5, {NAME: Costs(**numbers, **times)}).save(path)
            return str(error)
        return ""

    def prepare(self):
        block = self.study.datasets["procedural10"].model_dump_json()
        return command(
            "prepare-data", "--settings", block, "--name", "procedural10", "--output", self.data
        )

    def label(self):
        settings = canonical_json(self.resolved.label_settings)
        return command(
            "make-labels", "--data", self.data, "--settings", settings, "--output", self.labels
        )

    def gather(self):
        return command(*self.gather_arguments())

    def draw(self):
        return command(
            "figure", "figure2", "--tables", self.folder, "--output", self.folder / "figure2"
        )

    def decide(self):
        outputs = [
            f"--output-{k}={self.folder / f'verdict.{k}'}" for k in ("parquet", "md", "html")
        ]
        return command("verdict", "--tables", self.folder, *outputs)


class Campaign:
    """The healthy studies, the trials and the counts.

    Args:
        folder: for all files.
        seed: fixes every trial, together with its number.
        first: the number of the first trial of each sort.
    """

    def __init__(self, folder, seed, first=0):
        self.folder, self.seed, self.first = folder, seed, first
        self.counts = collections.defaultdict(collections.Counter)
        self.bad = []
        self.healthy = Study(folder / "healthy")
        self.healthy.heal()
        self.expected = self.kept(self.healthy)
        # The same files, of a study of other settings and of this one at an earlier end.
        self.others = [
            Study(folder / "other", batch_size=10, noise={"seed": 1}),
            Study(folder / "older", epochs=2),
        ]
        for other in self.others:
            other.heal(drawn=False)
        self.interrupted = Study(folder / "interrupted")
        self.interrupt()
        self.foreign = Study(folder / "foreign")
        shutil.copytree(self.others[0].folder / "runs", self.foreign.folder / "runs")
        long_ago = time.time() - 1000
        for path in folder.rglob("*"):
            os.utime(path, (long_ago, long_ago))

    def trials(self, sort, count):
        """Yield once for each trial of a sort, with `draw` set to its own random numbers."""
        for number in range(self.first, self.first + count):
            self.draw = random.Random(f"{self.seed} {sort} {number}")
            yield

    def kept(self, study):
        """Return the products that a trial must end with."""
        found = contents(study.folder)
        skipped = (".unusable", "state.safetensors", "replay.safetensors", ".lease", ".older")
        return {
            name: content
            for name, content in found.items()
            if not name.endswith(skipped) and name.count(".") == 1
        }

    def interrupt(self):
        """Train as far as the middle of the second epoch."""
        original = engine.train
        trainer.train = Interrupt(10, signal.SIGTERM)(original)
        try:
            with contextlib.suppress(UserError):
                self.interrupted.heal(all_products=False)
        finally:
            trainer.train = original

    def trial(self, group, base, damage, all_products=True):
        """Damage a copy of a study, heal it, and count what came of it."""
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(base.folder, work)  # dates are kept
        study = base.at(work)
        what = damage(work)
        outcome, said = "stuck", []
        for _ in range(ATTEMPTS):
            try:
                said.append(study.heal(all_products))
            except UserError as error:
                said.append(str(error))
                if "Traceback" in said[-1]:
                    outcome = "traceback"
                    break
            except Exception:
                said.append(traceback.format_exc())
                outcome = "traceback"
                break
            else:
                outcome = self.judge(study, said, all_products)
                break
        self.counts[group][outcome] += 1
        print(f"{what}: {outcome}", file=sys.__stderr__, flush=True)
        if outcome in BAD:
            self.bad.append(f"{group}, {what}: {outcome}\n    {said[-1][-1500:]}")
            print(self.bad[-1], file=sys.__stderr__, flush=True)

    def judge(self, study, said, all_products):
        found = self.kept(study)
        names = [
            n
            for n in self.expected
            if all_products or (n.startswith("runs/") and "sharpness" not in n)
        ]
        differ = [
            name
            for name in names
            if found.get(name) != self.expected[name] and not self.same_measures(study, name)
        ]
        if differ:
            said.append(f"other than expected: {', '.join(differ)}")
            return "wrong"
        words = ("damaged", "is not", "expected", "missing", "empty", "again", "kept as", "anew")
        return "healed" if any(word in "".join(said) for word in words) else "harmless"

    def same_measures(self, study, name):
        """Return whether a checkpoint's table is that of the same weights under other epochs.

        It serves, and says which configuration it was measured under: its rows are compared.
        """
        path = study.folder / name
        if "/sharpness/" not in name or not path.exists():
            return False
        return read_table(path).equals(read_table(self.healthy.folder / name))

    def corrupt(self, base):
        """Return a function that corrupts one file of a copy of a study in one way."""
        draw = self.draw
        names = [n for n in contents(base.folder) if not n.endswith(".lease")]
        kinds = collections.defaultdict(list)
        for name in names:
            kinds[kind(name)].append(name)
        name = draw.choice(kinds[draw.choice(sorted(kinds))])
        ways = ("flip", "truncate", "zero", "empty", "swap", "older", "delete", "delete folder")
        way, keep_date = draw.choice(ways), draw.random() < 0.3

        def damage(folder):
            path = folder / name
            content, date = bytearray(path.read_bytes()), path.stat().st_mtime
            siblings = [n for n in names if n != name and Path(n).suffix == path.suffix]
            source = None
            if way == "flip":
                content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
            elif way == "truncate":
                del content[draw.randrange(len(content)) :]
            elif way == "zero":
                start = draw.randrange(len(content))
                end = min(len(content), start + draw.choice((1, 16, 512)))
                content[start:end] = bytes(end - start)
            elif way == "empty":
                content.clear()
            elif way == "swap" and siblings:
                source = base.folder / draw.choice(siblings)
            elif way == "older":
                source = draw.choice(self.others).folder / name
            if source is not None and source.exists():
                content = source.read_bytes()
            path.write_bytes(content)
            if way == "delete folder" and path.parent != folder:
                shutil.rmtree(path.parent)
            elif way.startswith("delete"):
                path.unlink()
            elif keep_date:
                os.utime(path, (date, date))
            return f"{way} {name}" + (f" by {source}" if source else "")

        return kind(name), damage

    def corruptions(self, count):
        """Corrupt products, states, autosaves and the markers of runs' folders."""
        bases = (self.healthy, self.healthy, self.healthy, self.interrupted, self.foreign)
        for _ in self.trials("corruption", count):
            base = self.draw.choice(bases)
            group, damage = self.corrupt(base)
            self.trial(f"corrupt {group}", base, damage, all_products=base is self.healthy)

    def kills(self, count):
        """Kill training or measuring at a random point of the processor time that they take."""
        if count and not hasattr(self, "seconds"):
            shutil.copytree(self.healthy.folder, self.folder / "timed")
            shutil.rmtree(self.folder / "timed/runs")
            child = self.fork(self.folder / "timed")
            _, _, usage = os.wait4(child, 0)
            self.seconds = usage.ru_utime + usage.ru_stime
        for _ in self.trials("kill", count):
            seconds = self.draw.uniform(0, self.seconds)
            number = self.draw.choice(
                (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
            )

            def damage(folder, seconds=seconds, number=number):
                shutil.rmtree(folder / "runs")
                child = self.fork(folder)
                process = psutil.Process(child)
                while process.status() != psutil.STATUS_ZOMBIE:
                    times = process.cpu_times()
                    if times.user + times.system >= seconds:
                        process.send_signal(number)
                        break
                    time.sleep(0.001)
                os.waitpid(child, 0)
                return f"{number.name} after {seconds:.3f} s of processor time"

            self.trial("kill", self.healthy, damage)

    def limits(self, count):
        """Let one stage do its work where files may not grow, be opened or be made."""
        for _ in self.trials("limit", count):
            limit = self.draw.choice((full_disk, few_files, read_only))(self.draw)
            removed = self.draw.choice(STAGES)

            def damage(folder, limit=limit, removed=removed):
                for path in folder.glob(removed):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                child = self.fork(folder, limit)
                what = f"{limit.__doc__}, without {removed}"
                self.wait("limit", child, what)
                for path in (folder, *folder.rglob("*/")):
                    path.chmod(0o755)
                return what

            self.trial("limit", self.healthy, damage)

    def pairs(self, count):
        """Let two processes make all at a time, of the same study or of two."""
        for _ in self.trials("pair", count):
            second = self.draw.choice((self.healthy, self.healthy, *self.others))

            def damage(folder, second=second):
                shutil.rmtree(folder / "runs")
                what = f"with {second.folder.name} at a time"
                for child in [self.fork(folder, study=study) for study in (self.healthy, second)]:
                    self.wait("pair", child, what)
                logs = [path.read_text() for path in folder.glob("runs/*.log")]
                measured = sum(log.count(".parquet written: ") for log in logs)
                if second is self.healthy and measured != len(list(folder.glob(CHECKPOINTS))):
                    self.counts["pair"]["wrong"] += 1
                    self.bad.append(f"{what}: {measured} measurements")
                return what

            self.trial("pair", self.healthy, damage)

    def wait(self, group, child, what):
        """Wait for a child's end, which must be success or a sentence."""
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) not in (0, 2):
            self.counts[group]["traceback"] += 1
            self.bad.append(f"{what}: {(self.folder / f'child{child}').read_text()[-1500:]}")
            print(self.bad[-1], file=sys.__stderr__, flush=True)

    def fork(self, folder, limit=lambda folder: None, study=None):
        """Make a study's products in a folder in a child, and return its number.

        It ends with 2 after a sentence, with 3 after anything else, told in a file.
        """
        child = os.fork()
        if child:
            return child
        status = 0
        with (self.folder / f"child{os.getpid()}").open("w") as told:
            try:
                limit(folder)
                (study or self.healthy).at(folder).heal()
            except UserError:
                status = 2
            except BaseException:
                status = 3
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
                traceback.print_exc(file=told)
                told.flush()
        os._exit(status)

    def inputs(self, count):
        """Give hostile values to the configuration, and hostile bytes to the readers of files."""
        for _ in self.trials("input", count):
            attempt, what = self.draw.choice((self.hostile_config, self.hostile_file))()
            outcome = "accepted"
            start = time.monotonic()
            try:
                attempt()
            except UserError:
                outcome = "refused"
            except Exception:
                outcome = "traceback"
                self.bad.append(f"{what}: {traceback.format_exc()[-800:]}")
            if time.monotonic() - start > 60:
                outcome = "stuck"
                self.bad.append(f"{what}: took {time.monotonic() - start:.0f} s")
            self.counts["hostile input"][outcome] += 1

    def hostile_config(self):
        """Return a reading of the configuration with one hostile value."""
        draw, config = self.draw, copy.deepcopy(CONFIG)
        block, path = config, []
        while isinstance(block, dict) and block:
            key = draw.choice(sorted(block))
            path.append(key)
            if not isinstance(block[key], dict) or draw.random() < 0.15:
                break
            block = block[key]
        value = draw.choice(HOSTILE)
        block[path[-1]] = value

        def attempt():
            study = resolve(config)
            for name in study.experiments:
                study.resolved(name).identity  # noqa: B018

        return attempt, f"{'.'.join(path)} = {reprlib.repr(value)}"

    def hostile_file(self):
        """Return a reading of a file whose bytes are hostile, some of them with a true seal."""
        draw = self.draw
        suffix = draw.choice((".parquet", ".safetensors", ".json"))
        content = draw.choice(HOSTILE_BYTES)(draw)
        path = self.folder / f"hostile{suffix}"
        if draw.random() < 0.7:
            content += UNSEALED.encode()
        path.write_bytes(content)
        if UNSEALED.encode() in content:
            seal(path)
        readers = {
            ".parquet": (read_metadata, read_table),
            ".safetensors": (read_metadata, load_tensors),
            ".json": (read_metadata, Calibration.load),
        }
        reader = draw.choice(readers[suffix])
        return lambda: reader(path), f"{reader.__name__} of {content[:60]!r}{suffix}"

    def report(self):
        """Return the counts as a table, and the trials that must not be."""
        columns = sorted(
            {outcome for counts in self.counts.values() for outcome in counts} | {*BAD}
        )
        lines = [f"{'':28}{'tried':>7}" + "".join(f"{column:>11}" for column in columns)]
        total = collections.Counter()
        for group, counts in sorted(self.counts.items()):
            total += counts
            lines.append(self.line(group, counts, columns))
        lines.append(self.line("all", total, columns))
        return "\n".join(lines + self.bad)

    def line(self, group, counts, columns):
        cells = "".join(f"{counts[column]:>11}" for column in columns)
        return f"{group:28}{sum(counts.values()):>7}{cells}"


CHECKPOINTS = "runs/*/sharpness/*.parquet"
# What is removed, for the stage that makes it to do its work.
STAGES = (
    "data.safetensors",
    "labels.parquet",
    "runs",
    "runs/*/history.parquet",
    "runs/*/sharpness",
)
STAGES += ("sharpness.parquet", "figure2.pdf", "verdict.md", "costs.json")


def full_disk(draw):
    """Return what lets no file grow beyond a size, in bytes."""
    most = draw.choice((0, 100, 1000, 4000, 8000, 16000, 32000))

    def limit(folder):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

    limit.__doc__ = f"files of at most {most} bytes"
    return limit


def few_files(draw):
    """Return what lets no more than a few files be open."""
    more = draw.randrange(6)

    def limit(folder):
        most = max(int(path.name) for path in Path("/proc/self/fd").iterdir()) + more
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    limit.__doc__ = f"{more} open files"
    return limit


def read_only(draw):
    """Return what lets nothing be written into any folder, nor by the superuser."""

    def limit(folder):
        for path in (folder, *folder.rglob("*/")):
            path.chmod(0o555)
        if os.geteuid() == 0:
            os.seteuid(65534)

    limit.__doc__ = "read-only folders"
    return limit


def kind(name):
    """Return the kind of product that a file is, by its name."""
    path = Path(name)
    if len(path.parts) == 1 or not path.stem[1:].isdigit():
        return path.name
    return path.parent.name


def sealed_tensors(draw):
    header = draw.choice(
        (
            '{"__metadata__": 3}',
            f'{{"__metadata__": {{"{METADATA_KEY}": "["}}}}',
            "[1]",
            "{}",
            "[" * 9000,
        )
    ).encode()
    return len(header).to_bytes(8, "little") + header


HOSTILE_BYTES = (
    lambda draw: b"",
    lambda draw: draw.randbytes(draw.randrange(2000)),
    lambda draw: b"\xff" * draw.randrange(1, 64),
    lambda draw: (2**62).to_bytes(8, "little") + b"{}",
    lambda draw: b"PAR1" + draw.randbytes(40) + (2**31 - 1).to_bytes(4, "little") + b"PAR1",
    lambda draw: b'{"experiments": {"a": {"widths": ["x"], "train": NaN}}, "checksum": "',
    lambda draw: b"[" * 100_000,
    sealed_tensors,
)


def bomb():
    """Return a few lists that stand for 10^9 values."""
    block = [0]
    for _ in range(9):
        block = [block] * 10
    return block


RECURSIVE: list = []
RECURSIVE.append(RECURSIVE)
HOSTILE = (
    *(None, True, "", " ", "x" * 10_000, -1, 0, 0.5, 1e308, 1e-320, 2**31, 2**63, 2**70),
    *(
        float("nan"),
        float("inf"),
        [],
        {},
        [[]],
        {"a": {}},
        {1: 2},
        [None],
        ["a", 1],
        "1..9999999999",
    ),
    *("9..1", "\x00", "../../..", "$(touch PWNED)", "~nobody-at-all/x", "$NOT_SET", "1e3", "NaN"),
    *(bomb(), RECURSIVE, [1, 1], [2, 1], [0], {"name": "sgd"}, {"family": "svd"}, {"source": "x"}),
)


@contextlib.contextmanager
def open_folder():
    """Make a temporary folder that the user of the trials of read-only folders can reach."""
    with tempfile.TemporaryDirectory(prefix="campaign-") as temporary:
        Path(temporary).chmod(0o755)
        yield temporary


@contextlib.contextmanager
def code_hashed_once():
    """The program's own code is that of the campaign's begin, as in a job."""
    once = functools.cache(code_digest)
    with (
        mock.patch.object(run_command, "code_digest", once),
        mock.patch.object(trainer, "code_digest", once),
    ):
        yield


class Ended(BaseException):
    """SIGHUP has come."""


def end(*_):
    """Let the campaign end with what it has tried."""
    raise Ended


@code_hashed_once()
def run(folder, seed, first=0, corruptions=0, kills=0, limits=0, pairs=0, inputs=0):
    """Run a campaign in a folder and return it; it may be interrupted."""
    campaign = Campaign(Path(folder), seed, first)
    with contextlib.suppress(Ended):
        campaign.inputs(inputs)
        campaign.pairs(pairs)
        campaign.corruptions(corruptions)
        campaign.limits(limits)
        campaign.kills(kills)
    return campaign


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--folder", help="of the files; default: a temporary one")
    for name, default in (
        ("seed", 0),
        ("first", 0),
        ("corruptions", 600),
        ("kills", 200),
        ("limits", 60),
        ("pairs", 20),
        ("inputs", 600),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = vars(parser.parse_args())
    signal.signal(signal.SIGHUP, end)
    with open_folder() as temporary:
        done = run(options.pop("folder") or temporary, **options)
    print(done.report())
    sys.exit(bool(done.bad))
