import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.ReentrantLock;

/** The Cassandra of this pod: a child process with {@link Agent} inside. System properties say where everything is. */
final class CassandraProcess {
    private static final int AGENT_PORT = 7980;
    private static final Duration PATIENCE = Duration.ofMinutes(9);
    private static final ObjectMapper JSON = new ObjectMapper();

    private final HttpClient http = HttpClient.newHttpClient();
    private final ReentrantLock starting = new ReentrantLock();
    private final String config = System.getProperty("config");
    private final String bind = System.getProperty("bind");
    private volatile Process process;

    boolean running() {
        Process current = process;
        return current != null && current.isAlive();
    }

    long id() {
        return process.pid();
    }

    boolean ready() {
        try {
            return running() && ask("ready").asBoolean();
        } catch (IOException notYet) {
            return false;
        }
    }

    /** Blocks until Cassandra serves CQL, as the original does. */
    ManagementApi.Answer start(List<String> replaced) throws Exception {
        starting.lock();
        try {
            if (running()) {
                return new ManagementApi.Answer(202, "Cassandra is already running");
            }
            process = new ProcessBuilder(command(replaced)).inheritIO().start();
        } finally {
            starting.unlock();
        }
        long deadline = System.nanoTime() + PATIENCE.toNanos();
        while (running() && System.nanoTime() < deadline) {
            if (ready()) {
                return new ManagementApi.Answer(201, "OK");
            }
            Thread.sleep(200);
        }
        return new ManagementApi.Answer(500, running() ? "Cassandra does not serve CQL" : "Cassandra ended: " + process.exitValue());
    }

    void stop() {
        Process current = process;
        if (current == null) {
            return;
        }
        current.destroy();
        try {
            if (!current.waitFor(60, TimeUnit.SECONDS)) {
                current.destroyForcibly().waitFor();
            }
        } catch (InterruptedException interrupted) {
            current.destroyForcibly();
        }
    }

    /** Asks the agent; pairs of names and values follow the question. */
    JsonNode ask(String question, String... parameters) throws IOException {
        StringBuilder query = new StringBuilder();
        for (int i = 0; i < parameters.length; i += 2) {
            query.append(i == 0 ? '?' : '&').append(parameters[i]).append('=').append(URLEncoder.encode(parameters[i + 1], StandardCharsets.UTF_8));
        }
        String host = bind.equals("0.0.0.0") ? "127.0.0.1" : bind;
        URI uri = URI.create("http://" + host + ":" + AGENT_PORT + "/" + question + query);
        try {
            HttpRequest request = HttpRequest.newBuilder(uri).timeout(Duration.ofMinutes(2)).build();
            HttpResponse<String> response = http.send(request, HttpResponse.BodyHandlers.ofString());
            if (response.statusCode() != 200) {
                throw new IOException(response.body());
            }
            return JSON.readTree(response.body());
        } catch (InterruptedException interrupted) {
            throw new IOException(interrupted);
        }
    }

    private List<String> command(List<String> replaced) throws IOException {
        String jars = System.getProperty("jars");
        String agent = System.getProperty("agent");
        String host = bind.equals("0.0.0.0") ? "127.0.0.1" : bind;
        List<String> command = new ArrayList<>(List.of(System.getProperty("java.home") + "/bin/java", "-Xss512k",
            "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", "-XX:-UsePerfData", "-XX:TieredStopAtLevel=1"));
        command.addAll(options(getClass().getResource("/jvm17.options").openStream().readAllBytes()));
        command.addAll(options(Files.readAllBytes(Path.of(config, "jvm-server.options"))));
        for (File jar : new File(jars).listFiles((folder, name) -> name.startsWith("jamm-"))) {
            command.add("-javaagent:" + jar);
        }
        command.add("-javaagent:" + agent + "=" + host + ":" + AGENT_PORT);
        // Names of services are in the pod's hosts file, which changes while Cassandra runs.
        command.addAll(List.of("-Djdk.net.hosts.file=" + System.getProperty("hosts"), "-Dsun.net.inetaddr.ttl=2", "-Dsun.net.inetaddr.negative.ttl=1"));
        command.addAll(List.of("-Dlogback.configurationFile=logback.xml", "-Dcassandra-foreground=yes",
            "-Dcassandra.config=" + Path.of(config, "cassandra.yaml").toUri(), "-Dcassandra.storagedir=" + System.getProperty("storage")));
        // Shorter waits for a ring of local processes; cass-operator makes the superuser, so no default one.
        command.addAll(List.of("-Dcassandra.ring_delay_ms=5000", "-Dcassandra.superuser_setup_delay_ms=100", "-Dcassandra.skip_default_role_setup=true"));
        if (bind.equals("0.0.0.0")) {
            // JMX listens on 127.0.0.1, which pods without a network namespace share.
            command.add("-Dcassandra.jmx.local.port=7199");
        }
        replaced.forEach(address -> command.add("-Dcassandra.replace_address_first_boot=" + address));
        command.addAll(List.of("-cp", config + File.pathSeparator + agent + File.pathSeparator + jars + "/*", "org.apache.cassandra.service.CassandraDaemon"));
        return command;
    }

    private static List<String> options(byte[] file) {
        List<String> options = new ArrayList<>();
        for (String line : new String(file, StandardCharsets.UTF_8).split("\n")) {
            if (!line.isBlank() && !line.startsWith("#")) {
                options.addAll(List.of(line.trim().split("\\s+")));
            }
        }
        return options;
    }
}
