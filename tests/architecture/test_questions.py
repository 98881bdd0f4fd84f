"""A newcomer finds a rule in the file whose name says it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY, SERVER = "src/onefold", "server/src/onefold_server"

# A question, the file that answers it, and the definition that it must hold.
ANSWERS = [
    ("How long is the delay before a retry?", f"{LIBRARY}/core/backoff.py", "Backoff"),
    (
        "When does a message become a dead letter?",
        f"{LIBRARY}/engine/failure_policy.py",
        "retry_then_park",
    ),
    ("Where are dead letters read?", f"{LIBRARY}/ports/dead_letters.py", "DeadLetters"),
    ("Which addresses may a webhook reach?", f"{LIBRARY}/adapters/sinks/address.py", "allowed"),
    ("Where are passwords hashed?", f"{SERVER}/adapters/passwords.py", "Argon2Passwords"),
    ("Where is group commit?", f"{LIBRARY}/engine/group_commit.py", "GroupCommit"),
    ("Where is NOTIFY sent?", f"{LIBRARY}/adapters/sql/notify.py", "Notifier"),
    ("Where do metrics get their names?", f"{LIBRARY}/engine/meters.py", "relay_meter"),
    ("When is a record old enough to remove?", f"{LIBRARY}/engine/retention.py", "Keeps"),
    ("Which states does a claim have?", f"{LIBRARY}/core/claim.py", "ClaimState"),
    ("What identifies an event?", f"{LIBRARY}/core/identity.py", "event_identity"),
    ("How is the outbox sent?", f"{LIBRARY}/engine/relay.py", "Relay"),
    ("How do loops restart after an error?", f"{LIBRARY}/engine/loop.py", "Loop"),
    ("Which errors can a caller meet?", f"{LIBRARY}/errors.py", "OnefoldError"),
    ("Which settings does the server have?", f"{SERVER}/settings.py", "Settings"),
    ("How does an error become an HTTP answer?", f"{SERVER}/http/problems.py", "problem"),
    ("Which fields leave with a trade?", f"{SERVER}/domains/trades/privacy.py", "payload"),
]


@pytest.mark.parametrize(("question", "file", "name"), ANSWERS, ids=[a[0] for a in ANSWERS])
def test_a_question_is_answered_by_the_file_that_says_it(
    question: str, file: str, name: str
) -> None:
    """The file exists, and the definition stands at its top level."""
    tree = ast.parse((ROOT / file).read_text())

    defined = {
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    } | {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }

    assert name in defined, question
