"""How many files and connections this process may have open."""

import resource


def allow_open_files() -> None:
    """Raise the soft limit, often 1024, to the hard one: every connection and answer takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
