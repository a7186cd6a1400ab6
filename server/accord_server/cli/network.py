"""`accord network`: how a coordinator, an auditor or an aggregator goes out."""

import typer

from accord_common.cli import Format, FormatOption
from accord_common.home import Home
from accord_common.network.verb import (
    BundleOption,
    ExceptionsOption,
    LoginOption,
    ProxyOption,
    show_or_set,
)
from accord_server.cli.options import DEFAULT_HOME, HomeOption

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: accord network --proxy http://proxy.example.org:3128")
def network(
    proxy: ProxyOption = None,
    login_file: LoginOption = None,
    no_proxy: ExceptionsOption = None,
    ca_bundle: BundleOption = None,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show how this party reaches the others, or change what is given; enroll comes after it."""
    show_or_set(
        Home.open(home.expanduser()),
        proxy=proxy,
        login_file=login_file,
        no_proxy=no_proxy,
        ca_bundle=ca_bundle,
        format_=format_,
    )
