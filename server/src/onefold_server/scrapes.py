"""Who may read `/metrics`, of a server and of a process that serves nothing else."""

from secrets import compare_digest

from onefold_server.settings import Settings


def may_scrape(settings: Settings, authorization: str) -> bool:
    """Whether that header names the token of *settings*; anybody may, where there is none."""
    if settings.metrics_token is None:
        return True
    scheme, _, sent = authorization.partition(" ")
    token = settings.metrics_token.get_secret_value()
    return scheme.lower() == "bearer" and compare_digest(sent.strip().encode(), token.encode())
