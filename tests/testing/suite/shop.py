"""A small application: its store is its own database's, and its code knows nothing of tests."""

from __future__ import annotations

import os

from aiotaskstore import TaskStore

store = TaskStore(os.environ.get("SHOP_DATABASE", "postgresql://shop@shop.invalid/shop"))
sent: list[int] = []


@store.task(queue="emails", max_attempts=3)
async def send_welcome(user_id: int, *, locale: str = "en") -> str:
    """Send the welcome e-mail."""
    sent.append(user_id)
    return f"sent to {user_id} in {locale}"


@store.task
async def send_invoice(user_id: int) -> None:
    """Send an invoice, which fails."""
    raise ConnectionError(f"no mail server for {user_id}")


async def sign_up(user_id: int) -> None:
    """Do what a request does, with the store opened by the application itself."""
    async with store:
        await send_welcome.options(delay=60).enqueue(user_id, locale="bg")
