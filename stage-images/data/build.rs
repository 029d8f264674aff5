//! The engine's kernels are one generic function for many types, and most of them are the same machine code: the linker
//! keeps one of each, and the program is a tenth smaller. rustc's own linker for this target is LLD, which can do it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("TARGET").as_deref() == Ok("x86_64-unknown-linux-gnu") {
        println!("cargo:rustc-link-arg-bins=-Wl,--icf=all");
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
