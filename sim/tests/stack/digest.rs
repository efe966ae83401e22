//! One seed, one digest.

use std::process::Command;

use pgweir_sim::{Digest, Sim};

use crate::hosts::{Echo, connect, millis, read_exact, write};

/// Set for the child process of a test.
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
    if std::env::var_os(CHILD).is_some() {
        // The output of a passing test is shown with --nocapture only.
        println!("digest {}", digest(3));
        return;
    }
    let this = std::env::current_exe().expect("the test binary");
    let output = Command::new(this)
        .args(["--exact", "digest::another_process_has_the_same_digest", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("it runs again");
    let text = String::from_utf8_lossy(&output.stdout);
    let expected = format!("digest {}", digest(3));
    assert!(output.status.success() && text.contains(&expected), "{expected} is not in: {text}");
}
