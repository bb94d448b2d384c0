#!/usr/bin/env python3
"""Runs the workspace's tests side by side, each in a process of its own, and other commands beside them.

    run-tests.py [--only PATTERN] [--beside NAME=COMMAND]... [-- what cargo test is asked to compile]

`cargo test --no-run` compiles them; each program says which tests it has. From then on cargo is not asked any more, so
that its lock is free for the commands beside them (lints, documentation).

Most tests compute; some wait for most of their time, for clusters to do something. `tests/schedule.toml` names those
that wait, and those that take long. The two kinds fill the machine each for itself: what computes runs at a lower
priority, in the gaps that the waiting ones leave, and the commands beside them at the lowest. The longest ones start
first.

A test has passed when its process ends well, within its deadline, and says that exactly one test ran and passed:
one that is ignored, filtered out or not there has not. What a test printed stays in the folder `test-output` of the
target folder, with a list of all times; of those that failed it is shown whole.
"""

import argparse
import contextlib
import dataclasses
import fnmatch
import json
import os
import pathlib
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCHEDULE = ROOT / "tests" / "schedule.toml"

# A test of which the schedule says nothing has so long: its deadline is for what hangs, not for what is slow.
DEADLINE = 600
# A command beside the tests.
BESIDE_DEADLINE = 3600
# Memory that a cluster and what a test starts in it take, in GiB.
CLUSTER_MEMORY = 2
# A control plane and its nodes watch files, by so many instances of inotify; most systems allow a user 128 of them.
CLUSTER_WATCHES = 64
WATCHES = pathlib.Path("/proc/sys/fs/inotify/max_user_instances")
# Longer ones are told when they pass; of the others the number is.
WORTH_A_LINE = 10
# So often it says what runs.
PULSE = 60
SLOWEST = 10


@dataclasses.dataclass(frozen=True)
class Rule:
    """What the schedule says of the tests that a pattern matches."""

    name: str
    waits: bool = False
    cores: float = 1
    seconds: float = 1
    deadline: float = DEADLINE


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program of tests."""

    name: str
    path: str
    package: str
    folder: str


@dataclasses.dataclass(frozen=True)
class Job:
    """One process to run: a test, or a command beside the tests."""

    name: str
    command: tuple
    rule: Rule
    # The name by which the test's program knows it; None for a command.
    test: str | None = None
    package: str | None = None
    folder: str = str(ROOT)


@dataclasses.dataclass
class Ended:
    """What became of a job."""

    job: Job
    # Why it has failed, if it has.
    problem: str | None
    seconds: float
    cpu: float
    output: pathlib.Path


def read_schedule(path):
    """The rules of the schedule, in its order."""
    with open(path, "rb") as file:
        return [Rule(**rule) for rule in tomllib.load(file).get("test", [])]


def rule_for(rules, name):
    """The first rule whose pattern matches a test's whole name, or what holds where none does."""
    return next((rule for rule in rules if fnmatch.fnmatchcase(name, rule.name)), Rule(name))


def unmatched(rules, names):
    """The patterns that no test bears the name of: somebody has renamed one."""
    return [rule.name for rule in rules if not any(fnmatch.fnmatchcase(name, rule.name) for name in names)]


def programs_of(messages):
    """The test programs among the JSON messages of `cargo test --no-run`, one for each line."""
    programs = []
    for line in messages:
        if not line.startswith("{"):
            continue
        message = json.loads(line)
        if message.get("reason") != "compiler-artifact" or not message["profile"]["test"] or not message["executable"]:
            continue
        folder = os.path.dirname(message["manifest_path"])
        # path+file:///folder#name@version, or without the name where that is the folder's.
        place, _, package = message["package_id"].rpartition("#")
        package = package.partition("@")[0] if "@" in package else place.rpartition("/")[2]
        target, kind = message["target"]["name"], message["target"]["kind"][0]
        name = {"test": f"{package}::{target}", "bin": f"{package}::bin/{target}", "example": f"{package}::example/{target}"}
        programs.append(Program(name.get(kind, package), message["executable"], package, folder))
    return sorted(programs, key=lambda program: program.name)


def tests_of(listing):
    """The names in what a program prints for `--list --format terse`."""
    return [line.removesuffix(": test") for line in listing.splitlines() if line.endswith(": test")]


def verdict(code, output):
    """Why a process that was asked for one test has failed, or None."""
    if code < 0:
        return f"it was ended by signal {-code}"
    if code != 0:
        return f"exit code {code}"
    if not re.search(r"^test result: ok\. 1 passed; 0 failed; 0 ignored; 0 measured; ", output, re.MULTILINE):
        return "it did not run: its program does not say that one test passed"
    return None


def order(jobs):
    """The longest ones first; equal ones by name."""
    return sorted(jobs, key=lambda job: (-job.rule.seconds, job.name))


def choose(waiting, running, cores, clusters):
    """The first of the waiting jobs for which there is room beside those that run, or None.

    Those that wait and those that compute each have all cores; what does not fit even alone runs alone among its kind.
    No more than so many clusters run at once.
    """
    for job in waiting:
        beside = [other for other in running if other.rule.waits == job.rule.waits]
        taken = sum(other.rule.cores for other in beside)
        # Sums of tenths are not exact.
        fits = taken + job.rule.cores <= cores + 1e-6 and (not job.rule.waits or len(beside) < clusters)
        if fits or not beside:
            return job
    return None


def clusters_at_once(available_kib, watches):
    """How many clusters the memory that is free and the kernel's limit on watches hold; one in any case."""
    return max(1, min(int(available_kib / 1024 / 1024 / CLUSTER_MEMORY), watches // CLUSTER_WATCHES))


def allow_watches(clusters, limit):
    """Raises the kernel's limit where it is too low for so many clusters and this may. Returns what it is then."""
    try:
        now = int(limit.read_text())
        wanted = clusters * CLUSTER_WATCHES
        if now < wanted:
            limit.write_text(str(wanted))
            print(f"{limit}: {now} was too low for {clusters} clusters at once, and is {wanted} now", flush=True)
            now = wanted
    except OSError as error:
        print(f"{limit}: {error}: fewer clusters run at once", flush=True)
        now = int(limit.read_text()) if limit.exists() else 0
    return now


def available_memory():
    """The memory that is free, in KiB."""
    try:
        text = pathlib.Path("/proc/meminfo").read_text()
        return int(re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)[1])
    except (OSError, TypeError):
        # Not Linux: no clusters either.
        return 0


def minutes(seconds):
    """A duration for people."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02} min" if seconds >= 60 else f"{seconds:.1f} s"


class Interrupts:
    """Signals end the run, but not while a job is started or ended: one that is in no list yet would outlive it."""

    def __init__(self):
        self.holding = 0
        self.said = None

    def listen(self):
        # Who is started in the background inherits that SIGINT is ignored; a test's processes would outlive it.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.handle)

    def handle(self, number, _frame):
        self.said = number
        if not self.holding:
            self.end()

    def end(self):
        if self.said == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit("ended by SIGTERM")

    @contextlib.contextmanager
    def held(self):
        self.holding += 1
        try:
            yield
        finally:
            self.holding -= 1
        if self.said is not None and not self.holding:
            self.end()


INTERRUPTS = Interrupts()


class Process:
    """A running job, in a process group of its own: at its deadline the whole group is killed."""

    def __init__(self, job, output, ended):
        self.job = job
        self.output = output
        self.started = time.monotonic()
        self.late = False
        environment = os.environ | ({"CARGO_MANIFEST_DIR": job.folder, "CARGO_PKG_NAME": job.package} if job.test else {})
        nice = 19 if job.test is None else 0 if job.rule.waits else 10
        with open(output, "wb") as file:
            # Not a session of its own: the kernel would give each its own share of the machine, whatever its priority.
            self.child = subprocess.Popen(
                ["nice", "-n", str(nice), *job.command],
                cwd=job.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        threading.Thread(target=self._watch, args=(ended,), daemon=True).start()

    def _watch(self, ended):
        # It is not reaped here: until it is, nobody else gets its number.
        os.waitid(os.P_PID, self.child.pid, os.WEXITED | os.WNOWAIT)
        ended.put(self)

    def kill(self):
        """Ends it and all that it started."""
        try:
            os.killpg(self.child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def reap(self):
        """What became of it, once it has ended."""
        # What it left behind would hold the machine, and is ended while its number is still its own.
        self.kill()
        _, status, usage = os.wait4(self.child.pid, 0)
        code = self.child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - self.started
        text = self.output.read_text(errors="replace")
        if self.late:
            problem = f"no end within {minutes(self.job.rule.deadline)}"
        elif self.job.test is None:
            problem = f"exit code {code}" if code != 0 else None
        else:
            problem = verdict(code, text)
        return Ended(self.job, problem, seconds, usage.ru_utime + usage.ru_stime, self.output)


class Report:
    """Tells what happens, and at the end what has happened."""

    def __init__(self, total):
        self.total = total
        self.ended = []
        self.began = time.monotonic()

    def say(self, text):
        print(f"[{minutes(time.monotonic() - self.began):>9}] {text}", flush=True)

    def passed(self):
        return sum(1 for one in self.ended if one.job.test is not None and one.problem is None)

    def failed(self):
        return [one for one in self.ended if one.problem is not None]

    def add(self, ended):
        self.ended.append(ended)
        took = f"{minutes(ended.seconds)}, {ended.cpu:.1f} s of CPU"
        if ended.problem is not None:
            self.say(f"FAILED {ended.job.name}: {ended.problem}, after {took}")
            print(ended.output.read_text(errors="replace").rstrip())
            print(f"--- end of what {ended.job.name} printed", flush=True)
        elif ended.job.test is None or ended.seconds >= WORTH_A_LINE:
            self.say(f"ok {ended.job.name}: {took}")

    def pulse(self, running):
        tests = sum(1 for one in self.ended if one.job.test is not None)
        names = ", ".join(sorted(process.job.name for process in running))
        self.say(f"{tests} of {self.total} tests have ended; running: {names}")

    def end(self, times):
        tests = sorted((one for one in self.ended if one.job.test is not None), key=lambda one: -one.seconds)
        lines = [f"{one.seconds:9.1f} s {one.cpu:9.1f} s of CPU  {one.job.name}" for one in tests]
        times.write_text("".join(f"{line}\n" for line in lines))
        print(f"the slowest {min(SLOWEST, len(lines))} tests (all are in {times}):")
        print("\n".join(lines[:SLOWEST]))
        failed = self.failed()
        for one in failed:
            print(f"FAILED {one.job.name}: {one.problem}")
        missing = self.total - len(tests)
        if missing:
            print(f"FAILED: {missing} tests did not run")
        self.say(f"{self.passed()} of {self.total} tests passed")
        return not failed and not missing


def output_file(folder, name):
    """A file of its own for what a job prints. Names of tests are as long as sentences; a file's may not be."""
    name = re.sub(r"[^\w.-]+", "-", name)[:200]
    taken = len(list(folder.glob(f"{name}*.txt")))
    return folder / (f"{name}-{taken}.txt" if taken else f"{name}.txt")


def run_all(tests, besides, folder, cores, clusters, report):
    """Runs all jobs to their ends; those beside the tests one after the other."""
    waiting, besides = order(tests), list(besides)
    running, ended = [], queue.SimpleQueue()
    pulse = time.monotonic() + PULSE

    def start(job):
        with INTERRUPTS.held():
            running.append(Process(job, output_file(folder, job.name), ended))

    try:
        while waiting or besides or running:
            computing = [process.job for process in running if process.job.test is not None]
            while (job := choose(waiting, computing, cores, clusters)) is not None:
                waiting.remove(job)
                computing.append(job)
                start(job)
            if besides and not any(process.job.test is None for process in running):
                start(besides.pop(0))
            now = time.monotonic()
            for process in running:
                if now - process.started > process.job.rule.deadline and not process.late:
                    process.late = True
                    process.kill()
            if now >= pulse:
                report.pulse(running)
                pulse = now + PULSE
            try:
                process = ended.get(timeout=1)
            except queue.Empty:
                continue
            with INTERRUPTS.held():
                running.remove(process)
                report.add(process.reap())
    finally:
        # Interrupted: nothing that was started here outlives it, whoever interrupts it again.
        INTERRUPTS.holding += 1
        for process in running:
            process.kill()
            process.child.wait()
        INTERRUPTS.holding -= 1


def compile_tests(cargo, arguments):
    """Compiles, and returns the programs; cargo shows its progress and the compiler's words."""
    command = [*cargo, "test", "--no-run", "--message-format=json-render-diagnostics", *arguments]
    compiled = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    if compiled.returncode != 0:
        sys.exit("the tests do not compile")
    return programs_of(compiled.stdout.splitlines())


def list_tests(programs, rules):
    """A job for each test of each program."""
    jobs = []
    for program in programs:
        command = [program.path, "--list", "--format", "terse"]
        listed = subprocess.run(
            command, cwd=program.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=60
        )
        if listed.returncode != 0:
            sys.exit(f"{program.name} does not tell its tests: exit code {listed.returncode} of {' '.join(command)}")
        for test in tests_of(listed.stdout):
            name = f"{program.name} {test}"
            command = (program.path, "--exact", test, "--nocapture")
            jobs.append(Job(name, command, rule_for(rules, name), test, program.package, program.folder))
    return jobs


def beside(text):
    """A command that runs beside the tests, from `NAME=COMMAND`."""
    name, equals, command = text.partition("=")
    if not (name and equals and command):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=COMMAND")
    return Job(name, ("bash", "-c", command), Rule(name, deadline=BESIDE_DEADLINE))


def main():
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="PATTERN", help="tests whose name, `program test`, the pattern matches")
    parser.add_argument("--beside", metavar="NAME=COMMAND", action="append", type=beside, default=[])
    parser.add_argument("--output", metavar="FOLDER", type=pathlib.Path, default=None)
    parser.add_argument("--schedule", metavar="FILE", type=pathlib.Path, default=SCHEDULE)
    parser.add_argument("--watches", metavar="FILE", type=pathlib.Path, default=WATCHES, help="the kernel's limit on inotify")
    parser.add_argument("--cores", metavar="NUMBER", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("cargo", nargs="*", metavar="ARGUMENT", help="for cargo test: profile and packages")
    options = parser.parse_args()
    INTERRUPTS.listen()

    rules = read_schedule(options.schedule)
    began = time.monotonic()
    programs = compile_tests([os.environ.get("CARGO", "cargo")], options.cargo)
    jobs = list_tests(programs, rules)
    if not jobs:
        sys.exit("there is no test")
    if options.only is not None:
        jobs = [job for job in jobs if fnmatch.fnmatchcase(job.name, options.only)]
        if not jobs:
            sys.exit(f"no test has a name like {options.only!r}")
    elif stale := unmatched(rules, [job.name for job in jobs]):
        sys.exit(f"{options.schedule} has rules for tests that are not there: {', '.join(stale)}")
    print(f"{len(jobs)} tests in {len(programs)} programs, compiled in {minutes(time.monotonic() - began)}", flush=True)

    folder = options.output or pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "test-output"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # Who has not asked for the list of what was skipped is told all the same.
    skipped = os.environ.setdefault("INDEXBUILD_SKIPPED", str(folder / "skipped"))
    report = Report(len(jobs))
    memory = available_memory()
    at_most = sum(1 for job in jobs if job.rule.waits)
    watches = allow_watches(clusters_at_once(memory, at_most * CLUSTER_WATCHES), options.watches) if at_most else 0
    clusters = clusters_at_once(memory, watches)
    run_all(jobs, options.beside, folder, options.cores, clusters, report)
    well = report.end(folder / "times")
    if os.path.exists(skipped) and (lines := pathlib.Path(skipped).read_text().splitlines()):
        print(f"{len(lines)} tests were skipped:", *sorted(set(lines)), sep="\n")
    return 0 if well else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
