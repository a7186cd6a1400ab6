"""What is written down for operators is true of the product: commands, files, ports, users."""

from pathlib import Path

import pytest

from tests.deploy import commands, units

ROOT = Path(__file__).parents[2]
DOCUMENTS = ["README.md", "deploy/OPERATING.md"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_command_line_that_is_quoted_exists(name: str) -> None:
    found = commands.quoted((ROOT / name).read_text())
    assert len(found) > 20
    assert [error for words in found if (error := commands.wrong(words))] == []


@pytest.mark.parametrize("name", units.NAMES)
def test_a_units_command_line_exists(name: str) -> None:
    (line,) = units.settings(name)["ExecStart"]
    (words,) = commands.in_line(line)
    assert commands.wrong(words) == ""


def test_a_command_line_that_does_not_exist_is_noticed() -> None:
    for line, error in (
        ("accord registry stat", "no verb stat"),
        ("sudo -u x /opt/accord/bin/accord regitry start", "no verb regitry"),
        ("run=$(accord run list --hme x | grep y) && accord-node chek", "no option --hme"),
        ("accord demo && accord-node dataset add x --schemas y", "no option --schemas"),
    ):
        (words,) = [words for words in commands.in_line(line) if commands.wrong(words)][:1]
        assert error in commands.wrong(words)
    assert not any(map(commands.wrong, commands.in_line("accord run watch R --holdout x > y 2>&1")))
