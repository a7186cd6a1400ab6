"""What a page in a browser said and asked for, and whether it fits."""

from dataclasses import dataclass, field

from playwright.sync_api import ConsoleMessage, Page, Request

SIZES = ((360, 740), (1440, 900))


@dataclass
class Watch:
    """What a page said on its console, and where it asked."""

    page: Page
    errors: list[str] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", self._note)

    def _hear(self, line: ConsoleMessage) -> None:
        if line.type == "error":
            self.errors.append(line.text)

    def _note(self, request: Request) -> None:
        self.asked.add("/".join(request.url.split("/")[:3]))


def overflow(page: Page) -> int:
    """By how many pixels a page is wider than its window."""
    wide: int = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    return max(0, wide)
