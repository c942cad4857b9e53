//! The demo's ports. All are bound before anything is started, and handed to the programs as listening sockets: whoever asked for
//! port 0 knows what it got, no other program can come in between, and a taken port is a sentence and not a stack of failed children.

use std::fmt;
use std::net::{SocketAddr, TcpListener};

/// One address that the demo wants, and how to ask for another.
pub struct Wanted {
    pub name: &'static str,
    pub address: SocketAddr,
    pub setting: &'static str,
}

/// A listener for each, if every address can be had; otherwise one sentence for each that cannot.
pub fn take<const N: usize>(wanted: [Wanted; N]) -> Result<[TcpListener; N], Vec<String>> {
    let mut taken = Vec::new();
    let mut obstacles = Vec::new();
    for (index, want) in wanted.iter().enumerate() {
        let Wanted {
            name,
            address,
            setting,
        } = want;
        if let Some(twin) = wanted[..index]
            .iter()
            .find(|other| other.address == *address && address.port() != 0)
        {
            obstacles.push(format!(
                "the {name} and the {} are both to listen on {address}: change {setting}",
                twin.name
            ));
            continue;
        }
        match TcpListener::bind(address) {
            Ok(listener) => taken.push(listener),
            Err(error) => obstacles.push(match (error.kind(), owner(*address)) {
                (std::io::ErrorKind::AddrInUse, Some(owner)) => {
                    format!("{address}, wanted for the {name}, is taken by {owner}: stop that or choose another with {setting}")
                }
                (std::io::ErrorKind::AddrInUse, None) => {
                    format!("{address}, wanted for the {name}, is taken: free it or choose another with {setting}")
                }
                _ => format!("{address}, wanted for the {name}, cannot be listened on ({error}): choose another with {setting}"),
            }),
        }
    }
    // As many as were wanted, unless there was an obstacle.
    taken.try_into().map_err(|_| obstacles)
}

#[derive(Debug, PartialEq, Eq)]
pub enum Owner {
    Process {
        pid: u32,
        name: String,
    },
    /// Another user's process, whose open files we may not read.
    User(u32),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, name } => write!(f, "process {pid} ({name})"),
            Self::User(uid) => write!(f, "a process of the user with id {uid}"),
        }
    }
}

/// The process that listens on the address, as far as this system tells; elsewhere than on Linux it does not.
#[cfg(not(target_os = "linux"))]
pub fn owner(_: SocketAddr) -> Option<Owner> {
    None
}

#[cfg(target_os = "linux")]
pub use linux::owner;

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::net::SocketAddr;
    use std::path::Path;

    use super::Owner;

    /// Socket table → inode → the process that has a file descriptor of it. See proc(5), `/proc/net/tcp` and `/proc/pid/fd`.
    pub fn owner(address: SocketAddr) -> Option<Owner> {
        let (inode, uid) = ["/proc/net/tcp", "/proc/net/tcp6"]
            .iter()
            .filter_map(|path| fs::read_to_string(path).ok())
            .find_map(|table| listener(&table, address.port()))?;
        Some(holder(inode).unwrap_or(Owner::User(uid)))
    }

    /// Inode and user id of the socket in state LISTEN (0A) on that port, in the kernel's table.
    fn listener(table: &str, port: u16) -> Option<(u64, u32)> {
        table.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let (local, state, uid, inode) = (
                fields.get(1)?,
                fields.get(3)?,
                fields.get(7)?,
                fields.get(9)?,
            );
            let (_, local_port) = local.rsplit_once(':')?;
            let same_port = u16::from_str_radix(local_port, 16).ok()? == port;
            (same_port && *state == "0A").then_some((inode.parse().ok()?, uid.parse().ok()?))
        })
    }

    fn holder(inode: u64) -> Option<Owner> {
        let target = format!("socket:[{inode}]");
        fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
            let pid: u32 = process.file_name().to_str()?.parse().ok()?;
            fs::read_dir(process.path().join("fd"))
                .ok()?
                .flatten()
                .any(|fd| {
                    fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == target.as_str())
                })
                .then(|| Owner::Process {
                    pid,
                    name: name(&process.path()),
                })
        })
    }

    /// `signalbox serve`, `python3 server.py`: the program and its first word. Options are left out, they can hold secrets.
    fn name(process: &Path) -> String {
        let command = fs::read_to_string(process.join("cmdline")).unwrap_or_default();
        let mut words = command.split('\0').filter(|word| !word.is_empty());
        let program = words
            .next()
            .and_then(|path| Path::new(path).file_name())
            .map(|name| name.to_string_lossy().into_owned());
        match (program, words.next()) {
            (Some(program), Some(word)) if !word.starts_with('-') => format!("{program} {word}"),
            (Some(program), _) => program,
            (None, _) => fs::read_to_string(process.join("comm"))
                .unwrap_or_default()
                .trim()
                .to_owned(),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn only_the_listening_socket_of_the_port_counts() {
            // Ports 18080 (46A0) and 18081 (46A1); the first line of 46A0 is an established connection (01).
            let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                 0: 0100007F:46A0 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1000        0 111 1\n\
                 1: 0100007F:46A1 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001        0 222 1\n\
                 2: 0100007F:46A0 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1002        0 333 1\n";
            assert_eq!(listener(table, 18080), Some((333, 1002)));
            assert_eq!(listener(table, 18081), Some((222, 1001)));
            assert_eq!(listener(table, 18082), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(name: &'static str, address: SocketAddr) -> Wanted {
        Wanted {
            name,
            address,
            setting: "--listen",
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_taken_port_is_reported_with_the_process_that_holds_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();

        let Some(Owner::Process { pid, name }) = owner(address) else {
            panic!("no owner found for {address}")
        };
        assert_eq!(pid, std::process::id());
        assert!(name.starts_with("signalboxctl"), "{name}");

        let sentences = take([wanted("service", address)]).expect_err("taken");
        assert_eq!(sentences.len(), 1);
        let expected = format!(
            "{address}, wanted for the service, is taken by process {pid} ({name}): stop that or choose another with --listen"
        );
        assert_eq!(sentences[0], expected);
    }

    #[test]
    fn a_free_port_has_no_owner_and_is_taken() {
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap(); // closed again at once
        assert_eq!(owner(address), None);
        let [listener] = take([wanted("service", address)]).expect("free");
        assert_eq!(listener.local_addr().unwrap(), address);
    }

    #[test]
    fn one_address_for_two_is_refused_unless_the_system_chooses() {
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let sentences = take([wanted("viewer", address), wanted("worker", address)]);
        assert_eq!(
            sentences.expect_err("one address for two"),
            [format!(
                "the worker and the viewer are both to listen on {address}: change --listen"
            )]
        );

        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let [viewer, worker] = take([wanted("viewer", any), wanted("worker", any)]).expect("free");
        assert_ne!(viewer.local_addr().unwrap(), worker.local_addr().unwrap());
    }
}
