import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import org.apache.cassandra.auth.AuthenticatedUser;
import org.apache.cassandra.auth.IRoleManager;
import org.apache.cassandra.auth.RoleOptions;
import org.apache.cassandra.auth.RoleResource;
import org.apache.cassandra.config.DatabaseDescriptor;
import org.apache.cassandra.cql3.QueryProcessor;
import org.apache.cassandra.cql3.UntypedResultSet;
import org.apache.cassandra.db.ConsistencyLevel;
import org.apache.cassandra.dht.Token;
import org.apache.cassandra.fql.FullQueryLogger;
import org.apache.cassandra.gms.ApplicationState;
import org.apache.cassandra.gms.EndpointState;
import org.apache.cassandra.gms.FailureDetector;
import org.apache.cassandra.gms.Gossiper;
import org.apache.cassandra.gms.VersionedValue;
import org.apache.cassandra.locator.IEndpointSnitch;
import org.apache.cassandra.locator.InetAddressAndPort;
import org.apache.cassandra.service.StorageService;
import org.apache.cassandra.utils.FBUtilities;

/** What needs Cassandra's own classes. Apart from {@link Agent}, so that none is loaded before the daemon has set itself up. */
final class Internals {
    static Object answer(String question, Map<String, String> asked) {
        switch (question) {
            case "endpoints":
                return endpoints();
            case "quorum":
                return withoutQuorum(ConsistencyLevel.valueOf(asked.get("level")), Integer.parseInt(asked.get("rf")));
            case "reload-seeds":
                List<String> seeds = Gossiper.instance.reloadSeeds();
                return seeds == null ? List.of() : seeds;
            case "roles":
                return roles();
            case "role":
                return role(asked);
            case "drop-role":
                roleManager().dropRole(AuthenticatedUser.SYSTEM_USER, RoleResource.role(asked.get("name")));
                return "OK";
            default:
                throw new IllegalArgumentException("the agent has no answer to " + question);
        }
    }

    static boolean fullQueryLogEnabled() {
        return FullQueryLogger.instance.isEnabled();
    }

    private static List<Map<String, String>> endpoints() {
        List<Map<String, String>> endpoints = new ArrayList<>();
        InetAddressAndPort local = FBUtilities.getBroadcastAddressAndPort();
        for (InetAddressAndPort endpoint : StorageService.instance.getTokenMetadata().getAllMembers()) {
            EndpointState state = Gossiper.instance.getEndpointStateForEndpoint(endpoint);
            if (state == null) {
                continue;
            }
            Map<String, String> entry = new LinkedHashMap<>();
            entry.put("ENDPOINT_IP", endpoint.getHostAddress(false));
            entry.put("IS_LOCAL", String.valueOf(endpoint.equals(local)));
            entry.put("IS_ALIVE", String.valueOf(state.isAlive()));
            for (Map.Entry<ApplicationState, VersionedValue> value : state.states()) {
                if (value.getKey() != ApplicationState.TOKENS) {
                    entry.put(value.getKey().name(), value.getValue().value);
                }
            }
            endpoints.add(entry);
        }
        return endpoints;
    }

    /**
     * The tokens after which too few replicas live for the level, were a keyspace replicated `factor` times in this
     * datacenter: a walk round the ring that takes one node of each rack, then further ones.
     */
    private static List<String> withoutQuorum(ConsistencyLevel level, int factor) {
        IEndpointSnitch snitch = DatabaseDescriptor.getEndpointSnitch();
        String here = DatabaseDescriptor.getLocalDataCenter();
        TreeMap<Token, InetAddressAndPort> ring = new TreeMap<>();
        StorageService.instance.getTokenMetadata().getNormalAndBootstrappingTokenToEndpointMap().forEach((token, endpoint) -> {
            if (here.equals(snitch.getDatacenter(endpoint))) {
                ring.put(token, endpoint);
            }
        });
        List<Token> tokens = new ArrayList<>(ring.keySet());
        int nodes = new HashSet<>(ring.values()).size();
        int replicas = Math.min(factor, nodes);
        int needed = level == ConsistencyLevel.ALL ? replicas : level == ConsistencyLevel.LOCAL_QUORUM || level == ConsistencyLevel.QUORUM ? replicas / 2 + 1 : 1;
        List<String> lacking = new ArrayList<>();
        for (int start = 0; start < tokens.size(); start++) {
            Set<InetAddressAndPort> chosen = new HashSet<>();
            Set<String> racks = new HashSet<>();
            for (boolean again = false; ; again = true) {
                for (int step = 0; step < tokens.size() && chosen.size() < replicas; step++) {
                    InetAddressAndPort endpoint = ring.get(tokens.get((start + step) % tokens.size()));
                    if (again || racks.add(snitch.getRack(endpoint))) {
                        chosen.add(endpoint);
                    }
                }
                if (again) {
                    break;
                }
            }
            if (chosen.stream().filter(FailureDetector.instance::isAlive).count() < needed) {
                lacking.add(tokens.get(start).toString());
            }
        }
        return lacking;
    }

    private static IRoleManager roleManager() {
        return DatabaseDescriptor.getRoleManager();
    }

    /** Creates or replaces. Not by CQL: a statement without a user cannot create roles. */
    private static String role(Map<String, String> asked) {
        RoleResource role = RoleResource.role(asked.get("name"));
        RoleOptions options = new RoleOptions();
        options.setOption(IRoleManager.Option.PASSWORD, asked.get("password"));
        options.setOption(IRoleManager.Option.LOGIN, Boolean.valueOf(asked.get("login")));
        options.setOption(IRoleManager.Option.SUPERUSER, Boolean.valueOf(asked.get("superuser")));
        if (roleManager().isExistingRole(role)) {
            roleManager().alterRole(AuthenticatedUser.SYSTEM_USER, role, options);
        } else {
            roleManager().createRole(AuthenticatedUser.SYSTEM_USER, role, options);
        }
        return "OK";
    }

    private static List<Map<String, String>> roles() {
        List<Map<String, String>> roles = new ArrayList<>();
        UntypedResultSet rows = QueryProcessor.process("SELECT role, is_superuser, can_login FROM system_auth.roles", ConsistencyLevel.LOCAL_ONE);
        for (UntypedResultSet.Row row : rows) {
            roles.add(Map.of("name", row.getString("role"), "super", String.valueOf(row.getBoolean("is_superuser")),
                "login", String.valueOf(row.getBoolean("can_login")), "options", "{}", "datacenters", "ALL"));
        }
        return roles;
    }
}
