import java.net.InetAddress;
import java.net.UnknownHostException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.cassandra.locator.InetAddressAndPort;
import org.apache.cassandra.locator.SeedProvider;

/**
 * Seeds by the names of services, all addresses of each: what the seed provider of Cassandra images does. Cassandra 4.1's own
 * takes one address of a name, which in a second datacenter may be that of the asking node itself: it would stay alone.
 */
public final class AllSeeds implements SeedProvider {
    private final String[] names;

    public AllSeeds(Map<String, String> parameters) {
        names = parameters.getOrDefault("seeds", "").split(",");
    }

    @Override
    public List<InetAddressAndPort> getSeeds() {
        List<InetAddressAndPort> seeds = new ArrayList<>();
        for (String name : names) {
            try {
                for (InetAddress address : InetAddress.getAllByName(name.trim())) {
                    seeds.add(InetAddressAndPort.getByAddress(address));
                }
            } catch (UnknownHostException nobodyYet) {
                // A service without pods has no name.
            }
        }
        return seeds;
    }
}
