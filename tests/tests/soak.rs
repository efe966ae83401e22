//! The soak's own checks, on a short soak: they find a leak that is there, and none that is not.

use std::time::Duration;

use pgweir_tests::demo::Soak;
use pgweir_tokio::TokioRuntime;

/// One test in a process of its own: open files and memory are the whole process's.
#[test]
fn a_connection_that_is_left_open_under_the_pools_name_is_found_and_nothing_else_is() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let run = |soak: Soak| {
        let tasks = runtime.handle().clone();
        let soak = soak.count_tasks(move || tasks.metrics().num_alive_tasks());
        runtime.block_on(soak.violations::<TokioRuntime>()).expect("it runs to its end")
    };
    let time = Duration::from_secs(6);
    assert_eq!(run(Soak::new(time, 1)), [""; 0]);

    let found = run(Soak::new(time, 1).with_canary());
    let first = found.first().expect("it is found");
    assert!(first.contains("backends are held where") || first.starts_with("a closed pool holds backends"), "{first}");
    let others = found.iter().filter(|what| !["backends", "a pool at rest has"].iter().any(|word| what.contains(word)));
    assert_eq!(others.collect::<Vec<_>>(), [""; 0]);
}
