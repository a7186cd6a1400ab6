"""`accord-node support-bundle`: what may be sent to whoever helps, shown before it is written."""

from __future__ import annotations

from accord_client.cli.options import DEFAULT_HOME, HomeOption, open_home
from accord_common.cli import BundleArgument, Format, FormatOption, YesOption
from accord_common.logs import LogFileOption

EXAMPLE = "Example: accord-node support-bundle node.zip"


def support_bundle(
    file: BundleArgument,
    log_file: LogFileOption = None,
    home: HomeOption = DEFAULT_HOME,
    yes: YesOption = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Write versions, states, codes and the log's events for whoever helps you.

    No row, no name, no path, no key and no message is in it: every part is made of named fields,
    and what is in it is listed before it is written. Works while the node runs, and when it cannot.
    """
    from accord_client.support import collect
    from accord_common.support_cli import offer

    offer(collect(open_home(home), log_file), file, yes=yes, format_=format_)
