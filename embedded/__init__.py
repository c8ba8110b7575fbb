"""The one-machine stack: Kafka, the ClickHouse engine, Triton and the seven services, supervised, no containers."""
