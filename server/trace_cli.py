"""`bellhop trace`: why an event did or did not arrive, in plain words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import orjson
from redis.asyncio import Redis

from server.audit_reading import AuditRow
from server.command_settings import settings_of, with_redis
from server.kept_streams import iso_time, printable
from server.tracing import ChannelTrace, Trace, Tracing
from server.usage import CONFIG, Failed


@click.command()
@CONFIG
@click.argument("event_id", required=False)
@click.option("--channel", help="On this channel; without an event's id, the last event there.")
@click.option("--sub", help="And to this person: the subject of tokens.")
@click.option("--app", "app_id", help="Whose channel that is; default: the default app's.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a text.")
def trace(
    *,
    config: Path | None,
    event_id: str | None,
    channel: str | None,
    sub: str | None,
    app_id: str | None,
    as_json: bool,
) -> None:
    """Tell what became of an event, as far as that is kept anywhere."""
    if event_id is None and channel is None:
        raise click.UsageError("Name an event's id, a --channel, or both.")
    settings = settings_of(config)
    apps = [app.id for app in settings.all_apps]
    whose = app_id or (apps[0] if apps else "")

    async def trace_(redis: Redis, prefix: str) -> None:
        tracing = Tracing(redis, prefix, whose)
        looked_up = event_id
        if looked_up is None:
            looked_up = await tracing.newest(channel or "")
            if looked_up is None:
                raise Failed(f"the history of {channel} is empty: name an event's id")
        found = await tracing.trace(looked_up, channel, sub)
        if as_json:
            click.echo(orjson.dumps(_as_json(found), option=orjson.OPT_INDENT_2))
            return
        for line in _lines(found, sub):
            click.echo(printable(line))

    with_redis(settings, "the audit and channels' histories", trace_)


# --- as JSON -------------------------------------------------------------------------------------


def _as_json(found: Trace) -> dict[str, object]:
    return {
        "event_id": found.event_id,
        "audit_since": _time(found.audit_since_ms),
        "channels": [_channel(each) for each in found.channels],
        "refused": found.refused,
        "rejected": found.rejected,
    }


def _channel(each: ChannelTrace) -> dict[str, object]:
    sequence, epoch = each.number or (None, None)
    told: dict[str, object] = {
        "app": each.app,
        "channel": each.channel,
        "hotel": each.hotel or None,
        "time": _time(each.time_ms),
        "sequence": sequence,
        "epoch": epoch,
        "accepted": each.accepted,
        "duplicates": each.duplicates,
        "failed": each.failed,
        "refused": each.refused,
        "in_history": each.kept is not None,
        "subscribed_now": each.sockets,
    }
    if each.person is not None:
        told["person"] = {
            "sub": each.person.sub,
            "connections": _verdicts(each),
            "otherwise": each.person.absence() if not _verdicts(each) else None,
            "subscribed_later": _time(each.person.later()),
        }
    return told


def _verdicts(each: ChannelTrace) -> list[dict[str, str]]:
    if each.person is None:
        return []
    exclude = str((each.accepted or {}).get("exclude", ""))
    if each.kept is not None:
        exclude = each.kept.exclude
    return each.person.verdicts(each.hotel, exclude, each.kept)


def _time(time_ms: int | None) -> str | None:
    return iso_time(time_ms) if time_ms is not None else None


# --- in words ------------------------------------------------------------------------------------


def _lines(found: Trace, sub: str | None) -> Iterator[str]:
    yield f"event {found.event_id}"
    for each in found.channels:
        yield ""
        yield from _of_channel(each)
        if sub is not None:
            yield from _of_person(each, sub)
    for row in found.refused:
        yield ""
        yield _refusal(row)
    for entry in found.rejected:
        yield ""
        yield (
            f"Refused at {entry['time']}, from {entry['source']}, for {entry['channel']}:"
            f" {entry['status']}, {entry['reason']} (bellhop rejected show {entry['id']})"
        )
    if not (found.channels or found.refused or found.rejected):
        yield "Nothing is known of it: it never came in, or too long ago."
    since = found.audit_since_ms
    yield ""
    yield (
        "There is no audit: when and by which way events came in is not known."
        if since is None
        else f"The audit goes back to {iso_time(since)}; what was before that is not known."
    )


def _of_channel(each: ChannelTrace) -> Iterator[str]:
    hotel = f", hotel {each.hotel}" if each.hotel else ""
    yield f"{each.channel} (app {each.app}{hotel})"
    row = each.accepted
    if row is not None:
        yield (
            f"  accepted at {iso_time(row['time_ms'])} by {row['entrance']} on node {row['node']}:"
            f" {row.get('event', '')}, {row['size']} bytes"
        )
    elif each.number is not None:
        yield "  accepted; when and by which way is not known"
    if each.number is not None:
        yield f"  number {each.number[0]} in epoch {each.number[1]}"
    for again in each.duplicates:
        yield (
            f"  came again at {iso_time(again['time_ms'])} by {again['entrance']}:"
            " a duplicate, not delivered again"
        )
    for failed in each.failed:
        yield f"  failed at {iso_time(failed['time_ms'])}: Redis did not take it"
    for refused in each.refused:
        yield f"  {_refusal(refused)}"
    if each.number is not None:
        yield (
            "  in the channel's history: who returns in time gets it then"
            if each.kept is not None
            else "  not in the channel's history: aged out, or not kept by the contract"
        )
        count = sum(each.sockets.values())
        yield (
            f"  subscribed now: {count} on {len(each.sockets)} node(s);"
            " how many were then is not known"
        )


def _refusal(row: AuditRow) -> str:
    return (
        f"refused at {iso_time(row['time_ms'])} by {row.get('entrance', 'this way')},"
        f" for {row.get('channel', 'no channel')}: {row.get('status')}, {row.get('reason')}"
    )


def _of_person(each: ChannelTrace, sub: str) -> Iterator[str]:
    if each.person is None:
        yield f"  {sub}: not known, because it is not known when the event was published"
        return
    verdicts = _verdicts(each)
    for verdict in verdicts:
        yield f"  {sub}, connection {verdict['socket_id']}: {verdict['outcome']} ({verdict['why']})"
    if not verdicts:
        yield f"  {sub}: {each.person.absence()}"
    if any(verdict["outcome"] == "sent" for verdict in verdicts):
        yield "  (sent: written to the connection; what its page did with it is not known)"
    later = each.person.later()
    if later is not None:
        yield (
            f"  {sub} subscribed at {iso_time(later)}, after it;"
            " whether it was replayed then is not known"
        )
