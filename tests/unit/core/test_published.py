"""The tripwire: what looks like a person's in what the allow-list lets through."""

import pytest

from onefold.core.published import ResultOnly, tripped


def payload(instrument: str) -> ResultOnly:
    """A result of that instrument: the one field in which somebody could write anything."""
    return ResultOnly(
        trade_ref="a" * 26,
        instrument=instrument,
        side="buy",
        exit_time="2026-01-15T14:30:00Z",
        mode="live",
        revision=1,
        status="CLOSED",
    )


@pytest.mark.parametrize(
    "number",
    [
        *("+442079460958", "020-7946-0958", "02079460958", "0044.20.7946.0958", "030/901820-111"),
        *("555-867-5309", "1-555-867-5309", "555.867.5309", "447700900123", "EUR/0170-1234567"),
    ],
)
def test_a_phone_number_is_told_however_it_is_written(number: str) -> None:
    """With its plus, which no instrument can hold, and without."""
    assert tripped(payload(number)) == "phone"


@pytest.mark.parametrize(
    "instrument",
    [
        *("EURUSD", "US500.cash", "600519.SS", "0700.HK", "0263494", "037833100", "US0378331005"),
        *("SPX241220C05000000", "SPX-20261218-5000", "ES-2026-12-18", "BTC-27DEC24-100000", "6EH6"),
        *("2026-12-18", "GOLD_1_OZ", "NI225/JPY", "BTC-PERPETUAL", "20261218"),
    ],
)
def test_an_instrument_is_not_taken_for_a_number(instrument: str) -> None:
    """Dates, strikes, CUSIPs, ISINs: a tripwire that cries wolf is switched off."""
    assert tripped(payload(instrument)) is None


@pytest.mark.parametrize(
    ("known", "instrument", "why"),
    [
        ("Ada", "xada", "known name"),
        ("ad", "xada", None),  # two letters are in everything
        ("+45 12 34 56 78", "X12345678", "known number"),
        ("+44 20 7946 0958", "79460958", "known number"),
        ("ticket 123456", "US123456", None),  # six digits are in many an instrument
        ("ticket 123456", "ticket/123456", None),
    ],
)
def test_what_the_record_knows_of_its_person_is_found(
    known: str, instrument: str, why: str | None
) -> None:
    """Their own number is told by its last seven digits, whatever stands between."""
    assert tripped(payload(instrument), (known,)) == why


def test_an_address_is_told() -> None:
    """Though no instrument can hold its sign."""
    assert tripped(payload("ada@example.org")) == "e-mail"
