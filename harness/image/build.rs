//! Tells the crate its own architecture, which is part of a target's name.

fn main() {
    println!("cargo::rustc-env=EGRESS_ARCH={}", std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default());
    println!("cargo::rerun-if-changed=build.rs");
}
