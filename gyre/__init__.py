"""What people install: the client of applications, the generated stubs (`gyre.api`) and the `gyre` command."""
