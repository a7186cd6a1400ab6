"""How good a run's model is at each institution, on rows that nobody trained on.

These rows are public in a demonstration only. In life an institution asks its own node
(`accord-node compare`), and nothing of the answer leaves it.
"""

from collections.abc import Mapping
from pathlib import Path

from accord_common import schema_file


def by_site(
    file: Path, task: str, architecture: str, schema: str, tests: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """Score a model.

    Args:
        file: what `accord model download` wrote.
        task: of the run.
        architecture: of the run, without arguments.
        schema: YAML text.
        tests: CSV text by institution.

    Returns:
        For each institution `accuracy`, and `majority`: what is right of always giving the answer
        that is the more frequent one there.
    """
    import yaml
    from safetensors.numpy import load_file

    from accord_common.models.discovery import load_task
    from accord_common.models.evaluate import evaluate
    from accord_common.models.flat import layout_of
    from accord_common.tables import encode, read

    agreed = schema_file.from_document(yaml.safe_load(schema))
    trained = load_task(task)
    module = trained.build(architecture, {}, agreed)
    vector = layout_of(module).flatten(load_file(file))
    found = {}
    for site, text in tests.items():
        table = encode(read(text.encode(), "csv", agreed), agreed)
        positive = float(table.labels.mean())
        found[site] = {
            "accuracy": round(evaluate(trained, module, vector, table)["accuracy"], 4),
            "majority": round(max(positive, 1 - positive), 4),
        }
    return found
