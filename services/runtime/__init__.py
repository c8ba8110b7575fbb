"""How every service runs: settings, telemetry, Kafka, gRPC, ClickHouse, errors, clock and ids."""
