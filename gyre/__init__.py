"""What people install: the generated stubs (`gyre.api`) and the `gyre` command."""
