"""What is changed in a source file, one place at a time.

Guarantees: each mutant differs from the original in one expression or statement, and its name says
what became of what, without line numbers, so that it outlives edits elsewhere.

Left out: what a program does not do or a person reads: docstrings, annotations, asserts (they are
for the type checker), what is logged, an error's message and hint (its code is changed), f-strings,
`__repr__`, and imports.
"""

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_TWINS = {"min": "max", "max": "min", "any": "all", "all": "any", "ceil": "floor", "floor": "ceil"}
_PLAIN_ERRORS = ("ValueError", "AssertionError")  # a message and no code
_SHOWN = 100  # characters of a mutant's name on each side


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change.

    Attributes:
        name: place, original and replacement.
        line: where the original begins, or an `if`'s condition; `last_line` is where that ends.
        function: qualified name of the outermost function around it; "" where a new import is
            needed for it to count, as in a class's body, a constant or a default.
        tree: the whole module, changed.
    """

    name: str
    line: int
    last_line: int
    function: str
    tree: ast.Module


def mutants(source: str, file: str) -> Iterator[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    tree = ast.parse(source)
    seen: Counter[str] = Counter()
    for path, place, function in _walk(tree, [], [], ""):
        original = _at(tree, path)
        for changed in _changes(original):
            name = f"{file} {place or '(module)'}: {_shown(original)} -> {_shown(changed)}"
            seen[name] += 1
            if seen[name] > 1:
                name += f" #{seen[name]}"
            mutated = copy.deepcopy(tree)
            _put(mutated, path, ast.copy_location(changed, original))
            spot = original.test if isinstance(original, ast.If) else original
            last = spot.end_lineno or spot.lineno
            ast.fix_missing_locations(mutated)
            yield Mutant(name, spot.lineno, last, function, mutated)


Path = list[tuple[str, int | None]]  # field and, in a list, index
Changed = ast.expr | ast.stmt


def _walk(
    node: ast.AST, path: Path, place: list[str], function: str
) -> Iterator[tuple[Path, str, str]]:
    """Every place that may change: its path, its qualified name, its outermost function."""
    if isinstance(node, ast.expr | ast.stmt):
        yield path, ".".join(place), function
    inner = place
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        inner = [*place, node.name]
    for field, index, child in _children(node):
        within = function
        if isinstance(node, ast.FunctionDef) and field == "body" and not function:
            within = ".".join(inner)
        if not _left_out(node, field, index, child):
            yield from _walk(child, [*path, (field, index)], inner, within)


def _children(node: ast.AST) -> Iterator[tuple[str, int | None, ast.AST]]:
    for field, value in ast.iter_fields(node):
        if isinstance(value, ast.AST):
            yield field, None, value
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, ast.AST):
                    yield field, index, item


def _left_out(node: ast.AST, field: str, index: int | None, child: ast.AST) -> bool:
    if field in ("annotation", "returns", "decorator_list", "bases", "type_comment", "keys"):
        return field != "keys" or not isinstance(node, ast.Dict)
    if isinstance(child, ast.Assert | ast.Import | ast.ImportFrom | ast.JoinedStr):
        return True
    if isinstance(child, ast.FunctionDef) and child.name == "__repr__":
        return True
    if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
        return True
    if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant | ast.JoinedStr):
        return True  # a docstring, or `...`
    if isinstance(child, ast.Assign) and _is_type(child.value):
        return True
    if isinstance(child, ast.Expr | ast.Call) and ast.unparse(child).startswith("log."):
        return True
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("Error", "broken")):
        plain = ast.unparse(node.func) in _PLAIN_ERRORS
        return plain or not (field == "args" and index == 0)  # the code
    return isinstance(node, ast.Subscript) and field == "slice" and _is_type(node)


def _is_type(value: ast.AST) -> bool:
    return isinstance(value, ast.Subscript) and ast.unparse(value.value) in (
        *("Literal", "tuple", "list", "dict", "Mapping", "Callable", "Sequence", "Counter", "set"),
    )


def _changes(node: ast.AST) -> Iterator[Changed]:
    match node:
        case ast.Compare(left=left, ops=operators, comparators=values):
            for place, operator in enumerate(operators):
                for other in _COMPARISONS[type(operator)]:
                    changed = [*operators[:place], other(), *operators[place + 1 :]]
                    yield ast.Compare(left, changed, values)
        case ast.BoolOp(op=operator, values=values):
            yield ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), values)
            for place in range(len(values)):
                kept = [*values[:place], *values[place + 1 :]]
                yield kept[0] if len(kept) == 1 else ast.BoolOp(operator, kept)
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _ARITHMETIC:
            if not isinstance(left, ast.Constant | ast.JoinedStr) or not isinstance(
                getattr(left, "value", None), str
            ):
                yield ast.BinOp(left, _ARITHMETIC[type(operator)](), right)
        case ast.AugAssign(target=target, op=operator, value=value) if (
            type(operator) in _ARITHMETIC
        ):
            yield ast.AugAssign(target, _ARITHMETIC[type(operator)](), value)
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
        case ast.Constant(value=float(value)):
            yield ast.Constant(value * 2 + (value == 0))
        case ast.Constant(value=str(value)):
            yield ast.Constant("XX" + value)
        case ast.Constant(value=bytes(value)):
            yield ast.Constant(b"XX" + value)
        case ast.Name(id=name) if name in _TWINS and isinstance(node.ctx, ast.Load):
            yield ast.Name(_TWINS[name], ast.Load())
        case ast.Attribute(value=of, attr=name) if name in _TWINS:
            yield ast.Attribute(of, _TWINS[name], ast.Load())
        case ast.Return(value=ast.expr() as value) if ast.unparse(value) != "None":
            yield ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call()) | ast.Raise():
            yield ast.Pass()
        case ast.Tuple(elts=items, ctx=ast.Load()) if all(isinstance(i, ast.Name) for i in items):
            for place in range(len(items)):
                yield ast.Tuple([*items[:place], *items[place + 1 :]], ast.Load())
        case ast.Continue():
            yield ast.Break()
        case ast.Break():
            yield ast.Continue()
        case ast.If(test=test, body=body, orelse=other) if _bare(test):
            yield ast.If(ast.UnaryOp(ast.Not(), test), body, other)
        case ast.IfExp(test=test, body=body, orelse=other) if _bare(test):
            yield ast.IfExp(ast.UnaryOp(ast.Not(), test), body, other)


def _bare(test: ast.expr) -> bool:
    """Whether no other change negates a condition."""
    return not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.Constant)


def _at(tree: ast.AST, path: Path) -> ast.expr | ast.stmt:
    node: object = tree
    for field, index in path:
        node = getattr(node, field)
        node = node if index is None else node[index]  # type: ignore[index]  # a list's field
    assert isinstance(node, ast.expr | ast.stmt)
    return node


def _put(tree: ast.AST, path: Path, changed: ast.AST) -> None:
    *before, (field, index) = path
    parent: object = tree
    for name, place in before:
        parent = getattr(parent, name)
        parent = parent if place is None else parent[place]  # type: ignore[index]  # as above
    if index is None:
        setattr(parent, field, changed)
    else:
        getattr(parent, field)[index] = changed


def _shown(node: ast.AST) -> str:
    prefix, node = ("if ", node.test) if isinstance(node, ast.If) else ("", node)
    text = prefix + " ".join(ast.unparse(node).split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
