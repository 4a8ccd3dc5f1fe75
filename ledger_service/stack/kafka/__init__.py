"""An Apache Kafka server of our own: one node, KRaft, from jars that Maven brings."""
