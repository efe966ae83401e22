//! This process from the outside: its memory, its files, and its sockets to the server. Linux only: all of it is from
//! /proc.

use std::collections::BTreeSet;
use std::fs;

use crate::demo::error::Error;

/// ESTABLISHED, as /proc/net/tcp writes it.
const ESTABLISHED: &str = "01";

/// Bytes of memory that are resident.
pub(super) fn resident() -> Result<u64, Error> {
    let text = read("/proc/self/statm")?;
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    let pages = pages.ok_or_else(|| Error::Failed(format!("/proc/self/statm makes no sense: {text:?}")))?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// Files and sockets that are open.
pub(super) fn open_files() -> Result<usize, Error> {
    let entries = fs::read_dir("/proc/self/fd").map_err(|error| Error::Failed(format!("/proc/self/fd: {error}")))?;
    // One of them is this look's own.
    Ok(entries.count().saturating_sub(1))
}

/// The local ports of connections of TCP to `server_port` whose client's end is open, and has neither been closed nor
/// shut down.
pub(super) fn open_ports(server_port: u16) -> Result<BTreeSet<u16>, Error> {
    Ok(established(&read("/proc/self/net/tcp")?, server_port))
}

/// `sl local_address rem_address st ...`, addresses as `0100007F:1538`.
fn established(table: &str, server_port: u16) -> BTreeSet<u16> {
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
    let line = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
        (state == ESTABLISHED && port(remote)? == server_port).then(|| port(local))?
    };
    table.lines().skip(1).filter_map(line).collect()
}

fn read(path: &str) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|error| Error::Failed(format!("{path} cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    #[test]
    fn lines_of_the_table_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000   999        0 1 1\n\
             1: 0100007F:C001 0100007F:1538 01 00000000:00000000 00:00000000 00000000     0        0 2 1\n\
             2: 0100007F:1538 0100007F:C001 01 00000000:00000000 00:00000000 00000000   999        0 3 1\n\
             3: 0100007F:C002 0100007F:1538 05 00000000:00000000 00:00000000 00000000     0        0 4 1\n\
             4: 0100007F:C003 0100007F:1539 01 00000000:00000000 00:00000000 00000000     0        0 5 1\n";
        assert_eq!(established(table, 0x1538), BTreeSet::from([0xc001]));
    }

    #[test]
    fn a_connection_counts_until_its_client_closes_it_or_shuts_it_down() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = listener.local_addr().expect("an address");
        let [kept, shut, closed] = [(); 3].map(|()| TcpStream::connect(server).expect("connected"));
        let port = |stream: &TcpStream| stream.local_addr().expect("an address").port();
        let ports = BTreeSet::from([port(&kept), port(&shut), port(&closed)]);
        assert_eq!(open_ports(server.port()).expect("/proc"), ports);
        let expected = BTreeSet::from([port(&kept)]);
        shut.shutdown(Shutdown::Both).expect("shut down");
        drop(closed);
        assert_eq!(open_ports(server.port()).expect("/proc"), expected);
    }

    #[test]
    fn memory_and_files_are_seen() {
        let before = open_files().expect("/proc");
        let file = fs::File::open("/proc/self/statm").expect("a file");
        assert!(open_files().expect("/proc") > 0 && before > 0);
        drop(file);
        assert!(resident().expect("/proc") > 100_000);
    }
}
