/**
 * The hotel's events with their types, over an unmodified pusher-js.
 *
 * ```ts
 * const rooms = subscribe(pusher, `${slug}.rooms`);
 * rooms.bind("room_updated", (event) => show(event.payload.room_status));
 * ```
 */

import type { Members } from "pusher-js";
import type Pusher from "pusher-js";

import type { ChannelName, EventsOf } from "./events.js";

export type * from "./events.js";

/** Why a subscription was refused. */
export interface SubscriptionError {
  type: string;
  error: string;
  status: number;
}

/** Events were lost to this subscriber: fetch the state over HTTP. */
export interface Gap {
  reason: "window_exceeded" | "epoch_changed" | "history_lost" | "identified_late";
  /** ISO 8601. */
  since: string | null;
}

/** What every channel may tell besides the contract's events. */
export interface ChannelEvents {
  "pusher:subscription_succeeded": unknown;
  "pusher:subscription_error": SubscriptionError;
  "bellhop:gap": Gap;
}

/** Somebody on a roster. */
export interface Member {
  id: string;
  info: unknown;
}

/** What a roster tells: its name begins with `presence-`. */
export interface RosterChannelEvents {
  "pusher:member_added": Member;
  "pusher:member_removed": Member;
}

/** A channel of pusher-js that knows its events. */
export interface TypedChannel<Events> {
  readonly name: string;
  readonly subscribed: boolean;
  bind<Name extends keyof ChannelEvents>(
    name: Name,
    callback: (data: ChannelEvents[Name]) => void,
    context?: unknown,
  ): this;
  bind<Name extends keyof Events & string>(
    name: Name,
    callback: (event: Events[Name]) => void,
    context?: unknown,
  ): this;
  unbind<Name extends keyof ChannelEvents>(
    name: Name,
    callback?: (data: ChannelEvents[Name]) => void,
    context?: unknown,
  ): this;
  unbind<Name extends keyof Events & string>(
    name: Name,
    callback?: (event: Events[Name]) => void,
    context?: unknown,
  ): this;
  unbind_all(): this;
  unsubscribe(): void;
}

/** A roster: who is there, and who comes and goes. */
export interface RosterChannel<Events> extends TypedChannel<Events & RosterChannelEvents> {
  readonly members: Members;
}

/** The channel that a name stands for. */
export type ChannelOf<Name extends string> = Name extends `presence-${string}`
  ? RosterChannel<EventsOf<Name>>
  : TypedChannel<EventsOf<Name>>;

/** Subscribe to a channel of the contract; `name` must be one, as far as a type can tell. */
export function subscribe<Name extends ChannelName>(pusher: Pusher, name: Name): ChannelOf<Name> {
  return pusher.subscribe(name) as unknown as ChannelOf<Name>;
}
