// The front-desk page: an unmodified pusher-js, the hotel's REST answer, and what they tell us.

import { Hotel } from "./model.js";
import * as view from "./view.js";

const HOTEL_SLUG = "hotel-killarney";
const CHANNELS = [`${HOTEL_SLUG}.rooms`, `${HOTEL_SLUG}.room-bookings`];
const VIEWERS_EVERY_MS = 5_000;
const TOKEN_CHECK_EVERY_MS = 10_000;
const TOKEN_MARGIN_S = 60;
const STUCK_AFTER_MS = 8_000;
const DRAW_AFTER_MS = 40;

const persona = new URLSearchParams(location.search).get("as") ?? "reception";
const hotel = new Hotel();

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function getJson(path) {
  const answer = await fetch(path, { cache: "no-store", headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

// crypto.randomUUID exists in secure contexts only, and a wall screen may use plain HTTP.
function drawInstance() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// Token

const token = { value: "", expiresAt: 0, issuedAt: 0 };

function claimsOf(jwt) {
  try {
    const part = jwt.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return JSON.parse(atob(part));
  } catch {
    return {};
  }
}

async function refreshToken() {
  const { token: value } = await getJson(`/demo/token?as=${encodeURIComponent(persona)}`);
  const { exp } = claimsOf(value);
  const now = Date.now() / 1000;
  Object.assign(token, { value, issuedAt: now, expiresAt: typeof exp === "number" ? exp : Infinity });
}

function tokenIsOld() {
  const now = Date.now() / 1000;
  const life = token.expiresAt - token.issuedAt;
  return token.expiresAt - now < Math.min(TOKEN_MARGIN_S, life / 3);
}

async function renewLiveToken() {
  try {
    await refreshToken();
    if (pusher.connection.state === "connected") pusher.send_event("bellhop:auth", { token: token.value });
  } catch (error) {
    console.warn("No fresh token:", error.message);
  }
}

// Drawing: events of one moment are drawn together.

const changedRooms = new Set();
let drawing = 0;

function drawSoon() {
  if (drawing) return;
  drawing = setTimeout(() => {
    drawing = 0;
    view.drawHotel(hotel);
    view.flash(changedRooms);
    changedRooms.clear();
  }, DRAW_AFTER_MS);
}

// Events

function receive(channel, name, data) {
  if (name.startsWith("pusher:") || name.startsWith("pusher_internal:")) return;
  if (name === "bellhop:gap") {
    void catchUp();
    return;
  }
  if (name.startsWith("bellhop:")) return;
  let applied;
  try {
    applied = hotel.apply(channel, name, data);
  } catch (error) {
    console.warn(`Ignored a malformed ${name} on ${channel}:`, error.message);
    return;
  }
  if (!applied) return;
  for (const room of applied.rooms) changedRooms.add(room.number);
  view.addToFeed(applied);
  if (applied.sequence !== undefined) view.drawSequence(channel, applied.sequence);
  drawSoon();
}

// Connection

let pusher;
let lastLive = null;
let everLive = false;
let caughtUp = false;
let catchingUp = false;
let wanted = 0;
let stateSince = Date.now();

const subscribed = () =>
  pusher?.connection.state === "connected" && CHANNELS.every((name) => pusher.channel(name)?.subscribed);

function judgeConnection() {
  const live = subscribed() && caughtUp;
  if (live) {
    everLive = true;
    lastLive = null;
  } else if (everLive && lastLive === null) {
    lastLive = new Date();
  }
  const cause = live ? "live" : !everLive ? "starting" : subscribed() ? "stale" : "lost";
  view.drawConnection(cause, lastLive);
}

// Fetch the state until an answer came that nobody asked anew for in the meantime. Events that
// arrive while it is on its way are newer, and stay.
async function catchUp() {
  wanted += 1;
  if (catchingUp) return;
  catchingUp = true;
  for (let pause = 500; subscribed();) {
    const answers = wanted;
    try {
      const snapshot = await getJson(`/demo/state?as=${encodeURIComponent(persona)}`);
      hotel.load(snapshot);
      if (snapshot.hotel?.name) view.drawHotelName(snapshot.hotel.name);
      drawSoon();
      if (answers === wanted && subscribed()) {
        caughtUp = true;
        break;
      }
    } catch (error) {
      console.warn("No state of the hotel:", error.message);
      await wait(pause);
      pause = Math.min(pause * 2, 8_000);
    }
  }
  catchingUp = false;
  judgeConnection();
}

function onSubscribed() {
  judgeConnection();
  if (!subscribed()) return;
  void catchUp();
  void pollViewers();
}

function onState({ current }) {
  stateSince = Date.now();
  if (current !== "connected") {
    caughtUp = false;
    // pusher-js comes back by itself; let it find a token that is good for a while.
    refreshToken().catch(() => {});
  }
  judgeConnection();
}

let restarting = false;

// Connect anew where pusher-js has given up, waits long, or could not sign in.
async function restart() {
  if (restarting) return;
  restarting = true;
  try {
    await refreshToken();
    pusher.disconnect();
    pusher.connect();
  } catch (error) {
    console.warn("Not restarted:", error.message);
  } finally {
    restarting = false;
  }
}

async function pollViewers() {
  try {
    view.drawViewers(await getJson("/demo/viewers"));
  } catch {
    return;
  }
  // The server answers; if the socket has not followed for long, do not wait for its next try.
  if (pusher && !subscribed() && Date.now() - stateSince > STUCK_AFTER_MS / 2) {
    const { state } = pusher.connection;
    if (state !== "connected" || Date.now() - stateSince > STUCK_AFTER_MS) await restart();
  }
}

function connect() {
  const secure = location.protocol === "https:";
  const port = Number(location.port) || (secure ? 443 : 80);
  pusher = new Pusher(document.body.dataset.key, {
    cluster: "",
    wsHost: location.hostname,
    wsPort: port,
    wssPort: port,
    httpHost: location.hostname,
    httpPort: port,
    httpsPort: port,
    forceTLS: secure,
    // With forceTLS this means wss; naming wss as well would send TLS to a port that speaks none.
    enabledTransports: ["ws"],
    wsPath: `/s/${drawInstance()}`,
    // A dead line shows within twenty seconds, not two and a half minutes.
    activityTimeout: 15_000,
    pongTimeout: 5_000,
    userAuthentication: {
      endpoint: "/pusher/user-auth",
      headersProvider: () => ({ Authorization: `Bearer ${token.value}` }),
    },
  });
  pusher.connection.bind("state_change", onState);
  pusher.bind("bellhop:token_expiring", () => void renewLiveToken());
  pusher.user.bind("pusher:signin_error", (error) => {
    console.warn("Not signed in:", error.status ?? "", error.error ?? "");
  });
  for (const name of CHANNELS) {
    view.drawSequence(name);
    const channel = pusher.subscribe(name);
    channel.bind("pusher:subscription_succeeded", onSubscribed);
    channel.bind("pusher:subscription_error", judgeConnection);
    channel.bind_global((event, data) => receive(name, event, data));
  }
  pusher.signin();
}

async function start() {
  for (const link of document.querySelectorAll("[data-persona]")) {
    if (link.dataset.persona === persona) link.setAttribute("aria-current", "page");
  }
  const tick = () => view.drawClock(new Date());
  tick();
  setInterval(tick, 1_000);
  setInterval(pollViewers, VIEWERS_EVERY_MS);
  setInterval(() => { if (pusher && tokenIsOld()) void renewLiveToken(); }, TOKEN_CHECK_EVERY_MS);
  judgeConnection();
  for (let pause = 500; !token.value; pause = Math.min(pause * 2, 5_000)) {
    try {
      await refreshToken();
    } catch (error) {
      console.warn("No token:", error.message);
      await wait(pause);
    }
  }
  connect();
  void pollViewers();
}

void start();
