// How the front desk says it: labels, dates and the sentences of the activity feed.

export const STATUSES = [
  { status: "READY_FOR_GUEST", label: "Ready", icon: "ready" },
  { status: "OCCUPIED", label: "Occupied", icon: "occupied" },
  { status: "CHECKOUT_DIRTY", label: "To clean", icon: "dirty" },
  { status: "CLEANING_IN_PROGRESS", label: "Cleaning", icon: "cleaning" },
  { status: "CLEANED_UNINSPECTED", label: "Inspect", icon: "inspect" },
  { status: "MAINTENANCE_REQUIRED", label: "Repair", icon: "maintenance" },
  { status: "OUT_OF_ORDER", label: "Out of order", icon: "ooo" },
];

const BY_STATUS = new Map(STATUSES.map((entry) => [entry.status, entry]));

const clockFormat = new Intl.DateTimeFormat("en-IE", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const secondsFormat = new Intl.DateTimeFormat("en-IE", {
  hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});
const longDateFormat = new Intl.DateTimeFormat("en-IE", { weekday: "long", day: "numeric", month: "long" });
// Hotel dates have no time zone: they are read and shown as UTC, so that none shifts by a day.
const dayFormat = new Intl.DateTimeFormat("en-IE", {
  weekday: "short", day: "numeric", month: "short", timeZone: "UTC",
});

function dayParts(date) {
  const moment = new Date(date);
  if (Number.isNaN(moment.getTime())) return null;
  return Object.fromEntries(dayFormat.formatToParts(moment).map(({ type, value }) => [type, value]));
}

export const clockTime = (moment) => clockFormat.format(moment);
export const exactTime = (moment) => secondsFormat.format(moment);
export const longDate = (moment) => longDateFormat.format(moment);

export function day(date) {
  const parts = dayParts(date);
  return parts ? `${parts.weekday} ${parts.day} ${parts.month}` : String(date ?? "");
}

// For a stay's last day, which is never far.
export function nearDay(date) {
  const parts = dayParts(date);
  return parts ? `${parts.weekday} ${parts.day}` : String(date ?? "");
}

export function statusWords(status) {
  const known = BY_STATUS.get(status);
  if (known) return known;
  const words = String(status).toLowerCase().replaceAll("_", " ");
  return { status, label: words.charAt(0).toUpperCase() + words.slice(1), icon: "unknown" };
}

export const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

export const guestOf = (booking) => String(booking?.guest_name || `Booking ${booking?.booking_id ?? "?"}`);

export const familyName = (name) => name.split(" ").slice(1).join(" ") || name;

// "" where this view has no payment fields, or the booking none.
export function payment(booking) {
  switch (booking.payment_status) {
    case undefined: return "";
    case "DEPOSIT_PAID": return `Deposit €${booking.deposit_amount ?? "–"}`;
    case "BALANCE_DUE": return "Balance due";
    case "PAID": return "Paid";
    default: return statusWords(booking.payment_status).label;
  }
}

export const joined = (...parts) => parts.filter(Boolean).join(" · ");

export const stay = ({ party_size: guests, nights, room_type: type }) =>
  joined(guests && count(guests, "guest"), nights && count(nights, "night"), type);

const BOOKING_LINES = {
  booking_created: ({ booking }) => ({
    icon: "booking",
    title: `New booking: ${guestOf(booking)}`,
    detail: joined(booking.arrival_date && `from ${day(booking.arrival_date)}`, stay(booking), booking.source),
  }),
  booking_confirmed: ({ booking }) => ({
    icon: "ready",
    title: `Confirmed: ${guestOf(booking)}`,
    detail: joined(booking.arrival_date && `from ${day(booking.arrival_date)}`, stay(booking)),
  }),
  booking_cancelled: ({ booking }) => ({
    icon: "cancel", tone: "alert",
    title: `Cancelled: ${guestOf(booking)}`,
    detail: booking.cancellation_reason ?? "",
  }),
  booking_checked_in: ({ booking }) => ({
    icon: "arrive", tone: "good",
    title: `${guestOf(booking)} checked in`,
    detail: joined(booking.room_number && `Room ${booking.room_number}`, stay(booking)),
  }),
  booking_checked_out: ({ booking }) => ({
    icon: "depart",
    title: `${guestOf(booking)} checked out`,
    detail: joined(booking.room_number && `Room ${booking.room_number}`, payment(booking)),
  }),
  booking_party_updated: ({ booking }) => ({
    icon: "people",
    title: `Party changed: ${guestOf(booking)}`,
    detail: booking.party_size ? count(booking.party_size, "guest") : "",
  }),
  booking_updated: bookingUpdated,
  integrity_healed: ({ payload }) => payload.healing_type === "night_audit"
    ? { icon: "night", tone: "good", title: `Night audit done: ${day(payload.business_date)} begins`, detail: "" }
    : { icon: "ready", title: "Bookings put in order", detail: "" },
};

function bookingUpdated({ booking, before, businessDate }) {
  const name = guestOf(booking);
  const line = { icon: "booking", title: `Booking changed: ${name}`, detail: stay(booking) };
  if (!before) return line;
  if (booking.room_number && booking.room_number !== before.room_number) {
    return { ...line, icon: "arrive", title: `Room ${booking.room_number} for ${name}` };
  }
  if (booking.departure_date !== before.departure_date) {
    return { ...line, title: `${name} stays until ${day(booking.departure_date)}` };
  }
  if (booking.special_request !== before.special_request) {
    return { ...line, title: `${name}: ${booking.special_request}`, detail: "Special request" };
  }
  if (booking.departure_date === businessDate) {
    return { ...line, icon: "depart", title: `${name} leaves today`, detail: joined(`Room ${booking.room_number}`, payment(booking)) };
  }
  return line;
}

function roomLine({ name, rooms, payload }) {
  const room = rooms[0];
  const changed = Array.isArray(payload.changed_fields) ? payload.changed_fields : [];
  if (name === "room_deleted") return { icon: "ooo", title: `Room ${payload.room_number} removed`, detail: "" };
  if (!room) return null;
  if (name === "rooms_updated") {
    return { icon: "booking", title: `${count(rooms.length, "room")} updated`, detail: rooms.map((r) => r.number).join(", ") };
  }
  const where = `Room ${room.number}`;
  const words = statusWords(room.status);
  if (name === "room_occupancy_updated") {
    return {
      icon: room.occupied ? "occupied" : "depart", minor: true,
      title: `${where} ${room.occupied ? "occupied" : "vacated"}`,
      detail: "",
    };
  }
  if (changed.includes("maintenance_required")) {
    return room.maintenance
      ? { icon: "maintenance", tone: "alert", title: `${where} needs repair`, detail: joined(room.notes, priority(room)) }
      : { icon: "ready", tone: "good", title: `${where} repaired`, detail: words.label };
  }
  if (changed.includes("maintenance_priority")) {
    return { icon: "maintenance", tone: "alert", title: `${where} repair: ${priority(room)}`, detail: room.notes };
  }
  return { icon: words.icon, status: room.status, minor: changed.includes("is_occupied"), title: `${where}: ${words.label}`, detail: "" };
}

export function priority(room) {
  return room.priority ? `${statusWords(room.priority).label} priority` : "";
}

// An applied event as the feed tells it: icon, title, detail, and perhaps tone, status or minor.
export function sentence(applied) {
  const known = BOOKING_LINES[applied.name];
  if (known && (applied.booking || applied.name === "integrity_healed")) return known(applied);
  return roomLine(applied) ?? { icon: "bell", title: statusWords(applied.name).label, detail: applied.booking ? guestOf(applied.booking) : "" };
}
