"""What the coordinator's verbs answer: values, never changed once made, and JSON for programs."""

from pydantic import BaseModel, ConfigDict


class View(BaseModel):
    """Base of every answer and its parts."""

    model_config = ConfigDict(frozen=True)
