"""`python -m tests.mutants [target [text]]`: change the code place by place, and see who notices.

Each target of `targets.py` is loaded once in a process of its own, and each of its mutants (or
those whose name has `text`) is judged by its tests in a child of that. Survivors are looked up in
SURVIVORS.md, which says why no test could or need notice them.

Exit status: 0 where each target kills at least `LEAST` and every survivor is explained, else 1.
"""

import os
import re
import signal
import sys
from pathlib import Path

from tests.mutants.bench import UNJUDGED, Bench, finish
from tests.mutants.operators import Mutant, mutants
from tests.mutants.targets import ROOT, TARGETS

LEAST = 0.9  # of all mutants, explained ones too
JOBS = int(os.environ.get("JOBS", "2"))
_TOLD_EVERY = 50  # mutants: every minute or so
SURVIVORS = Path(__file__).with_name("SURVIVORS.md")


def explained() -> dict[str, str]:
    """A survivor's name -> why it survives; a line of the file is "- `name`: reason"."""
    return dict(re.findall(r"^- `(.+)`: (.+)$", SURVIVORS.read_text(), re.MULTILINE))


def run(name: str, text: str) -> int:
    """Judge one target's mutants, print survivors as they are found, and return the exit status."""
    target = TARGETS[name]
    bench = Bench(target)
    waiting = [
        (source, mutant)
        for source in target.files()
        for mutant in mutants((ROOT / source).read_text(), Path(source).name)
        if text in mutant.name
    ]
    waiting.sort(key=lambda pair: not pair[1].function)  # those that need new imports come last
    total, survivors, running = len(waiting), list[Mutant](), dict[int, Mutant]()
    print(f"{name}: {total} mutants, {bench.tests} tests", flush=True)
    reasons = explained()
    while waiting or running:
        while waiting and len(running) < JOBS:
            source, mutant = waiting.pop(0)
            running[bench.start(source, mutant)] = mutant
        child, status = os.wait()
        finish(child)
        mutant = running.pop(child)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) in UNJUDGED:
            raise SystemExit(f"mutants: no test could be run against {mutant.name}")
        if status == 0:
            survivors.append(mutant)
            print(f"survived: `{mutant.name}`: {reasons.get(mutant.name, '?')}", flush=True)
        judged = total - len(waiting) - len(running)
        if judged % _TOLD_EVERY == 0:
            print(f"{name}: {judged} judged, {len(survivors)} survived", flush=True)
    killed = total - len(survivors)
    unknown = sum(mutant.name not in reasons for mutant in survivors)
    print(
        f"{name}: killed {killed} of {total} ({killed / max(1, total):.1%}); of {len(survivors)} "
        f"survivors {unknown} are not explained",
        flush=True,
    )
    return int(killed < LEAST * total or unknown > 0)


def main(arguments: list[str]) -> int:
    """Run what `arguments` name (nothing: all), each target in a process of its own."""
    name, text = (*arguments, "", "")[:2]
    if name and name not in TARGETS:
        print(f"mutants: no target {name!r}; known: {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    status = 0
    for one in [name] if name else TARGETS:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os._exit(run(one, text))
        _, ended = os.waitpid(child, 0)
        status |= int(ended != 0)
    return status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
