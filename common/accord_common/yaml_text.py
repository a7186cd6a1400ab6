"""YAML that a person wrote, read strictly; JSON is YAML, so one reader serves both.

Guarantees: only plain values come out, and every one that was written: a repeated key, which would
silently hide a line, is refused.
"""

from typing import Any

import yaml

Path = tuple[int | str, ...]
Place = tuple[int, int]  # line and column, from 1


def parse(text: bytes, *, max_bytes: int) -> object:
    """Decode one document.

    Raises:
        ValueError: what is wrong, and in which line, for a person to read.
    """
    if len(text) > max_bytes:
        raise ValueError(f"over {max_bytes} bytes")
    try:
        _refuse_repeats(yaml.compose(text, yaml.SafeLoader))
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"not YAML: {error}") from error


def places(text: bytes) -> dict[Path, Place]:
    """Where each entry of a document that `parse` read stands, by its path.

    A list's items are counted from 0. What a mapping names is at its name.
    """
    found: dict[Path, Place] = {}
    _walk(yaml.compose(text, yaml.SafeLoader), (), found)
    return found


def _walk(node: Any, path: Path, found: dict[Path, Place]) -> None:
    found.setdefault(path, (node.start_mark.line + 1, node.start_mark.column + 1))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, key.value)
            found[inner] = key.start_mark.line + 1, key.start_mark.column + 1
            _walk(value, inner, found)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            _walk(item, (*path, number), found)


def _refuse_repeats(node: Any) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise ValueError(f"a name that is no text, in line {line}")
            if key.value in seen:
                raise ValueError(f"{key.value!r} is given twice, the second time in line {line}")
            seen.add(key.value)
    if isinstance(node, yaml.CollectionNode):
        for child in node.value:
            for part in child if isinstance(child, tuple) else (child,):
                _refuse_repeats(part)
