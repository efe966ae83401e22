//! pgweir on smol and on async-std.
//!
//! Pick one by feature: [`smol`](mod@smol) (the default) or `async-std`, or both. The two share async-io's sockets and
//! timers, and with them everything here but the spawning of tasks. Everything but sockets, timers and tasks is in
//! [`pgweir_core`]; here are its types with the runtime filled in, named as in pgweir-tokio.
//!
//! # Quick start
//!
//! ```no_run
//! # #[cfg(feature = "smol")]
//! use pgweir_async_std::smol::{Config, Pool};
//!
//! # #[cfg(feature = "smol")]
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     smol::block_on(async {
//!         let pool = Pool::connect("postgres://app:secret@localhost/shop").await?;
//!
//!         let mut client = pool.get().await?;
//!         let row = client.query_one("SELECT name, price FROM item WHERE id = $1", &[&42_i32]).await?;
//!         let (name, price): (String, i64) = (row.get("name"), row.get("price"));
//!         println!("{name} costs {price}");
//!
//!         let mut transaction = client.transaction().await?;
//!         transaction.execute("UPDATE item SET price = price + 1 WHERE id = $1", &[&42_i32]).await?;
//!         transaction.commit().await?;
//!         drop(client);
//!
//!         let report = pool.close().await;
//!         println!("{} leases finished, {} were cut off", report.finished, report.forced);
//!
//!         // Or with more of a say:
//!         let config = Config::builder()
//!             .database_url("postgres://app@localhost/shop")
//!             .min_size(4)
//!             .max_size(20)
//!             .acquire_timeout(std::time::Duration::from_secs(5))
//!             .build()?;
//!         let _pool = Pool::builder(config).open().await?;
//!         Ok(())
//!     })
//! }
//! # #[cfg(not(feature = "smol"))]
//! # fn main() {}
//! ```
//!
//! # Where tasks run
//!
//! A pool has one task, on the runtime's global executor, which is the process's own: it may be spawned from any
//! thread, and it goes on when the `block_on` that opened the pool has returned. Leases and pools may be dropped on any
//! thread, in an executor or not. How many threads the global executor has is said by `SMOL_THREADS` (1) and
//! `ASYNC_STD_THREAD_COUNT` (one for each core). A pool on an executor of your own is a runtime of your own: implement
//! [`Runtime`](pgweir_core::runtime::Runtime).

mod async_io;
#[cfg(feature = "async-std")]
pub mod async_std;
#[cfg(feature = "endpoint")]
mod endpoint;
#[cfg(feature = "smol")]
pub mod smol;

pub use crate::async_io::{AsyncIoStream, AsyncIoTimer};
#[cfg(feature = "endpoint")]
pub use crate::endpoint::AsyncIoListener;
