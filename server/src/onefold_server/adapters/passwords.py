"""Hashes and verifies passwords with Argon2."""

import asyncio

from pwdlib import PasswordHash


class Argon2Passwords:
    """Uses the parameters that `pwdlib` recommends, in a thread, so the event loop stays free."""

    def __init__(self) -> None:
        self._hash = PasswordHash.recommended()

    async def hash(self, password: str) -> str:
        return await asyncio.to_thread(self._hash.hash, password)

    async def verify(self, password: str, hashed: str) -> bool:
        return await asyncio.to_thread(self._hash.verify, password, hashed)
