// Drives a released pusher-js by commands, and reports all it does. The same in Node, in a page and
// in a worker.
"use strict";

function drive(Pusher, report) {
  let pusher;
  let token = "";

  // What an application writes: it is asked for the token whenever pusher-js needs one.
  const bearer = () => {
    report({ what: "token_asked" });
    return { Authorization: `Bearer ${token}` };
  };

  const tokenItself = (sub) => (_, answer) => {
    report({ what: "token_asked" });
    answer(null, { auth: token, user_data: JSON.stringify({ id: sub }) });
  };

  function withProviders(options, { sub, userAuth, channelAuth }) {
    const all = { ...options };
    if (sub) all.userAuthentication = { customHandler: tokenItself(sub) };
    if (userAuth) all.userAuthentication = { endpoint: userAuth, headersProvider: bearer };
    if (channelAuth) all.channelAuthorization = { endpoint: channelAuth, headersProvider: bearer };
    return all;
  }

  // Who is there, in the words that the drivers of other clients use too.
  function reportPresence(channel, event, data) {
    if (!channel.startsWith("presence-")) return;
    if (event === "pusher:subscription_succeeded") {
      report({ what: "here", channel, ids: Object.keys(data.members), me: data.myID });
    } else if (event === "pusher:member_added") {
      report({ what: "joined", channel, id: data.id });
    } else if (event === "pusher:member_removed") {
      report({ what: "left", channel, id: data.id });
    }
  }

  return {
    // sub: sign in with the token itself; userAuth, channelAuth: URLs to be asked for signatures.
    open({ key, options, ...providers }) {
      pusher = new Pusher(key, withProviders(options, providers));
      pusher.connection.bind("state_change", ({ current }) => report({ what: "state", current }));
      pusher.connection.bind("error", (error) => {
        const data = error?.error?.data ?? error?.data;
        report({ what: "error", code: data?.code ?? null, message: data?.message ?? "" });
      });
      pusher.connection.bind("message", ({ event, channel, data }) => {
        report({ what: "frame", event, channel: channel ?? null, data });
      });
      pusher.user.bind_global((event, data) => report({ what: "user", event, data }));
      for (const event of ["online", "offline"]) {
        pusher.user.watchlist.bind(event, ({ user_ids: ids }) => {
          report({ what: "watchlist", event, ids });
        });
      }
    },
    token({ value }) {
      token = value;
    },
    signin() {
      pusher.signin();
    },
    // events: those to be bound by name, as only that tells who sent a client's event.
    subscribe({ channel, events = [] }) {
      const subscribed = pusher.subscribe(channel);
      for (const event of events) {
        subscribed.bind(event, (data, metadata) => {
          report({ what: "event", channel, event, data, user_id: metadata?.user_id ?? null });
        });
      }
      subscribed.bind_global((event, data) => {
        if (events.includes(event)) return;
        report({ what: "event", channel, event, data });
        reportPresence(channel, event, data);
      });
    },
    unsubscribe({ channel }) {
      pusher.unsubscribe(channel);
    },
    trigger({ channel, event, data }) {
      pusher.channel(channel).trigger(event, data);
    },
    send({ event, data, channel }) {
      pusher.send_event(event, data, channel);
    },
    // What the server sent before its pong is reported before that.
    ping() {
      pusher.connection.send_event("pusher:ping", {});
    },
    // Present the token on every new connection before pusher-js subscribes to anything.
    authOnConnect() {
      pusher.connection.bind("state_change", ({ current }) => {
        if (current === "connected") pusher.send_event("bellhop:auth", { token });
      });
    },
    connect() {
      pusher.connect();
    },
    disconnect() {
      pusher?.disconnect();
    },
    // retrying: whether a next attempt is on the clock.
    standing() {
      const { state, socket_id, retryTimer } = pusher.connection;
      report({ what: "standing", state, socket_id, retrying: Boolean(retryTimer) });
    },
  };
}

if (typeof module !== "undefined") module.exports = { drive };
