//! Sets the linker flags a Node.js addon needs; nothing without the feature `node`.

fn main() {
    // Without this, any edited file of the package would have everything built anew.
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "node")]
    napi_build::setup();
}
