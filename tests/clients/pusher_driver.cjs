// Calls the released `pusher` library, a backend's, and reports its answers.
"use strict";

function drivePusher(PusherServer, report) {
  let pusher;

  // Responses of the library are node-fetch's: only their bodies are told.
  const answer = async (result) => {
    const value = await result;
    return typeof value?.json === "function" ? value.json() : value;
  };

  const calls = {
    trigger: (channels, event, data, params) => pusher.trigger(channels, event, data, params),
    triggerBatch: (batch) => pusher.triggerBatch(batch),
    get: (path, params) => pusher.get({ path, params }),
    sendToUser: (user, event, data) => pusher.sendToUser(user, event, data),
    terminateUserConnections: (user) => pusher.terminateUserConnections(user),
    authorizeChannel: (socketId, channel, data) => pusher.authorizeChannel(socketId, channel, data),
    authenticateUser: (socketId, data) => pusher.authenticateUser(socketId, data),
    webhook: (headers, rawBody) => {
      const hook = pusher.webhook({ headers, rawBody });
      return hook.isValid() ? hook.getEvents() : null;
    },
  };

  return {
    open({ options }) {
      pusher = new PusherServer(options);
    },
    async call({ method, arguments: given }) {
      try {
        report({ what: "answer", value: (await answer(calls[method](...given))) ?? null });
      } catch (error) {
        const { message, status = "", body = "" } = error;
        report({ what: "answer", error: `${message} ${status} ${body}` });
      }
    },
    disconnect() {},
  };
}

module.exports = { drivePusher };
