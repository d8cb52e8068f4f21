// Right uses of the types: every line compiles.

import Pusher from "pusher-js";

import { subscribe } from "../../clients/js/index.js";
import type { EventsOf, Gap, RoomStatus, RoomsEvents } from "../../clients/js/index.js";

declare const pusher: Pusher;
declare const slug: string;
declare function show(...values: unknown[]): void;

const rooms = subscribe(pusher, `${slug}.rooms`);
rooms
  .bind("room_updated", (event) => {
    const status: RoomStatus = event.payload.room_status;
    const number: string | number = event.payload.room_number;
    const more: unknown = event.payload.floor;
    const sequence: number | undefined = event.meta.sequence;
    show(status === "OUT_OF_ORDER", number, more, sequence, event.payload.changed_fields.length);
  })
  .bind("rooms_updated", (event) => event.payload.rooms.forEach((room) => show(room.is_occupied)))
  .bind("bellhop:gap", (gap: Gap) => show(gap.reason === "history_lost", gap.since));

function occupied(event: RoomsEvents["room_occupancy_updated"]): void {
  show(event.category === "rooms", event.type === "room_occupancy_updated", event.payload);
}
rooms.bind("room_occupancy_updated", occupied).unbind("room_occupancy_updated", occupied);

subscribe(pusher, "private-grand.rooms").bind("room_deleted", (event) => show(event.payload.room_id));
subscribe(pusher, "staff-hotel-7").bind("room_service_order_created", ({ payload }) =>
  show(payload.order_id),
);
subscribe(pusher, "grand.booking").bind("spa_booked", (event) => show(event.payload.booking_id));
subscribe(pusher, "staff-chat-12").bind("staff_chat_unread_updated", (event) =>
  show(event.payload.unread_count + 1),
);
subscribe(pusher, "staff-chat-conversation-12").bind("staff_chat_message_created", show);
subscribe(pusher, "private-guest-booking.BK-1").bind("booking_checked_in", ({ payload }) => {
  const room = payload.room_number;
  show(typeof room === "object" ? room.room_number : room, payload.checked_in_at);
});

const roster = subscribe(pusher, "presence-grand.front-desk");
roster.bind("pusher:member_added", (member) => show(member.id, roster.members.count));

const asserted: EventsOf<"grand.rooms">["room_updated"]["payload"]["is_occupied"] = true;
show(asserted);
