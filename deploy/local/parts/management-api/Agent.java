import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.net.InetSocketAddress;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Executors;
import javax.management.MBeanServer;
import javax.management.ObjectName;
import javax.management.openmbean.CompositeData;
import javax.management.openmbean.TabularData;

/** Inside Cassandra's process: its JMX beans, and what only its own classes can do ({@link Internals}), as questions in HTTP. */
public final class Agent {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final MBeanServer JMX = ManagementFactory.getPlatformMBeanServer();

    public static void premain(String address) throws IOException {
        int colon = address.lastIndexOf(':');
        InetSocketAddress here = new InetSocketAddress(address.substring(0, colon), Integer.parseInt(address.substring(colon + 1)));
        HttpServer server = HttpServer.create(here, 50);
        server.setExecutor(Executors.newCachedThreadPool(task -> {
            Thread thread = new Thread(task, "management-agent");
            thread.setDaemon(true);
            return thread;
        }));
        server.createContext("/", Agent::serve);
        server.start();
    }

    private static void serve(HttpExchange exchange) throws IOException {
        Map<String, String> asked = new HashMap<>();
        String raw = exchange.getRequestURI().getRawQuery();
        for (String pair : raw == null ? new String[0] : raw.split("&")) {
            String[] parts = pair.split("=", 2);
            asked.put(parts[0], URLDecoder.decode(parts[1], StandardCharsets.UTF_8));
        }
        int status = 200;
        byte[] bytes;
        try {
            bytes = JSON.writeValueAsBytes(answer(exchange.getRequestURI().getPath().substring(1), asked));
        } catch (Throwable error) {
            Throwable cause = error;
            while (cause.getCause() != null) {
                cause = cause.getCause();
            }
            status = 500;
            bytes = String.valueOf(cause).getBytes(StandardCharsets.UTF_8);
        }
        exchange.sendResponseHeaders(status, bytes.length);
        exchange.getResponseBody().write(bytes);
        exchange.close();
    }

    private static Object answer(String question, Map<String, String> asked) throws Exception {
        switch (question) {
            case "ready":
                return JMX.isRegistered(storage()) && "NORMAL".equals(get("OperationMode")) && Boolean.TRUE.equals(get("NativeTransportRunning"));
            case "drain":
                // A second drain would fail, and the original answers 200 to it.
                return "DRAINED".equals(get("OperationMode")) ? "OK" : done(invoke("drain"));
            case "snapshot":
                String table = asked.get("table");
                String[] entities = list(asked.get("keyspaces"));
                for (int i = 0; i < entities.length && !table.isEmpty(); i++) {
                    entities[i] += "." + table;
                }
                return done(invoke("takeSnapshot", new Object[] {asked.get("tag"), Map.of("skipFlush", asked.get("skipFlush")), entities},
                    String.class, Map.class, String[].class));
            case "snapshots":
                return snapshots();
            case "clear-snapshots":
                String[] keyspaces = list(asked.get("keyspaces"));
                for (String tag : asked.get("tags").isEmpty() ? new String[] {""} : list(asked.get("tags"))) {
                    invoke("clearSnapshot", new Object[] {tag, keyspaces}, String.class, String[].class);
                }
                return "OK";
            case "flush":
                return done(invoke("forceKeyspaceFlush", new Object[] {asked.get("keyspace"), new String[0]}, String.class, String[].class));
            case "cleanup":
                return done(invoke("forceKeyspaceCleanup", new Object[] {asked.get("keyspace"), new String[0]}, String.class, String[].class));
            case "rebuild":
                return done(invoke("rebuild", new Object[] {asked.get("source")}, String.class));
            case "full-query-log":
                return ((CompositeData) get("FullQueryLoggerOptions")).get("log_dir") != null && Internals.fullQueryLogEnabled();
            case "schema-versions":
                return JMX.getAttribute(new ObjectName("org.apache.cassandra.db:type=StorageProxy"), "SchemaVersionsWithPort");
            default:
                return Internals.answer(question, asked);
        }
    }

    private static List<Map<String, String>> snapshots() throws Exception {
        TreeMap<String, TreeSet<String>> keyspaces = new TreeMap<>();
        for (Map.Entry<?, ?> tag : ((Map<?, ?>) get("SnapshotDetails")).entrySet()) {
            TreeSet<String> of = keyspaces.computeIfAbsent(String.valueOf(tag.getKey()), key -> new TreeSet<>());
            for (Object row : ((TabularData) tag.getValue()).values()) {
                of.add(String.valueOf(((CompositeData) row).get("Keyspace name")));
            }
        }
        return keyspaces.entrySet().stream()
            .map(entry -> Map.of("Snapshot name", entry.getKey(), "Keyspace name", String.join(",", entry.getValue()))).toList();
    }

    private static String[] list(String text) {
        return text.isEmpty() ? new String[0] : text.split(",");
    }

    private static String done(Object ignored) {
        return "OK";
    }

    private static ObjectName storage() throws Exception {
        return new ObjectName("org.apache.cassandra.db:type=StorageService");
    }

    private static Object get(String attribute) throws Exception {
        return JMX.getAttribute(storage(), attribute);
    }

    private static Object invoke(String operation) throws Exception {
        return JMX.invoke(storage(), operation, new Object[0], new String[0]);
    }

    private static Object invoke(String operation, Object[] arguments, Class<?>... types) throws Exception {
        String[] signature = new String[types.length];
        for (int i = 0; i < types.length; i++) {
            signature[i] = types[i].getName();
        }
        return JMX.invoke(storage(), operation, arguments, signature);
    }
}
