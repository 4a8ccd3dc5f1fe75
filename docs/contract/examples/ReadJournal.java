import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.File;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeMap;
import java.util.regex.Pattern;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Reads a ledger's journal from Kafka, knowing of Tallystick only the published asyncapi.json.
 *
 * <p>Every record's headers and value are held against the contract, seq against gaplessness, and
 * debits against credits by currency, in integers of any size. Ends at what is committed now with one
 * line; at the first record that breaks the contract with its words and exit code 1.
 *
 * <pre>java -cp 'DIRECTORY OF KAFKA JARS/*' ReadJournal.java asyncapi.json LEDGER client.properties</pre>
 *
 * <p>client.properties says how Kafka is reached: bootstrap.servers, and the login.
 */
public class ReadJournal {
    private static final ObjectMapper JSON = new ObjectMapper();

    private final String ledger;
    private final JsonNode contract;
    private final Map<String, BigInteger[]> sums = new TreeMap<>();
    private long seq;
    private long transactions;

    ReadJournal(String ledger, JsonNode contract) {
        this.ledger = ledger;
        this.contract = contract;
    }

    public static void main(String[] arguments) throws Exception {
        var contract = JSON.readTree(new File(arguments[0]));
        var client = new Properties();
        try (var file = Files.newInputStream(Path.of(arguments[2]))) {
            client.load(file);
        }
        var reader = new ReadJournal(arguments[1], contract);
        try {
            reader.read(client);
        } catch (BrokenContract broken) {
            System.err.println(broken.getMessage());
            System.exit(1);
        }
        System.out.println(reader.line());
    }

    void read(Properties settings) throws Exception {
        // What a publisher did not finish is no part of the journal.
        settings.put("isolation.level", "read_committed");
        settings.put("key.deserializer", ByteArrayDeserializer.class);
        settings.put("value.deserializer", ByteArrayDeserializer.class);
        var address = contract.at("/channels/journal/address").asText();
        var partition = new TopicPartition(address.replace("{ledger}", ledger), 0);
        try (var consumer = new KafkaConsumer<byte[], byte[]>(settings)) {
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            long end = consumer.endOffsets(List.of(partition)).get(partition);
            while (consumer.position(partition) < end) {
                for (var record : consumer.poll(Duration.ofSeconds(1))) {
                    take(record);
                }
            }
        }
    }

    private void take(ConsumerRecord<byte[], byte[]> record) throws Exception {
        var headers = JSON.createObjectNode();
        for (Header header : record.headers()) {
            headers.put(header.key(), new String(header.value(), StandardCharsets.UTF_8));
        }
        var event = JSON.readTree(record.value());
        var where = "offset " + record.offset();
        check(headers, contract.at("/components/schemas/headers"), where + " headers");
        var message = contract.at("/components/messages/" + event.path("type").asText());
        if (!message.isMissingNode()) { // types may come within a version; their records count all the same
            check(headers, message.get("headers"), where + " headers");
            check(event, message.get("payload"), where + " value");
        }
        must(event.get("ledger").asText().equals(ledger), where, "another ledger's event");
        must(event.get("seq").asLong() == seq + 1, where, "seq " + event.get("seq") + " follows " + seq);
        seq += 1;
        var expected = Map.of(
            "ts_seq", "" + seq, "ce_id", ledger + "/" + seq, "ce_source", "/ledgers/" + ledger,
            "ce_subject", ledger, "ce_time", event.get("recorded_at").asText());
        expected.forEach((name, value) ->
            must(headers.get(name).asText().equals(value), where, name + " is not " + value));
        if (event.get("type").asText().equals("transaction.posted")) {
            transactions += 1;
            event.get("entries").forEach(this::add);
        }
    }

    private void add(JsonNode entry) {
        var sum = sums.computeIfAbsent(
            entry.get("currency").asText(), any -> new BigInteger[] {BigInteger.ZERO, BigInteger.ZERO});
        int side = entry.get("side").asText().equals("debit") ? 0 : 1;
        sum[side] = sum[side].add(new BigInteger(entry.get("amount").asText()));
    }

    private String line() {
        var text = new StringBuilder(ledger + ": " + seq + " events, " + transactions + " transactions");
        sums.forEach((currency, sum) -> text.append(
            "; " + currency + " debits " + sum[0] + ", credits " + sum[1]
                + (sum[0].equals(sum[1]) ? "" : " DIFFER")));
        return text.toString();
    }

    // What of JSON Schema the contract is written in. A project with a validator uses that one.

    private static final Set<String> WORDS =
        Set.of("title", "description", "default", "format", "x-may-grow");

    private void check(JsonNode value, JsonNode schema, String where) {
        schema.fields().forEachRemaining(keyword -> {
            var asked = keyword.getValue();
            switch (keyword.getKey()) {
                case "$ref" -> check(value, contract.at(asked.asText().substring(1)), where);
                case "allOf" -> asked.forEach(one -> check(value, one, where));
                case "anyOf" -> must(fitsOne(value, asked), where, "fits none of " + asked);
                case "type" -> must(isOf(value, asked.asText()), where, "must be " + asked);
                case "const" -> must(value.equals(asked), where, "must be " + asked);
                case "enum" -> must(
                    schema.has("x-may-grow") || holds(asked, value), where, "must be of " + asked);
                case "pattern" -> must(
                    Pattern.compile(asked.asText()).matcher(value.asText()).matches(),
                    where, "must look like " + asked);
                case "maxLength" -> must(
                    value.asText().length() <= asked.asInt(), where, "is too long");
                case "minimum" -> must(value.asLong() >= asked.asLong(), where, "is too small");
                case "maximum" -> must(value.asLong() <= asked.asLong(), where, "is too large");
                case "minItems" -> must(value.size() >= asked.asInt(), where, "has too few items");
                case "required" -> asked.forEach(name ->
                    must(value.has(name.asText()), where, "lacks " + name.asText()));
                case "items", "additionalProperties" -> value.forEach(one ->
                    check(one, asked, where + "[]"));
                case "properties" -> asked.fields().forEachRemaining(field -> {
                    if (value.has(field.getKey())) {
                        check(value.get(field.getKey()), field.getValue(), where + "." + field.getKey());
                    }
                });
                default -> must(WORDS.contains(keyword.getKey()), where, "unknown: " + keyword.getKey());
            }
        });
    }

    private boolean fitsOne(JsonNode value, JsonNode schemas) {
        for (var schema : schemas) {
            try {
                check(value, schema, "");
                return true;
            } catch (BrokenContract broken) {
                // the next one may fit
            }
        }
        return false;
    }

    private static boolean isOf(JsonNode value, String type) {
        return switch (type) {
            case "object" -> value.isObject();
            case "array" -> value.isArray();
            case "string" -> value.isTextual();
            case "integer" -> value.isIntegralNumber() && value.canConvertToLong();
            case "boolean" -> value.isBoolean();
            case "null" -> value.isNull();
            default -> false;
        };
    }

    private static boolean holds(JsonNode list, JsonNode value) {
        for (var one : list) {
            if (one.equals(value)) {
                return true;
            }
        }
        return false;
    }

    private static void must(boolean holds, String where, String words) {
        if (!holds) {
            throw new BrokenContract(where + ": " + words);
        }
    }

    private static class BrokenContract extends RuntimeException {
        BrokenContract(String words) {
            super(words);
        }
    }
}
