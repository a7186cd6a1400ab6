"""`accord-node network`: how the node goes out."""

from accord_client.cli.options import DEFAULT_HOME, HomeOption, open_home
from accord_common.cli import Format, FormatOption
from accord_common.network.verb import BundleOption, ExceptionsOption, LoginOption, ProxyOption

EXAMPLE = "Example: accord-node network --proxy http://proxy.a.example:3128 --no-proxy 10.0.0.0/8"


def network(
    proxy: ProxyOption = None,
    login_file: LoginOption = None,
    no_proxy: ExceptionsOption = None,
    ca_bundle: BundleOption = None,
    home: HomeOption = DEFAULT_HOME,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show how the node reaches registry and aggregator, or change what is given.

    Set it before enroll; a daemon that runs takes it up when it is started again.
    """
    from accord_common.network.verb import show_or_set

    show_or_set(
        open_home(home),
        proxy=proxy,
        login_file=login_file,
        no_proxy=no_proxy,
        ca_bundle=ca_bundle,
        format_=format_,
    )
