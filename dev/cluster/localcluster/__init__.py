"""A real Kubernetes on a bare Linux machine, one module per concern. See ../README.md."""
