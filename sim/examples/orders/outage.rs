//! The service's database crashes under load.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgweir_sim::stack::Pool;
use pgweir_sim::{Server, Sim};

use crate::service::{OrderError, Orders};

/// What became of it.
#[derive(Clone, Debug, Default)]
pub struct Story {
    /// Orders that their callers were told were placed.
    pub placed: u64,
    /// Callers that were told at once that the database is down.
    pub unavailable: u64,
    /// Callers that do not know.
    pub unknown: u64,
    /// How long a caller waited at most.
    pub longest: Duration,
    /// From the server's return to the next order.
    pub back_after: Duration,
}

const CALLERS: i64 = 8;
/// When the server crashes, and for how long it recovers.
const CRASH: Duration = Duration::from_secs(10);
const DOWN: Duration = Duration::from_secs(8);
const END: Duration = Duration::from_secs(40);

/// Eight callers place orders for forty seconds; after ten the server crashes, for eight.
pub fn the_database_crashes_under_load(sim: &Sim) -> Story {
    sim.run(async |sim| {
        let server = sim.server();
        let pool = Pool::builder(server.config().build().expect("a configuration")).open().await.expect("it opens");
        let orders = Orders::new(sim.runtime().clone(), pool);
        orders.set_up().await.expect("a table");

        let story = Arc::new(Mutex::new(Story::default()));
        let callers: Vec<_> =
            (0..CALLERS).map(|caller| sim.spawn(call(sim.clone(), orders.clone(), caller, story.clone()))).collect();
        sim.sleep(CRASH).await;
        server.crash(DOWN);
        for caller in callers {
            caller.await;
        }
        orders.close().await;
        assert!(server.sessions().is_empty(), "nothing is left on the server");
        every_answer_was_true(&server, &story.lock().expect("a story"));
        story.lock().expect("a story").clone()
    })
}

/// One caller: an order every 100 ms or so, each looked up afterwards.
async fn call(sim: Sim, orders: Orders<pgweir_sim::SimRuntime>, caller: i64, story: Arc<Mutex<Story>>) {
    let end = pgweir_sim::Instant::ZERO + END;
    for number in 0.. {
        let asked = sim.now();
        if asked >= end {
            return;
        }
        let id = number * CALLERS + caller;
        let answer = orders.place(id, "a book").await;
        let waited = sim.now() - asked;
        {
            let mut story = story.lock().expect("a story");
            story.longest = story.longest.max(waited);
            match answer {
                Ok(()) => {
                    story.placed += 1;
                    let back = pgweir_sim::Instant::ZERO + CRASH + DOWN;
                    if sim.now() > back && story.back_after.is_zero() {
                        story.back_after = sim.now() - back;
                    }
                }
                Err(OrderError::Unavailable(_)) => story.unavailable += 1,
                Err(OrderError::Unknown(_)) => story.unknown += 1,
            }
        }
        if answer.is_ok() && number % 10 == 0 {
            // During the outage nobody can look.
            if let Ok(found) = orders.find(id).await {
                assert_eq!(found.as_deref(), Some("a book"), "order {id} was placed, and is not there");
            }
        }
        sim.sleep(Duration::from_millis(100)).await;
    }
}

/// What callers were told is what the database holds.
fn every_answer_was_true(server: &Server, story: &Story) {
    let committed = server.table("orders").len() as u64;
    assert!(committed >= story.placed, "{committed} orders in the table, {} were confirmed", story.placed);
    assert!(committed <= story.placed + story.unknown + story.unavailable, "orders that nobody placed");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twenty outages, none like the other; a failing one prints its seed and the command that repeats it.
    #[test]
    fn the_service_survives_a_crash_whatever_the_order_of_things() {
        Sim::seeds(1..=20, |sim| {
            let story = the_database_crashes_under_load(&sim);
            assert!(story.placed > 1_000, "{story:?}");
            assert_eq!(story.unknown, 0, "a retry is enough: {story:?}");
            assert!(story.longest < Duration::from_secs(3), "nobody waits for a database that is down: {story:?}");
            assert!(story.back_after < Duration::from_millis(1_500), "{story:?}");
        });
    }

    #[test]
    fn a_seed_is_a_story() {
        let tell = |seed| {
            let sim = Sim::builder().exact_seed(seed).build();
            (the_database_crashes_under_load(&sim).placed, sim.digest())
        };
        assert_eq!(tell(7), tell(7));
        assert_ne!(tell(7).1, tell(8).1);
    }
}
