//! Ports that a gang's processes meet at.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// The ports of one gang, all on the node of rank 0 but `TensorFlow`'s, which are one per rank.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ports {
    /// `PyTorch`'s store, and ours.
    pub master: u16,
    /// JAX's coordinator.
    pub jax: u16,
    /// `TensorFlow`'s workers, by rank; empty if there are none.
    pub tensorflow: Vec<u16>,
}

/// `count` different ports that nothing on this machine listens on. All are bound at once and then released, so
/// another program can take one before it is used; who uses them must report that.
/// # Errors
/// If the machine has no such ports left.
pub fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))).collect::<io::Result<_>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn free_ports_differ_and_can_be_bound() {
        let ports = free_ports(50).unwrap();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 50);
        for port in ports {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        }
    }
}
