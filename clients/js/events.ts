// Made from the contract by `bellhop contract typescript`; do not edit it by hand.

// Hotel realtime events, version 1.0.0.

/** What is said about an event. */
export interface Meta {
  /** The same for every delivery of one event. */
  event_id: string;
  /** The hotel that the event is of. */
  hotel_slug: string;
  /** ISO 8601: when the backend made the event. */
  ts: string;
  /** What the event is about. */
  scope?: { [key: string]: unknown };
  /** Rising by one per channel; set by the server. */
  sequence?: number;
  /** Of the sequence: numbers of two epochs cannot be compared. */
  epoch?: string;
  [field: string]: unknown;
}

/** What a callback is given. */
export interface Envelope<Category extends string, Type extends string, Payload> {
  category: Category;
  type: Type;
  payload: Payload;
  meta: Meta;
}

/** An identifier of the backend's. */
export type Id = string | number;

export type Timestamp = string;

/** A room's number, as a string or a number. */
export type RoomNumber = string | number;

/** A room, by number or as an object that has one. */
export type Room = RoomNumber | { room_number: RoomNumber; [field: string]: unknown };

export type RoomStatus =
  | "READY_FOR_GUEST"
  | "OCCUPIED"
  | "CHECKOUT_DIRTY"
  | "CLEANING_IN_PROGRESS"
  | "CLEANED_UNINSPECTED"
  | "MAINTENANCE_REQUIRED"
  | "OUT_OF_ORDER";

export type MaintenancePriority = "LOW" | "MEDIUM" | "HIGH" | "URGENT" | null;

export interface BookingCreated {
  booking_id: Id;
  status: string;
  created_at: Timestamp;
  guest_name: string;
  [field: string]: unknown;
}

export interface BookingConfirmed {
  booking_id: Id;
  status: string;
  confirmed_at: Timestamp;
  [field: string]: unknown;
}

export interface BookingUpdated {
  booking_id: Id;
  status: string;
  [field: string]: unknown;
}

export interface BookingCancelled {
  booking_id: Id;
  status: string;
  cancelled_at: Timestamp;
  cancellation_reason: string | null;
  [field: string]: unknown;
}

export interface BookingInRoom {
  booking_id: Id;
  room_number: Room;
  [field: string]: unknown;
}

export interface BookingParty {
  booking_id: Id;
  [field: string]: unknown;
}

export interface OtherBooking {
  booking_id: Id;
  [field: string]: unknown;
}

export interface HealingReport {
  [field: string]: unknown;
}

export interface RoomUpdated {
  room_number: RoomNumber;
  room_status: RoomStatus;
  is_occupied: boolean;
  is_out_of_order: boolean;
  maintenance_required: boolean;
  maintenance_priority?: MaintenancePriority;
  maintenance_notes?: string | null;
  changed_fields: string[];
  /** How many guests, or who. */
  guests_in_room?: number | unknown[];
  [field: string]: unknown;
}

export interface RoomsUpdated {
  rooms: RoomUpdated[];
  [field: string]: unknown;
}

export interface RoomOccupancy {
  room_number: RoomNumber;
  is_occupied: boolean;
  [field: string]: unknown;
}

export interface RoomStatusChanged {
  room_id: Id;
  status: RoomStatus;
  changed_at: Timestamp;
  [field: string]: unknown;
}

export interface RoomStatusUpdated {
  room_id: Id;
  room_status: RoomStatus;
  [field: string]: unknown;
}

export interface RoomReference {
  room_id: Id;
  room_number: RoomNumber;
  [field: string]: unknown;
}

export interface RoomServiceOrder {
  order_id: Id;
  room_number: RoomNumber;
  [field: string]: unknown;
}

export interface ChatMessage {
  message_id: Id;
  body: string;
  created_at: Timestamp;
  [field: string]: unknown;
}

export interface StaffChatMessage {
  message_id: Id;
  conversation_id: Id;
  [field: string]: unknown;
}

export interface StaffChatUnread {
  conversation_id: Id;
  unread_count: number;
  [field: string]: unknown;
}

export interface GuestBookingConfirmed {
  booking_id: Id;
  status: string;
  confirmed_at: Timestamp;
  checked_in_at?: unknown;
  checked_out_at?: unknown;
  hotel_slug?: unknown;
}

export interface GuestBookingCancelled {
  booking_id: Id;
  status: string;
  cancelled_at: Timestamp;
  cancellation_reason: string | null;
  checked_in_at?: unknown;
  checked_out_at?: unknown;
  hotel_slug?: unknown;
}

export interface GuestBookingCheckedIn {
  booking_id: Id;
  room_number: Room;
  status?: unknown;
  checked_in_at?: unknown;
  checked_out_at?: unknown;
  hotel_slug?: unknown;
}

export interface GuestBookingCheckedOut {
  booking_id: Id;
  room_number: Room;
  status?: unknown;
  checked_in_at?: unknown;
  checked_out_at?: unknown;
  hotel_slug?: unknown;
}

export interface GuestBookingRoomAssigned {
  booking_id: Id;
  room_number: Room;
  status?: unknown;
  checked_in_at?: unknown;
  checked_out_at?: unknown;
  hotel_slug?: unknown;
}

export interface ChatMessageCreated {
  message_id: Id;
  body: string;
  created_at: Timestamp;
  sender?: unknown;
  conversation_id?: unknown;
  hotel_slug?: unknown;
}

/** What is heard on `{hotel_slug}.room-bookings`. All room booking events of one hotel. */
export interface RoomBookingsEvents {
  /** A room booking was made. */
  booking_created: Envelope<"room_booking", "booking_created", BookingCreated>;
  /** A room booking was confirmed. */
  booking_confirmed: Envelope<"room_booking", "booking_confirmed", BookingConfirmed>;
  /** Details of a room booking changed. */
  booking_updated: Envelope<"room_booking", "booking_updated", BookingUpdated>;
  /** Members of the party were added, removed or changed. */
  booking_party_updated: Envelope<"room_booking", "booking_party_updated", BookingParty>;
  /** A room booking was cancelled. */
  booking_cancelled: Envelope<"room_booking", "booking_cancelled", BookingCancelled>;
  /** The guest has checked in. */
  booking_checked_in: Envelope<"room_booking", "booking_checked_in", BookingInRoom>;
  /** The guest has checked out. */
  booking_checked_out: Envelope<"room_booking", "booking_checked_out", BookingInRoom>;
  /** A healing service mended booking data. */
  integrity_healed: Envelope<"room_booking", "integrity_healed", HealingReport>;
  /** A healing service mended a party. */
  party_healed: Envelope<"room_booking", "party_healed", BookingParty>;
  /** In-house guests were reconciled with a booking. */
  guests_healed: Envelope<"room_booking", "guests_healed", BookingParty>;
}

/** What is heard on `{hotel_slug}.rooms`. Room state of one hotel. */
export interface RoomsEvents {
  /** A room changed; the whole room, and which fields changed. */
  room_updated: Envelope<"rooms", "room_updated", RoomUpdated>;
  /** Several rooms changed at once. */
  rooms_updated: Envelope<"rooms", "rooms_updated", RoomsUpdated>;
  /** A room was occupied or vacated. */
  room_occupancy_updated: Envelope<"rooms", "room_occupancy_updated", RoomOccupancy>;
  /** A room moved to another state. */
  room_status_changed: Envelope<"rooms", "room_status_changed", RoomStatusChanged>;
  /** A room was removed. */
  room_deleted: Envelope<"rooms", "room_deleted", RoomReference>;
}

/**
 * What is heard on `{hotel_slug}.booking`. Restaurant, spa and event bookings of one hotel; never
 * room bookings.
 */
export interface OtherBookingsEvents {
  /** Any event of a restaurant, spa or event booking; its name is in snake_case. */
  [event: string]: Envelope<"booking", string, OtherBooking>;
}

/**
 * What is heard on `staff-hotel-{hotel_id}`. Staff management feed of one hotel, named by its id.
 */
export interface StaffHotelEvents {
  /** A room booking was made. */
  booking_created: Envelope<"room_booking", "booking_created", BookingCreated>;
  /** A room booking was confirmed. */
  booking_confirmed: Envelope<"room_booking", "booking_confirmed", BookingConfirmed>;
  /** Details of a room booking changed. */
  booking_updated: Envelope<"room_booking", "booking_updated", BookingUpdated>;
  /** A room booking was cancelled. */
  booking_cancelled: Envelope<"room_booking", "booking_cancelled", BookingCancelled>;
  /** The guest has checked in. */
  booking_checked_in: Envelope<"room_booking", "booking_checked_in", BookingInRoom>;
  /** The guest has checked out. */
  booking_checked_out: Envelope<"room_booking", "booking_checked_out", BookingInRoom>;
  /** A room changed; the whole room, and which fields changed. */
  room_updated: Envelope<"rooms", "room_updated", RoomUpdated>;
  /** A room was occupied or vacated. */
  room_occupancy_updated: Envelope<"rooms", "room_occupancy_updated", RoomOccupancy>;
  /** A room moved to another state. @deprecated */
  room_status_updated: Envelope<"rooms", "room_status_updated", RoomStatusUpdated>;
  /** A room was removed. */
  room_deleted: Envelope<"rooms", "room_deleted", RoomReference>;
  /** A booking got its room. */
  room_assigned: Envelope<"rooms", "room_assigned", BookingInRoom>;
  /** A guest ordered room service. */
  room_service_order_created: Envelope<
    "room_service",
    "room_service_order_created",
    RoomServiceOrder
  >;
}

/**
 * What is heard on `private-guest-booking.{booking_id}`. One guest's own booking; only the listed
 * fields leave.
 */
export interface PrivateGuestBookingEvents {
  /** The guest's booking was confirmed. */
  booking_confirmed: Envelope<"guest_booking", "booking_confirmed", GuestBookingConfirmed>;
  /** The guest's booking was cancelled. */
  booking_cancelled: Envelope<"guest_booking", "booking_cancelled", GuestBookingCancelled>;
  /** The guest has checked in. */
  booking_checked_in: Envelope<"guest_booking", "booking_checked_in", GuestBookingCheckedIn>;
  /** The guest has checked out. */
  booking_checked_out: Envelope<"guest_booking", "booking_checked_out", GuestBookingCheckedOut>;
  /** The guest's room was assigned. */
  booking_room_assigned: Envelope<
    "guest_booking",
    "booking_room_assigned",
    GuestBookingRoomAssigned
  >;
  /** A message between guest and hotel. */
  chat_message_created: Envelope<"chat", "chat_message_created", ChatMessageCreated>;
}

/**
 * What is heard on `guest-booking-{booking_id}`. The older name of the same feed; guarded all the
 * same.
 */
export interface GuestBookingEvents {
  /** The guest's booking was confirmed. */
  booking_confirmed: Envelope<"guest_booking", "booking_confirmed", GuestBookingConfirmed>;
  /** The guest's booking was cancelled. */
  booking_cancelled: Envelope<"guest_booking", "booking_cancelled", GuestBookingCancelled>;
  /** The guest has checked in. */
  booking_checked_in: Envelope<"guest_booking", "booking_checked_in", GuestBookingCheckedIn>;
  /** The guest has checked out. */
  booking_checked_out: Envelope<"guest_booking", "booking_checked_out", GuestBookingCheckedOut>;
  /** The guest's room was assigned. */
  booking_room_assigned: Envelope<
    "guest_booking",
    "booking_room_assigned",
    GuestBookingRoomAssigned
  >;
  /** A message between guest and hotel. */
  chat_message_created: Envelope<"chat", "chat_message_created", ChatMessageCreated>;
}

/** What is heard on `staff-chat-{staff_id}`. One staff member's unread counters. */
export interface StaffChatEvents {
  /** How many messages a staff member has not read. */
  staff_chat_unread_updated: Envelope<"staff_chat", "staff_chat_unread_updated", StaffChatUnread>;
}

/** What is heard on `staff-chat-conversation-{conversation_id}`. One staff conversation. */
export interface StaffChatConversationEvents {
  /** A message in a staff conversation. */
  staff_chat_message_created: Envelope<
    "staff_chat",
    "staff_chat_message_created",
    StaffChatMessage
  >;
  /** A message was edited. */
  staff_chat_message_edited: Envelope<"staff_chat", "staff_chat_message_edited", StaffChatMessage>;
  /** A message was deleted. */
  staff_chat_message_deleted: Envelope<
    "staff_chat",
    "staff_chat_message_deleted",
    StaffChatMessage
  >;
}

/** What is heard on `presence-{hotel_slug}.{area}`. Who is on shift in one area of one hotel. */
export interface RosterEvents {}

/** The names of the contract's channels. */
export type ChannelName =
  | `staff-chat-conversation-${string}`
  | `private-guest-booking.${string}`
  | `guest-booking-${string}`
  | `staff-hotel-${string}`
  | `staff-chat-${string}`
  | `presence-${string}.${string}`
  | `${string}.rooms`
  | `${string}.booking`
  | `${string}.room-bookings`;

/** The events of a channel, by its name. */
export type EventsOf<Name extends string> =
  Name extends `staff-chat-conversation-${string}` ? StaffChatConversationEvents
  : Name extends `private-guest-booking.${string}` ? PrivateGuestBookingEvents
  : Name extends `guest-booking-${string}` ? GuestBookingEvents
  : Name extends `staff-hotel-${string}` ? StaffHotelEvents
  : Name extends `staff-chat-${string}` ? StaffChatEvents
  : Name extends `presence-${string}.${string}` ? RosterEvents
  : Name extends `${string}.rooms` ? RoomsEvents
  : Name extends `${string}.booking` ? OtherBookingsEvents
  : Name extends `${string}.room-bookings` ? RoomBookingsEvents
  : never;
