"""One target's tests, loaded once; then a forked child for each mutant.

Guarantees: a mutant is judged by every test that ran its lines, or its function, in a first traced
run, and by all tests where that run cannot tell (class bodies, constants, defaults). A mutated
function gets its new code in place, in a child of its own; what only an import can show is imported
anew there. Nothing is ever written to the source files.

Not covered: what a test starts as another process, which imports the original.
"""

import functools
import gc
import importlib.machinery
import importlib.util
import os
import resource
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest

from tests.mutants.operators import Mutant
from tests.mutants.targets import ROOT, Target, found

_OPTIONS = ("-q", "-x", "--tb=short", "-p", "no:cacheprovider", "-p", "no:xdist")
_LEAST_S, _TIMES = 20.0, 8.0  # a mutant's time: at least, and how often its tests' own
_MEMORY = 6 << 30  # bytes beyond what the loaded tests have
_OURS = ("accord_", "tests.")
UNJUDGED = frozenset({pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED})
_IMPORT = ""  # in place of a test: while modules are imported


class Traced:
    """A pytest plugin: which test ran which line of the sources, and how long each took."""

    def __init__(self, files: set[str]) -> None:
        self._files = files
        self._test, self._setting_up = _IMPORT, False
        self.lines: dict[tuple[str, int], set[str]] = defaultdict(set)
        self.seconds: dict[str, float] = {}

    def start(self) -> None:
        threading.settrace(self._trace)
        sys.settrace(self._trace)

    def stop(self) -> None:
        sys.settrace(None)
        threading.settrace(None)

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in self._files:
            return None
        if event in ("line", "call"):
            key = frame.f_code.co_filename, frame.f_lineno
            self.lines[key].add(self._test)
            if self._setting_up:  # a fixture that others of the file may share
                self.lines[key].add(self._test.partition("::")[0])
        return self._trace

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self.seconds = dict.fromkeys((item.nodeid for item in items), 0.0)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        self._test, start = item.nodeid, time.monotonic()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.monotonic() - start
            self._test = _IMPORT

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self) -> Any:
        self._setting_up = True
        try:
            return (yield)
        finally:
            self._setting_up = False


class Bench:
    """A target whose tests pass, loaded in this process."""

    def __init__(self, target: Target) -> None:
        self._deselect = ["-k", " and ".join(f"not {text}" for text in target.deselect)]
        files = {str(ROOT / source) for source in target.files()}
        self._traced = Traced(files)
        self._traced.start()
        try:
            status = self._pytest(found(target.tests), [self._traced])
        finally:
            self._traced.stop()
        if status != 0:
            raise SystemExit(f"mutants: the tests fail without a change, status {status}")
        self._functions: dict[tuple[str, str], list[FunctionType]] = defaultdict(list)
        self._caches = []
        for thing in gc.get_objects():
            if type(thing) is FunctionType and thing.__code__.co_filename in files:
                key = thing.__code__.co_filename, thing.__code__.co_qualname
                self._functions[key].append(thing)
            elif type(thing) is functools._lru_cache_wrapper:
                self._caches.append(thing)
        gc.collect()
        gc.freeze()  # children share what is loaded: nothing looks through it again

    @property
    def tests(self) -> int:
        return len(self._traced.seconds)

    def start(self, source: str, mutant: Mutant) -> int:
        """Fork a child that judges a mutant, and return its id.

        It exits with 0 where the mutant survives, with `UNJUDGED` where no test could be run, and
        in any other way where it is noticed.
        """
        file = str(ROOT / source)
        tests, in_place = self._tests_for(file, mutant)
        limit = max(_LEAST_S, _TIMES * sum(self._traced.seconds[test] for test in tests))
        if not in_place:  # whole files: a constant may be part of its tests' names
            tests = list(dict.fromkeys(test.partition("::")[0] for test in tests))
        child = os.fork()
        if child == 0:
            try:
                os.setpgid(0, 0)
                self._judge(source, mutant, tests, limit, in_place)
            finally:
                os._exit(1)  # whatever the change made of it: noticed
        return child

    def _tests_for(self, file: str, mutant: Mutant) -> tuple[list[str], bool]:
        seconds = self._traced.seconds
        lines = range(mutant.line, mutant.last_line + 1)
        hit = set().union(*(self._traced.lines.get((file, line), set()) for line in lines))
        functions = self._functions.get((file, mutant.function), [])
        if not hit and functions:
            code = functions[0].__code__
            spanned = {line for _, _, line in code.co_lines() if line}
            hit = set().union(*(self._traced.lines.get((file, line), set()) for line in spanned))
        in_place = bool(mutant.function and functions) and _IMPORT not in hit
        chosen = (
            [test for test in seconds if test in hit or test.partition("::")[0] in hit]
            if in_place
            else list(seconds)
        )
        own = f"test_{Path(file).stem}.py"  # the mirrored file's tests know it best
        return sorted(chosen, key=lambda test: (own not in test, seconds[test])), in_place

    def _judge(
        self, source: str, mutant: Mutant, tests: list[str], limit: float, in_place: bool
    ) -> None:
        if not tests:
            os._exit(0)
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, limit)
        with open("/proc/self/statm") as status:
            held = int(status.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + _MEMORY,) * 2)
        code = compile(mutant.tree, str(ROOT / source), "exec", dont_inherit=True)
        if in_place:
            for (file, name), functions in self._functions.items():
                # What a function made when it was called, by a decorator say, has code of its own.
                if file == str(ROOT / source) and f"{name}.".startswith(f"{mutant.function}."):
                    for function in functions:
                        function.__code__ = _named(code, function.__code__)
            for cache in self._caches:
                cache.cache_clear()
        else:
            for name in [name for name in sys.modules if name.startswith(_OURS)]:
                del sys.modules[name]
            sys.meta_path.insert(0, Mutated(source, code))
        os._exit(self._pytest(["--tb=no", *tests], [Imports()]))

    def _pytest(self, tests: Any, plugins: list[object]) -> int:
        return int(pytest.main([*_OPTIONS, *self._deselect, *tests], plugins=plugins))


class Imports:
    """A pytest plugin: a test file that a mutant lets nobody import has noticed it."""

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            os._exit(1)


class Mutated(importlib.machinery.SourceFileLoader):
    """Imports one module from changed code."""

    def __init__(self, source: str, code: CodeType) -> None:
        name = ".".join(Path(source).with_suffix("").parts[1:])  # without common/, client/
        super().__init__(name, str(ROOT / source))
        self._code = code

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.path, loader=self)

    def get_code(self, _: str) -> CodeType:
        return self._code


def _named(code: CodeType, wanted: CodeType) -> CodeType:
    """Find a function's new code within its module's."""
    for inner in _codes(code):
        if inner.co_qualname == wanted.co_qualname and (
            inner.co_firstlineno == wanted.co_firstlineno
        ):
            return inner
    raise LookupError(wanted.co_qualname)


def _codes(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)


def finish(child: int) -> None:
    """End what a child left running."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
