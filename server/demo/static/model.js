// The hotel as this page knows it: what the REST answer said, and every event since.

const SEEN_EVENTS = 1000;

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

// Rooms come as "101", 101, or an object that holds either.
export function roomNumber(value) {
  if (isObject(value)) return roomNumber(value.room_number ?? value.number);
  if (typeof value === "number" && Number.isFinite(value)) return String(value);
  return typeof value === "string" && value.trim() !== "" ? value.trim() : null;
}

// Guests come as a list of names or of objects, or as a count.
function guestNames(value) {
  if (!Array.isArray(value)) return [];
  return value
    .map((guest) => (isObject(guest) ? guest.name ?? guest.full_name : guest))
    .filter((name) => typeof name === "string" && name !== "");
}

function guestCount(value) {
  if (Array.isArray(value)) return value.length;
  return typeof value === "number" ? value : 0;
}

class RecentIds {
  #ids = new Set();

  // Whether this id is new; remembers it, and forgets the oldest.
  add(id) {
    if (this.#ids.has(id)) return false;
    this.#ids.add(id);
    if (this.#ids.size > SEEN_EVENTS) this.#ids.delete(this.#ids.values().next().value);
    return true;
  }
}

export class Hotel {
  rooms = new Map();
  bookings = new Map();
  businessDate = "";
  #seen = new RecentIds();
  #datedAt = -Infinity;
  #last = new Map();

  // Take the REST answer; a row that an event has changed since keeps the event's state.
  load(snapshot) {
    const asOf = Date.parse(snapshot.as_of);
    this.#reachDate(snapshot.business_date, asOf);
    for (const row of snapshot.rooms) this.#putRoom(row, Date.parse(row.updated_at));
    const listed = new Set(snapshot.bookings.map((row) => row.booking_id));
    for (const [id, booking] of this.bookings) {
      if (!listed.has(id) && booking.ts <= asOf) this.bookings.delete(id);
    }
    for (const row of snapshot.bookings) {
      const ts = Date.parse(row.updated_at);
      // The row is the whole booking: what it leaves out has no value.
      if (!(this.bookings.get(row.booking_id)?.ts > ts)) this.bookings.delete(row.booking_id);
      this.#putBooking(row, ts);
    }
  }

  // Apply one event. Returns what it was about, or null for a duplicate; throws TypeError on a
  // body that is not an envelope.
  apply(channel, name, body) {
    if (!isObject(body) || !isObject(body.payload)) throw new TypeError("not an envelope");
    const meta = isObject(body.meta) ? body.meta : {};
    const id = typeof meta.event_id === "string" ? meta.event_id : "";
    const parsed = Date.parse(meta.ts);
    const ts = Number.isNaN(parsed) ? Date.now() : parsed;
    const inOrder = this.#advances(channel, meta);
    const { payload } = body;
    const isRoom = name.startsWith("room");
    const rows = name === "rooms_updated" ? payload.rooms : [payload];
    if (isRoom && !(Array.isArray(rows) && rows.every(isObject))) throw new TypeError("no rooms");
    if (id && !this.#seen.add(id)) return null;
    this.#reachDate(payload.business_date, ts);
    const applied = { channel, name, id, ts, payload, sequence: meta.sequence, rooms: [], businessDate: this.businessDate };
    if (name === "room_deleted") {
      this.rooms.delete(roomNumber(payload.room_number));
    } else if (isRoom) {
      applied.rooms = rows.map((row) => this.#putRoom(row, ts, inOrder)).filter(Boolean);
      if (applied.rooms.length === 0) throw new TypeError("no room number");
    } else if (payload.booking_id !== undefined) {
      applied.before = this.bookings.get(String(payload.booking_id));
      applied.booking = this.#putBooking({ ...impliedBy(name, meta.ts), ...payload }, ts, inOrder);
    }
    return applied;
  }

  // arrivals, departures, staying (in house beyond today): the bookings that concern today.
  today() {
    const lists = { arrivals: [], departures: [], staying: [] };
    const arriving = (booking) => !booking.arrival_date || booking.arrival_date <= this.businessDate;
    for (const booking of this.bookings.values()) {
      if (booking.status === "CANCELLED") {
        if (arriving(booking)) lists.arrivals.push(booking);
      } else if (booking.checked_out_at || booking.status === "COMPLETED") {
        lists.departures.push(booking);
      } else if (booking.checked_in_at) {
        const leaves = booking.departure_date && booking.departure_date <= this.businessDate;
        lists[leaves ? "departures" : "staying"].push(booking);
      } else if (arriving(booking)) {
        lists.arrivals.push(booking);
      }
    }
    return lists;
  }

  // The guest who will have the room tonight, and the one who leaves it today.
  expectedIn(number) {
    return this.#find((b) => b.room_number === number && !b.checked_in_at && b.status === "CONFIRMED");
  }

  stayingIn(number) {
    return this.#find((b) => b.room_number === number && b.checked_in_at && !b.checked_out_at && b.status === "CONFIRMED");
  }

  #find(matches) {
    for (const booking of this.bookings.values()) if (matches(booking)) return booking;
    return undefined;
  }

  #reachDate(date, ts) {
    if (typeof date !== "string" || ts < this.#datedAt) return;
    this.#datedAt = ts;
    if (date === this.businessDate) return;
    this.businessDate = date;
    // A new hotel day: what ended on the one before is history.
    for (const [id, booking] of this.bookings) {
      if (booking.status === "CANCELLED" || booking.status === "COMPLETED") this.bookings.delete(id);
    }
  }

  // Whether an event comes after all others of its channel. The server numbers them in the order in
  // which they count; a producer's clock (meta.ts) only decides where there is no number to go by.
  #advances(channel, meta) {
    if (!Number.isInteger(meta.sequence)) return false;
    const last = this.#last.get(channel);
    if (last && last.epoch === meta.epoch && last.sequence >= meta.sequence) return false;
    this.#last.set(channel, { epoch: meta.epoch, sequence: meta.sequence });
    return true;
  }

  #putRoom(row, ts, inOrder = false) {
    const number = roomNumber(row.room_number) ?? this.#numberOf(row.room_id);
    if (number === null) return null;
    const known = this.rooms.get(number);
    if (known && known.ts > ts && !inOrder) return known;
    ts = Math.max(ts, known?.ts ?? ts);
    const room = { number, type: "", status: "UNKNOWN", occupied: false, guests: [], guestCount: 0, maintenance: false, notes: "", priority: null, ...known, ts };
    const status = row.room_status ?? row.status;
    if (typeof status === "string") room.status = status.toUpperCase();
    else if (row.is_occupied === true) room.status = "OCCUPIED";
    else if (row.is_occupied === false && room.status === "OCCUPIED") room.status = "CHECKOUT_DIRTY";
    if (row.room_id !== undefined) room.id = row.room_id;
    if (row.room_type !== undefined) room.type = String(row.room_type ?? "");
    if (row.is_occupied !== undefined) room.occupied = row.is_occupied === true;
    if (row.guests_in_room !== undefined) {
      room.guests = guestNames(row.guests_in_room);
      room.guestCount = guestCount(row.guests_in_room);
    }
    if (!room.occupied) Object.assign(room, { guests: [], guestCount: 0 });
    if (row.maintenance_required !== undefined) room.maintenance = row.maintenance_required === true;
    if (row.maintenance_notes !== undefined) room.notes = String(row.maintenance_notes ?? "");
    if (row.maintenance_priority !== undefined) room.priority = row.maintenance_priority;
    this.rooms.set(number, room);
    return room;
  }

  #numberOf(roomId) {
    for (const room of this.rooms.values()) if (roomId !== undefined && room.id === roomId) return room.number;
    return null;
  }

  #putBooking(row, ts, inOrder = false) {
    const id = String(row.booking_id);
    const known = this.bookings.get(id);
    if (known && known.ts > ts && !inOrder) return known;
    ts = Math.max(ts, known?.ts ?? ts);
    const booking = { ...known, ...row, booking_id: id, ts };
    booking.status = String(booking.status ?? "CONFIRMED").toUpperCase();
    const number = roomNumber(booking.room_number ?? booking.room);
    if (number !== null) booking.room_number = number;
    this.bookings.set(id, booking);
    return booking;
  }
}

// What an event's name says, for a payload that carries the required fields only.
function impliedBy(name, at) {
  switch (name) {
    case "booking_confirmed": return { status: "CONFIRMED" };
    case "booking_cancelled": return { status: "CANCELLED" };
    case "booking_checked_in": return { checked_in_at: at };
    case "booking_checked_out": return { checked_out_at: at, status: "COMPLETED" };
    default: return {};
  }
}
