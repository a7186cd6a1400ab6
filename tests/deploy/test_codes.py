"""Codes are found wherever the sources name them, so that none goes without a translation."""

from pathlib import Path

import pytest

from accord_common.web.languages import LANGUAGES
from deploy import codes

GIVEN = """
_OWN, _THEIRS = "out-of-a-pair", "its-neighbour"
LATE = "out-of-a-constant"

class _Failed(Exception):
    def __init__(self, code: str, cause: str) -> None: ...

@dataclass
class Trouble:
    since: str
    code: str

def _bad(why: str, code: str) -> Error: ...

class Notes:
    def add(self, code: str) -> None: ...

raise PolicyError("out-of-an-error", "x")
raise PolicyError(LATE if late else "out-of-a-choice", "x")
raise errors.UsageError(_OWN, "x")
_Failed("out-of-an-own-error", "x")
Trouble("now", "out-of-a-field")
Trouble(code="out-of-a-keyword", since="now")
_bad("x", "out-of-a-function")
notes.add("out-of-a-method")
code = "out-of-a-variable"
log.info("not-a-code", name="not-a-code-either")
"""


def found_in(root: Path, source: str) -> set[str]:
    for folder in ("common/accord_common", "server/accord_server/cli"):
        (root / folder).mkdir(parents=True)
    errors = "common/accord_common/errors.py"
    (root / errors).write_bytes((codes.ROOT / errors).read_bytes())
    (root / "common/accord_common/given.py").write_text(source)
    console = 'raise UsageError("on-a-console", "x")'
    (root / "server/accord_server/cli/verb.py").write_text(console)
    return set(codes.codes(root))


def test_a_code_is_found_however_it_is_given(tmp_path: Path) -> None:
    nothing = found_in(tmp_path / "nothing", "")
    ways = "error constant choice pair own-error field keyword function method variable".split()
    expected = {f"out-of-{'an' if way[0] in 'eo' else 'a'}-{way}" for way in ways}
    assert found_in(tmp_path / "given", GIVEN) - nothing == expected


def test_a_code_that_is_put_together_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"given\.py: say in _COMPOSED which codes lost-\* is"):
        found_in(tmp_path, 'raise UsageError(f"lost-{what}", "x")')


@pytest.mark.parametrize(
    "code",
    [
        "stalled",  # what a run waits for
        "consent-timeout",  # why the registry ends one
        "attempts-exhausted",  # why the aggregator does
        "budget-exceeded",  # why a site refuses one
        "result-differs",  # what does not agree
        "log-forked",  # what a check of evidence finds
        "wrong-credentials",  # why a form is refused
        "hash-differs",  # the same, on the node's own page
    ],
)
def test_what_pages_show_is_among_them(code: str) -> None:
    assert code in codes.codes()
    assert LANGUAGES["zh-Hans"].reason(code)
