"""Every code of an error or a reason that a page can show, found in the sources.

Guarantees: whatever is given as `code` counts: to an error class, to a function with a parameter of
that name, to a class with such a field, by keyword, or to a variable; literals, constants, and both
sides of a choice. A code that is put together must be in `_COMPOSED`, or this fails; those out of
tables are in `_TABLED`.

Not covered: what is said on a console alone (`_CONSOLE`), and codes that other software sends.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
_SOURCES = ("common/accord_common", "client/accord_client", "server/accord_server")
_CONSOLE = (
    "common/accord_common/checks/",
    "common/accord_common/cli.py",
    "common/accord_common/support",
    "common/accord_common/web/languages.py",
    "client/accord_client/backup.py",
    "client/accord_client/cli/",
    "client/accord_client/health.py",
    "server/accord_server/ca.py",
    "server/accord_server/certificates.py",
    "server/accord_server/cli/",
    "server/accord_server/coordinator/",
    "server/accord_server/demo",
    "server/accord_server/rotation.py",
    "server/accord_server/registry/backup/",
    "server/accord_server/registry/doctor.py",
)
_ASKED = (  # of the coordinator's, what a page asks too
    "server/accord_server/coordinator/manifests.py",
    "server/accord_server/coordinator/plan_file.py",
)
_FILES = ("heads", "ledger", "outbox", "round-secrets", "state")  # a node's
_DATABASE = (
    *("auth", "busy", "damaged", "missing", "permission", "read-only", "settings", "tls"),
    "unreachable",
)
_COMPOSED = {  # `*` for what is put in
    "**": tuple(f"{what}-unwritable" for what in _FILES),
    "*-broken": tuple(f"{what}-broken" for what in _FILES),
    "too-many-*": ("too-many-announcements", "too-many-comments"),
}
_TABLED = (  # out of a table, or returned: of databases, of starlette, of the Fleet API
    *(f"database-{what}" for what in _DATABASE),
    *("bad-range", "conflict", "forbidden", "no-such-method", "unavailable"),
    *("dataset-not-ready", "node-clock-skew"),
)
_KEBAB = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_ERRORS = "common/accord_common/errors.py"


@dataclass
class _Module:
    path: str
    tree: ast.Module
    constants: dict[str, str] = field(default_factory=dict)
    functions: dict[str, int] = field(default_factory=dict)  # name -> place of `code`
    methods: dict[str, int] = field(default_factory=dict)


@cache
def codes(root: Path = ROOT) -> tuple[str, ...]:
    """Each code, once."""
    modules = list(_modules(root))
    constants: dict[str, str] = {}
    classes: dict[str, int] = {}
    methods: dict[str, int] = {}
    for module in modules:
        constants |= module.constants
        classes |= dict(_classes(module))
        methods |= module.methods
    found = set(_TABLED)
    for module in modules:
        known = constants | module.constants
        takers = classes | module.functions
        found |= set(_given(module, takers, classes | methods, known))
    return tuple(sorted(found))


def _modules(root: Path) -> Iterator[_Module]:
    for source in _SOURCES:
        for path in sorted((root / source).rglob("*.py")):
            name = path.relative_to(root).as_posix()
            if name in _ASKED or not name.startswith(_CONSOLE):
                yield _read(name, path.read_bytes())


def _read(name: str, source: bytes) -> _Module:
    module = _Module(name, ast.parse(source))
    for statement in module.tree.body:
        if isinstance(statement, ast.Assign):
            module.constants |= dict(_constants(statement))
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names = [one.arg for one in (*node.args.posonlyargs, *node.args.args)]
            if "code" in names:
                within = module.methods if names[0] == "self" else module.functions
                within[node.name] = names.index("code") - (names[0] == "self")
    return module


def _constants(node: ast.Assign) -> Iterator[tuple[str, str]]:
    target = node.targets[0]
    if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
        pairs = list(zip(target.elts, node.value.elts, strict=False))
    else:
        pairs = [(target, node.value)]
    for name, value in pairs:
        if isinstance(name, ast.Name) and isinstance(value, ast.Constant):
            if isinstance(value.value, str) and _KEBAB.fullmatch(value.value):
                yield name.id, value.value


def _classes(module: _Module) -> Iterator[tuple[str, int]]:
    """Error classes, and classes with a field `code`, by name."""
    for node in module.tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        if module.path == _ERRORS:
            yield node.name, 0
        fields = [
            one.target.id
            for one in node.body
            if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
        ]
        if "code" in fields:
            yield node.name, fields.index("code")
        for one in node.body:
            if isinstance(one, ast.FunctionDef) and one.name == "__init__":
                names = [argument.arg for argument in one.args.args]
                if "code" in names:
                    yield node.name, names.index("code") - 1


def _given(
    module: _Module, takers: dict[str, int], methods: dict[str, int], constants: dict[str, str]
) -> Iterator[str]:
    for node in ast.walk(module.tree):
        match node:
            case ast.Assign(targets=[ast.Name(id="code")], value=value):
                yield from _values(module, value, constants)
        if not isinstance(node, ast.Call):
            continue
        for keyword in node.keywords:
            if keyword.arg == "code":
                yield from _values(module, keyword.value, constants)
        called = node.func
        if isinstance(called, ast.Name):
            place = takers.get(called.id)
        else:
            place = methods.get(getattr(called, "attr", ""))
        if place is not None and len(node.args) > place:
            yield from _values(module, node.args[place], constants)


def _values(module: _Module, node: ast.expr, constants: dict[str, str]) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(value)) if _KEBAB.fullmatch(value):
            yield value
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in constants:
            yield constants[name]
        case ast.IfExp(body=first, orelse=second):
            yield from _values(module, first, constants)
            yield from _values(module, second, constants)
        case ast.JoinedStr(values=parts):
            shape = "".join(
                str(one.value) if isinstance(one, ast.Constant) else "*" for one in parts
            )
            if shape not in _COMPOSED:
                raise ValueError(f"{module.path}: say in _COMPOSED which codes {shape} is")
            yield from _COMPOSED[shape]
