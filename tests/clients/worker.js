// Clients in a worker: the page hands commands in and reports out.
"use strict";

importScripts("/pusher.worker.js", "/driver.js", "/host.js");

const kinds = { "pusher-js": (report) => drive(Pusher, report) };
const command = host(kinds, (line) => postMessage(line));

onmessage = ({ data }) => command(data);
addEventListener("unhandledrejection", ({ reason }) => {
  postMessage({ what: "thrown", error: String(reason) });
});
