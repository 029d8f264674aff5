"""The commands `build`, `load` and `values`: read arguments and the environment, call one module, print."""

import os
import subprocess
import sys
import time

from . import builder, catalog
from .catalog import CHECKOUT, LOCAL_REGISTRY, ImageError


def _registry() -> str | None:
    """The registry to push to when the cluster is one that this checkout did not make."""
    if os.environ.get("CLUSTER") != "current":
        return None
    registry = os.environ.get("REGISTRY")
    if not registry:
        raise ImageError("CLUSTER=current needs REGISTRY, a registry that the cluster pulls from")
    return registry.rstrip("/")


def _archives(names: list[str]):
    """The named images' archives, all and the base without a name, each as it is ready."""
    if not names or catalog.BASE in names:
        yield catalog.BASE, *builder.base_archive()
    for image in catalog.images(names):
        begun = time.monotonic()
        yield image.name, *builder.archive(image)
        print(f"  image {image.name}  {time.monotonic() - begun:.1f} s", file=sys.stderr, flush=True)


def build(names: list[str]) -> None:
    for name, reference, path in _archives(names):
        print(name, reference, path, path.stat().st_size, flush=True)


def load(names: list[str]) -> None:
    registry = _registry()
    if registry:
        # The base has its public name: such a cluster pulls it itself.
        for image in catalog.images(names):
            print(builder.push(image, registry), flush=True)
        return
    archives = [path for _, _, path in _archives(names)]
    cluster = CHECKOUT / "dev" / "cluster" / "cluster"
    if subprocess.run([cluster, "load", *archives], check=False).returncode != 0:
        raise ImageError("the cluster did not take the images")


def values(names: list[str]) -> None:
    # Quoted: a tag of digits alone is a number to YAML.
    # The optional too: who makes one of them later finds it where the pods look for it.
    named = catalog.images(names) if names else catalog.table().values()
    tags = [f'  {image.values_key}: {{tag: "{image.tag()}"}}' for image in named]
    print("\n".join(["images:", f"  registry: {_registry() or LOCAL_REGISTRY}", *tags]))


def main(command: str) -> int:
    try:
        {"build": build, "load": load, "values": values}[command](sys.argv[1:])
    except ImageError as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0
