"""How pages write numbers, times, sizes and hashes.

Guarantees: a time is in UTC, in a `time` element from which the browser shows its local time too; a
hash is shown short and carried whole; nothing returns markup around text that is not escaped.
"""

from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from babel.dates import format_timedelta
from babel.numbers import format_decimal, format_percent
from markupsafe import Markup

from accord_common.fields import parse_time
from accord_common.web.languages import Language

NOTHING = "\N{EN DASH}"
_SHOWN_HASH_CHARS = 12
_CENT = Decimal("0.01")
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024


class Formats:
    """The filters of one language; templates use them by name."""

    def __init__(self, language: Language) -> None:
        self._locale = language.locale

    def number(self, value: int | float | Decimal | str) -> str:
        """A count or a decimal, grouped; at most three digits after the point."""
        exact = value if isinstance(value, int) else Decimal(str(value))
        return str(format_decimal(exact, locale=self._locale))

    def epsilon(self, value: float | Decimal | str | None) -> str:
        """Two digits after the point, never rounded down; infinite where nothing was protected."""
        return self._cents(value, ROUND_CEILING)

    def remaining(self, value: float | Decimal | str | None) -> str:
        """What is left of an epsilon: never rounded up."""
        return self._cents(value, ROUND_FLOOR)

    def _cents(self, value: float | Decimal | str | None, rounding: str) -> str:
        if value is None:
            return NOTHING
        exact = Decimal(str(value))
        if exact.is_infinite():
            return "∞"
        shown = exact.quantize(_CENT, rounding)
        return str(format_decimal(shown, format="0.00", locale=self._locale))

    def share(self, part: float) -> str:
        """A part of one as a percentage."""
        return str(format_percent(part, locale=self._locale))

    def size(self, count: int) -> str:
        """Bytes, in the largest unit of which there is one."""
        amount, unit = float(count), 0
        while amount >= _STEP and unit < len(_UNITS) - 1:
            amount, unit = amount / _STEP, unit + 1
        digits = "0" if unit == 0 else "0.0"
        return f"{format_decimal(amount, format=digits, locale=self._locale)} {_UNITS[unit]}"

    def span(self, length: timedelta | float) -> str:
        """A length of time (seconds where it is a number), to its largest unit."""
        length = length if isinstance(length, timedelta) else timedelta(seconds=length)
        return str(format_timedelta(length, threshold=1.5, locale=self._locale))

    def moment(self, value: datetime | None) -> Markup:
        """A time."""
        if value is None:
            return Markup(NOTHING)
        utc = value.astimezone(UTC)
        return Markup('<time datetime="{}">{}</time>').format(
            utc.isoformat(timespec="seconds"), utc.strftime("%Y-%m-%d %H:%M UTC")
        )

    def day(self, value: datetime) -> Markup:
        """A day: what is forecast has no hour."""
        shown = value.astimezone(UTC).strftime("%Y-%m-%d")
        return Markup('<time datetime="{}" data-day>{} UTC</time>').format(
            value.astimezone(UTC).isoformat(timespec="seconds"), shown
        )

    def time(self, text: str | None) -> Markup:
        """A time as records write it (RFC 3339)."""
        return self.moment(None if text is None else parse_time(text))

    def short(self, digest: str | None) -> Markup:
        """A hash or an id."""
        if not digest:
            return Markup(NOTHING)
        shown = digest[:_SHOWN_HASH_CHARS]
        return Markup('<code class="hash" title="{}">{}</code>').format(digest, shown)
