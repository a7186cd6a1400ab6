"""What the operators change, and what they leave alone."""

import ast

from tests.mutants.operators import mutants

SOURCE = '''"""A module."""
LIMIT = 3
CHECKS = (first, second)

def spend(steps: int = 1) -> int:
    """Text."""
    assert steps is not None
    if steps > LIMIT and LIMIT:
        raise PolicyError("too-much", f"{steps} is too much", hint="Take 2.")
    log.info("spent", steps=5)
    return steps + 1
'''


def names(source: str) -> list[str]:
    return [mutant.name.removeprefix("file.py ") for mutant in mutants(source, "file.py")]


def test_every_place_is_changed_in_every_way() -> None:
    assert names(SOURCE) == [
        "(module): 3 -> 4",
        "(module): (first, second) -> (second,)",
        "(module): (first, second) -> (first,)",
        "spend: 1 -> 2",
        "spend: steps > LIMIT and LIMIT -> steps > LIMIT or LIMIT",
        "spend: steps > LIMIT and LIMIT -> LIMIT",
        "spend: steps > LIMIT and LIMIT -> steps > LIMIT",
        "spend: steps > LIMIT -> steps >= LIMIT",
        "spend: steps > LIMIT -> steps <= LIMIT",
        "spend: raise PolicyError('too-much', f'{steps} is too much', hint='Take 2.') -> pass",
        "spend: 'too-much' -> 'XXtoo-much'",
        "spend: return steps + 1 -> return None",
        "spend: steps + 1 -> steps - 1",
        "spend: 1 -> 2 #2",
    ]


def test_a_mutant_differs_in_one_place_and_compiles() -> None:
    original = ast.unparse(ast.parse(SOURCE))
    for mutant in mutants(SOURCE, "file.py"):
        changed = ast.unparse(mutant.tree)
        lines = zip(original.splitlines(), changed.splitlines(), strict=True)
        assert sum(before != after for before, after in lines) == 1
        compile(mutant.tree, "file.py", "exec")


def test_what_only_an_import_can_show_has_no_function() -> None:
    found = {mutant.name: mutant.function for mutant in mutants(SOURCE, "file.py")}
    assert found["file.py spend: 1 -> 2"] == ""  # a default is made when the function is
    assert found["file.py spend: 1 -> 2 #2"] == "spend"
    assert found["file.py (module): 3 -> 4"] == ""
