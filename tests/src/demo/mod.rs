//! The demo, the crash soak and the soak: programs that are the same on every runtime. Each runtime's crate has an example that
//! starts them.
//!
//! They print to standard output; what they claim is checked from what was seen, and decides the exit code.

mod args;
mod error;
mod events;
mod kills;
mod ledger;
mod load;
mod moments;
mod rig;
mod screen;
mod server;
mod soak;
mod stages;
mod timeline;

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgweir_core::runtime::Runtime;

use crate::kit::unless;
use args::Flag;
use error::Error;
use events::Events;
pub use kills::Kills;
use ledger::Account;
use rig::Rig;
use screen::{Screen, Tone};
use server::{Server, Simulated};
pub use soak::Soak;

const HELP: &str = "\
pgweir's demo: a pool in front of a real PostgreSQL that crashes under load.

Usage: cargo demo [-- [--seconds-down N] [--simulated]]
       (on smol: cargo demo-smol; on async-std: cargo demo-async-std)

  --seconds-down N   how long the server stays down after its crash, 1 to 20 (default 5)
  --simulated        in front of a simulated PostgreSQL instead of a real one
  --help             this text

It starts a throw-away server of its own; on a machine where no PostgreSQL can be found or installed a
simulated one, and says so. With DATABASE_URL set it uses that database instead, with a proxy in between
whose outage stands for the crash; nothing is written there.

Exit code: 0 if everything was as claimed, 1 if not, 2 for a wrong argument, 130 after Ctrl-C.
";

/// The demo: a pool's life in six stages.
#[derive(Debug)]
pub struct Demo {
    down: Duration,
    simulated: Simulated,
}

impl Demo {
    /// As the process's arguments say.
    ///
    /// # Errors
    /// The code to exit with, after `--help` or a wrong argument.
    pub fn from_args() -> Result<Self, ExitCode> {
        let flags = [Flag::new("--seconds-down", 1..=20, 5), Flag::switch("--simulated")];
        let [down, simulated] = args::parse(HELP, flags)?;
        let simulated = if simulated == 1 { Simulated::Always } else { Simulated::IfNeeded };
        Ok(Demo { down: Duration::from_secs(down), simulated })
    }

    /// Runs it on the runtime that the caller runs on, until it is done or `interrupt` completes.
    pub async fn run<R: Runtime>(self, interrupt: impl Future<Output = ()>) -> ExitCode {
        perform(interrupt, async |screen, events| {
            let begun = Instant::now();
            let runtime = R::current();
            let server = Server::start(&runtime, self.simulated).await?;
            let rig = Rig::new(runtime, screen, events, server, begun);
            self.stages(&rig).await?;
            Ok(rig.failed())
        })
        .await
    }

    async fn stages<R: Runtime>(self, rig: &Rig<R>) -> Result<(), Error> {
        let runtime = std::any::type_name::<R>().rsplit("::").next().unwrap_or_default();
        stages::introduce(rig, runtime).await?;
        let mut accounts: Vec<(&str, Account)> = Vec::new();
        let (pool, account) = stages::open(rig).await?;
        accounts.push(("steady load", account));
        accounts.push(("crash", stages::crash(rig, &pool, self.down).await?));
        accounts.push(("leak", stages::leak(rig, &pool).await?));
        accounts.push(("timeout", stages::timeout(rig, &pool).await?));
        accounts.push(("recycle", stages::recycle(rig, &pool).await?));
        accounts.push(("shutdown", stages::shutdown(rig, &pool).await?));
        stages::summary(rig, &pool, &accounts);
        Ok(())
    }
}

/// Runs a program with a screen and the pool's events, and says how it ended. The program returns how many of its
/// claims did not hold.
async fn perform<P>(interrupt: impl Future<Output = ()>, program: P) -> ExitCode
where
    P: AsyncFnOnce(Arc<Screen>, Events) -> Result<u32, Error>,
{
    let events = Events::install();
    perform_unheard(interrupt, async move |screen| program(screen, events).await).await
}

/// As [`perform`], for a program that runs so long that nobody could keep the events.
async fn perform_unheard<P>(interrupt: impl Future<Output = ()>, program: P) -> ExitCode
where
    P: AsyncFnOnce(Arc<Screen>) -> Result<u32, Error>,
{
    let screen = Arc::new(Screen::stdout());
    let outcome = unless(interrupt, program(screen.clone())).await;
    // Everything that the program had started is dropped by now.
    screen.clear();
    match outcome {
        Some(Ok(0)) => {
            screen.say(Tone::Good, "ok", "everything was as claimed");
            ExitCode::SUCCESS
        }
        Some(Ok(failed)) => {
            screen.say(Tone::Bad, "FAILED", &format!("{failed} of the claims above did not hold"));
            ExitCode::FAILURE
        }
        Some(Err(error)) => {
            screen.say(Tone::Bad, "FAILED", &error.to_string());
            ExitCode::FAILURE
        }
        None => {
            screen.line("\ninterrupted: everything that was started is stopped");
            ExitCode::from(130)
        }
    }
}
