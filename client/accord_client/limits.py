"""What the institution's IT lets its node use: one typed object, from the folder and the options.

`settings.toml` in the node's folder; options of `accord-node start` come before it:

    device = "cpu"                       # auto, cpu, cuda
    cores = 4
    memory_mib = 8192                    # of the daemon, torch and N rows included
    hours = ["Mon-Fri 18:00-06:00"]      # local time; outside, no round begins here
    most_runs = 2                        # accepted and not over, whatever their datasets

Guarantees: a field that is unknown or out of its bounds is refused at the start, by name.

Not covered: a hard ceiling, which is the service manager's (MemoryMax, CPUQuota): these limits have
the node refuse in time, with a reason, where a ceiling would only kill it.
"""

import json
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from accord_client import hours
from accord_client.devices import DeviceChoice
from accord_client.state import State
from accord_common.errors import UsageError

FILE_NAME = "settings.toml"
_NOTED = "limits"  # in the node's memory
LEAST_MEMORY_MIB = 512  # torch alone takes 300


class Limits(BaseModel):
    """See the module; None is no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: DeviceChoice = DeviceChoice.CPU
    cores: Annotated[int, Field(ge=1, le=1024)] | None = None
    memory_mib: Annotated[int, Field(ge=LEAST_MEMORY_MIB)] | None = None
    hours: tuple[str, ...] = ()
    most_runs: Annotated[int, Field(ge=1)] | None = None

    @property
    def threads(self) -> int:
        """How many torch may use: one unless cores were given, as others work here too."""
        return self.cores or 1

    @field_validator("hours")
    @classmethod
    def _parse(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            hours.parse(text)
        return value

    @classmethod
    def load(cls, folder: Path, **options: object) -> Self:
        """Read the folder's settings; an option that was given (is not None) comes before them.

        Raises:
            UsageError: `bad-settings`, `bad-hours`.
        """
        path = folder / FILE_NAME
        try:
            stored = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            given = {name: value for name, value in options.items() if value is not None}
            return cls.model_validate(stored | given)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise UsageError("bad-settings", f"{path}: {where}: {first['msg']}") from error
        except (OSError, ValueError) as error:
            raise UsageError("bad-settings", f"{path}: {error}") from error

    def note(self, state: State) -> None:
        """Remember what the daemon was started with, for `noted`."""
        state.put(_NOTED, self.model_dump_json())

    @staticmethod
    def noted(state: State) -> dict[str, Any] | None:
        """What the daemon was last started with; None before its first start."""
        told = state.get(_NOTED)
        return None if told is None else json.loads(told)

    def bind(self) -> None:
        """Keep this process, and what it starts, to the first `cores` of those it may use."""
        if self.cores is not None:
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: self.cores])
