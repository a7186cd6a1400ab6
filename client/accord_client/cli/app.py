"""Which verbs `accord-node` has; one file a noun.

A verb imports what it needs when it runs, so that `accord-node --help` needs neither torch nor
pandas nor a registry.
"""

from typing import NoReturn

import typer

from accord_client.cli import (
    agreement,
    backup,
    budget,
    check,
    compare,
    daemon,
    dataset,
    evaluate,
    join,
    keys,
    log,
    network,
    outbox,
    reconcile,
    run,
    steward,
    support,
    trial,
)
from accord_common.cli import run_app

app = typer.Typer(
    no_args_is_help=True,
    suggest_commands=False,  # click suggests already
    pretty_exceptions_enable=False,  # it prints local variables, a passphrase among them
    help="Your institution's node: it trains on your data, under agreements that you signed, "
    "within budgets that it enforces itself.",
    epilog="Order of things: init, network (behind a proxy), enroll, dataset add, agreement sign, "
    "check, start.",
)


@app.callback()
def _root() -> None:
    pass


app.command("init", epilog=join.INIT_EXAMPLE)(join.init)
app.command("enroll", epilog=join.ENROLL_EXAMPLE)(join.enroll)
app.command("network", epilog=network.EXAMPLE)(network.network)
app.command("check", epilog=check.EXAMPLE)(check.check)
app.add_typer(dataset.app, name="dataset")
app.add_typer(agreement.app, name="agreement")
app.command("try", epilog=trial.EXAMPLE)(trial.try_)
app.command("start", epilog=daemon.START_EXAMPLE)(daemon.start)
app.command("status", epilog=daemon.STATUS_EXAMPLE)(daemon.status)
app.command("approve", epilog=run.APPROVE_EXAMPLE)(run.approve)
app.command("refuse", epilog=run.REFUSE_EXAMPLE)(run.refuse)
app.command("steward", epilog=steward.EXAMPLE)(steward.steward)
app.add_typer(budget.app, name="budget")
app.command("reconcile", epilog=reconcile.EXAMPLE)(reconcile.reconcile)
app.add_typer(log.app, name="log")
app.command("renew", epilog=keys.RENEW_EXAMPLE)(keys.renew)
app.command("revoke", epilog=keys.REVOKE_EXAMPLE)(keys.revoke)
app.command("backup", epilog=backup.BACKUP_EXAMPLE)(backup.backup)
app.command("restore", epilog=backup.RESTORE_EXAMPLE)(backup.restore)
app.command("compare", epilog=compare.EXAMPLE)(compare.compare)
app.command("evaluate", epilog=evaluate.EXAMPLE)(evaluate.evaluate)
app.add_typer(outbox.app, name="outbox")
app.command("support-bundle", epilog=support.EXAMPLE)(support.support_bundle)


def main() -> NoReturn:
    """Run the console script."""
    run_app(app)
