#!/usr/bin/env python3
"""Tests of run-tests.py: what passes has run, what fails is told whole, and what hangs is ended."""

import contextlib
import importlib.util
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest

SCRIPT = pathlib.Path(__file__).with_name("run-tests.py")
spec = importlib.util.spec_from_file_location("run_tests", SCRIPT)
run_tests = importlib.util.module_from_spec(spec)
sys.modules["run_tests"] = run_tests
spec.loader.exec_module(run_tests)
Job, Rule = run_tests.Job, run_tests.Rule

PASSED = "running 1 test\ntest {0} ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.00s\n"

# A program of tests, as Rust's: NAME → what it does when asked for that test.
PROGRAM = """
import sys
TESTS = {tests!r}
arguments = sys.argv[1:]
if "--list" in arguments:
    for name in TESTS:
        print(name + ": test")
    print("bench_of_something: benchmark")
    sys.exit(0)
assert arguments[0] == "--exact" and "--nocapture" in arguments, arguments
name = arguments[1]
exec(TESTS[name])
print({passed!r}.format(name))
"""

# Instead of cargo: names the programs, or fails.
CARGO = """
import sys
assert sys.argv[1:4] == ["test", "--no-run", "--message-format=json-render-diagnostics"], sys.argv
if "--broken" in sys.argv:
    sys.exit(101)
print({messages!r})
"""


def message(name, path, kind="test", test=True):
    """What cargo says of a program that it has compiled."""
    return json.dumps(
        {
            "reason": "compiler-artifact",
            "package_id": "path+file:///a/folder#some-package@0.1.0",
            "manifest_path": f"{os.path.dirname(path)}/Cargo.toml",
            "target": {"name": name, "kind": [kind]},
            "profile": {"test": test},
            "executable": path,
        }
    )


def job(name, seconds=1.0, cores=1.0, waits=False):
    return Job(name, ("true",), Rule(name, waits=waits, cores=cores, seconds=seconds), name)


class Decisions(unittest.TestCase):
    def test_programs_are_the_test_programs_among_cargos_messages(self):
        lines = [
            message("first", "/w/first"),
            message("some-package", "/w/lib", kind="lib"),
            message("some-package", "/w/bin", kind="bin"),
            message("some-package", "/w/the-binary-itself", kind="bin", test=False),
            '{"reason":"build-finished","success":true}',
            "not JSON",
        ]
        names = [(program.name, program.path, program.folder) for program in run_tests.programs_of(lines)]
        self.assertEqual(
            names,
            [
                ("some-package", "/w/lib", "/w"),
                ("some-package::bin/some-package", "/w/bin", "/w"),
                ("some-package::first", "/w/first", "/w"),
            ],
        )

    def test_a_package_named_as_its_folder_has_that_name(self):
        line = message("first", "/w/first").replace("folder#some-package@0.1.0", "in-it#0.1.0")
        self.assertEqual(run_tests.programs_of([line])[0].name, "in-it::first")

    def test_benchmarks_are_no_tests(self):
        self.assertEqual(run_tests.tests_of("a::b: test\nc: benchmark\n\n1 test, 1 benchmark\n"), ["a::b"])

    def test_only_one_test_that_ran_and_passed_has_passed(self):
        said = PASSED.format("a")
        self.assertIsNone(run_tests.verdict(0, said))
        self.assertIsNone(run_tests.verdict(0, "words without an end" + said))
        for code, output in [
            (101, said),
            (-9, said),
            (0, ""),
            (0, said.replace("1 passed", "0 passed")),
            (0, said.replace("0 ignored", "1 ignored")),
            (0, said.replace("1 passed", "2 passed")),
            (0, said.replace("test result: ok", "> test result: ok")),
        ]:
            self.assertIsNotNone(run_tests.verdict(code, output), (code, output))

    def test_the_longest_start_first_and_equal_ones_by_name(self):
        ordered = run_tests.order([job("b"), job("long", seconds=9), job("a")])
        self.assertEqual([one.name for one in ordered], ["long", "a", "b"])

    def test_those_that_compute_and_those_that_wait_each_have_all_cores(self):
        computing, waiting = job("computes"), job("waits", cores=0.6, waits=True)
        choose = run_tests.choose
        self.assertEqual(choose([computing], [waiting] * 3, 2, 9), computing)
        self.assertEqual(choose([waiting], [computing] * 2, 2, 9), waiting)
        self.assertEqual(choose([waiting], [waiting] * 2, 2, 9), waiting)
        self.assertIsNone(choose([waiting], [waiting] * 3, 2, 9))
        self.assertIsNone(choose([computing], [computing] * 2, 2, 9))
        self.assertIsNone(choose([], [], 2, 9))

    def test_a_smaller_one_goes_before_a_larger_one_that_does_not_fit(self):
        large, small = job("large", cores=2), job("small")
        self.assertEqual(run_tests.choose([large, small], [small], 2, 9), small)

    def test_what_needs_more_than_there_is_runs_alone_of_its_kind(self):
        large = job("large", cores=4)
        self.assertEqual(run_tests.choose([large], [job("waits", waits=True)], 2, 9), large)
        self.assertIsNone(run_tests.choose([large], [job("small", cores=0.1)], 2, 9))

    def test_tenths_of_cores_fill_a_core(self):
        tenths = [job(str(number), cores=0.1, waits=True) for number in range(10)]
        self.assertEqual(run_tests.choose(tenths, tenths[:9], 1, 99), tenths[0])
        self.assertIsNone(run_tests.choose(tenths, tenths, 1, 99))

    def test_no_more_clusters_run_than_memory_and_the_kernels_limit_hold(self):
        waits = job("waits", cores=0.1, waits=True)
        self.assertIsNone(run_tests.choose([waits], [waits] * 3, 64, 3))
        self.assertEqual(run_tests.clusters_at_once(24 << 20, 4096), 12)
        self.assertEqual(run_tests.clusters_at_once(24 << 20, 128), 2)
        self.assertEqual(run_tests.clusters_at_once(0, 4096), 1)
        self.assertEqual(run_tests.clusters_at_once(24 << 20, 0), 1)

    def test_the_limit_is_raised_where_it_is_too_low_and_left_alone_where_it_is_not(self):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as said:
            limit = pathlib.Path(folder, "limit")
            limit.write_text("128\n")
            self.assertEqual(run_tests.allow_watches(2, limit), 128)
            self.assertEqual((limit.read_text(), said.getvalue()), ("128\n", ""))
            self.assertEqual(run_tests.allow_watches(5, limit), 320)
            self.assertEqual(limit.read_text(), "320")
            self.assertIn("128 was too low", said.getvalue())

    def test_where_the_limit_may_not_be_raised_it_is_what_it_is(self):
        class ReadOnly(type(pathlib.Path())):
            def write_text(self, text):
                raise PermissionError(13, "Permission denied")

        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            pathlib.Path(folder, "limit").write_text("128\n")
            self.assertEqual(run_tests.allow_watches(5, ReadOnly(folder, "limit")), 128)
            self.assertEqual(run_tests.allow_watches(5, pathlib.Path(folder, "none")), 0)

    def test_the_first_rule_that_matches_holds_and_one_that_matches_nothing_is_named(self):
        rules = [Rule("p::t the_one*", seconds=5), Rule("p::t *", seconds=3), Rule("p::gone *")]
        self.assertEqual(run_tests.rule_for(rules, "p::t the_one_test").seconds, 5)
        self.assertEqual(run_tests.rule_for(rules, "p::t another").seconds, 3)
        self.assertEqual(run_tests.rule_for(rules, "p another").seconds, 1)
        self.assertEqual(run_tests.unmatched(rules, ["p::t the_one_test"]), ["p::gone *"])

    def test_the_schedule_of_the_workspace_can_be_read(self):
        self.assertTrue(run_tests.read_schedule(run_tests.SCHEDULE))


class WholeRuns(unittest.TestCase):
    """The script itself, with programs that behave in each way that programs do."""

    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def write(self, name, text):
        path = self.folder / name
        path.write_text(f"#!{sys.executable}\n{textwrap.dedent(text)}")
        path.chmod(0o755)
        return str(path)

    def start(self, tests, *arguments, schedule="", cargo=(), environment=()):
        """Runs `{program: {test: code}}`."""
        programs = {name: self.write(name, PROGRAM.format(tests=of, passed=PASSED)) for name, of in tests.items()}
        messages = "\n".join(message(name, path) for name, path in programs.items())
        table, watches = self.folder / "schedule.toml", self.folder / "watches"
        table.write_text(schedule)
        watches.write_text("4096")
        return subprocess.Popen(
            [sys.executable, str(SCRIPT), "--schedule", str(table), "--output", str(self.folder / "output")]
            + ["--watches", str(watches), "--cores", "2", *arguments, "--", *cargo],
            env=os.environ | {"CARGO": self.write("cargo", CARGO.format(messages=messages))} | dict(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run_it(self, *arguments, **options):
        process = self.start(*arguments, **options)
        said, _ = process.communicate(timeout=60)
        return process.returncode, said

    def test_a_run_in_which_all_pass_passes_and_names_the_slowest(self):
        tests = {"one": {"quick": "", "slow": "import time; time.sleep(0.5)"}, "two": {"other": "print('words')"}}
        code, said = self.run_it(tests)
        self.assertEqual(code, 0, said)
        self.assertIn("3 tests in 2 programs", said)
        self.assertIn("3 of 3 tests passed", said)
        # Which of them is the slowest is the machine's to say: a start alone takes a second on a busy one.
        slowest = [line.split() for line in said.partition("the slowest")[2].splitlines()[1:4]]
        seconds = [float(words[0]) for words in slowest]
        self.assertEqual(seconds, sorted(seconds, reverse=True), said)
        self.assertGreaterEqual(seconds[0], 0.5, said)
        self.assertEqual({words[-1] for words in slowest}, {"quick", "slow", "other"}, said)
        self.assertNotIn("words", said)
        output = self.folder / "output"
        self.assertEqual(len((output / "times").read_text().splitlines()), 3)
        self.assertIn("words", (output / "some-package-two-other.txt").read_text())

    def test_a_failure_is_shown_whole_and_the_others_run_all_the_same(self):
        fails = "print('before it'); print('to stderr', file=sys.stderr); sys.exit(101)"
        code, said = self.run_it({"one": {"a_bad": fails, "z_good": ""}})
        self.assertEqual(code, 1, said)
        self.assertIn("FAILED some-package::one a_bad: exit code 101", said)
        self.assertIn("before it\n", said)
        self.assertIn("to stderr\n", said)
        self.assertIn("1 of 2 tests passed", said)

    def test_what_did_not_run_has_not_passed(self):
        ignored = "print('test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out'); sys.exit(0)"
        for code in [ignored, "sys.exit(0)"]:
            result, said = self.run_it({"one": {"quiet": code}})
            self.assertEqual(result, 1, said)
            self.assertIn("it did not run", said)

    def test_a_crash_is_told_by_its_signal(self):
        code, said = self.run_it({"one": {"dies": "import os; os.kill(os.getpid(), 11)"}})
        self.assertEqual(code, 1)
        self.assertIn("it was ended by signal 11", said)

    def test_what_hangs_is_ended_with_all_that_it_started_and_its_words_are_kept(self):
        number = self.folder / "child"
        hangs = f"""
import subprocess, time
child = subprocess.Popen(["sleep", "600"])
open({str(number)!r}, "w").write(str(child.pid))
print("it waits for something", flush=True)
time.sleep(600)
"""
        schedule = '[[test]]\nname = "some-package::one hangs"\ndeadline = 1\n'
        code, said = self.run_it({"one": {"hangs": hangs, "well": ""}}, schedule=schedule)
        self.assertEqual(code, 1, said)
        self.assertIn("FAILED some-package::one hangs: no end within 1.0 s", said)
        self.assertIn("it waits for something", said)
        self.assertIn("1 of 2 tests passed", said)
        self.assertTrue(ended(int(number.read_text())), "its child lives on")

    def test_what_a_test_leaves_behind_is_ended(self):
        number = self.folder / "child"
        leaves = f"""
import subprocess
open({str(number)!r}, "w").write(str(subprocess.Popen(["sleep", "600"]).pid))
"""
        code, said = self.run_it({"one": {"leaves": leaves}})
        self.assertEqual(code, 0, said)
        self.assertTrue(ended(int(number.read_text())), "what it left lives on")

    def test_interrupted_it_ends_what_it_started(self):
        for what in [signal.SIGINT, signal.SIGTERM]:
            number = self.folder / "pid"
            hangs = f"import os, time\nopen({str(number)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)"
            process = self.start({"one": {"hangs": hangs}})
            eventually(lambda: number.exists() and number.read_text())
            process.send_signal(what)
            process.communicate(timeout=20)
            self.assertNotEqual(process.returncode, 0)
            self.assertTrue(ended(int(number.read_text())), f"after {what} it lives on")
            number.unlink()

    def test_a_signal_waits_until_what_is_being_started_is_in_the_list(self):
        for what, ends in [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]:
            interrupts, before, started = run_tests.Interrupts(), signal.getsignal(what), []
            signal.signal(what, interrupts.handle)
            try:
                with self.assertRaises(ends), interrupts.held():
                    os.kill(os.getpid(), what)
                    started.append("a job")
                self.assertEqual(started, ["a job"])
                with self.assertRaises(ends):
                    os.kill(os.getpid(), what)
                    started.append("another one, without a hold")
                self.assertEqual(started, ["a job"])
            finally:
                signal.signal(what, before)

    def test_commands_beside_run_one_after_the_other_and_their_failure_is_the_runs(self):
        trace = self.folder / "trace"
        first, second = (f"echo {word} >> {trace}; sleep 0.2; echo {word} >> {trace}" for word in "ab")
        code, said = self.run_it({"one": {"test": ""}}, "--beside", f"first={first}", "--beside", f"second={second}")
        self.assertEqual(code, 0, said)
        self.assertEqual(trace.read_text().split(), ["a", "a", "b", "b"])
        code, said = self.run_it({"one": {"test": ""}}, "--beside", "lints=echo a warning; exit 3")
        self.assertEqual(code, 1, said)
        self.assertIn("FAILED lints: exit code 3", said)
        self.assertIn("a warning", said)

    def test_tests_that_wait_run_beside_those_that_compute(self):
        # Each waits for the other: one after the other, both would fail.
        meet = """
import os, time
os.makedirs({0!r}, exist_ok=True)
open(os.path.join({0!r}, name), "w")
deadline = time.monotonic() + 20
while len(os.listdir({0!r})) < {1}:
    assert time.monotonic() < deadline, "nobody comes"
    time.sleep(0.01)
""".format(str(self.folder / "meet"), 5)
        waits = '[[test]]\nname = "some-package::clusters *"\nwaits = true\ncores = 0.6\n'
        tests = {"clusters": {name: meet for name in ("a", "b", "c")}, "other": {name: meet for name in ("d", "e")}}
        code, said = self.run_it(tests, schedule=waits)
        self.assertEqual(code, 0, said)

    def test_a_test_sees_its_package(self):
        looks = "import os; assert os.environ['CARGO_MANIFEST_DIR'] == os.getcwd() and os.environ['CARGO_PKG_NAME'] == 'some-package'"
        code, said = self.run_it({"one": {"looks": looks}})
        self.assertEqual(code, 0, said)

    def test_skipped_tests_are_told_or_written_where_it_was_asked_for(self):
        skips = "import os; open(os.environ['INDEXBUILD_SKIPPED'], 'a').write('SKIPPED: it: no root\\n')"
        code, said = self.run_it({"one": {"skips": skips}}, environment={"INDEXBUILD_SKIPPED": str(self.folder / "list")})
        self.assertEqual(code, 0, said)
        self.assertIn("SKIPPED: it", (self.folder / "list").read_text())
        self.assertIn("SKIPPED: it: no root", said)

    def test_without_a_compiled_program_without_tests_or_with_a_stale_schedule_nothing_passes(self):
        for tests, options, words in [
            ({"one": {"a": ""}}, {"cargo": ["--broken"]}, "do not compile"),
            ({"one": {}}, {}, "there is no test"),
            ({"one": {"a": ""}}, {"schedule": '[[test]]\nname = "some-package::one b"\n'}, "some-package::one b"),
        ]:
            code, said = self.run_it(tests, **options)
            self.assertNotEqual(code, 0, said)
            self.assertIn(words, said)

    def test_a_program_that_does_not_tell_its_tests_fails_the_run(self):
        broken = self.write("broken", "import sys; sys.exit(7)")
        cargo = self.write("cargo-broken", CARGO.format(messages=message("broken", broken)))
        code, said = self.run_it({}, environment={"CARGO": cargo})
        self.assertNotEqual(code, 0, said)
        self.assertIn("does not tell its tests", said)

    def test_some_tests_may_be_asked_for_by_name(self):
        code, said = self.run_it({"one": {"a": "", "b": "sys.exit(1)"}}, "--only", "*one a")
        self.assertEqual(code, 0, said)
        self.assertIn("1 of 1 tests passed", said)
        code, said = self.run_it({"one": {"a": ""}}, "--only", "nothing")
        self.assertNotEqual(code, 0, said)


def ended(process):
    """Whether a process is gone, or about to be reaped by whoever adopted it."""
    try:
        eventually(lambda: state(process) in ("", "Z"))
    except AssertionError:
        return False
    return True


def state(process):
    try:
        return pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][:1]
    except OSError:
        return ""


def eventually(holds):
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


if __name__ == "__main__":
    unittest.main()
