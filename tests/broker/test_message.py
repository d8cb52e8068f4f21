from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.broker.message import (
    EVERYONE,
    VERSION,
    Announcement,
    BusMessage,
    Kind,
    MalformedMessage,
    Publication,
    SplicedFrame,
    decode,
)
from tests.broker.script import spliced, written

U64 = st.integers(0, 2**64 - 1)
# At most 255 bytes, of one to four each.
SHORT = st.text(st.characters(codec="utf-8"), max_size=63)


@st.composite
def publications(draw: st.DrawFn) -> Publication:
    """Draw a publication of any form that the header takes."""
    frames = draw(
        st.lists(st.builds(SplicedFrame, st.binary(max_size=20), st.binary(max_size=9)), max_size=4)
    )
    indexes = st.integers(0, len(frames) - 1) if frames else st.nothing()
    views = draw(
        st.lists(st.tuples(SHORT, indexes), max_size=5, unique_by=lambda view: view[0])
        if frames
        else st.just([])
    )
    return Publication(
        app_id=draw(SHORT),
        channel=draw(SHORT),
        event_id=draw(SHORT),
        frames=tuple(frames),
        views=tuple(views),
        hotel_slug=draw(SHORT),
        exclude=draw(SHORT),
        conflation_key=draw(st.text(st.characters(codec="utf-8"), max_size=80)),
        filter_values=tuple(draw(st.lists(st.tuples(SHORT, SHORT), max_size=3))),
        numbered=draw(st.booleans()),
    )


SAMPLE = Publication(
    app_id="1",
    channel="grand.rooms",
    event_id="e-1",
    frames=(SplicedFrame(b"<", b">"), SplicedFrame(b"[", b"]")),
    views=(("staff", 0), ("finance", 1), ("owner", 1)),
    hotel_slug="grand",
    exclude="1.2",
    conflation_key="12",
    filter_values=(("room_number", "12"),),
    numbered=True,
)
SAMPLE_BYTES = (
    bytes((VERSION, Kind.NUMBERED_EVENT))
    + struct.pack(">QQ", 7, 1_700_000_000_123)
    + b"\x04beef"
    + b"\x03e-1\x05grand\x031.2\x00\x0212"
    + b"\x01\x0broom_number\x0212"
    + b"\x03\x05staff\x00\x07finance\x01\x05owner\x01"
    + b"\x02"
    + b"\x00\x00\x00\x14"
    + b'<7,\\"epoch\\":\\"beef>'
    + b"\x00\x00\x00\x14"
    + b'[7,\\"epoch\\":\\"beef]'
)


def test_message_has_the_documented_form() -> None:
    """Byte by byte what the module says: nodes of two releases read each other."""
    made = written(SAMPLE, sequence=7, epoch="beef", time_ms=1_700_000_000_123)
    assert made == SAMPLE_BYTES
    assert decode(made) == BusMessage(
        kind=Kind.NUMBERED_EVENT,
        number=7,
        time_ms=1_700_000_000_123,
        epoch="beef",
        event_id="e-1",
        hotel_slug="grand",
        exclude="1.2",
        conflation_key="12",
        filter_values=(("room_number", "12"),),
        frames={
            "staff": b'<7,\\"epoch\\":\\"beef>',
            "finance": b'[7,\\"epoch\\":\\"beef]',
            "owner": b'[7,\\"epoch\\":\\"beef]',
        },
    )


def test_views_with_equal_content_share_one_object() -> None:
    """A frame is held once, however many views show it."""
    frames = decode(written(SAMPLE)).frames
    assert frames["finance"] is frames["owner"]


@given(publications(), U64, U64, SHORT)
def test_message_comes_back_as_it_was_written(
    publication: Publication, sequence: int, time_ms: int, epoch: str
) -> None:
    """What the publisher said is what every node reads, for any text and any number."""
    epoch = epoch.encode()[:255].decode(errors="ignore")
    message = decode(written(publication, sequence=sequence, epoch=epoch, time_ms=time_ms))
    number = f'{sequence},\\"epoch\\":\\"{epoch}'.encode() if publication.numbered else b""
    assert message == BusMessage(
        kind=publication.kind,
        number=sequence,
        time_ms=time_ms,
        epoch=epoch,
        event_id=publication.event_id,
        hotel_slug=publication.hotel_slug,
        exclude=publication.exclude,
        conflation_key=publication.conflation_key,
        filter_values=publication.filter_values,
        frames={
            name: spliced(publication.frames[index].head, number, publication.frames[index].tail)
            for name, index in publication.views
        },
    )


@given(st.sampled_from(Kind), st.binary(max_size=40), SHORT, U64)
def test_announcement_comes_back_as_it_was_written(
    kind: Kind, frame: bytes, exclude: str, time_ms: int
) -> None:
    """One frame for everybody, whoever is excluded; no number, no id, no hotel."""
    announcement = Announcement(kind, frame, exclude)
    assert decode(announcement.message(time_ms)) == BusMessage(
        kind=kind,
        number=0,
        time_ms=time_ms,
        epoch="",
        event_id="",
        hotel_slug="",
        exclude=exclude,
        conflation_key="",
        filter_values=(),
        frames={EVERYONE: frame},
    )
    assert announcement.static_header() in announcement.message(time_ms)


@pytest.mark.parametrize("kind", [len(Kind), 255])
def test_message_of_a_kind_that_is_not_known_is_malformed(kind: int) -> None:
    """A newer release may say more: an older node leaves that out and lives."""
    data = bytearray(Announcement(Kind.COUNT, b"x").message(0))
    data[1] = kind
    with pytest.raises(MalformedMessage):
        decode(bytes(data))


@given(publications(), st.data())
def test_message_is_malformed_when_it_is_truncated(
    publication: Publication, data: st.DataObject
) -> None:
    """Cut anywhere, or with anything behind its end, it is refused and never half read."""
    whole = written(publication)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(MalformedMessage):
        decode(whole[:cut])
    with pytest.raises(MalformedMessage):
        decode(whole + data.draw(st.binary(min_size=1, max_size=5)))


@given(publications(), st.data())
def test_message_raises_nothing_else_when_it_is_damaged(
    publication: Publication, data: st.DataObject
) -> None:
    """Whatever stands there, it is read or refused: a node survives what it cannot read."""
    damaged = bytearray(written(publication))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    read_or_refused(bytes(damaged))


@given(st.binary(max_size=80), st.booleans())
def test_message_raises_nothing_else_for_any_bytes(data: bytes, versioned: bool) -> None:  # noqa: FBT001
    """As above, for what never was a message."""
    read_or_refused(bytes((VERSION,)) + data if versioned else data)


def read_or_refused(data: bytes) -> None:
    """Decode; only `MalformedMessage` may come of it."""
    try:
        decode(data)
    except MalformedMessage as error:
        reason = str(error)
    else:
        reason = "read"
    assert reason


@pytest.mark.parametrize("version", [0, 2, 255])
def test_message_of_another_version_is_malformed(version: int) -> None:
    """A node says which version it met and which it reads."""
    data = bytes((version,)) + written(SAMPLE)[1:]
    with pytest.raises(MalformedMessage, match=f"version {version}; this node reads 1"):
        decode(data)


def test_message_is_malformed_when_a_view_names_no_frame() -> None:
    """An index past the frames is damage like any other."""
    stray = Publication("1", "c", "e", (SplicedFrame(b"x"),), (("staff", 1),))
    with pytest.raises(MalformedMessage):
        decode(written(stray))


def test_conflation_key_is_cut_between_characters() -> None:
    """A key longer than the header's field is still readable text on the other side."""
    long = Publication("1", "c", "e", (), (), conflation_key="x" + "é" * 40_000)
    assert decode(written(long)).conflation_key == "x" + "é" * 32_767


@pytest.mark.parametrize(
    "publication",
    [
        Publication("1", "c", "é" * 128, (), ()),
        Publication("1", "c", "e", (), (), hotel_slug="x" * 256),
        Publication("1", "c", "e", (), (), exclude="x" * 256),
        Publication("1", "c", "e", (), (), filter_values=(("k", "x" * 256),)),
        Publication("1", "c", "e", (SplicedFrame(b""),), (("x" * 256, 0),)),
    ],
)
def test_header_field_that_is_too_long_is_refused(publication: Publication) -> None:
    """It is never cut in silence: two ids that begin alike would be one."""
    with pytest.raises(ValueError, match="a header field is longer than 255 bytes"):
        publication.static_header()
