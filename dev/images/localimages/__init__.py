"""Builds the project's images without a container engine or a registry. See ../README.md."""
