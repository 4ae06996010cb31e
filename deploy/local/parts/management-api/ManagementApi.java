import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;

/**
 * A stand-in for the management API of Cassandra images, with the calls of cass-operator and of backups. It starts a real
 * Cassandra and answers with what that process says through {@link Agent}; what it does not know is 404.
 */
public final class ManagementApi {
    private static final ObjectMapper JSON = new ObjectMapper();
    /** Only what is served here: cass-operator asks for more where a feature promises it. */
    private static final List<String> FEATURES = List.of("async_flush_task", "async_sstable_tasks", "full_query_logging", "rebuild");

    private final CassandraProcess cassandra = new CassandraProcess();
    private final Map<String, Map<String, Object>> jobs = new ConcurrentHashMap<>();

    record Answer(int status, Object body) {
        static final Answer OK = new Answer(200, "OK");
    }

    record Call(String method, String path, Map<String, List<String>> query, String body) {
        String one(String name, String otherwise) {
            return query.getOrDefault(name, List.of(otherwise)).get(0);
        }
    }

    public static void main(String[] arguments) throws IOException {
        ManagementApi api = new ManagementApi();
        Runtime.getRuntime().addShutdownHook(new Thread(api.cassandra::stop));
        HttpServer server = HttpServer.create(new InetSocketAddress(System.getProperty("bind"), 8080), 50);
        server.setExecutor(Executors.newCachedThreadPool());
        server.createContext("/", api::serve);
        server.start();
        System.out.println("management API on " + server.getAddress());
    }

    private void serve(HttpExchange exchange) throws IOException {
        long begin = System.nanoTime();
        String path = exchange.getRequestURI().getPath();
        Answer answer;
        try {
            String body = new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.UTF_8);
            answer = route(new Call(exchange.getRequestMethod(), path, query(exchange.getRequestURI().getRawQuery()), body));
        } catch (Exception error) {
            answer = new Answer(500, String.valueOf(error.getMessage() == null ? error : error.getMessage()));
        }
        boolean text = answer.body instanceof String;
        byte[] bytes = text ? ((String) answer.body).getBytes(StandardCharsets.UTF_8) : JSON.writeValueAsBytes(answer.body);
        exchange.getResponseHeaders().set("Content-Type", text ? "text/plain" : "application/json");
        if (!path.endsWith("/liveness") && !path.endsWith("/readiness")) {
            // Never the query: it holds passwords.
            System.out.printf("%s %s %s from %s: %d in %d ms%s%n", Instant.now(), exchange.getRequestMethod(), path,
                exchange.getRemoteAddress().getAddress().getHostAddress(), answer.status, (System.nanoTime() - begin) / 1_000_000,
                answer.status >= 400 ? ": " + answer.body : "");
        }
        exchange.sendResponseHeaders(answer.status, bytes.length == 0 ? -1 : bytes.length);
        exchange.getResponseBody().write(bytes);
        exchange.close();
    }

    private static Map<String, List<String>> query(String raw) {
        Map<String, List<String>> query = new HashMap<>();
        for (String pair : raw == null ? new String[0] : raw.split("&")) {
            String[] parts = pair.split("=", 2);
            String value = parts.length == 2 ? URLDecoder.decode(parts[1], StandardCharsets.UTF_8) : "";
            query.computeIfAbsent(URLDecoder.decode(parts[0], StandardCharsets.UTF_8), key -> new ArrayList<>()).add(value);
        }
        return query;
    }

    private Answer route(Call call) throws Exception {
        String what = call.method + " " + call.path.replaceFirst("^/api/v[01]/", "");
        switch (what) {
            case "GET probes/liveness":
                return Answer.OK;
            case "GET probes/readiness":
                return cassandra.ready() ? Answer.OK : new Answer(500, "not ready");
            case "POST lifecycle/start":
                return cassandra.start(call.query.getOrDefault("replace_ip", List.of()));
            case "POST lifecycle/stop":
                cassandra.stop();
                return Answer.OK;
            case "GET lifecycle/pid":
                return cassandra.running() ? new Answer(200, Long.toString(cassandra.id())) : new Answer(204, "");
            case "GET metadata/versions/release":
                return new Answer(200, System.getProperty("cassandra.version"));
            case "GET metadata/versions/features":
                Map<String, Object> features = new LinkedHashMap<>();
                features.put("cassandra_version", System.getProperty("cassandra.version"));
                features.put("mgmt_version", "0.1.106");
                features.put("features", FEATURES);
                return new Answer(200, features);
            default:
                return cassandra.running() ? ofCassandra(what, call) : new Answer(500, "Cassandra is not running");
        }
    }

    private Answer ofCassandra(String what, Call call) throws Exception {
        switch (what) {
            case "GET probes/cluster":
                JsonNode down = cassandra.ask("quorum", "level", call.one("consistency_level", "LOCAL_QUORUM"), "rf", call.one("rf_per_dc", "3"));
                return down.isEmpty() ? Answer.OK : new Answer(500, "token ranges without enough replicas: " + down);
            case "GET metadata/endpoints":
                return new Answer(200, Map.of("entity", cassandra.ask("endpoints")));
            case "POST ops/seeds/reload":
                return new Answer(200, cassandra.ask("reload-seeds"));
            case "POST ops/node/drain":
                cassandra.ask("drain");
                return Answer.OK;
            case "GET ops/node/schema/versions":
                return new Answer(200, cassandra.ask("schema-versions"));
            case "GET ops/node/fullquerylogging":
                return new Answer(200, Map.of("entity", cassandra.ask("full-query-log")));
            case "GET ops/auth/role":
                return new Answer(200, cassandra.ask("roles"));
            case "POST ops/auth/role":
                // For the test of a change that is lost while this call is answered.
                Thread.sleep(Long.parseLong(System.getenv().getOrDefault("ROLE_DELAY_MS", "0")));
                cassandra.ask("role", "name", call.one("username", ""), "password", call.one("password", ""),
                    "login", call.one("can_login", "false"), "superuser", call.one("is_superuser", "false"));
                return Answer.OK;
            case "DELETE ops/auth/role":
                cassandra.ask("drop-role", "name", call.one("username", ""));
                return Answer.OK;
            case "GET ops/node/snapshots":
                return new Answer(200, Map.of("entity", cassandra.ask("snapshots")));
            case "POST ops/node/snapshots":
                return snapshot(JSON.readTree(call.body.isEmpty() ? "{}" : call.body));
            case "DELETE ops/node/snapshots":
                cassandra.ask("clear-snapshots", "tags", String.join(",", call.query.getOrDefault("snapshotNames", List.of())),
                    "keyspaces", String.join(",", call.query.getOrDefault("keyspaces", List.of())));
                return Answer.OK;
            case "POST ops/tables/flush":
            case "POST ops/keyspace/cleanup":
            case "POST ops/node/rebuild":
                return job(call, JSON.readTree(call.body.isEmpty() ? "{}" : call.body));
            case "GET ops/executor/job":
                Map<String, Object> job = jobs.get(call.one("job_id", ""));
                return job == null ? new Answer(404, "no such job") : new Answer(200, job);
            default:
                return new Answer(404, "this management API has no " + what);
        }
    }

    private Answer snapshot(JsonNode asked) throws Exception {
        String tag = asked.path("snapshot_name").asText(Long.toString(System.currentTimeMillis()));
        List<String> keyspaces = new ArrayList<>();
        asked.path("keyspaces").forEach(keyspace -> keyspaces.add(keyspace.asText()));
        cassandra.ask("snapshot", "tag", tag, "keyspaces", String.join(",", keyspaces),
            "table", asked.path("table_name").asText(""), "skipFlush", asked.path("skip_flush").asText("false"));
        return Answer.OK;
    }

    /** Version 1 of these calls answers at once with the id of a job; version 0 when it is done. */
    private Answer job(Call call, JsonNode asked) throws Exception {
        String kind = call.path.substring(call.path.lastIndexOf('/') + 1);
        String keyspace = asked.path("keyspace_name").asText("");
        String source = call.one("src_dc", "");
        if (call.path.startsWith("/api/v0/")) {
            cassandra.ask(kind, "keyspace", keyspace, "source", source);
            return Answer.OK;
        }
        String id = UUID.randomUUID().toString();
        Map<String, Object> job = new ConcurrentHashMap<>(Map.of("id", id, "type", kind, "status", "WAITING",
            "submit_time", Long.toString(System.currentTimeMillis())));
        jobs.put(id, job);
        new Thread(() -> {
            try {
                cassandra.ask(kind, "keyspace", keyspace, "source", source);
                job.put("status", "COMPLETED");
            } catch (Exception error) {
                job.put("error", String.valueOf(error.getMessage()));
                job.put("status", "ERROR");
            }
            job.put("end_time", Long.toString(System.currentTimeMillis()));
        }).start();
        return new Answer(202, id);
    }
}
