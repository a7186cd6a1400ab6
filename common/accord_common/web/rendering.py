"""Templates into pages.

Guarantees: everything a template writes is escaped unless it is `Markup`; a name that a template
misspells is an error, not an empty place; each page comes with the same security headers.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from accord_common.web.assets import Assets
from accord_common.web.formats import Formats
from accord_common.web.languages import LANGUAGES, Language
from accord_common.web.looks import look

# No script, style, picture or connection but the host's own, none inline; in no frame.
HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
        "object-src 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_FILTERS = ("number", "epsilon", "remaining", "share", "size", "span", "moment", "time", "short")


class Pages:
    """Renders the templates of some packages, each with a folder `templates`, and the shared ones.

    Args:
        packages: import names; the first that has a template wins.
        words: functions that templates call by these names.
    """

    def __init__(self, packages: Sequence[str], **words: Callable[..., object]) -> None:
        self.assets = Assets()
        self._words = words
        loaders = [PackageLoader(package) for package in (*packages, "accord_common.web")]
        self._by_language = {
            language.tag: self._environment(ChoiceLoader(loaders), language)
            for language in LANGUAGES.values()
        }

    def render(self, template: str, language: Language, **values: Any) -> str:
        """One page."""
        environment = self._by_language[language.tag]
        return environment.get_template(template).render(now=datetime.now(UTC), **values)

    def _environment(self, loader: ChoiceLoader, language: Language) -> Environment:
        environment = Environment(
            loader=loader,
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            extensions=["jinja2.ext.i18n"],
        )
        catalogue = language.translations
        environment.install_gettext_callables(  # type: ignore[attr-defined]  # of the extension
            catalogue.ugettext, catalogue.ungettext, newstyle=True, pgettext=catalogue.upgettext
        )
        formats = Formats(language)
        for name in _FILTERS:
            environment.filters[name] = getattr(formats, name)
        environment.filters["look"] = look
        environment.globals |= {
            "asset": self.assets.url,
            "language": language,
            "languages": LANGUAGES.values(),
            **self._words,
        }
        return environment
