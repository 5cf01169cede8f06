//! Reads the sources of the binding: no exported method and no function given to JavaScript lacks its guard against panics.
//!
//! A panic that leaves one of Node's calls ends the process, in release builds too, and a test of the addon can only try the
//! methods it knows.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};

/// What the body of an exported method begins with.
const GUARDS: [&str; 2] = ["guard::call(", "self.guarded("];

/// The exported functions whose body does not begin with a guard.
fn unguarded(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (start, _) in source.match_indices("#[napi") {
        let rest = &source[start..];
        // The attribute, then further attributes, then the item.
        let Some(attribute_end) = rest.find("]\n") else { continue };
        let item = rest[attribute_end + 2..].trim_start();
        let Some(signature) = item.strip_prefix("pub fn ") else { continue };
        let name = signature.split(['<', '(']).next().unwrap();
        let body = signature.split_once(" {\n").expect("a body").1.trim_start();
        if !GUARDS.iter().any(|guard| body.starts_with(guard)) {
            found.push(name.to_owned());
        }
    }
    found
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/binding")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = std::fs::read_to_string(&path).unwrap();
                found.push((path, source));
            }
        }
    }
    found
}

/// Run while the module is registered; it fails as a failed import.
const NOT_METHODS: [&str; 1] = ["export_instance"];

#[test]
fn every_exported_method_is_guarded() {
    let mut exported = 0;
    for (path, source) in sources() {
        exported += source.matches("#[napi").count();
        let missing: Vec<_> =
            unguarded(&source).into_iter().filter(|name| !NOT_METHODS.contains(&name.as_str())).collect();
        assert!(missing.is_empty(), "{}: {missing:?}", path.display());
    }
    assert!(exported > 40, "{exported} exports were found");
}

#[test]
fn every_function_given_to_javascript_is_guarded() {
    for (path, source) in sources() {
        let is_guard = path.ends_with("guard.rs");
        let count = source.matches("create_function_from_closure").count();
        assert_eq!(count, usize::from(is_guard), "{}", path.display());
    }
}

#[test]
fn a_release_build_has_no_points_to_panic_at() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = std::fs::read_to_string(root.join("src/application/fault_injection.rs")).unwrap();
    let code: String = source.lines().filter(|line| !line.starts_with("//!")).collect();
    let (before, inside) = code.split_once("#[cfg(debug_assertions)]").unwrap();
    let (debug, release) = inside.split_once("#[cfg(not(debug_assertions))]").unwrap();
    assert!(debug.contains("CARILLON_TEST_PANIC"));
    assert!(!before.contains("CARILLON_TEST_PANIC") && !release.contains("CARILLON_TEST_PANIC"));
    assert!(release.trim_end().ends_with("{}"), "nothing happens there");
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let profile = manifest.split("[profile.release]").nth(1).unwrap().split("\n[").next().unwrap();
    assert!(!profile.contains("debug-assertions"));
}

#[test]
fn a_method_without_a_guard_is_found() {
    let guarded = "#[napi]\npub fn a(&self, env: Env) -> Result<u32> {\n    guard::call(env, \"a\", || Ok(1))\n}\n";
    let bare = "#[napi(ts_args_type = \"x: number\")]\npub fn b<'env>(&self) -> u32 {\n    1\n}\n";
    assert!(unguarded(guarded).is_empty());
    assert_eq!(unguarded(&format!("{guarded}{bare}")), ["b"]);
}
