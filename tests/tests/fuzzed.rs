//! What the fuzz targets are given by everybody, on stable Rust: the committed corpora, and everything that ever went
//! wrong. See [`pgweir_tests::fuzz`].

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use pgweir_tests::fuzz::{TARGETS, Target};

/// Corpora are seeds, not archives.
const FILES: usize = 80;
const BYTES: u64 = 250_000;

fn folder(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(kind)
}

/// The files in a folder, by name; none if there is no folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    files.sort();
    files
}

/// Tries every file, so that one run names all that fail; a file that takes a minute hangs the test, and is seen so.
fn replay(target: &str) {
    let Target { run, .. } = *TARGETS.iter().find(|known| known.name == target).expect("a target");
    let corpus = files(&folder("corpus").join(target));
    assert!(!corpus.is_empty(), "{target} has no corpus");
    let mut failed = Vec::new();
    for file in corpus.iter().chain(&files(&folder("regressions").join(target))) {
        let bytes = fs::read(file).expect("a readable file");
        if catch_unwind(|| run(&bytes)).is_err() {
            failed.push(file.display().to_string());
        }
    }
    assert!(failed.is_empty(), "{target} fails with {failed:#?}");
}

macro_rules! targets {
    ($($name:ident: $target:literal;)*) => {
        $(#[test]
        fn $name() {
            replay($target);
        })*

        #[test]
        fn every_target_is_replayed_and_small() {
            let replayed = [$($target),*];
            assert_eq!(TARGETS.map(|target| target.name).to_vec(), replayed);
            let (mut count, mut bytes) = (0, 0);
            for kind in ["corpus", "regressions"] {
                for of_target in files(&folder(kind)) {
                    let name = of_target.file_name().and_then(|name| name.to_str()).expect("a name");
                    assert!(replayed.contains(&name), "{} belongs to no target", of_target.display());
                    let files = files(&of_target);
                    count += files.len();
                    bytes += files.iter().map(|file| fs::metadata(file).expect("a file").len()).sum::<u64>();
                }
            }
            assert!(count <= FILES && bytes <= BYTES, "{count} files of {bytes} bytes: minimise them with cargo fuzz cmin");
            // A target that cargo-fuzz knows and this does not would never be replayed.
            let built: Vec<_> = files(&folder("fuzz_targets")).iter().filter_map(|file| Some(file.file_stem()?.to_owned())).collect();
            assert_eq!(built.len(), replayed.len(), "{built:?}");
        }
    };
}

targets! {
    machine_events_hold: "machine_events";
    server_bytes_hold: "server_bytes";
    journals_hold: "journal";
    scenarios_hold: "scenario";
    urls_hold: "url";
    pool_yaml_holds: "pool_yaml";
    environments_hold: "environment";
}
