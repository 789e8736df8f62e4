"""The classic application: a sign-up answers at once, a worker sends the mail, a digest each day.

`pillars up` runs it unless told otherwise. Everything it does is what an application of your own
would do: web routes on `app.web`, handlers under `@app.job`, and a job that is enqueued in the very
transaction that stores what it is about.
"""

from __future__ import annotations

import asyncio
import hashlib
import html
from http import HTTPStatus

from aiohttp import web

from pillars import App, current_job

app = App()

LONGEST_EMAIL = 254
# Any number of servers may start at once, and CREATE IF NOT EXISTS alone lets two of them collide.
TABLE = """
    SELECT pg_advisory_xact_lock(hashtext('example.signups'));
    CREATE SCHEMA IF NOT EXISTS example;
    CREATE TABLE IF NOT EXISTS example.signups (
        email text PRIMARY KEY,
        created_at timestamptz NOT NULL DEFAULT now()
    )
"""


async def create_table(_: web.Application) -> None:
    """Make sure there is a table for the sign-ups."""
    async with app.database.transaction() as connection:
        await connection.execute(TABLE)


async def show_form(_: web.Request) -> web.Response:
    """Show the sign-up form."""
    return page(
        "Sign up",
        '<form method="post"><label>E-mail '
        '<input type="email" name="email" required maxlength="254" autofocus></label> '
        "<button>Sign up</button></form>"
        "<p>The answer comes at once; a worker sends the welcome mail a moment later.</p>",
    )


async def sign_up(request: web.Request) -> web.Response:
    """Store the sign-up and enqueue its mail: both in one transaction, or neither."""
    email = await read_email(request)
    async with app.database.transaction() as connection:
        new = await connection.execute(
            "INSERT INTO example.signups (email) VALUES (%s) ON CONFLICT DO NOTHING",
            (email,),
        )
        # Who signs up twice gets one mail, and an answer that does not tell.
        if new.rowcount:
            await app.enqueue("mail.welcome", {"to": email}, connection=connection)
    if request.content_type == "application/json":
        return web.json_response({"email": email, "status": "accepted"}, status=HTTPStatus.ACCEPTED)
    return page(
        "Welcome",
        f"<p>A mail to <b>{html.escape(email)}</b> is on its way.</p>"
        '<p><a href="/signup">One more</a> · <a href="/">See the job run</a></p>',
        HTTPStatus.ACCEPTED,
    )


app.web.on_startup.append(create_table)
app.web.add_routes([web.get("/signup", show_form), web.post("/signup", sign_up)])


@app.job("mail.welcome", queue="mail", max_attempts=5, timeout=30)
async def send_welcome(to: str) -> None:
    """Pretend to send a mail."""
    await asyncio.sleep(0.2)
    current_job().logger.info("welcome mail sent to %s", to)


@app.job("digest.morning", timeout=60)
async def send_digest() -> None:
    """Count the sign-ups of the last day and pretend to tell somebody."""
    async with app.database.transaction() as connection:
        await connection.execute(TABLE)
        cursor = await connection.execute(
            "SELECT count(*) FROM example.signups WHERE created_at > now() - interval '1 day'",
        )
        row = await cursor.fetchone()
    current_job().logger.info("digest: %d sign-ups in the last day", row[0] if row else 0)


@app.job("report.slow", queue="reports", timeout=120)
def write_report(rounds: int = 20) -> None:
    """Work for a second or two; a plain function runs in a thread and holds nobody up."""
    digest = b"report"
    for done in range(rounds):
        if current_job().cancelled.is_set():
            return
        digest = hashlib.pbkdf2_hmac("sha256", digest, b"%d" % done, 100_000)
    current_job().logger.info("report written, checksum %s", digest.hex()[:8])


async def read_email(request: web.Request) -> str:
    """Return the address of a form or a JSON body.

    Raises:
        aiohttp.web.HTTPBadRequest: there is none, or it is no address.
    """
    try:
        given = await (
            request.json() if request.content_type == "application/json" else request.post()
        )
        email = str(given["email"]).strip()
    except (ValueError, KeyError, TypeError):
        email = ""
    name, _, host = email.rpartition("@")
    if not (name and host and email.isprintable() and len(email) <= LONGEST_EMAIL):
        raise web.HTTPBadRequest(text="give an e-mail address: email=you@example.org\n")
    return email


def page(title: str, body: str, status: int = HTTPStatus.OK) -> web.Response:
    """Return a small page; `body` is HTML."""
    style = "body{font:1.1rem/1.6 system-ui;max-width:32rem;margin:4rem auto;padding:0 1rem}"
    return web.Response(
        status=status,
        content_type="text/html",
        text=f"<!doctype html><html lang=en><meta charset=utf-8>"
        f'<meta name="viewport" content="width=device-width">'
        f"<meta name=color-scheme content='light dark'><title>{title}</title>"
        f"<style>{style}</style><h1>{title}</h1>{body}</html>",
    )
