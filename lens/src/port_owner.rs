//! Says who has a port, as far as this system tells.

use std::fs;

/// `" (process 42, nginx)"` for the process that listens on the port, or nothing where `/proc` does not say it.
pub fn describe(port: u16) -> String {
    owner(port).map_or_else(String::new, |(pid, name)| {
        format!(" (process {pid}, {name}, has it)")
    })
}

fn owner(port: u16) -> Option<(u32, String)> {
    const LISTEN: &str = "0A";
    // Columns of /proc/net/tcp: number, local address:port, remote, state, …; the tenth is the socket's inode.
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .find_map(|table| {
            table.lines().skip(1).find_map(|line| {
                let columns: Vec<&str> = line.split_whitespace().collect();
                let local = columns.get(1)?.rsplit_once(':')?.1;
                let listens =
                    u16::from_str_radix(local, 16).ok()? == port && *columns.get(3)? == LISTEN;
                listens
                    .then(|| columns.get(9).map(|inode| format!("socket:[{inode}]")))
                    .flatten()
            })
        })?;
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let holds = fs::read_dir(process.path().join("fd"))
            .ok()?
            .flatten()
            .any(|descriptor| {
                fs::read_link(descriptor.path())
                    .is_ok_and(|target| target.as_os_str() == inode.as_str())
            });
        holds.then(|| {
            (
                pid,
                fs::read_to_string(process.path().join("comm"))
                    .unwrap_or_default()
                    .trim()
                    .to_owned(),
            )
        })
    })
}
