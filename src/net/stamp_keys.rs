//! Which datagram a transmit stamp belongs to.
//!
//! From Linux 6.13 the key travels with each datagram (`SCM_TS_OPT_ID`) and comes back with the
//! stamp. Before, the kernel numbers the stamped datagrams of each socket from 0 (`OPT_ID`); then
//! this table remembers the keys of the last [`REMEMBERED`] of them.

use super::SocketId;
use super::socket::Socket;

/// Stamped datagrams remembered per socket; a stamp that comes later than that is not attributed.
pub const REMEMBERED: usize = 256;

/// Stamp numbers → keys.
#[derive(Debug)]
pub enum StampKeys {
    /// The number is the key.
    PerMessage,
    /// The number is the kernel's count for the socket.
    Counted(Vec<Counted>),
}

/// The stamped datagrams of one socket.
#[derive(Debug)]
pub struct Counted {
    next: u32,
    keys: Box<[u32; REMEMBERED]>,
}

impl Default for Counted {
    fn default() -> Counted {
        Counted { next: 0, keys: Box::new([0; REMEMBERED]) }
    }
}

impl StampKeys {
    /// Keys for these sockets; those that had some in another network go on with them.
    pub fn new(per_message: bool, sockets: &mut [Socket]) -> StampKeys {
        if per_message {
            return StampKeys::PerMessage;
        }
        StampKeys::Counted(sockets.iter_mut().map(|socket| socket.carried.keys.take().unwrap_or_default()).collect())
    }

    /// Gives the sockets their keys to carry to another network.
    pub fn carry(&mut self, sockets: &mut [Socket]) {
        if let StampKeys::Counted(counted) = self {
            for (socket, counted) in sockets.iter_mut().zip(counted.drain(..)) {
                socket.carried.keys = Some(counted);
            }
        }
    }

    /// A stamped datagram is handed to the kernel.
    pub fn sent(&mut self, socket: SocketId, key: u32) {
        if let StampKeys::Counted(sockets) = self
            && let Some(counted) = sockets.get_mut(usize::from(socket.0))
        {
            counted.keys[counted.next as usize % REMEMBERED] = key;
            counted.next = counted.next.wrapping_add(1);
        }
    }

    /// The key of the datagram a stamp is for.
    pub fn key(&self, socket: SocketId, number: u32) -> Option<u32> {
        match self {
            StampKeys::PerMessage => Some(number),
            StampKeys::Counted(sockets) => {
                let counted = sockets.get(usize::from(socket.0))?;
                let age = counted.next.wrapping_sub(number);
                (1..=REMEMBERED as u32).contains(&age).then(|| counted.keys[number as usize % REMEMBERED])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{SocketSpec, socket};

    #[test]
    fn counted_stamps_find_their_keys_until_forgotten_and_in_the_next_network() {
        let spec = SocketSpec::new("127.0.0.1:0".parse().expect("valid"));
        let mut sockets = vec![socket::open(&spec).expect("opens")];
        let mut keys = StampKeys::new(false, &mut sockets);
        for key in 1000..1000 + REMEMBERED as u32 + 1 {
            keys.sent(SocketId(0), key);
        }
        keys.carry(&mut sockets);
        let keys = StampKeys::new(false, &mut sockets);
        assert_eq!(keys.key(SocketId(0), 0), None);
        assert_eq!(keys.key(SocketId(0), 1), Some(1001));
        assert_eq!(keys.key(SocketId(0), 9999), None);
        assert_eq!(StampKeys::new(true, &mut sockets).key(SocketId(0), 7), Some(7));
    }
}
