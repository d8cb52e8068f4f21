// The released Java client, driven by JSON lines: commands {"who", "do", ...} on stdin, reports
// {"who", "what", ...} on stdout. Ends when stdin does.

import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.gson.JsonPrimitive;
import com.google.gson.JsonSyntaxException;
import com.pusher.client.Pusher;
import com.pusher.client.PusherOptions;
import com.pusher.client.channel.PresenceChannelEventListener;
import com.pusher.client.channel.PrivateEncryptedChannelEventListener;
import com.pusher.client.channel.PusherEvent;
import com.pusher.client.channel.User;
import com.pusher.client.connection.ConnectionEventListener;
import com.pusher.client.connection.ConnectionState;
import com.pusher.client.connection.ConnectionStateChange;
import com.pusher.client.util.HttpChannelAuthorizer;
import com.pusher.client.util.HttpUserAuthenticator;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

public final class JavaClients {
    private static final Gson GSON = new Gson();

    public static void main(String[] arguments) throws Exception {
        Map<Integer, Client> clients = new HashMap<>();
        Thread.setDefaultUncaughtExceptionHandler((thread, error) -> thrown(error));
        BufferedReader input =
            new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            JsonObject command = JsonParser.parseString(line).getAsJsonObject();
            int who = command.get("who").getAsInt();
            try {
                clients.computeIfAbsent(who, Client::new).obey(command);
            } catch (RuntimeException error) {
                thrown(error);
            }
        }
        System.exit(0);
    }

    private static void thrown(Throwable error) {
        JsonObject line = new JsonObject();
        line.addProperty("what", "thrown");
        line.addProperty("error", String.valueOf(error));
        write(line);
    }

    private static synchronized void write(JsonObject line) {
        System.out.println(GSON.toJson(line));
        System.out.flush();
    }

    private static JsonElement decoded(String data) {
        try {
            return data == null ? null : JsonParser.parseString(data);
        } catch (JsonSyntaxException error) {
            return new JsonPrimitive(data);
        }
    }

    private static final class Client
            implements ConnectionEventListener, PresenceChannelEventListener,
                PrivateEncryptedChannelEventListener {
        private final int who;
        private Pusher pusher;

        Client(int who) {
            this.who = who;
        }

        void obey(JsonObject command) {
            String channel = command.has("channel") ? command.get("channel").getAsString() : null;
            switch (command.get("do").getAsString()) {
                case "open" -> open(command);
                case "signin" -> pusher.signin();
                case "subscribe" -> subscribe(channel, names(command));
                case "unsubscribe" -> pusher.unsubscribe(channel);
                case "trigger" -> trigger(channel, command);
                case "standing" -> standing();
                case "disconnect" -> pusher.disconnect();
                default -> throw new IllegalArgumentException(command.toString());
            }
        }

        private void open(JsonObject command) {
            Map<String, String> headers = new HashMap<>();
            if (!command.get("token").getAsString().isEmpty()) {
                headers.put("Authorization", "Bearer " + command.get("token").getAsString());
            }
            HttpChannelAuthorizer channels =
                new HttpChannelAuthorizer(command.get("channelAuth").getAsString());
            channels.setHeaders(headers);
            PusherOptions options = new PusherOptions()
                .setUseTLS(false)
                .setHost("127.0.0.1")
                .setWsPort(command.get("port").getAsInt())
                .setChannelAuthorizer(channels)
                .setUserAuthenticator(
                    new HttpUserAuthenticator(command.get("userAuth").getAsString()));
            pusher = new Pusher(command.get("key").getAsString(), options);
            pusher.user().bindGlobal(event -> report(
                "user", "event", event.getEventName(), "data", decoded(event.getData())));
            pusher.connect(this, ConnectionState.ALL);
        }

        private void subscribe(String channel, String[] events) {
            if (channel.startsWith("private-encrypted-")) {
                pusher.subscribePrivateEncrypted(channel, this, events);
            } else if (channel.startsWith("private-")) {
                pusher.subscribePrivate(channel, this, events);
            } else if (channel.startsWith("presence-")) {
                pusher.subscribePresence(channel, this, events);
            } else {
                pusher.subscribe(channel, this, events);
            }
        }

        private void trigger(String channel, JsonObject command) {
            String event = command.get("event").getAsString();
            String data = GSON.toJson(command.get("data"));
            if (channel.startsWith("presence-")) {
                pusher.getPresenceChannel(channel).trigger(event, data);
            } else {
                pusher.getPrivateChannel(channel).trigger(event, data);
            }
        }

        private void standing() {
            report("standing",
                "state", pusher.getConnection().getState().name().toLowerCase(),
                "socket_id", pusher.getConnection().getSocketId(),
                "user_id", pusher.user().userId());
        }

        private static String[] names(JsonObject command) {
            List<String> names = new ArrayList<>(List.of("pusher:cache_miss"));
            command.get("events").getAsJsonArray().forEach(name -> names.add(name.getAsString()));
            return names.toArray(String[]::new);
        }

        private void report(String what, Object... fields) {
            JsonObject line = new JsonObject();
            line.addProperty("who", who);
            line.addProperty("what", what);
            for (int index = 0; index < fields.length; index += 2) {
                line.add((String) fields[index], GSON.toJsonTree(fields[index + 1]));
            }
            write(line);
        }

        @Override
        public void onConnectionStateChange(ConnectionStateChange change) {
            report("state", "current", change.getCurrentState().name().toLowerCase());
        }

        @Override
        public void onError(String message, String code, Exception error) {
            Integer number = code == null ? null : Integer.valueOf(code);
            report("error", "code", number, "message", message + " " + error);
        }

        @Override
        public void onSubscriptionSucceeded(String channel) {
            report("event", "channel", channel, "event", "pusher:subscription_succeeded");
        }

        @Override
        public void onEvent(PusherEvent event) {
            report("event",
                "channel", event.getChannelName(),
                "event", event.getEventName(),
                "data", decoded(event.getData()),
                "user_id", event.getUserId());
        }

        @Override
        public void onAuthenticationFailure(String message, Exception error) {
            report("refused", "message", message + " " + error);
        }

        @Override
        public void onDecryptionFailure(String event, String reason) {
            report("undecrypted", "event", event, "reason", reason);
        }

        @Override
        public void onUsersInformationReceived(String channel, Set<User> users) {
            report("here", "channel", channel, "ids", users.stream().map(User::getId).toList());
        }

        @Override
        public void userSubscribed(String channel, User user) {
            report("joined", "channel", channel, "id", user.getId());
        }

        @Override
        public void userUnsubscribed(String channel, User user) {
            report("left", "channel", channel, "id", user.getId());
        }
    }
}
