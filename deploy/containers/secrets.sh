#!/bin/sh
# Makes what is missing of the secrets that docker-compose.yml mounts, a file each in secrets/ (or the folder named).
# The folder is for its owner alone. The files in it are readable, for the containers read them as users of their own.
set -eu
folder=${1:-secrets}
mkdir -p "$folder"
chmod 700 "$folder"

# Made at random: passwords within the stack, and what leases and sessions are signed with.
for name in gyre_clickhouse_analyst_password gyre_clickhouse_audit_password gyre_clickhouse_triage_password \
    gyre_grafana_password gyre_triage_lease_secret gyre_triage_session_secret; do
    [ -e "$folder/$name" ] || od -An -tx1 -N32 /dev/urandom | tr -d ' \n' > "$folder/$name"
done
# What the record is signed with. The public key, which auditors need, is printed: keep both (docs/record.md).
[ -e "$folder/gyre_audit_signing_keys" ] || ${GYRE:-.venv/bin/gyre} audit keygen "$folder/gyre_audit_signing_keys"
# Given by others, so empty until you fill them in: keys of the bundle's OpenAI-compatible upstreams, as JSON by their
# names ({"cloud": "sk-..."}), and what the console shows its identity provider.
[ -e "$folder/gyre_upstream_keys" ] || echo '{}' > "$folder/gyre_upstream_keys"
[ -e "$folder/gyre_triage_oidc_client_secret" ] || : > "$folder/gyre_triage_oidc_client_secret"
chmod 644 "$folder"/*
