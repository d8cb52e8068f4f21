// pusher-js in Node, driven by JSON lines: commands {"do", ...} on stdin, reports {"what", ...} on
// stdout. Ends when stdin does.
"use strict";

const readline = require("node:readline");
const Pusher = require("pusher-js");
const { drive } = require("./pusher_js_driver.js");

const report = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

process.on("uncaughtException", (error) => report({ what: "thrown", error: String(error.stack) }));

const commands = drive(Pusher, report);
const input = readline.createInterface({ input: process.stdin });

input.on("line", (line) => {
  const { do: name, ...fields } = JSON.parse(line);
  commands[name](fields);
});
input.on("close", () => process.exit(0));
