//! Has the program that is linked with musl begin at its own first instructions, see `src/start.rs`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |what: &str, wanted: &str| std::env::var(what).is_ok_and(|value| value == wanted);
    if is("CARGO_CFG_TARGET_ENV", "musl") && is("CARGO_CFG_TARGET_ARCH", "x86_64") {
        println!("cargo::rustc-link-arg-bin=mountgate=-Wl,--require-defined=mountgate_start,--entry=mountgate_start");
    }
}
