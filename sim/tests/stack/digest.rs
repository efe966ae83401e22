//! One seed, one digest.

use std::process::Command;

use pgweir_sim::{Digest, Sim};

use crate::hosts::{Echo, connect, millis, read_exact, write};

/// Set for the child process of a test: where it writes its digest.
const CHILD: &str = "PGWEIR_SIM_TEST_CHILD";

/// Ten tasks that talk to a host, with cut reads and writes.
fn digest(seed: u64) -> Digest {
    let sim = Sim::builder().exact_seed(seed).build();
    sim.host("db", 5432, Echo::default());
    sim.run(async |sim| {
        let tasks: Vec<_> = (0..10)
            .map(|task| {
                let sim = sim.clone();
                sim.clone().spawn(async move {
                    let mut stream = connect("db", 5432).await.expect("it listens");
                    for round in 1..20 {
                        let text = vec![task; round * 50];
                        write(&mut stream, &text).await.expect("it takes it");
                        assert_eq!(read_exact(&mut stream, text.len()).await.expect("an echo"), text);
                        sim.sleep(millis(1)).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
    });
    sim.digest()
}

#[test]
fn two_runs_of_a_seed_have_one_digest_and_two_seeds_have_two() {
    assert_eq!(digest(1), digest(1));
    assert_ne!(digest(1), digest(2));
}

#[test]
fn another_process_has_the_same_digest() {
    if let Some(file) = std::env::var_os(CHILD) {
        std::fs::write(file, digest(3).to_string()).expect("it can be written");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("digest");
    let status = Command::new(std::env::current_exe().expect("the test binary"))
        .args(["--exact", "digest::another_process_has_the_same_digest"])
        .env(CHILD, &file)
        .output()
        .expect("it runs again");
    assert!(status.status.success(), "{status:?}");
    assert_eq!(std::fs::read_to_string(file).expect("the other digest"), digest(3).to_string());
}
