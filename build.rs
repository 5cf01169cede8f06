//! Sets the linker flags a Node.js addon needs, with the feature `node`, and tells tests that measure time whether the build is
//! optimised.

fn main() {
    // Without this, any edited file of the package would have everything built anew.
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(optimised)");
    if std::env::var("OPT_LEVEL").is_ok_and(|level| level != "0") {
        println!("cargo:rustc-cfg=optimised");
    }
    #[cfg(feature = "node")]
    napi_build::setup();
}
