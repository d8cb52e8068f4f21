// Many clients in one process, page or worker: a command names which one it is for, and a report
// which one it is of.
"use strict";

function host(kinds, report) {
  const clients = new Map();
  return ({ who, kind, do: name, ...fields }) => {
    if (!clients.has(who)) clients.set(who, kinds[kind]((line) => report({ who, ...line })));
    clients.get(who)[name](fields);
  };
}

if (typeof module !== "undefined") module.exports = { host };
