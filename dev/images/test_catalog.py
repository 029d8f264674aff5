"""What goes into an image, and into its tag. Builds nothing: run `python3 -m unittest` in this folder."""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from localimages.catalog import Image, ImageError, images, table


class CatalogTest(unittest.TestCase):
    def setUp(self):
        kept = tempfile.TemporaryDirectory()
        self.addCleanup(kept.cleanup)
        root = Path(kept.name)
        self.folder, target = root / "image", root / "target"
        subprocess.run(["git", "init", "-q", self.folder], check=True)
        self.write("Dockerfile", "FROM scratch")
        (target / "release").mkdir(parents=True)
        (target / "release" / "program").write_text("1")
        self.program = target / "release" / "program"
        setting = mock.patch.dict(os.environ, {"CARGO_TARGET_DIR": str(target)})
        setting.start()
        self.addCleanup(setting.stop)
        self.image = Image("image", self.folder, ("program",), "image")

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def test_the_context_leaves_out_what_only_cargo_readers_and_tests_need(self):
        for name in (
            "src/main.rs",
            "Cargo.toml",
            "README.md",
            "tests/a.py",
            "core/Cargo.toml",
            "core/data.json",
            ".gitignore",
        ):
            self.write(name, "ignored.txt" if name == ".gitignore" else "")
        self.write("src/trainer/main.py", "")
        self.write("ignored.txt", "")
        self.assertEqual(
            sorted(self.image.content()), [".gitignore", "Dockerfile", "bin/program", "src/trainer/main.py"]
        )

    def test_the_tag_follows_the_binary(self):
        before = self.image.tag()
        self.program.write_text("2")
        self.assertNotEqual(self.image.tag(), before)

    def test_the_tag_is_the_same_for_the_same_content(self):
        before = self.image.tag()
        self.write("src/main.rs", "a change that is in the binary or nowhere")
        os.utime(self.program, (0, 0))
        self.assertEqual(self.image.tag(), before)

    def test_a_missing_binary_is_named(self):
        self.program.unlink()
        with self.assertRaisesRegex(ImageError, "release/program: run `make binaries`"):
            self.image.tag()

    def test_an_unknown_image_is_named(self):
        with self.assertRaisesRegex(ImageError, "no image nothing"):
            images(["nothing"])

    def test_an_optional_image_is_built_by_its_name_only(self):
        self.assertTrue(table()["server-cuda"].optional)
        self.assertEqual([image.name for image in images(["server-cuda"])], ["server-cuda"])
        self.assertEqual({*table()} - {image.name for image in images()}, {"server-cuda"})


if __name__ == "__main__":
    unittest.main()
