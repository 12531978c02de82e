//! Names of servers to addresses, by `/etc/hosts` and the servers of `/etc/resolv.conf`.
//!
//! Not by the C library: its resolver loads plug-ins, which a static binary can't (ARCHITECTURE, 10). IPv4 and IPv6
//! addresses over UDP (RFC 1035); no search list, as the names of outside servers are whole.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use futures_util::future::{Either, select};
use gantry_ports::{Clock, Random};
use tokio::net::UdpSocket;

const A: u16 = 1;
const AAAA: u16 = 28;
const TRIES: u32 = 3;
const WAIT: std::time::Duration = std::time::Duration::from_secs(2);

/// Where the certificate authorities that the machine trusts are kept, by distribution.
const AUTHORITIES: [&str; 4] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"];

/// The certificate authorities that the machine trusts, in PEM.
///
/// # Errors
/// When it has none at the places where distributions keep them.
pub fn system_authorities() -> io::Result<String> {
    AUTHORITIES
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("none at {}; install ca-certificates", AUTHORITIES.join(", "))))
}

/// All addresses of a host, IPv4 first.
///
/// # Errors
/// When no name server knows it, or none answers.
pub async fn resolve(host: &str, clock: &dyn Clock, random: &dyn Random) -> io::Result<Vec<IpAddr>> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse() {
        return Ok(vec![address]);
    }
    let hosts = tokio::fs::read_to_string("/etc/hosts").await.unwrap_or_default();
    let known = in_hosts(&hosts, host);
    if !known.is_empty() {
        return Ok(known);
    }
    if host == "localhost" {
        return Ok(vec![Ipv4Addr::LOCALHOST.into()]);
    }
    let servers = tokio::fs::read_to_string("/etc/resolv.conf").await.unwrap_or_default();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no server in /etc/resolv.conf");
    for server in servers.lines().filter_map(|l| l.trim().strip_prefix("nameserver")?.trim().parse::<IpAddr>().ok()) {
        let mut found = Vec::new();
        for kind in [A, AAAA] {
            match ask(SocketAddr::new(server, 53), host, kind, clock, random).await {
                Ok(addresses) => found.extend(addresses),
                Err(e) => last = e,
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err(last)
}

fn in_hosts(hosts: &str, name: &str) -> Vec<IpAddr> {
    let lines = hosts.lines().map(|l| l.split('#').next().unwrap_or("").split_whitespace().collect::<Vec<_>>());
    let mut found: Vec<IpAddr> = lines.filter(|f| f.iter().skip(1).any(|n| *n == name)).filter_map(|f| f.first()?.parse().ok()).collect();
    found.sort_by_key(IpAddr::is_ipv6);
    found
}

async fn ask(server: SocketAddr, host: &str, kind: u16, clock: &dyn Clock, random: &dyn Random) -> io::Result<Vec<IpAddr>> {
    let local: SocketAddr = if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(server).await?;
    for _ in 0..TRIES {
        let id = random.u64() as u16;
        socket.send(&question(id, host, kind)).await?;
        let mut answer = [0; 1500];
        let length = match select(Box::pin(socket.recv(&mut answer)), clock.sleep(WAIT)).await {
            Either::Left((length, _)) => length?,
            Either::Right(_) => continue,
        };
        if let Some(addresses) = read_answer(&answer[..length], id, kind) {
            return Ok(addresses);
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("name server {server} didn't answer for {host}")))
}

fn question(id: u16, host: &str, kind: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    // Recursion desired; one question.
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in host.split('.').filter(|l| !l.is_empty()) {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, (kind >> 8) as u8, kind as u8, 0, 1]);
    message
}

/// The addresses of an answer to that question; none if the name has none. `None` for what isn't such an answer.
fn read_answer(message: &[u8], id: u16, kind: u16) -> Option<Vec<IpAddr>> {
    let number = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    if number(0)? != id || message.get(2)? & 0x80 == 0 {
        return None;
    }
    let mut at = 12;
    for _ in 0..number(4)? {
        at = skip_name(message, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..number(6)? {
        at = skip_name(message, at)?;
        let (this, length) = (number(at)?, usize::from(number(at + 8)?));
        let data = message.get(at + 10..at + 10 + length)?;
        // Answers hold the aliases too; the addresses at their end are what counts.
        match this {
            A if kind == A => found.push(IpAddr::from(<[u8; 4]>::try_from(data).ok()?)),
            AAAA if kind == AAAA => found.push(IpAddr::from(<[u8; 16]>::try_from(data).ok()?)),
            _ => {}
        }
        at += 10 + length;
    }
    Some(found)
}

fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_come_first() {
        let hosts = "# 9.9.9.9 reg\n::1 reg localhost\n10.0.0.1\treg other # reg2\n";
        assert_eq!(in_hosts(hosts, "reg"), ["10.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
        assert!(in_hosts(hosts, "reg2").is_empty());
    }

    #[test]
    fn answers_are_read_with_aliases_and_pointers() {
        let mut message = question(7, "a.example", A);
        message[2] = 0x81;
        message[7] = 2;
        message.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 4, 1, b'b', 0xc0, 14]);
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 1]);
        assert_eq!(read_answer(&message, 7, A), Some(vec!["192.0.2.1".parse().unwrap()]));
        assert_eq!(read_answer(&message, 8, A), None, "another's answer");
        for length in 0..message.len() {
            assert_eq!(read_answer(&message[..length], 7, A), None, "cut at {length}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_not(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = read_answer(&bytes, 7, A);
        }
    }
}
