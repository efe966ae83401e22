//! The clocks.

use std::time::Duration;

use pgweir_core::runtime::Runtime;

use super::World;
use super::io::ms;
use crate::kit::sleep;

/// [`Runtime::now`] never goes back, whoever reads it.
pub async fn never_goes_back<R: Runtime, W: World>() {
    let runtime = R::current();
    let mut last = runtime.now();
    for round in 0..20_000 {
        let clone = runtime.clone();
        let now = if round % 2 == 0 { clone.now() } else { R::current().now() };
        assert!(now >= last, "{now:?} after {last:?}");
        last = now;
        if round % 5_000 == 0 {
            sleep(&runtime, ms(1)).await;
        }
    }
}

/// What a timer waits for is what the clock shows afterwards.
pub async fn goes_on_while_a_timer_runs<R: Runtime, W: World>() {
    let runtime = R::current();
    let began = runtime.now();
    sleep(&runtime, ms(30)).await;
    let passed = runtime.now() - began;
    assert!(passed >= ms(30) && passed < Duration::from_secs(20), "{passed:?}");
}

/// [`Runtime::unix_time`] is a time of our days, and goes on.
pub async fn wall_clock_goes_on<R: Runtime, W: World>() {
    let runtime = R::current();
    let began = runtime.unix_time();
    // 2020 to 2120.
    let plausible = 1_577_836_800..4_733_510_400;
    assert!(plausible.contains(&began.as_secs()), "{began:?}");
    sleep(&runtime, ms(20)).await;
    let passed = runtime.unix_time().saturating_sub(began);
    assert!(passed >= ms(15) && passed < Duration::from_secs(20), "{passed:?}");
}
