//! Where a lease comes from, beyond its source line: the tracing span and, where it is worth its cost, the call stack.
//!
//! Both are taken by the task that acquires, before it takes the pool's lock, and only while leaks are looked for. The
//! machine knows nothing of them.

use std::backtrace::Backtrace;
use std::fmt;
use std::panic::Location;
use std::time::Duration;

use tracing::dispatcher;
use tracing::level_filters::LevelFilter;

use super::sync::{AtomicBool, Mutex, OnceLock, Ordering, lock};
use crate::config::{LeakStack, PoolConfig};

/// Where a lease comes from.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// The name of the tracing span.
    pub(crate) span: Option<&'static str>,
    pub(crate) stack: Option<std::sync::Arc<Stack>>,
}

/// Decides what is taken down of each acquire.
#[derive(Debug)]
pub(crate) struct Watch {
    enabled: bool,
    /// Whether a lease is watched that does not say otherwise.
    by_default: bool,
    stacks: LeakStack,
    /// Whether there are any of the following: what the hot path asks.
    has_reported: AtomicBool,
    /// The lines whose leases were suspected of a leak.
    reported: Mutex<Vec<&'static Location<'static>>>,
}

/// In a debug build nobody minds 10 µs; under loom there is nobody to read it.
const ADAPTIVE_IS_ALWAYS: bool = cfg!(all(debug_assertions, not(pgweir_loom)));

impl Watch {
    pub(crate) fn new(config: &PoolConfig) -> Self {
        let stacks = match config.leak_stack {
            LeakStack::Adaptive if ADAPTIVE_IS_ALWAYS => LeakStack::Always,
            stacks => stacks,
        };
        Watch {
            enabled: config.enable_leak_detection,
            by_default: config.leak_after().is_some(),
            stacks,
            has_reported: AtomicBool::new(false),
            reported: Mutex::new(Vec::new()),
        }
    }

    /// What is to be known of the acquire that is being made. As a rule, without a subscriber and without a stack, that
    /// is nothing and costs a nanosecond.
    #[inline]
    pub(crate) fn look(&self, leak_after: Option<Duration>, location: &'static Location<'static>) -> Option<Origin> {
        let spans = LevelFilter::current() != LevelFilter::OFF;
        let stacks = match self.stacks {
            LeakStack::Never => false,
            LeakStack::Always => true,
            LeakStack::Adaptive => self.has_reported.load(Ordering::Relaxed),
        };
        if !self.enabled || !(spans || stacks) { None } else { self.look_closely(leak_after, location, stacks) }
    }

    #[inline(never)]
    fn look_closely(
        &self,
        leak_after: Option<Duration>,
        location: &'static Location<'static>,
        stacks: bool,
    ) -> Option<Origin> {
        let is_watched = leak_after.map_or(self.by_default, |limit| !limit.is_zero() && limit < Duration::MAX);
        if !is_watched {
            return None;
        }
        let span = dispatcher::get_default(|dispatch| dispatch.current_span().metadata().map(|span| span.name()));
        let stack = stacks && (self.stacks == LeakStack::Always || lock(&self.reported).contains(&location));
        let stack = stack.then(|| std::sync::Arc::new(Stack::capture()));
        (span.is_some() || stack.is_some()).then_some(Origin { span, stack })
    }

    /// Whether the stack of a watched acquire at this line would be kept.
    #[cfg(test)]
    pub(crate) fn has_stack(&self, line: &'static Location<'static>) -> bool {
        self.look(Some(Duration::from_secs(1)), line).is_some_and(|origin| origin.stack.is_some())
    }

    /// A lease acquired at this line is suspected of a leak: the next one's stack is of interest.
    pub(crate) fn note(&self, location: &'static Location<'static>) {
        if self.stacks != LeakStack::Adaptive {
            return;
        }
        let mut reported = lock(&self.reported);
        if !reported.contains(&location) {
            reported.push(location);
        }
        drop(reported);
        self.has_reported.store(true, Ordering::Relaxed);
    }
}

/// A call stack. Names are looked up when they are asked for, which takes a while the first time.
pub(crate) struct Stack {
    captured: Backtrace,
    text: OnceLock<String>,
}

/// Frames that are shown.
const FRAMES: usize = 64;

/// The last of pgweir's frames.
const ENTRANCE: &str = "<pgweir_core::driver::acquire::Acquire<";

/// Crates whose frames are not the user's: the libraries that an await goes through.
const PLUMBING: [&str; 19] = [
    "std",
    "core",
    "alloc",
    "test",
    "pgweir_core",
    "pgweir_tokio",
    "pgweir_async_std",
    "tokio",
    "async_std",
    "smol",
    "async_executor",
    "async_task",
    "async_global_executor",
    "blocking",
    "futures_lite",
    "futures_util",
    "tracing",
    "tracing_core",
    "__rustc",
];

impl Stack {
    #[inline(never)]
    fn capture() -> Self {
        Stack { captured: Backtrace::force_capture(), text: OnceLock::new() }
    }

    /// The user's frames, the innermost first, one per line. Not to be called under a lock.
    pub(crate) fn text(&self) -> &str {
        self.text.get_or_init(|| trim(&self.captured.to_string()))
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stack")
    }
}

/// The frames of a printed backtrace that are the user's; all of them where none can be told to be.
fn trim(backtrace: &str) -> String {
    let mut frames: Vec<(&str, Option<&str>)> = Vec::new();
    for line in backtrace.lines().map(str::trim) {
        if let Some(place) = line.strip_prefix("at ") {
            if let Some((_, known)) = frames.last_mut() {
                *known = Some(place);
            }
        } else if let Some((number, name)) = line.split_once(": ")
            && number.bytes().all(|byte| byte.is_ascii_digit())
        {
            frames.push((name, None));
        }
    }
    // What it took to get here, also where it was inlined and lost its crate's name.
    let here = frames.iter().position(|(name, _)| name.starts_with(ENTRANCE)).map_or(0, |index| index + 1);
    let frames = frames.split_off(here);
    let none = !frames.iter().any(|(name, place)| is_users(name, *place));
    let shown = frames.into_iter().filter(|(name, place)| none || is_users(name, *place));
    let text = shown.take(FRAMES).map(|(name, place)| match place {
        Some(place) => format!("{name} at {place}"),
        None => name.to_owned(),
    });
    text.collect::<Vec<_>>().join("\n")
}

/// Whether a frame's function is neither a library's nor without a crate, as `main` of C is. One that was inlined has no
/// crate in its name, but a place.
fn is_users(name: &str, place: Option<&str>) -> bool {
    // All libraries from a registry or a repository, and the standard one.
    let is_library = |place: &str| ["/rustc/", "/.cargo/"].iter().any(|home| place.contains(home));
    if place.is_some_and(is_library) {
        return false;
    }
    let name = name.trim_start_matches(['<', '&', '*']);
    let name = name.strip_prefix("mut ").or_else(|| name.strip_prefix("dyn ")).unwrap_or(name);
    match name.split_once("::") {
        Some((root, _)) if root.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') => {
            !PLUMBING.contains(&root)
        }
        _ => place.is_some_and(|place| place.contains(".rs:")) && !name.contains(" as "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_libraries_are_left_out() {
        let backtrace = "   0: pgweir_core::driver::origin::Stack::capture
             at ./core/src/driver/origin.rs:110:27
   1: look
             at ./core/src/driver/origin.rs:67:69
   1: <pgweir_core::driver::acquire::Acquire<R,M> as core::future::future::Future>::poll
             at ./core/src/driver/acquire.rs:190:15
   2: shop::orders::load::{{closure}}
             at ./src/orders.rs:42:30
   3: <core::pin::Pin<P> as core::future::future::Future>::poll
   4: <&mut F as core::future::future::Future>::poll
   5: <shop::Handler as shop::Handle>::handle::{{closure}}
   6: tokio::runtime::task::core::Core<T,S>::poll::{{closure}}
   7: select<shop::Order>
             at ./src/select.rs:7:5
   8: poll<shop::Order>
             at /home/dev/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/some-crate-1.0.0/src/lib.rs:3:1
   9: main
  10: __libc_start_main
             at ./csu/libc-start.c:360:3
";
        assert_eq!(
            trim(backtrace),
            "shop::orders::load::{{closure}} at ./src/orders.rs:42:30\n<shop::Handler as shop::Handle>::handle::{{closure}}\n\
             select<shop::Order> at ./src/select.rs:7:5"
        );
    }

    #[test]
    fn where_no_frame_is_known_to_be_the_users_all_are_shown() {
        assert_eq!(trim("   0: <unknown>\n   1: main\n             at /c.c:1"), "<unknown>\nmain at /c.c:1");
        assert_eq!(trim(""), "");
        assert_eq!(trim("disabled backtrace"), "");
    }

    /// with detection off nothing is captured, nor for a lease that may be held for ever.
    #[test]
    fn what_is_not_watched_is_not_looked_at() {
        let here = Location::caller();
        let watch = |config: PoolConfig| Watch::new(&PoolConfig { leak_stack: LeakStack::Always, ..config });
        let on = watch(PoolConfig::default());
        assert!(on.look(None, here).is_some_and(|origin| origin.stack.is_some()));
        assert!(on.look(Some(Duration::from_secs(1)), here).is_some());
        assert!(on.look(Some(Duration::MAX), here).is_none() && on.look(Some(Duration::ZERO), here).is_none());
        let off = watch(PoolConfig { enable_leak_detection: false, ..PoolConfig::default() });
        assert!(off.look(None, here).is_none() && off.look(Some(Duration::from_secs(1)), here).is_none());
        let zero = watch(PoolConfig { leak_detection_timeout: Duration::ZERO, ..PoolConfig::default() });
        assert!(zero.look(None, here).is_none() && zero.look(Some(Duration::from_secs(1)), here).is_some());
        let never = Watch::new(&PoolConfig { leak_stack: LeakStack::Never, ..PoolConfig::default() });
        assert!(never.look(None, here).is_none_or(|origin| origin.stack.is_none()));
    }

    #[test]
    fn an_adaptive_watch_looks_at_lines_that_were_reported() {
        let (here, there) = (Location::caller(), { Location::caller() });
        let watch = Watch { stacks: LeakStack::Adaptive, ..Watch::new(&PoolConfig::default()) };
        assert!(!watch.has_stack(here));
        watch.note(there);
        watch.note(there);
        assert!(watch.has_stack(there) && !watch.has_stack(here));
        assert_eq!(lock(&watch.reported).len(), 1);
    }
}
