import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** The init container server-config-init: what k8ssandra-client's `config build` does, as far as Cassandra and backups read it. */
public final class ConfigBuilder {
    public static void main(String[] arguments) throws IOException {
        ObjectMapper json = new ObjectMapper();
        JsonNode data = json.readTree(System.getenv("CONFIG_FILE_DATA"));
        String storage = System.getProperty("storage");
        String address = System.getenv("POD_IP");

        ObjectNode yaml = json.createObjectNode();
        yaml.put("cluster_name", data.at("/cluster-info/name").asText());
        yaml.put("num_tokens", 16).put("partitioner", "org.apache.cassandra.dht.Murmur3Partitioner");
        yaml.put("endpoint_snitch", "GossipingPropertyFileSnitch");
        yaml.put("listen_address", address).put("rpc_address", address).put("native_transport_port", 9042);
        yaml.put("commitlog_sync", "periodic").put("commitlog_sync_period", "10000ms");
        yaml.putArray("data_file_directories").add(storage + "/data");
        for (String folder : List.of("commitlog", "saved_caches", "hints", "cdc_raw")) {
            yaml.put(folder + "_directory", storage + "/" + folder);
        }
        ObjectNode seeds = yaml.putArray("seed_provider").addObject();
        seeds.put("class_name", "AllSeeds");
        seeds.putArray("parameters").addObject().put("seeds", data.at("/cluster-info/seeds").asText());
        data.path("cassandra-yaml").fields().forEachRemaining(field -> yaml.set(field.getKey(), field.getValue()));

        List<String> options = new ArrayList<>();
        for (String section : List.of("jvm-options", "jvm-server-options")) {
            JsonNode jvm = data.path(section);
            if (jvm.has("initial_heap_size")) {
                options.add("-Xms" + jvm.get("initial_heap_size").asText());
            }
            if (jvm.has("max_heap_size")) {
                options.add("-Xmx" + jvm.get("max_heap_size").asText());
            }
            jvm.path("additional-jvm-opts").forEach(option -> options.add(option.asText()));
        }

        Path config = Path.of(System.getProperty("config"));
        // JSON is YAML.
        json.writerWithDefaultPrettyPrinter().writeValue(config.resolve("cassandra.yaml").toFile(), yaml);
        Files.writeString(config.resolve("cassandra-rackdc.properties"),
            "dc=" + data.at("/datacenter-info/name").asText() + "\nrack=" + System.getenv("RACK_NAME") + "\n");
        Files.writeString(config.resolve("jvm-server.options"), String.join("\n", options) + "\n");
        try (var logback = ConfigBuilder.class.getResourceAsStream("/console-logback.xml")) {
            Files.write(config.resolve("logback.xml"), logback.readAllBytes());
        }
        System.out.println("wrote the files of " + yaml.get("cluster_name").asText() + " to " + config);
    }
}
