// Many stock pusher-js in one process, driven by JSON lines on stdin. What they hear comes out
// together, every few milliseconds, as a line of reports: [what, who, at (ms), ...]. Ends when stdin
// does.
"use strict";

const readline = require("node:readline");
const PusherServer = require("pusher");
const Pusher = require("pusher-js");

const TOGETHER_MS = 20;
const clients = new Map();
let reports = [];

function report(what, who, ...rest) {
  if (!reports.length) setTimeout(write, TOGETHER_MS);
  reports.push([what, who, Date.now(), ...rest]);
}

function write() {
  process.stdout.write(`${JSON.stringify(reports)}\n`);
  reports = [];
}

// The backend's answer where the channel is not the contract's; of the contract's the token decides.
function authorizer(backend, member, signed) {
  return ({ channelName, socketId }, answer) => {
    const presence = channelName.startsWith("presence-") ? member : undefined;
    if (signed.includes(channelName)) {
      answer(null, backend.authorizeChannel(socketId, channelName, presence));
    } else {
      answer(null, { auth: "", ...(presence && { channel_data: JSON.stringify(presence) }) });
    }
  };
}

function listen(pusher, who, channel, index, heard) {
  pusher.subscribe(channel).bind_global((event, data) => {
    if (event === "pusher:subscription_succeeded") {
      report("in", who, index, heard.before);
      heard.entered = true;
      heard.at = Date.now();
    } else if (event === "pusher:subscription_error") {
      report("refused", who, index, JSON.stringify(data));
    } else if (event === "bellhop:gap") {
      report("gap", who, index, data.reason, data.since);
    } else if (!event.startsWith("pusher:")) {
      const { event_id, epoch = "", sequence = 0 } = data.meta ?? data;
      report("event", who, index, event_id, epoch, sequence);
    }
  });
}

const commands = {
  open({ who, app, options, channels, member, signed, signin }) {
    const backend = new PusherServer({ ...app, host: "127.0.0.1" });
    const all = {
      ...options,
      channelAuthorization: { customHandler: authorizer(backend, member, signed) },
    };
    if (signin) {
      all.userAuthentication = {
        customHandler: (_, answer) =>
          answer(null, { auth: signin.token, user_data: JSON.stringify({ id: signin.sub }) }),
      };
    }
    const pusher = new Pusher(app.key, all);
    clients.set(who, pusher);
    // By channel: when it last heard anything while it was subscribed, now and before the present
    // connection. One that ended before it was subscribed only made the absence longer.
    const heardOf = channels.map(() => ({ at: 0, before: 0, entered: false }));
    pusher.connection.bind("message", () => {
      const now = Date.now();
      for (const heard of heardOf) if (heard.entered) heard.at = now;
    });
    pusher.connection.bind("state_change", ({ current }) => {
      if (current === "connected") {
        for (const heard of heardOf) Object.assign(heard, { before: heard.at, entered: false });
      }
      report("state", who, current);
    });
    pusher.connection.bind("error", (error) => {
      const data = error?.error?.data ?? error?.data;
      report("error", who, data?.code ?? null, data?.message ?? "");
    });
    if (signin) pusher.signin();
    channels.forEach((channel, index) => listen(pusher, who, channel, index, heardOf[index]));
  },
  // A page that is closed: nobody comes back.
  leave({ who }) {
    clients.get(who).disconnect();
  },
  roster({ who, channel }) {
    const { members } = clients.get(who).channel(channel);
    report("roster", who, channel, Object.keys(members.members));
  },
};

process.on("uncaughtException", (error) => report("thrown", null, String(error.stack)));
const input = readline.createInterface({ input: process.stdin });
input.on("line", (line) => {
  const { do: name, ...fields } = JSON.parse(line);
  commands[name](fields);
});
input.on("close", () => process.exit(0));
