//! A throw-away PostgreSQL for as long as standard input stays open: prints its URL and its process id.

use pgweir_tests::LocalPostgres;
use std::io::{Read, Write};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = LocalPostgres::start()?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "url={}", server.url())?;
    writeln!(out, "pid={}", server.postmaster_pid().unwrap_or_default())?;
    writeln!(out, "folder={}", server.folder().display())?;
    out.flush()?;
    std::io::stdin().lock().read_to_end(&mut Vec::new())?;
    Ok(())
}
