"""Sending notices to the operator's places: by webhook, signed, and by mail, over TLS.

Guarantees: only the addresses of `registry.json` are ever asked, and no redirect is followed, so
nobody who writes an announcement or posts a record chooses where the registry connects to; a notice
is sent at least once, and again with growing pauses for some 40 hours where its place does not take
it; what a place answers is not read. Each place has its notices one by one, whatever the others do:
one that does not answer holds up neither their notices nor the registry's pages. A secret is in no
log, no error and no table.

Webhooks are signed as Standard Webhooks says (standardwebhooks.com, 1.0.0): `webhook-id`,
`webhook-timestamp`, `webhook-signature: v1,` and the base64 HMAC-SHA256 of id, time and body.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import random
import smtplib
import ssl
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from email.message import EmailMessage
from pathlib import Path

import httpx
import structlog
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from accord_common.errors import AccordError
from accord_common.fields import format_time, now
from accord_common.tls import trusting
from accord_server.registry.changes import EVERYTHING
from accord_server.registry.context import Registry
from accord_server.registry.notices import outbox
from accord_server.registry.notices.settings import Mail, Webhook
from accord_server.registry.notices.tables import NoticeRow

MOST_ATTEMPTS = 15
_FIRST_S, _MOST_S = 30.0, 6 * 3600.0
_TRY_S = 20.0
_LOOK_S = 15.0
_AT_ONCE = 10
_CLAIM = timedelta(seconds=300)  # longer than so many tries take
# Not the threads that pages are computed in: a mail server that is slow to answer has them all.
_mailers = ThreadPoolExecutor(2, "mail")
_SECRET_PREFIX = "whsec_"  # what tools for Standard Webhooks write before the base64
_log = structlog.get_logger("accord.registry")
_PATHS = {
    "run": "/runs/",
    "agreement": "/agreements/",
    "announcement": "/feed#",
    "key": "/records/",
}
_SUBJECTS = {
    "announcement": ("an announcement", "公告"),
    "agreement-proposed": ("an agreement waits for signatures", "协议等待各方签署"),
    "agreement-in-force": ("an agreement is in force", "协议已生效"),
    "agreement-withdrawn": ("a party has withdrawn from an agreement", "有一方退出协议"),
    "agreement-suspended": ("a party has suspended an agreement", "有一方暂停协议"),
    "agreement-resumed": ("a party goes on with an agreement", "有一方恢复协议"),
    "key-revoked": ("a key was revoked", "密钥已撤销"),
    "run-proposed": ("a run waits for consents", "训练等待各方同意"),
    "run-refused": ("an institution has refused a run", "有机构拒绝训练"),
    "run-ended": ("a run has ended", "训练已结束"),
}


@asynccontextmanager
async def notices(registry: Registry) -> AsyncIterator[None]:
    """Send for the length of a block; does nothing where the operator named no place."""
    settings = registry.settings
    if not settings.webhooks and settings.mail is None:
        yield
        return
    task = asyncio.create_task(_go_on(registry))
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _go_on(registry: Registry) -> None:
    sending: dict[str, asyncio.Task[None]] = {}
    try:
        while True:
            seen = registry.changes.version(EVERYTHING)
            with _survived():
                await outbox.write(registry, now())
                for place in await _due_places(registry, now()):
                    if place not in sending or sending[place].done():
                        sending[place] = asyncio.create_task(_send_due(registry, place))
            await registry.changes.wait(EVERYTHING, seen, _LOOK_S)
    finally:
        for task in sending.values():
            task.cancel()
        await asyncio.gather(*sending.values(), return_exceptions=True)


@contextmanager
def _survived() -> Iterator[None]:
    """Log what goes wrong in a block: a notice must not end the others."""
    try:
        yield
    except AccordError as error:
        _log.warning("notices-wait", code=error.code)
    except Exception as error:
        _log.error("notices-failed", exc_info=error)


async def _due_places(registry: Registry, moment: datetime) -> list[str]:
    query = select(NoticeRow.place).where(NoticeRow.due <= moment).distinct()
    async with registry.database.read() as session:
        return list((await session.execute(query)).scalars())


async def _send_due(registry: Registry, place: str) -> None:
    """Send what is due at a place, one by one."""
    with _survived():
        while rows := await _claimed(registry, place, now()):
            answers: list[str | None] = []
            away = None
            for row in rows:
                try:
                    answers.append(away or await _try(registry, row))
                except Exception as error:  # whatever it is: the others would wait for it as long
                    away = type(error).__name__
                    answers.append(away)
            async with registry.database.write() as session:
                for row, wrong in zip(rows, answers, strict=True):
                    await _settle(session, row, wrong, now())


async def _claimed(registry: Registry, place: str, moment: datetime) -> list[NoticeRow]:
    query = select(NoticeRow).where(NoticeRow.place == place, NoticeRow.due <= moment)
    query = query.order_by(NoticeRow.due).limit(_AT_ONCE)
    async with registry.database.write() as session:
        rows = list((await session.execute(query)).scalars())
        claimed = update(NoticeRow).where(NoticeRow.id.in_([row.id for row in rows]))
        await session.execute(claimed.values(due=moment + _CLAIM))
    return rows


async def _settle(
    session: AsyncSession, row: NoticeRow, error: str | None, moment: datetime
) -> None:
    if error is None:
        await session.execute(delete(NoticeRow).where(NoticeRow.id == row.id))
        return
    attempts = row.attempts + 1
    pause = min(_FIRST_S * 2**row.attempts, _MOST_S)
    due = moment + timedelta(seconds=random.uniform(pause / 2, pause))  # no secret
    values = {
        "attempts": attempts,
        "error": error[:200],
        "due": None if attempts >= MOST_ATTEMPTS else due,
    }
    await session.execute(update(NoticeRow).where(NoticeRow.id == row.id).values(**values))
    _log.warning("notice-not-taken", place=row.place, attempts=attempts, error=error)


async def _try(registry: Registry, row: NoticeRow) -> str | None:
    """Send one; returns why its place does not want it, raises where the place does not answer."""
    settings = registry.settings
    link = settings.url + _path(row)
    async with asyncio.timeout(_TRY_S + 5):
        if row.place == outbox.MAIL:
            if settings.mail is None:
                return "no mail server is configured any more"
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(_mailers, _mail, settings.mail, row, link)
            return None
        hook = next((one for one in settings.webhooks if one.name == row.place), None)
        if hook is None:
            return "the webhook is not configured any more"
        return await _post(hook, row, link)


def _path(row: NoticeRow) -> str:
    return _PATHS[row.kind.partition("-")[0]] + row.subject


async def _post(hook: Webhook, row: NoticeRow, link: str) -> str | None:
    body = json.dumps(
        {
            "type": row.kind,
            "timestamp": format_time(row.created),
            "data": {"id": row.id, "subject": row.subject, "url": link},
        }
    ).encode()
    headers = {"Content-Type": "application/json"} | signature(
        _secret(hook.secret), row.id, now(), body
    )
    async with httpx.AsyncClient(
        verify=_context(hook.ca), follow_redirects=False, timeout=_TRY_S
    ) as client:
        async with client.stream("POST", hook.url, content=body, headers=headers) as answer:
            return None if answer.is_success else f"HTTP {answer.status_code}"


def signature(secret: bytes, name: str, moment: datetime, body: bytes) -> dict[str, str]:
    """The headers that let the receiver know a notice for ours, and for fresh.

    Args:
        secret: shared with the receiver.
        name: of the notice; the same on every try, so that the receiver can tell a repetition.
        moment: of this try.
        body: as sent.
    """
    seconds = str(int(moment.timestamp()))
    signed = b".".join((name.encode(), seconds.encode(), body))
    digest = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    return {
        "webhook-id": name,
        "webhook-timestamp": seconds,
        "webhook-signature": f"v1,{digest}",
    }


def _secret(path: Path) -> bytes:
    text = path.read_text(encoding="utf-8").strip()
    if not text.startswith(_SECRET_PREFIX):
        return text.encode()
    try:
        return base64.b64decode(text.removeprefix(_SECRET_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("the secret is not base64") from error


def _mail(mail: Mail, row: NoticeRow, link: str) -> None:
    message = EmailMessage()
    english, chinese = _SUBJECTS[row.kind]
    message["From"], message["To"] = mail.sender, ", ".join(mail.recipients)
    message["Subject"] = f"Accord: {english} / {chinese}"
    message["Message-ID"] = f"<{row.id}@accord>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday answer
    message.set_content(f"{english} / {chinese}\n\n{link}\n")
    context = _context(mail.ca)
    if mail.security == "tls":
        with smtplib.SMTP_SSL(mail.host, mail.port, timeout=_TRY_S, context=context) as server:
            _deliver(server, mail, message)
        return
    with smtplib.SMTP(mail.host, mail.port, timeout=_TRY_S) as server:
        server.starttls(context=context)  # raises where the server does not offer it
        _deliver(server, mail, message)


def _deliver(server: smtplib.SMTP, mail: Mail, message: EmailMessage) -> None:
    if mail.username is not None and mail.password is not None:
        server.login(mail.username, mail.password.read_text(encoding="utf-8").strip())
    server.send_message(message)


def _context(ca: Path | None) -> ssl.SSLContext:
    return ssl.create_default_context() if ca is None else trusting(ca.read_bytes())
