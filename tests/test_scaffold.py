"""The house keeps its own rules: dependencies, pins, extras, file sizes, nothing left over."""

import ast
import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PRODUCT = [
    ROOT / "common/accord_common",
    ROOT / "client/accord_client",
    ROOT / "server/accord_server",
]
FILES = sorted(path for package in PRODUCT for path in package.rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
MOST_LINES = 400
MOST_LINES_IN_INIT = 5
ONES_OWN = {"accord", "accord-common", "accord-client", "accord-server"}

# Which extras a part of the product may use beside the base; the first match counts.
PARTS = {
    "common/accord_common/models": ["node", "coordinator"],
    "common/accord_common/web": ["registry"],
    "common/accord_common/lines.py": ["node", "coordinator"],
    "common/accord_common/picture_files.py": ["node", "coordinator"],
    "common/accord_common/pictures.py": ["node", "coordinator"],
    "common/accord_common/tables.py": ["node", "coordinator"],
    "common/accord_common/weights.py": ["node", "coordinator"],
    "common/accord_common": [],
    "client/accord_client/steward": ["node", "steward"],
    "client/accord_client": ["node"],
    "server/accord_server/coordinator/exporting.py": ["coordinator", "export"],
    "server/accord_server/registry": ["registry"],
    "server/accord_server/aggregator": ["aggregator"],
    "server/accord_server": ["coordinator"],
}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def requirements(*extras: str) -> list[Requirement]:
    listed = [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]
    return [Requirement(line) for line in listed]


def pinned() -> list[Requirement]:
    lines = (ROOT / "deploy/constraints.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


@cache
def imported(path: Path) -> frozenset[str]:
    """Dotted names this module imports from elsewhere, also those imported inside functions."""
    names: set[str] = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(names)


def called(path: Path) -> Iterator[tuple[ast.Call, str]]:
    """Each call of this module, with the name of what is called."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def test_every_dependency_is_pinned_within_its_bounds() -> None:
    versions = {canonicalize_name(pin.name): pin.specifier for pin in pinned()}
    for requirement in requirements(*EXTRAS):
        name = canonicalize_name(requirement.name)
        if name == "accord":
            continue
        assert name in versions, f"{name} has no pin: make constraints"
        (exact,) = versions[name]
        assert requirement.specifier.contains(exact.version), f"{requirement} but pinned {exact}"


def test_a_pin_is_one_exact_version() -> None:
    for pin in pinned():
        assert [clause.operator for clause in pin.specifier] == ["=="], str(pin)
        assert not pin.extras, f"pip refuses extras in a constraints file: {pin}"


def test_dev_brings_every_extra() -> None:
    (own,) = (line for line in map(Requirement, EXTRAS["dev"]) if line.name == "accord")
    assert own.extras == EXTRAS.keys() - {"dev"}


def test_a_module_imports_only_what_its_extra_installs() -> None:
    distributions = packages_distributions()
    allowed = {
        part: {canonicalize_name(line.name) for line in requirements(*extras)} | ONES_OWN
        for part, extras in PARTS.items()
    }
    for path in FILES:
        part = next(part for part in PARTS if path.is_relative_to(ROOT / part))
        for module in imported(path):
            top = module.partition(".")[0]
            if top in sys.stdlib_module_names or top.startswith("accord_"):
                continue
            owners = {canonicalize_name(name) for name in distributions.get(top, [top])}
            assert owners & allowed[part], f"{name_of(path)}: {part} does not declare {module}"


@pytest.mark.parametrize(
    "part", ["server/accord_server/aggregator", "server/accord_server/registry"]
)
def test_weights_are_read_without_torch(part: str) -> None:
    """import-linter sees safetensors as one package; its torch module must not slip through."""
    for path in (ROOT / part).rglob("*.py"):
        assert "safetensors.torch" not in imported(path), name_of(path)


def test_a_module_says_what_it_is_and_holds_one_idea() -> None:
    for path in FILES:
        assert ast.get_docstring(parse(path)), f"{name_of(path)} has no docstring"
        most = MOST_LINES_IN_INIT if path.name == "__init__.py" else MOST_LINES
        assert len(path.read_text().splitlines()) <= most, name_of(path)


def test_no_code_arrives_as_data() -> None:
    """Unpickling runs what the sender wrote; weights travel as safetensors only."""
    unpicklers = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    loaders = {"torch.load", "numpy.load", "np.load", "pd.read_pickle", "eval", "exec"}
    for path in FILES:
        tops = {module.partition(".")[0] for module in imported(path)}
        assert not unpicklers & tops, name_of(path)
        assert not loaders & {name for _, name in called(path)}, name_of(path)


def test_nothing_waits_for_a_fixed_time() -> None:
    sleeps = {"time.sleep", "asyncio.sleep"}
    for path in FILES:
        assert not sleeps & imported(path), name_of(path)
        for node, name in called(path):
            # asyncio.sleep(0) gives other tasks a turn and waits for nothing.
            turn = name == "asyncio.sleep" and [ast.unparse(arg) for arg in node.args] == ["0"]
            assert turn or name not in sleeps, f"{name_of(path)}:{node.lineno}"


def test_nothing_is_left_over() -> None:
    for path in FILES:
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
            if token.type in (tokenize.COMMENT, tokenize.STRING):
                left = re.search(r"\b(TODO|FIXME|XXX|HACK)\b", token.string)
                assert not left, f"{name_of(path)}:{token.start[0]}: {token.string}"
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Raise) and node.exc:
                raised = ast.unparse(node.exc)
                assert not raised.startswith("NotImplementedError"), name_of(path)
