// Wrong uses of the types: the compiler refuses each line that names an error, and no other.

import Pusher from "pusher-js";

import { subscribe } from "../../clients/js/index.js";

declare const pusher: Pusher;
declare const anything: string;
declare function text(value: string): void;

const rooms = subscribe(pusher, "grand.rooms");
rooms.bind("room_upated", () => {}); // unknown event: TS2769
rooms.bind("booking_created", () => {}); // another channel's event: TS2769
rooms.bind("room_updated", (event) => text(event.payload.is_occupied)); // wrong type: TS2345
rooms.bind("room_updated", (event) => text(event.payload.floor)); // not in the contract: TS2345
rooms.bind("room_updated", (event) => event.payload.room_status === "CLEAN"); // no status: TS2367
rooms.bind("room_updated", (event) => text(event.playload)); // no such part: TS2551
rooms.bind("bellhop:gap", (gap) => text(gap.since)); // may be null: TS2345
subscribe(pusher, "grand.romms"); // no channel: TS2345
subscribe(pusher, anything); // which channel: TS2345
subscribe(pusher, "guest-booking-1").bind("booking_confirmed", (event) => {
  text(event.payload.guest_name); // never leaves to a guest: TS2339
});
rooms.members; // not a roster: TS2339
