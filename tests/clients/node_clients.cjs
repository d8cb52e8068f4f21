// Clients in Node, driven by JSON lines: commands {"who", "kind", "do", ...} on stdin, reports
// {"who", "what", ...} on stdout. Ends when stdin does.
"use strict";

const readline = require("node:readline");
const PusherServer = require("pusher");
const Pusher = require("pusher-js");
const { host } = require("./host.js");
const { drive } = require("./pusher_js_driver.js");
const { drivePusher } = require("./pusher_driver.cjs");

const report = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

process.on("uncaughtException", (error) => report({ what: "thrown", error: String(error.stack) }));

const kinds = {
  "pusher-js": (report) => drive(Pusher, report),
  pusher: (report) => drivePusher(PusherServer, report),
};
const command = host(kinds, report);
const input = readline.createInterface({ input: process.stdin });

input.on("line", (line) => command(JSON.parse(line)));
input.on("close", () => process.exit(0));
