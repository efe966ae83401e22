//! Whether memory is flat.
//!
//! A process grows until every path was taken once and the allocator has its arenas: the first quarter of the readings
//! does not count. The rest is cut in four; the median of the last part may exceed that of the first by a tenth or by
//! [`ALLOWANCE`], whichever is more. In an hour of some millions of requests that finds a leak of a byte or two each.

/// Growth that is not yet a leak: a run of a minute still warms up.
const ALLOWANCE: u64 = 6 << 20;
/// Fewer readings say nothing.
const FEWEST: usize = 16;

/// The medians of the first and last part; `None` if there are too few readings.
pub(super) fn medians(readings: &[u64]) -> Option<(u64, u64)> {
    let steady = &readings[readings.len() / 4..];
    if steady.len() < FEWEST {
        return None;
    }
    let part = steady.len() / 4;
    let median = |part: &[u64]| {
        let mut sorted = part.to_vec();
        sorted.sort_unstable();
        sorted[sorted.len() / 2]
    };
    Some((median(&steady[..part]), median(&steady[steady.len() - part..])))
}

/// # Errors
/// What has grown.
pub(super) fn growth(readings: &[u64]) -> Result<(), String> {
    let Some((first, last)) = medians(readings) else { return Ok(()) };
    let most = first + (first / 10).max(ALLOWANCE);
    if last <= most {
        return Ok(());
    }
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    Err(format!("memory is not flat: {:.1} MiB after the warm-up, {:.1} MiB at the end", mib(first), mib(last)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_leak_is_found_and_a_warm_up_is_none() {
        let warm_up = (0..400_u64).map(|at| (20 << 20) + at.min(90) * (1 << 18));
        assert_eq!(growth(&warm_up.collect::<Vec<_>>()), Ok(()));
        let noise = (0..400_u64).map(|at| (40 << 20) + (at % 7) * (1 << 18));
        assert_eq!(growth(&noise.collect::<Vec<_>>()), Ok(()));
        let leak = (0..400_u64).map(|at| (40 << 20) + at * (1 << 15));
        assert!(growth(&leak.collect::<Vec<_>>()).is_err());
        assert_eq!(growth(&[1, 1 << 40]), Ok(()), "too few to say");
    }
}
