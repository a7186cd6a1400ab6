"""Which passwords are taken, and how they are kept."""

import asyncio

import pytest

from accord_common.errors import UsageError
from accord_server.registry.access import passwords


@pytest.mark.parametrize(
    "password",
    [
        "elevenchars",
        "x" * 129,
        "password1234",
        "Passwort!2026",
        "qwertyuiop12",
        "aaaaaaaaaaaaaaaa",
        "abcabcabcabcabc",
        "abcdefghijklmnop",
        "987654321098",
        "ada.lovelace1843",
        "hospital north 1",
    ],
)
def test_weak_ones_are_refused_and_not_quoted(password: str) -> None:
    with pytest.raises(UsageError, match=r"\[weak-password\]") as error:
        passwords.check(password, "ada.lovelace@north.example", "Ada Lovelace", "Hospital North")
    assert password not in str(error.value)


@pytest.mark.parametrize(
    "password",
    [
        "plum harbour kettle 94",
        "8hV!q2zTm0Rw",
        "ein langer Satz über Äpfel",
        "密码是一只会飞的绿色大象哦",
    ],
)
def test_others_are_taken_in_any_script(password: str) -> None:
    passwords.check(password, "ada@north.example", "Ada Lovelace", "Hospital North")


def test_one_character_typed_two_ways_is_one() -> None:
    async def both() -> tuple[bool, bool, bool]:
        kept = await passwords.hashed("Bl\u00fcten im Nebel")
        return (
            await passwords.verified(kept, "Blu\u0308ten im Nebel"),
            await passwords.verified(kept, "Bluten im Nebel"),
            await passwords.verified(None, "Bl\u00fcten im Nebel"),
        )

    assert asyncio.run(both()) == (True, False, False)
    assert passwords.outdated("$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21l$" + "A" * 43)
