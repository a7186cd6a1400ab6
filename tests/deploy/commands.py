"""Whether a command line that somebody wrote down exists: its verb, and each of its options."""

import re
import shlex
from importlib import import_module

import click
import typer

from accord_client.cli.app import app as node
from accord_server.cli.app import VERBS

SCRIPTS = ("accord", "accord-node")
_PREFIXES = {"sudo", "env", "exec", "do", "then", "until", "while", "if", "!"}


def wrong(words: list[str]) -> str:
    """What of a command line does not exist; empty where all of it does.

    Args:
        words: the script's name, verbs, arguments and options.
    """
    command = typer.main.get_command(node) if words[0] == "accord-node" else None
    rest = words[1:]
    if command is None:
        if not rest or rest[0] not in VERBS:
            return "" if rest[:1] in ([], ["--help"]) else f"accord has no verb {rest[0]}"
        module, _, attribute = VERBS[rest[0]].target.partition(":")
        app = getattr(import_module(f"accord_server.cli.{module}"), attribute)
        command, rest = typer.main.get_command(app), rest[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        if rest[0] not in command.commands:
            return f"no verb {rest[0]} in {' '.join(words)}"
        command, rest = command.commands[rest[0]], rest[1:]
    known = {"--help", *(name for parameter in command.params for name in _names(parameter))}
    for word in rest:
        option = word.partition("=")[0]
        if re.fullmatch(r"--?[a-z][a-z-]*", option) and option not in known:
            return f"no option {option} in {' '.join(words)}"
    return ""


def _names(parameter: click.Parameter) -> list[str]:
    return [*parameter.opts, *parameter.secondary_opts]


def quoted(markdown: str) -> list[list[str]]:
    """Command lines of Accord's scripts in code spans and shell blocks, as words."""
    shell = re.findall(r"```sh\n(.*?)```", markdown, re.DOTALL)
    prose = re.sub(r"```.*?```", "", markdown, flags=re.DOTALL)
    lines = [line for block in shell for line in block.replace("\\\n", " ").splitlines()]
    lines += [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
    return [command for line in lines for command in in_line(line)]


def in_line(line: str) -> list[list[str]]:
    """Command lines of Accord's scripts in one line of shell."""
    splitter = shlex.shlex(line, posix=True, punctuation_chars="();&|<>")
    splitter.whitespace_split, splitter.commenters = True, "#"
    try:
        words = list(splitter)
    except ValueError:  # a span that is no shell: an unfinished quotation
        words = line.split()
    simple: list[list[str]] = [[]]
    for word in words:
        if set(word) <= set("();&|<>"):
            simple.append([])
        else:
            simple[-1].append(word)
    found = []
    for command in map(_without_prefix, simple):
        if command and (name := command[0].rpartition("/")[2]) in SCRIPTS:
            found.append([name, *command[1:]])
    return found


def _without_prefix(words: list[str]) -> list[str]:
    """The command itself: no keyword, no assignment, no sudo or env before it."""
    while words and (words[0] in _PREFIXES or "=" in words[0]):
        words = words[3:] if words[:2] == ["sudo", "-u"] else words[1:]
    return words
