"""The how-to's code blocks are one program, and it runs."""

import re
from pathlib import Path
from typing import Any

HOWTO = Path(__file__).parents[3] / "docs" / "howto" / "learning.md"


async def test_the_howto_runs_as_it_stands(sqlite_url: str) -> None:
    """Its blocks, one after the other, over a fresh database."""
    blocks = re.findall(r"```python\n(.*?)```", HOWTO.read_text(), re.DOTALL)
    program: dict[str, Any] = {}
    exec(compile("\n".join(blocks), str(HOWTO), "exec"), program)

    summary = await program["main"](sqlite_url)

    assert summary["words"]["learnt"] > 5
