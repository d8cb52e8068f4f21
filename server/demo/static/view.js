// Draws the hotel: everything on the page that changes, and nothing that decides.

import {
  STATUSES, clockTime, count, day, exactTime, familyName, guestOf, joined, longDate, nearDay,
  payment, priority, sentence, statusWords, stay,
} from "./words.js";

const FEED_LENGTH = 80;
const FLASH_MS = 2600;
const SVG = "http://www.w3.org/2000/svg";

const byId = (id) => document.getElementById(id);

export function element(tag, className = "", ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children.filter((child) => child !== null && child !== ""));
  return node;
}

function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

// Rooms

const cards = new Map();
const filter = new Set();

function floorOf(number) {
  const digits = /^\d{3,}$/.test(number) ? number.slice(0, -2) : "";
  return digits || "·";
}

function floorList(floor) {
  const known = byId("floors").querySelector(`[data-floor="${CSS.escape(floor)}"] ul`);
  if (known) return known;
  const section = element("section", "floor", element("h3", "", element("span", "", "Floor "), floor), element("ul", "cards"));
  section.dataset.floor = floor;
  section.setAttribute("aria-label", `Floor ${floor}`);
  insertSorted(byId("floors"), section, (node) => node.dataset.floor);
  return section.lastChild;
}

function insertSorted(parent, node, keyOf) {
  const key = keyOf(node);
  const after = [...parent.children].find(
    (other) => keyOf(other).localeCompare(key, undefined, { numeric: true }) > 0,
  );
  parent.insertBefore(node, after ?? null);
}

function cardFor(number) {
  const known = cards.get(number);
  if (known) return known;
  const card = element("li", "card");
  card.dataset.room = number;
  insertSorted(floorList(floorOf(number)), card, (node) => node.dataset.room);
  cards.set(number, card);
  return card;
}

// Who has the room, who will, and what is wrong with it: two lines, the more urgent first.
function cardLines(room, hotel) {
  const expected = hotel.expectedIn(room.number);
  const arriving = expected && (expected.arrival_date ?? "") <= hotel.businessDate ? expected : undefined;
  const staying = hotel.stayingIn(room.number);
  const lines = [];
  if (room.occupied) {
    const unnamed = room.guestCount > 0 ? count(room.guestCount, "guest") : "Guest";
    lines.push(element("p", "guest", room.guests[0] ?? (staying ? guestOf(staying) : unnamed)));
    const leaves = staying?.departure_date;
    if (leaves && leaves <= hotel.businessDate) {
      lines.push(element("p", "note due", icon("depart"), element("span", "", "Due out")));
    } else if (leaves) {
      lines.push(element("p", "note", `until ${nearDay(leaves)}`));
    }
  }
  if (room.maintenance) {
    lines.push(element("p", "note fault", icon("maintenance"), element("span", "", room.notes || "Needs repair")));
  }
  if (arriving) {
    const name = familyName(guestOf(arriving));
    const note = element("p", "note arriving", icon("arrive"), element("span", "", room.occupied ? name : "Arriving"));
    lines.push(note, room.occupied ? null : element("p", "guest arriving", name));
  }
  return lines.filter(Boolean);
}

function drawCard(room, hotel) {
  const card = cardFor(room.number);
  const words = statusWords(room.status);
  card.dataset.status = room.status;
  card.classList.toggle("faulty", room.maintenance);
  const head = element("div", "head", element("b", "number", room.number), element("span", "type", room.type));
  if (room.maintenance && room.status !== "MAINTENANCE_REQUIRED") {
    const badge = element("span", "badge", icon("maintenance"));
    badge.title = joined(room.notes, priority(room)) || "Needs repair";
    head.append(badge);
  }
  card.replaceChildren(
    head,
    element("div", "body", ...cardLines(room, hotel)),
    element("p", "state", icon(words.icon), element("span", "", words.label)),
  );
}

function drawRooms(hotel) {
  for (const [number, card] of cards) {
    if (hotel.rooms.has(number)) continue;
    card.remove();
    cards.delete(number);
  }
  for (const room of hotel.rooms.values()) drawCard(room, hotel);
  for (const floor of byId("floors").children) floor.hidden = floor.lastChild.children.length === 0;
  applyFilter();
}

export function flash(numbers) {
  for (const number of numbers) {
    const card = cards.get(number);
    if (!card) continue;
    card.classList.remove("flash");
    // Reading the width makes the browser notice the removal, so that the animation starts anew.
    void card.offsetWidth;
    card.classList.add("flash");
    clearTimeout(card.flashTimer);
    card.flashTimer = setTimeout(() => card.classList.remove("flash"), FLASH_MS);
  }
}

// Legend

function applyFilter() {
  for (const card of cards.values()) {
    card.classList.toggle("dimmed", filter.size > 0 && !filter.has(card.dataset.status));
  }
  for (const button of byId("legend").children) {
    const { status } = button.dataset;
    button.setAttribute("aria-pressed", String(status === "" ? filter.size === 0 : filter.has(status)));
  }
}

function toggle(status) {
  if (status === "") filter.clear();
  else if (!filter.delete(status)) filter.add(status);
  applyFilter();
}

function legendButton(status, label, iconName) {
  const button = element("button", "", iconName ? icon(iconName) : "", element("span", "", label), element("b", "", "0"));
  button.type = "button";
  button.dataset.status = status;
  button.addEventListener("click", () => toggle(status));
  return button;
}

function drawLegend(hotel) {
  const legend = byId("legend");
  if (legend.children.length === 0) {
    legend.append(legendButton("", "All rooms"), ...STATUSES.map((s) => legendButton(s.status, s.label, s.icon)));
  }
  const rooms = [...hotel.rooms.values()];
  for (const button of legend.children) {
    const { status } = button.dataset;
    const total = status === "" ? rooms.length : rooms.filter((room) => room.status === status).length;
    button.lastChild.textContent = String(total);
  }
}

// Bookings of the day

function roomTag(booking, hotel) {
  const tag = element("span", "tag", booking.room_number ?? "–");
  tag.dataset.status = hotel.rooms.get(booking.room_number)?.status ?? "";
  return tag;
}

function arrivalState(booking, hotel) {
  if (booking.status === "CANCELLED") return ["Cancelled", "off"];
  if (booking.status === "PENDING") return ["Not confirmed", "wait"];
  const room = hotel.rooms.get(booking.room_number);
  if (!room) return ["No room yet", "wait"];
  return {
    READY_FOR_GUEST: ["Room ready", "good"],
    OCCUPIED: ["Still occupied", "wait"],
    CHECKOUT_DIRTY: ["To clean", "wait"],
    CLEANING_IN_PROGRESS: ["Cleaning", "wait"],
    CLEANED_UNINSPECTED: ["To inspect", "wait"],
  }[room.status] ?? [statusWords(room.status).label, "bad"];
}

function row(booking, hotel, [word, tone]) {
  const money = payment(booking);
  // The room says its type, so that there is space for what it costs.
  const detail = element("small", "", money && element("span", "money", money), stay(booking.room_number ? { ...booking, room_type: "" } : booking));
  const item = element(
    "li", tone === "off" ? "off" : "",
    roomTag(booking, hotel),
    element("span", "who", element("b", "", guestOf(booking)), detail),
    element("span", `word ${tone}`, word),
  );
  item.dataset.booking = booking.booking_id;
  return item;
}

const byRoom = (a, b) => (a.room_number ?? "~").localeCompare(b.room_number ?? "~", undefined, { numeric: true });

function drawBookings(hotel) {
  const { arrivals, departures, staying } = hotel.today();
  const bookings = [...hotel.bookings.values()];
  const arrived = bookings.filter((b) => b.checked_in_at && b.arrival_date === hotel.businessDate).length;
  const toCome = arrivals.filter((booking) => booking.status !== "CANCELLED");
  const order = (b) => ({ good: 0, wait: 1, bad: 2, off: 3 })[arrivalState(b, hotel)[1]];
  arrivals.sort((a, b) => order(a) - order(b) || byRoom(a, b));
  byId("arrivals").replaceChildren(...arrivals.map((b) => row(b, hotel, arrivalState(b, hotel))));
  byId("arrivals-tally").textContent = `${toCome.length} to come · ${arrived} in`;

  const left = (booking) => booking.checked_out_at || booking.status === "COMPLETED";
  departures.sort((a, b) => Number(Boolean(left(a))) - Number(Boolean(left(b))) || byRoom(a, b));
  const departed = departures.filter(left);
  const state = (b) => (left(b) ? [`Left ${clockTime(new Date(b.checked_out_at ?? b.ts))}`, "off"] : ["In room", "wait"]);
  byId("departures").replaceChildren(...departures.map((b) => row(b, hotel, state(b))));
  byId("departures-tally").textContent = `${departures.length - departed.length} to leave · ${departed.length} left`;

  staying.sort(byRoom);
  byId("staying").replaceChildren(...staying.map((booking) => {
    const item = element("li", "", roomTag(booking, hotel), element("span", "who", familyName(guestOf(booking))));
    item.dataset.booking = booking.booking_id;
    item.title = joined(guestOf(booking), stay(booking), payment(booking));
    return item;
  }));
  byId("staying-tally").textContent = count(staying.length, "room");
  for (const id of ["arrivals", "departures", "staying"]) {
    if (byId(id).children.length === 0) byId(id).append(element("li", "none", "None"));
  }
}

export function drawHotel(hotel) {
  drawRooms(hotel);
  drawLegend(hotel);
  drawBookings(hotel);
  byId("business-date").textContent = hotel.businessDate ? day(hotel.businessDate) : "–";
}

// Activity

let events = 0;

export function addToFeed(applied) {
  const line = sentence(applied);
  const badge = element("span", "glyph", icon(line.icon));
  if (line.status) badge.dataset.status = line.status;
  const sequence = Number.isInteger(applied.sequence) ? `#${applied.sequence}` : "";
  const item = element(
    "li", [line.tone ?? "", line.minor ? "minor" : ""].join(" ").trim(),
    badge,
    element("span", "said", element("b", "", line.title), line.detail ? element("small", "", line.detail) : ""),
    element("span", "stamp", element("time", "", exactTime(new Date(applied.ts))), element("small", "", sequence)),
  );
  item.dataset.eventId = applied.id;
  item.dataset.sequence = applied.sequence ?? "";
  item.dataset.type = applied.name;
  const feed = byId("feed");
  feed.prepend(item);
  while (feed.children.length > FEED_LENGTH) feed.lastChild.remove();
  events += 1;
  byId("activity-tally").textContent = count(events, "event");
}

export function drawSequence(channel, sequence) {
  const list = byId("channels");
  let item = list.querySelector(`[data-channel="${CSS.escape(channel)}"]`);
  if (!item) {
    item = element("li", "", `${channel} `, element("b", "", "–"));
    item.dataset.channel = channel;
    list.append(item);
  }
  item.dataset.sequence = sequence ?? "";
  item.lastChild.textContent = sequence === undefined ? "–" : `#${sequence}`;
}

// Everything else

export function drawHotelName(name) {
  byId("hotel-name").textContent = name;
  document.title = `${name} · Front desk`;
}

export function drawClock(moment) {
  byId("clock").textContent = clockTime(moment);
  byId("date").textContent = longDate(moment);
}

export function drawViewers(viewers) {
  const groups = new Map();
  for (const { name, role } of viewers) {
    const key = `${name}\n${role}`;
    groups.set(key, { name, role, times: (groups.get(key)?.times ?? 0) + 1 });
  }
  const known = [...groups.values()].sort((a, b) => String(a.name).localeCompare(String(b.name)));
  const shown = known.slice(0, 4).map(({ name, role, times }) => {
    const initials = String(name).split(/\s+/).map((word) => word[0] ?? "").join("").slice(0, 2).toUpperCase();
    const title = statusWords(role).label;
    const item = element(
      "li", "",
      element("span", "face", initials),
      element("span", "", element("b", "", times > 1 ? `${name} ×${times}` : String(name)), element("small", "", title)),
    );
    item.title = joined(name, title);
    return item;
  });
  const more = groups.size - shown.length;
  if (more > 0) shown.push(element("li", "more", `+${more}`));
  byId("viewers").replaceChildren(...shown);
  byId("viewer-count").textContent = String(viewers.length);
}

// cause: starting, live, lost or stale; since: when the page was last live.
export function drawConnection(cause, since) {
  const { body } = document;
  body.dataset.cause = cause;
  body.dataset.connection = cause === "live" ? "connected" : "disconnected";
  const asOf = since ? `Rooms are shown as they were at ${exactTime(since)}.` : "";
  const [word, title, text] = {
    starting: ["Connecting", "Connecting to live updates", ""],
    live: ["Live", "", ""],
    lost: ["Disconnected", "Live updates disconnected", `${asOf} Trying to reconnect …`],
    stale: ["Catching up", "Live updates disconnected", `${asOf} Fetching the latest state …`],
  }[cause];
  byId("connection-word").textContent = word;
  byId("banner").hidden = cause === "live";
  byId("banner-title").textContent = title;
  byId("banner-text").textContent = text.trim();
}
