// Drives a released laravel-echo by the commands of pusher_js_driver.js, with its own words: a
// channel is named without its prefix, a client's event is a whisper.
"use strict";

function driveEcho(Echo, Pusher, report) {
  let echo;

  function channelOf(name) {
    const [, prefix, rest] = /^(private-encrypted-|private-|presence-)?(.*)$/.exec(name);
    switch (prefix) {
      case "private-encrypted-":
        return echo.encryptedPrivate(rest);
      case "private-":
        return echo.private(rest);
      case "presence-":
        return echo.join(rest);
      default:
        return echo.channel(rest);
    }
  }

  function reportPresence(channel, name) {
    channel
      .here((users) => report({ what: "here", channel: name, ids: users.map(({ id }) => id) }))
      .joining(({ id }) => report({ what: "joined", channel: name, id }))
      .leaving(({ id }) => report({ what: "left", channel: name, id }));
  }

  return {
    open({ key, options, channelAuth, userAuth }) {
      const given = { broadcaster: "pusher", Pusher, key, ...options, authEndpoint: channelAuth };
      // Echo puts the bearer token into these headers.
      if (userAuth) given.userAuthentication = { endpoint: userAuth, headers: {} };
      echo = new Echo(given);
      const { pusher } = echo.connector;
      pusher.connection.bind("state_change", ({ current }) => report({ what: "state", current }));
      pusher.connection.bind("message", ({ event, channel, data }) => {
        report({ what: "frame", event, channel: channel ?? null, data });
      });
      pusher.user.bind_global((event, data) => report({ what: "user", event, data }));
    },
    signin() {
      echo.connector.signin();
    },
    subscribe({ channel: name, events = [] }) {
      const channel = channelOf(name);
      channel.subscribed(() => {
        report({ what: "event", channel: name, event: "pusher:subscription_succeeded", data: {} });
      });
      channel.error((data) => {
        report({ what: "event", channel: name, event: "pusher:subscription_error", data });
      });
      if (name.startsWith("presence-")) reportPresence(channel, name);
      for (const event of events) {
        const heard = (data) => report({ what: "event", channel: name, event, data });
        const whisper = event.startsWith("client-") && event.slice("client-".length);
        if (whisper) channel.listenForWhisper(whisper, heard);
        // A leading dot is Echo's word for "no namespace"; a class of the backend's is in its own.
        else channel.listen(/^[A-Z]/.test(event) ? event : `.${event}`, heard);
      }
    },
    unsubscribe({ channel }) {
      echo.leaveChannel(channel);
    },
    trigger({ channel, event, data }) {
      channelOf(channel).whisper(event.slice("client-".length), data);
    },
    ping() {
      echo.connector.pusher.connection.send_event("pusher:ping", {});
    },
    disconnect() {
      echo.disconnect();
    },
    standing() {
      report({ what: "standing", state: echo.connectionStatus(), socket_id: echo.socketId() });
    },
  };
}
