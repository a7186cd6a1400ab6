"""`python -m tests.benchmarks [name]`: run one benchmark or all, one JSON object a line.

A benchmark is a module `bench_<name>.py` beside this file with `def run() -> Iterator[Row]`. Only
rows reach stdout: while a benchmark runs, its own stdout and that of the processes it starts go to
stderr. One that fails does not keep the others from running. Exit status: 0 all ran, 1 one failed,
2 no such benchmark.
"""

import importlib
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tests.benchmarks.row import Row

PREFIX = "bench_"


def known(folder: Path) -> dict[str, str]:
    """Benchmark name -> module name, for each module in `folder`."""
    return {
        path.stem.removeprefix(PREFIX).replace("_", "-"): path.stem
        for path in sorted(folder.glob(f"{PREFIX}*.py"))
    }


@contextmanager
def rows_only() -> Iterator[TextIO]:
    """The real stdout, while file descriptor 1 points at stderr for everybody else."""
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        try:
            yield out
        finally:
            sys.stdout.flush()
            out.flush()
            os.dup2(out.fileno(), 1)


def run_one(module: str, out: TextIO) -> None:
    """Import `module`, which must define `run`, and write each of its rows as it comes."""
    rows: Iterator[Row] = importlib.import_module(module).run()
    for row in rows:
        print(row.to_json(), file=out, flush=True)


def main(arguments: list[str]) -> int:
    """Run what `arguments` name (nothing: all) and return the exit status."""
    benchmarks = known(Path(__file__).parent)
    unknown = [name for name in arguments if name not in benchmarks]
    if unknown or len(arguments) > 1:
        wrong = f"no benchmark {unknown[0]!r}" if unknown else "name one benchmark, or none for all"
        print(f"bench: {wrong}; known: {', '.join(benchmarks) or 'none'}", file=sys.stderr)
        return 2
    status = 0
    with rows_only() as out:
        for name in arguments or benchmarks:
            print(f"bench: {name} ...", file=sys.stderr)
            try:
                run_one(f"tests.benchmarks.{benchmarks[name]}", out)
            except Exception:
                traceback.print_exc()
                print(f"bench: {name} failed", file=sys.stderr)
                status = 1
    return status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
