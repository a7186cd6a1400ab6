"""YAML that a person wrote, read strictly; JSON is YAML, so one reader serves both.

Guarantees: only plain values come out, and every one that was written: a repeated key, which would
silently hide a line, is refused.
"""

from typing import Any

import yaml


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
