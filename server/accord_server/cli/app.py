"""Which verbs `accord` has, and where they live.

A verb's module is imported when the verb is used, so `accord --help` is instant and a process needs
only its own extra: the registry's machine has no torch, the coordinator's no uvicorn. Each module
in `VERBS` offers a `typer.Typer` under the name after the colon.
"""

from importlib import import_module
from typing import Any, NamedTuple, NoReturn

import click
import typer
from typer.core import TyperGroup

from accord_common.cli import run_app
from accord_common.errors import UsageError


class Verb(NamedTuple):
    """`module:attribute` of a typer app, one line of help, and the extra that it needs."""

    target: str
    help: str
    extra: str


VERBS = {
    "demo": Verb("demo:app", "Watch institutions train one model on this machine.", "dev"),
    "data": Verb("data:app", "Fetch public data sets for demonstrations.", "coordinator"),
    "init": Verb("join:init_app", "Make this party's keys and folder.", "coordinator"),
    "enroll": Verb("join:enroll_app", "Join a registry with an invitation.", "coordinator"),
    "network": Verb("network:app", "Show or set proxy and authorities.", "coordinator"),
    "doctor": Verb("doctor:app", "Find what is wrong, and what helps.", "coordinator"),
    "partner": Verb("partner:app", "Invite, list and approve partners.", "coordinator"),
    "people": Verb("people:app", "Invite persons, and say what they may do.", "coordinator"),
    "token": Verb("token:app", "Make and revoke persons' tokens for programs.", "coordinator"),
    "dataset": Verb("dataset:app", "Search the catalogue of datasets.", "coordinator"),
    "agreement": Verb("agreement:app", "Draft, propose, show and sign agreements.", "coordinator"),
    "task": Verb("task:app", "List installed tasks, or start your own.", "coordinator"),
    "run": Verb("run:app", "Plan, start, watch, stop and compare runs.", "coordinator"),
    "budget": Verb("budget:app", "Show what runs have spent on each dataset.", "coordinator"),
    "audit": Verb(
        "audit:app", "Find what does not agree; take evidence, check it offline.", "coordinator"
    ),
    "model": Verb("model:app", "List and download trained models.", "coordinator"),
    "ca": Verb("ca:app", "Make the certificate authority and servers' certificates.", "registry"),
    "registry": Verb("registry:app", "Set up and start the registry.", "registry"),
    "aggregator": Verb("aggregator:app", "Set up and start the aggregator.", "aggregator"),
}


class LazyGroup(TyperGroup):
    """A group that imports a verb's module only when that verb is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, verb in VERBS.items():  # name and help are all that a listing needs
            self.commands[name] = click.Command(name, help=verb.help)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Import the verb that is called; an unknown one is refused with the nearest names."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and command is not None:
            try:
                command = _load(name)
            except ModuleNotFoundError as error:
                if not ctx.resilient_parsing:  # completing a line that is not finished
                    raise _missing(name, error) from error
        return name, command, rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; what its extra should have installed is named where it is absent."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            raise _missing(ctx.invoked_subcommand or "", error) from error


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    suggest_commands=False,  # click suggests already
    pretty_exceptions_enable=False,  # it prints local variables, a passphrase among them
    help="Train one model together, under an agreement that every institution signed.",
)


@app.callback(
    epilog="Start with `accord demo`. Data goes to stdout, everything else to stderr; "
    "--format json makes every answer one object."
)
def _root() -> None:
    pass


def main() -> NoReturn:
    """Run the console script."""
    run_app(app)


def _load(name: str) -> click.Command:
    module, _, attribute = VERBS[name].target.partition(":")
    command = typer.main.get_command(
        getattr(import_module(f"accord_server.cli.{module}"), attribute)
    )
    command.name = name
    return command


def _missing(name: str, error: ModuleNotFoundError) -> Exception:
    """Say which extra brings what is missing; a missing part of Accord itself is a defect."""
    module = (error.name or "").partition(".")[0]
    if name not in VERBS or module.startswith("accord_"):
        return error
    return UsageError(
        "missing-extra",
        f"`accord {name}` needs {module}, which is not installed",
        hint=f"pip install 'accord[{VERBS[name].extra}]'",
    )
